"""Is it Markov? Goodness of fit per level, and second against first order within question (docs/markovscale.md).

Every p-value is a parametric bootstrap: first-order chains are drawn with rates from each question's posterior (with the
posterior means questions would differ less than they do, and p-values lie too high), refitted, and measured as the data are
(`refit`: the questions' rates anew, level means and strengths those of the fit to the data). Pooling the questions would
reject any first-order chain as soon as questions differ.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy
from scipy.stats import chi2

from itscale.theory.markov import accuracy_at, shrunk_rate, simulate, transition_counts
from itscale.theory.rates import ChainFit, Rates


@dataclass(frozen=True, slots=True)
class Fit:
    """A theory's accuracy per round for G groups of questions beside the observed one, each [G, K]; p-values [G].

    95 % of datasets that follow the theory lie between `low` and `high` (each round by itself).
    """

    observed: np.ndarray
    predicted: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_value: np.ndarray


@dataclass(frozen=True, slots=True)
class Order:
    """Second against first order: G^2 summed over questions and of the pooled counts, with their p-values.

    `memory` is how much likelier a correct answer is where the one before last was correct, [after wrong, after correct]: the
    mean within-question difference minus what first-order chains of this length show; `memory_p` two-sided. Two rounds say
    nothing of it: all are NaN.
    """

    within: float
    within_p: float
    pooled: float
    pooled_p: float  # of the chi-square distribution with 2 degrees of freedom: rejects by heterogeneity alone
    memory: np.ndarray
    memory_p: np.ndarray


def per_question(correct: np.ndarray, problem: np.ndarray, questions: int) -> np.ndarray:
    """Accuracy per round of each question [Q, K] from chains correct [R, K]."""
    total = np.zeros((questions, correct.shape[1]))
    np.add.at(total, problem, correct)
    return total / np.bincount(problem, minlength=questions)[:, None]


def refit(correct: np.ndarray, problem: np.ndarray, level: np.ndarray, fit: ChainFit) -> tuple[np.ndarray, ...]:
    """p0, a, b [Q] of chains, drawn to the level means of an earlier fit with its strengths (no search: fast)."""
    n_c, n_cw, n_w, n_wc = (np.bincount(problem, c, len(level)) for c in transition_counts(correct))
    first = np.bincount(problem, correct[:, 0], len(level)), np.bincount(problem, minlength=len(level))

    def drawn(moves: np.ndarray, rounds: np.ndarray, rates: Rates) -> np.ndarray:
        return shrunk_rate(moves, rounds, rates.level.mean[level], rates.strength)

    return drawn(*first, fit.p0), drawn(n_cw, n_c, fit.a), drawn(n_wc, n_w, fit.b)


def second_order_counts(correct: np.ndarray, problem: np.ndarray, questions: int) -> np.ndarray:
    """How often the states (i, j, k) follow each other in each question, [Q, 2, 2, 2]; 1 = correct."""
    code = 4 * correct[:, :-2] + 2 * correct[:, 1:-1] + correct[:, 2:]
    return np.bincount((8 * problem[:, None] + code).ravel(), minlength=8 * questions).reshape(questions, 2, 2, 2).astype(float)


def g_squared(counts: np.ndarray) -> np.ndarray:
    """2 sum n_ijk log(n_ijk n_.j. / (n_ij. n_.jk)) over the last three axes: the likelihood ratio of second and first order."""
    n_ij, n_jk, n_j = counts.sum(-1), counts.sum(-3), counts.sum((-3, -1))
    return 2 * (
        xlogy(counts, counts).sum((-3, -2, -1))
        - xlogy(n_ij, n_ij).sum((-2, -1))
        - xlogy(n_jk, n_jk).sum((-2, -1))
        + xlogy(n_j, n_j).sum(-1)
    )


def memory(counts: np.ndarray) -> np.ndarray:
    """Within-question P(C | j, before C) - P(C | j, before W) for j = W, C, [2]; Mantel-Haenszel weights over questions."""
    total = counts.sum(-1)  # [Q, i, j]
    share = counts[..., 1] / np.maximum(total, 1)
    weight = total[:, 0] * total[:, 1] / np.maximum(total[:, 0] + total[:, 1], 1)
    return ((share[:, 1] - share[:, 0]) * weight).sum(0) / np.maximum(weight.sum(0), 1e-12)


def validate(
    correct: np.ndarray, problem: np.ndarray, level: np.ndarray, fit: ChainFit, *, replicates: int = 400, seed: int = 0
) -> tuple[Fit, Order]:
    """Goodness of fit (a group a level, then all questions) and the order test of chains correct [R, K]."""
    questions = len(level)
    groups = np.concatenate([level == np.arange(level.max() + 1)[:, None], np.ones((1, questions), bool)]).astype(float)
    groups /= groups.sum(1, keepdims=True)
    t = np.arange(correct.shape[1])

    def measure(chains: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
        p0, a, b = refit(chains, problem, level, fit)
        predicted = groups @ accuracy_at(p0[:, None], a[:, None], b[:, None], t)
        counts = second_order_counts(chains, problem, questions)
        return groups @ per_question(chains, problem, questions), predicted, float(g_squared(counts).sum()), memory(counts)

    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(replicates):
        truth = (rng.beta(rates.alpha, rates.beta)[problem] for rates in (fit.p0, fit.a, fit.b))
        drawn.append(measure(simulate(*truth, correct.shape[1], rng)))
    residual = np.stack([seen - predicted for seen, predicted, _, _ in drawn])
    observed, predicted, within, now = measure(correct)
    scale = np.maximum(residual.std(0), 1e-9)
    null = (((residual - residual.mean(0)) / scale) ** 2).sum(-1)
    own = (((observed - predicted - residual.mean(0)) / scale) ** 2).sum(-1)
    low, high = (predicted + np.quantile(residual, q, axis=0) for q in (0.025, 0.975))
    fitted = Fit(observed, predicted, low, high, _p_value(null, own))
    if correct.shape[1] < 3:
        nan = float("nan")
        return fitted, Order(nan, nan, nan, nan, np.full(2, nan), np.full(2, nan))
    memories = np.stack([m for _, _, _, m in drawn])
    centred = np.abs(memories - memories.mean(0))
    pooled = float(g_squared(second_order_counts(correct, problem, questions).sum(0)))
    order = Order(
        within=within,
        within_p=_p_value(np.array([g for _, _, g, _ in drawn]), within),
        pooled=pooled,
        pooled_p=float(chi2.sf(pooled, 2)),
        memory=now - memories.mean(0),
        memory_p=_p_value(centred, np.abs(now - memories.mean(0))),
    )
    return fitted, order


def _p_value(null: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Share of the replicates (first axis) at least as far out, the data among them."""
    found = (1 + (null >= own).sum(0)) / (1 + len(null))
    return float(found) if np.ndim(found) == 0 else found
