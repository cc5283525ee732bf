"""Random pools for tests."""

import numpy as np

from itscale.policies.calibration import Calibration, Moments, Strata
from itscale.records import Pool, Unit
from itscale.voting import VoteModel


def random_pool(seed: int = 0, rows: int = 12, size: int = 16, unit: Unit = Unit.SAMPLE, chains: int = 1) -> Pool:
    """A pool whose correct samples score higher, with some unanswered and unscored samples; clusters as a grader numbers them."""
    rng = np.random.default_rng(seed)
    raw = np.minimum(rng.geometric(0.5, (rows, size)) - 1, 4)
    raw[rng.random((rows, size)) < 0.1] = -1
    cluster = np.full_like(raw, -1)
    for i, row in enumerate(raw):
        seen = list(dict.fromkeys(v for v in row.tolist() if v >= 0))
        cluster[i] = [seen.index(v) if v >= 0 else -1 for v in row.tolist()]
    correct = raw == rng.integers(0, 2, rows)[:, None]
    score = np.clip(rng.normal(0.5 + 0.2 * correct, 0.2), 0, 1)
    score[rng.random((rows, size)) < 0.05] = np.nan

    def tokens() -> np.ndarray:
        return rng.integers(1, 50, (rows, size))

    problem = np.repeat(np.arange(rows // chains), chains)
    ids = tuple(f"p{i}" for i in range(rows // chains))
    return Pool(unit, problem, ids, cluster, correct, score, tokens(), tokens() + 50, tokens(), tokens())


KNOWN = Calibration(
    moments=Moments(mean=0.6, mean_square=0.42),
    strata=Strata(
        edges=np.array([0.4, 0.6]),
        a=np.array([0.3, 0.2, 0.1]),
        b=np.array([0.2, 0.3, 0.1]),
        p0=np.array([0.2, 0.5, 0.8]),
    ),
    votes=VoteModel(p0=0.6, options=5),
)
