"""Rates per question from few observations, drawn towards their level and the levels towards each other (docs/markovscale.md).

Empirical Bayes in three floors: a question's rate is Beta(k m, k (1 - m)) around its level's mean m, the levels' means are
Beta(K M, K (1 - M)) around the overall mean M. M and K maximise the marginal likelihood of the counts; m and k are
integrated out on a grid, k with the density k^(-3/2) (uniform in 1 / sqrt(k): Gelman et al., Bayesian Data Analysis,
section 5.3). Given m and k, the estimate is (n_moves + k m) / (n_rounds + k).
"""

from dataclasses import dataclass

import numpy as np
import scipy
from scipy import special

from itscale.theory.markov import first_gain, fixed_point, shrunk_rate, transition_counts

# Nodes of m, denser towards 0 and 1, with the logarithms of their weights (midpoint rule in the angle).
_ANGLE = (np.arange(200) + 0.5) / 200
_NODES = np.sin(np.pi / 2 * _ANGLE) ** 2
_LOG_WEIGHTS = np.log(np.pi / 400 * np.sin(np.pi * _ANGLE))
_LOG_NODES, _LOG_REST = np.log(_NODES), np.log1p(-_NODES)
_STRENGTHS = np.geomspace(0.5, 5000, 25)
_DRAWS = 2000
_STILL = 1e-6  # a + b of a chain that never moves


@dataclass(frozen=True, slots=True)
class Estimate:
    """Values with the ends of their 95 % credible intervals, arrays of one shape."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, slots=True)
class Rates:
    """One kind of rate: per question [Q] (posterior Beta(alpha, beta)), per level [L], and what they were drawn towards."""

    question: Estimate
    level: Estimate
    alpha: np.ndarray  # [Q]
    beta: np.ndarray  # [Q]
    level_posterior: np.ndarray  # [L, nodes], sums to 1
    strength: float  # k, in observations (geometric mean of its posterior)


@dataclass(frozen=True, slots=True)
class ChainFit:
    """p0, a and b; pi = b / (a + b) and the first gain b (1 - p0) - a p0 with their intervals, per question and level."""

    p0: Rates
    a: Rates
    b: Rates
    pi: Estimate  # [Q]
    pi_level: Estimate  # [L]
    gain: Estimate  # [Q]


def fit_rates(moves: np.ndarray, rounds: np.ndarray, level: np.ndarray) -> Rates:
    """Rates from `moves` [Q] out of `rounds` [Q] opportunities; level [Q] int, 0 to L - 1, each level present.

    A question without any opportunity gets its level's mean, with the spread of the questions around it.
    """
    moves, rounds = np.asarray(moves, float), np.asarray(rounds, float)
    levels = int(level.max()) + 1
    # Questions with the same counts in the same level contribute the same term.
    kinds, multiplicity = np.unique(np.stack([level, moves, rounds]), axis=1, return_counts=True)
    of, n, total = kinds[0].astype(int), kinds[1][:, None], kinds[2][:, None]

    def level_likelihood(strength: float) -> np.ndarray:
        alpha, beta = strength * _NODES, strength * (1 - _NODES)
        terms = special.betaln(n + alpha, total - n + beta) - special.betaln(alpha, beta)
        summed = np.zeros((levels, len(_NODES)))
        np.add.at(summed, of, multiplicity[:, None] * terms)
        return summed

    def prior(parameters: np.ndarray) -> np.ndarray:
        mean, weight = special.expit(parameters[0]), np.exp(parameters[1])
        alpha, beta = weight * mean, weight * (1 - mean)
        return (alpha - 1) * _LOG_NODES + (beta - 1) * _LOG_REST - special.betaln(alpha, beta) + _LOG_WEIGHTS

    def loss(parameters: np.ndarray, likelihood: np.ndarray) -> float:
        joint = likelihood + prior(parameters)
        top = joint.max(axis=1)
        return -(top + np.log(np.exp(joint - top[:, None]).sum(axis=1))).sum()

    start = np.array([special.logit(float(shrunk_rate(moves.sum(), rounds.sum(), 0.5, 1.0))), np.log(10.0)])
    likelihoods = [level_likelihood(strength) for strength in _STRENGTHS]
    losses, posteriors = [], []
    for likelihood in likelihoods:
        if levels == 1:  # one mean says nothing of the spread of the means
            found = np.array([0.0, np.log(2.0)])
        else:
            bounds = [(-7, 7), (0, np.log(2000))]
            start = found = scipy.optimize.minimize(
                loss, start, (likelihood,), "L-BFGS-B", bounds=bounds, options={"ftol": 1e-7}
            ).x
        losses.append(loss(found, likelihood))
        posteriors.append(special.softmax(likelihood + prior(found), axis=1))
    weight = special.softmax(-np.array(losses) - 0.5 * np.log(_STRENGTHS))
    posterior = np.tensordot(weight, posteriors, 1)
    parts = [_moments(moves, rounds, p[level], k) for p, k in zip(posteriors, _STRENGTHS, strict=True)]
    mean, square = np.tensordot(weight, parts, 1)
    size = np.maximum(mean * (1 - mean) / np.maximum(square - mean**2, 1e-12) - 1, 1e-3)
    alpha, beta = size * mean, size * (1 - mean)
    level_mean = posterior @ _NODES
    return Rates(
        question=_beta_estimate(alpha, beta),
        level=Estimate(level_mean, *(_node_quantile(posterior, q) for q in (0.025, 0.975))),
        alpha=alpha,
        beta=beta,
        level_posterior=posterior,
        strength=float(np.exp(weight @ np.log(_STRENGTHS))),
    )


def _moments(moves: np.ndarray, rounds: np.ndarray, posterior: np.ndarray, k: float) -> np.ndarray:
    """Mean and mean square [2, Q] of the questions' rates for one k, over the posterior [Q, nodes] of their level's mean."""
    level_mean = posterior @ _NODES
    spread = (k / (rounds + k)) ** 2 * np.maximum(posterior @ _NODES**2 - level_mean**2, 0.0)
    mean = shrunk_rate(moves, rounds, level_mean, k)
    square = mean**2 + spread
    return np.stack([mean, square + np.maximum(mean - square, 0.0) / (rounds + k + 1)])


def _beta_estimate(alpha: np.ndarray, beta: np.ndarray) -> Estimate:
    return Estimate(alpha / (alpha + beta), *(scipy.stats.beta.ppf(q, alpha, beta) for q in (0.025, 0.975)))


def _node_quantile(posterior: np.ndarray, q: float) -> np.ndarray:
    return np.array([np.interp(q, np.cumsum(row) - row / 2, _NODES) for row in posterior])


def fit_chains(correct: np.ndarray, problem: np.ndarray, level: np.ndarray, seed: int = 0) -> ChainFit:
    """p0, a, b and pi of every question and level from labelled chains correct [R, K] of problem [R]; level [Q] int."""
    questions = len(level)

    def per_question(values: np.ndarray) -> np.ndarray:
        return np.bincount(problem, values, questions)

    n_c, n_cw, n_w, n_wc = (per_question(counts) for counts in transition_counts(correct))
    p0 = fit_rates(per_question(correct[:, 0]), np.bincount(problem, minlength=questions), level)
    a, b = fit_rates(n_cw, n_c, level), fit_rates(n_wc, n_w, level)
    rng = np.random.default_rng(seed)
    drawn = [rng.beta(r.alpha, r.beta, (_DRAWS, questions)) for r in (p0, a, b)]
    by_level = [np.stack([rng.choice(_NODES, _DRAWS, p=row) for row in r.level_posterior], axis=1) for r in (p0, a, b)]
    return ChainFit(p0, a, b, _summary(_tends_to(*drawn)), _summary(_tends_to(*by_level)), _summary(first_gain(*drawn)))


def _tends_to(p0: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """pi of draws [D, N]; p0 where nothing changes in any number of rounds that is ever run, as where a = b = 0."""
    return np.where(a + b < _STILL, p0, fixed_point(a, b, p0))


def _summary(draws: np.ndarray) -> Estimate:
    """Mean and 95 % interval of draws [D, N], each [N]."""
    low, high = np.quantile(draws, (0.025, 0.975), axis=0)
    return Estimate(draws.mean(axis=0), low, high)
