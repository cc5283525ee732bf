"""The filter over rounds on 1,319 questions x 8 chains x 64 rounds on one core, and the replay of its rule over 8 rounds.

Needs no results: chains are simulated. "Filter" is the exact forward-backward pass over every chain (log densities looked up,
filtered and smoothed posteriors of every round); the replay also integrates over the next round before each decision.
"""

from harness import Measurement, Options, run, seconds, spread  # before numpy: it sets the number of threads

from functools import partial

import numpy as np
from scipy import stats

from itscale.theory import markov
from itscale.theory.emissions import GRID, normalise
from itscale.policies import make_policy
from itscale.policies.calibration import Calibration, Rounds, Strata
from itscale.policies.rounds import posteriors
from itscale.theory.rates import fit_chains
from itscale.data.records import Pool, Unit
from itscale.drivers.replay import replay

QUESTIONS, CHAINS, ROUNDS = 1319, 8, 64


def known() -> Calibration:
    zeros = np.zeros(3)
    strata = Strata(np.array([0.5, 0.7]), np.array([0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3]), zeros, zeros, zeros, zeros)
    correct, wrong = (normalise(stats.beta.logpdf(GRID, *shape)) for shape in ((6, 2), (4, 3)))
    return Calibration(
        strata=strata, rounds=Rounds(correct, wrong, "beta", "beta", 0.5, 0.6, 0.25, np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    )


def chains(rounds: int, seed: int = 0) -> Pool:
    """Simulated chains; a right answer is cluster 0, a wrong one that changes is a new cluster."""
    rng = np.random.default_rng(seed)
    rows = QUESTIONS * CHAINS
    ease = np.repeat(rng.beta(2, 2, QUESTIONS), CHAINS)
    correct = markov.simulate(ease, 0.3 * (1 - ease), 0.05 + 0.4 * ease, rounds, rng)
    cluster = np.where(correct, 0, 1 + np.cumsum(rng.random((rows, rounds)) < 0.6, axis=1))
    score = np.where(correct, rng.beta(6, 2, correct.shape), rng.beta(4, 3, correct.shape))
    tokens = np.ones((rows, rounds), np.int64)
    ids = tuple(f"q{i}" for i in range(QUESTIONS))
    problem = np.repeat(np.arange(QUESTIONS), CHAINS)
    return Pool(Unit.ROUND, problem, ids, cluster, correct, score, tokens, tokens, tokens, tokens)


def measure(options: Options) -> list[Measurement]:
    repeats, rounds = (1, 8) if options.short else (5, ROUNDS)
    calibration = known()
    whole, eight = chains(rounds), chains(8)
    shape = {"questions": QUESTIONS, "chains": CHAINS, "rounds": rounds}
    policy = make_policy("markovscale_filter", rounds=8, tau=0.98, cost=0.002).bind(calibration)
    level = np.arange(QUESTIONS) % 5
    timed = (
        ("filter over every chain", "at most 1", partial(posteriors, whole, calibration.strata, calibration.rounds), shape),
        ("replay of the filter's rule over 8 rounds", None, partial(replay, policy, eight), {**shape, "rounds": 8}),
        ("hierarchical rates of every question", None, partial(fit_chains, eight.correct, eight.problem, level), shape),
    )
    found = []
    for name, goal, function, details in timed:
        times = seconds(function, repeats)
        found.append(Measurement(name, float(np.median(times)), "s", goal, {**details, **spread(times)}))
    return found


if __name__ == "__main__":
    run(__doc__, measure)
