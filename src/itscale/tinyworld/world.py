"""The tiny world's benchmarks, and the bands within which a trained world shows what the methods are about."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from itscale.errors import refuse_below
from itscale.policies.protocol import Batch, best_scored
from itscale.records import Pool, Problem
from itscale.tinyworld import problems as arithmetic
from itscale.voting import plurality


def _levels() -> dict[int, float]:
    return arithmetic.even_levels(2, 10)


def _shifted_levels() -> dict[int, float]:
    return arithmetic.even_levels(7, 10)


def _shifted_operations() -> dict[str, float]:
    return {"+": 3.0, "-": 2.0, "*": 2.0}


@dataclass(frozen=True, slots=True)
class BenchmarkSettings:
    """Sizes of the splits, and the weights of levels (operations in a question) and operators."""

    test: int = 150
    calibration: int = 100
    shifted: int = 60
    predictor_train: int = 200
    predictor_validation: int = 50
    levels: Mapping[int, float] = field(default_factory=_levels)
    operations: Mapping[str, float] = field(default_factory=arithmetic.usual_operations)
    shifted_levels: Mapping[int, float] = field(default_factory=_shifted_levels)
    shifted_operations: Mapping[str, float] = field(default_factory=_shifted_operations)

    def __post_init__(self) -> None:
        refuse_below(1, self, "test", "calibration", "shifted", "predictor_train", "predictor_validation")


@dataclass(frozen=True, slots=True)
class Band:
    """What a quantity of the world ought to lie in; an infinite bound is none."""

    name: str
    low: float
    high: float


BANDS = (
    Band("mean accuracy", 0.40, 0.75),
    Band("share of problems solved less than 20 %", 0.15, 1.0),
    Band("share of problems solved more than 80 %", 0.15, 1.0),
    Band("majority minus mean", 0.05, 1.0),
    Band("best-of-N minus mean", 0.05, 1.0),
    Band("verifier AUC", 0.80, 1.0),
    Band("transitions from correct to wrong", 100, np.inf),
    Band("transitions from wrong to correct", 100, np.inf),
    Band("shifted: mean accuracy", 0.10, 0.45),
    Band("shifted: majority minus mean", 0.08, 1.0),
    Band("shifted: pass@N", 0.60, 1.0),
)


def build_benchmarks(seed: int, settings: BenchmarkSettings) -> dict[str, list[Problem]]:
    """Five splits with no question in two of them.

    Returns:
        Problems by split: test, calibration, shifted, predictor_train, predictor_validation. `level` is the number of
        operations.
    """
    seen: set[str] = set()
    splits = {}
    for index, name in enumerate(("test", "calibration", "shifted", "predictor_train", "predictor_validation")):
        rng = np.random.default_rng([seed, index + 1])  # numpy takes [seed, 0] for seed, which the models draw from
        shifted = name == "shifted"
        levels = settings.shifted_levels if shifted else settings.levels
        operations = settings.shifted_operations if shifted else settings.operations
        # The set is read as it grows, so that neither this split nor a later one repeats a question.
        drawn = arithmetic.draw_expressions(rng, levels, operations, seen)
        split = []
        for number in range(getattr(settings, name)):
            expression = next(drawn)
            seen.add(expression.question)
            level = str(len(expression.operations))
            split.append(
                Problem(
                    f"{name}-{number:04d}",
                    expression.question,
                    str(arithmetic.answer(expression)),
                    level,
                )
            )
        splits[name] = split
    return splits


def majority_accuracy(pool: Pool) -> float:
    """Share of rows whose largest cluster is correct; ties go to the cluster that came first."""
    column = plurality(pool.cluster)
    return float((pool.correct[np.arange(pool.rows), column] & (column >= 0)).mean())


def best_accuracy(pool: Pool) -> float:
    """Share of rows whose best-scored sample is correct, as best-of-N has it: one without an answer or a score never wins."""
    column = best_scored(Batch(np.full(pool.rows, pool.size), pool.cluster, pool.score, pool.completion_tokens))
    return float((pool.correct[np.arange(pool.rows), column] & (column >= 0)).mean())


def auc(score: np.ndarray, correct: np.ndarray) -> float:
    """Area under the ROC curve: P(score of a correct sample > score of a wrong one), ties counted half; NaN if one-sided."""
    known = ~np.isnan(score)
    score, correct = score[known], correct[known]
    return float(roc_auc_score(correct, score)) if np.unique(correct).size == 2 else float("nan")


def measure(test: Pool, chains: Pool, shifted: Pool) -> pd.DataFrame:
    """Every quantity of BANDS, measured.

    Args:
        test: parallel samples of the test split, scored.
        chains: sequential chains of the test split.
        shifted: parallel samples of the shifted split.

    Returns:
        A row a band: quantity, value, low, high, within.
    """
    mean, shifted_mean = test.correct.mean(), shifted.correct.mean()
    per_problem = test.correct.mean(axis=1)
    before, after = chains.correct[:, :-1], chains.correct[:, 1:]
    values = (
        mean,
        (per_problem < 0.2).mean(),
        (per_problem > 0.8).mean(),
        majority_accuracy(test) - mean,
        best_accuracy(test) - mean,
        auc(test.score.ravel(), test.correct.ravel()),
        (before & ~after).sum(),
        (~before & after).sum(),
        shifted_mean,
        majority_accuracy(shifted) - shifted_mean,
        shifted.correct.any(axis=1).mean(),
    )
    rows = [
        (
            band.name,
            float(value),
            band.low,
            band.high,
            bool(band.low <= value <= band.high),
        )
        for band, value in zip(BANDS, values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["quantity", "value", "low", "high", "within"])
