"""Replay of votes of 1,319 questions x 64 samples x 100 orders on one core, the Bayes vote with 300 types.

Questions are made: answer shares from a Dirichlet whose concentration differs from question to question, a fifth of them nearly
unanimous. Times are processor times of one thread.
"""

from harness import Measurement, Options, run  # before numpy: it sets the number of threads

import time

import numpy as np

from itscale.data.records import Pool, Unit
from itscale.drivers.replay import replay
from itscale.policies import make_policy
from itscale.policies.calibration import known_of_votes

QUESTIONS, SAMPLES = 1319, 64
RULES = {"asc": {}, "vote_posterior": {"eps": 0.05}, "vote_bayes": {"eps": 0.05}, "vote_certified": {"delta": 0.05}}
CALIBRATION = 420  # questions, of which about 300 look different


def votes(questions: int, rng: np.random.Generator) -> np.ndarray:
    """Clusters [questions, SAMPLES] of up to twelve answers."""
    spread = rng.choice([0.02, 0.1, 0.5, 2.0], questions)
    shares = np.array([rng.dirichlet(np.full(12, s)) for s in spread])
    return (rng.random((questions, SAMPLES, 1)) > shares.cumsum(axis=1)[:, None, :-1]).sum(axis=2)


def measure(options: Options) -> list[Measurement]:
    rng = np.random.default_rng(0)
    questions, orders = (132, 10) if options.short else (QUESTIONS, 100)
    cluster, zero = votes(questions, rng), np.zeros((questions, SAMPLES), int)
    ids = tuple(f"q{i}" for i in range(questions))
    pool = Pool(Unit.SAMPLE, np.arange(questions), ids, cluster, cluster == 0, zero * np.nan, zero + 1, zero, zero, zero)
    known = known_of_votes(votes(CALIBRATION, rng))
    shape = {"questions": questions, "samples": SAMPLES, "orders": orders, "types": len(known.types.shares)}
    found = []
    for name, setting in RULES.items():
        rule = make_policy(name, n_max=SAMPLES, **setting).bind(known)
        start = time.process_time()
        outcomes = replay(rule, pool, orders=orders)
        took = time.process_time() - start
        details = {**shape, "samples_drawn": float(outcomes.drawn.mean())}
        found.append(Measurement(f"replay of {name}", took, "s", "at most 30" if name == "vote_bayes" else None, details))
    return found


if __name__ == "__main__":
    run(__doc__, measure)
