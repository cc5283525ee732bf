"""What several tests share: random pools, and the mark of those that need CUDA."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from itscale.data.records import FEATURES, Pool, Unit
from itscale.policies.calibration import Calibration, Difficulty, FirstScore, Moments, Rounds, Strata
from itscale.theory.answertypes import AnswerTypes
from itscale.theory.emissions import GRID, normalise
from itscale.theory.voting import VoteModel

# Data that the authors of OptScale released; tests that read them are skipped where the folder is not there.
RELEASED = Path(os.environ.get("ITSCALE_RELEASED", Path(__file__).resolve().parents[2] / "shared" / "official"))
# Without the marker a test runs on whatever device there is; with it, it is reported as not run without CUDA.
CUDA = [pytest.mark.gpu, pytest.mark.skipif("not __import__('torch').cuda.is_available()", reason="no CUDA device")]
ENGINES = ["transformers", "vllm"]
ON_EVERY_DEVICE = [*ENGINES, *(pytest.param(name, marks=CUDA, id=f"{name}-cuda") for name in ENGINES)]


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
    counts = [tokens(), tokens() + 50, tokens(), tokens()]
    features = {name: np.where(rng.random(rows) < 0.1, np.nan, rng.uniform(0.05, 0.95, rows)) for name in FEATURES}
    return Pool(unit, problem, ids, cluster, correct, score, *counts, features=features)


def sure_from(sample: int) -> np.ndarray:
    """ASC's confidence after each of 16 samples, high from `sample` on."""
    return np.where(np.arange(1, 17) >= sample, 0.99, 0.6)


KNOWN = Calibration(
    moments=Moments(mean=0.6, mean_square=0.42),
    difficulty=Difficulty(  # 14 easy questions, 14 between, 12 hard
        predicted=np.arange(40) / 40,
        observed=0.2 + np.arange(40) / 80,
        confidence=np.stack([sure_from(3)] * 14 + [sure_from(5)] * 14 + [sure_from(99)] * 12),
    ),
    strata=Strata(
        edges=np.array([0.4, 0.6]),
        a=np.array([0.3, 0.2, 0.1]),
        b=np.array([0.2, 0.3, 0.1]),
        n_c=np.array([20, 80, 200]),
        n_cw=np.array([6, 17, 19]),
        n_w=np.array([100, 60, 40]),
        n_wc=np.array([18, 20, 3]),
    ),
    first_score=FirstScore(knots=np.array([0.2, 0.5, 0.9]), value=np.array([0.15, 0.4, 0.9])),
    rounds=Rounds(
        log_correct=normalise(stats.beta.logpdf(GRID, 5, 2)),
        log_wrong=normalise(stats.beta.logpdf(GRID, 3, 3)),
        density_correct="beta",
        density_wrong="beta",
        p0=0.45,
        q=0.6,
        exponent=0.25,
        knots=np.array([0.1, 0.6, 0.9]),
        value=np.array([0.05, 0.5, 0.8]),
    ),
    votes=VoteModel(p0=0.6, options=5),
    density="beta",
    scores=np.linspace(0.1, 0.95, 18) ** 2,
    types=AnswerTypes(
        np.array([[0.9, 0.05, 0.04, 0.01], [0.6, 0.3, 0.06, 0.04], [0.3, 0.28, 0.22, 0.2]]), np.array([3.0, 2.0, 1.0])
    ),
)
