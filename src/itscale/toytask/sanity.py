"""Sanity checks: the ranges within which a trained toy model shows what the methods are about."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from itscale.data.records import Pool
from itscale.policies.protocol import Batch, best_scored
from itscale.theory.voting import plurality


@dataclass(frozen=True, slots=True)
class Check:
    """What a quantity of the toy task ought to lie in; an infinite bound is none."""

    name: str
    low: float
    high: float


CHECKS = (
    Check("mean accuracy", 0.40, 0.75),
    Check("share of problems solved less than 20 %", 0.15, 1.0),
    Check("share of problems solved more than 80 %", 0.15, 1.0),
    Check("majority minus mean", 0.05, 1.0),
    Check("best-of-N minus mean", 0.05, 1.0),
    Check("verifier AUC", 0.80, 1.0),
    Check("verifier AUC minus weak verifier AUC", 0.02, 1.0),
    Check("transitions from correct to wrong", 100, np.inf),
    Check("transitions from wrong to correct", 100, np.inf),
    Check("shifted: mean accuracy", 0.10, 0.45),
    Check("shifted: majority minus mean", 0.08, 1.0),
    Check("shifted: pass@N", 0.60, 1.0),
)


def majority_accuracy(pool: Pool) -> float:
    """Share of rows whose largest cluster is correct; ties go to the cluster that came first."""
    return _share_right(pool, plurality(pool.cluster))


def best_accuracy(pool: Pool) -> float:
    """Share of rows whose best-scored sample is correct, as best-of-N has it: one without an answer or a score never wins."""
    return _share_right(pool, best_scored(Batch(np.full(pool.rows, pool.size), pool.cluster, pool.score, pool.completion_tokens)))


def _share_right(pool: Pool, column: np.ndarray) -> float:
    """Share of rows that are right in a column [R] of theirs; -1 is no answer."""
    return float((pool.correct[np.arange(pool.rows), column] & (column >= 0)).mean())


def auc(score: np.ndarray, correct: np.ndarray) -> float:
    """Area under the ROC curve: P(score of a correct sample > score of a wrong one), ties counted half; NaN if one-sided."""
    known = ~np.isnan(score)
    score, correct = score[known], correct[known]
    return float(roc_auc_score(correct, score)) if np.unique(correct).size == 2 else float("nan")


def measure(test: Pool, weak: Pool, chains: Pool, shifted: Pool) -> pd.DataFrame:
    """Every quantity of CHECKS, measured.

    Args:
        test: parallel samples of the test split, scored.
        weak: the same samples, scored by the weak verifier.
        chains: sequential chains of the test split.
        shifted: parallel samples of the shifted split.

    Returns:
        A row a check: quantity, value, low, high, within.
    """
    mean, shifted_mean = test.correct.mean(), shifted.correct.mean()
    per_problem = test.correct.mean(axis=1)
    before, after = chains.correct[:, :-1], chains.correct[:, 1:]
    good = auc(test.score.ravel(), test.correct.ravel())
    values = (
        mean,
        (per_problem < 0.2).mean(),
        (per_problem > 0.8).mean(),
        majority_accuracy(test) - mean,
        best_accuracy(test) - mean,
        good,
        good - auc(weak.score.ravel(), weak.correct.ravel()),
        (before & ~after).sum(),
        (~before & after).sum(),
        shifted_mean,
        majority_accuracy(shifted) - shifted_mean,
        shifted.correct.any(axis=1).mean(),
    )
    rows = [
        (
            check.name,
            float(value),
            check.low,
            check.high,
            bool(check.low <= value <= check.high),
        )
        for check, value in zip(CHECKS, values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["quantity", "value", "low", "high", "within"])
