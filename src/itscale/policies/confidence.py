"""Votes that weigh samples by how sure the model (or the verifier) is of them: CISC, DeepConf offline, and ASC by confidence.

The confidence is the score that a batch holds: a verifier's, or a column that the model's own log-probabilities gave
(models/confidence.py). Self-Calibration's `earlyexit` (stop at the first answer that is sure enough) is `score_threshold`.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from itscale.data.records import Unit
from itscale.errors import UserError
from itscale.policies.calibration import Calibration
from itscale.policies.fixed import OfN
from itscale.policies.protocol import Batch, Decision, NoState, Reason, check_counts, stop_or_limit, usable_scores
from itscale.theory.voting import heaviest


@dataclass(frozen=True, slots=True)
class Cisc(OfN):
    """CISC (arXiv 2502.06233): n votes weighted by softmax(score / temperature) within the question. Scores of any scale."""

    temperature: float = 1.0
    needs_scores: ClassVar[bool] = True
    family: ClassVar[str] = "self_consistency"
    selects_by: ClassVar[tuple[str, ...]] = ("temperature",)

    def __post_init__(self) -> None:
        check_counts("cisc", n=self.n)
        if self.temperature <= 0:
            raise UserError(f"temperature of cisc is {self.temperature}: choose more than 0, in units of the score.")

    def select(self, state: NoState, batch: Batch) -> np.ndarray:
        score = usable_scores(batch)
        top = score.max(axis=1, initial=-np.inf, keepdims=True)
        return heaviest(batch.cluster, np.exp((score - np.where(np.isfinite(top), top, 0.0)) / self.temperature))


@dataclass(frozen=True, slots=True)
class DeepConf(OfN):
    """DeepConf offline (arXiv 2508.15260): of n samples the answered share `keep` with the highest scores vote by their scores.

    The share is rounded up, equals at its end come in their order. Scores are weights: 0 or more, and none weighs nothing.
    """

    keep: float = 0.1
    needs_scores: ClassVar[bool] = True
    family: ClassVar[str] = "self_consistency"
    scale: ClassVar[str] = "weights"
    selects_by: ClassVar[tuple[str, ...]] = ("keep",)

    def __post_init__(self) -> None:
        check_counts("deepconf", n=self.n)
        if not 0 < self.keep <= 1:
            raise UserError(f"keep of deepconf is {self.keep}: choose a share of the samples, above 0 and at most 1.")

    def select(self, state: NoState, batch: Batch) -> np.ndarray:
        score = usable_scores(batch)
        kept = np.ceil(self.keep * np.isfinite(score).sum(axis=1) - 1e-9)
        rank = np.argsort(np.argsort(-score, axis=1, kind="stable"), axis=1, kind="stable")
        return heaviest(np.where(rank < kept[:, None], batch.cluster, -1), np.where(np.isfinite(score), score, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidentShare:
    """Self-Calibration's ASC by confidence (arXiv 2503.00031): stop when one answer has `share` of the summed scores.

    A first sample has all of it, so that at least n_min are drawn (ours). Answers with the most weight. Scores are weights: 0 or
    more; a sample without an answer counts against every answer.
    """

    n_max: int
    share: float = 0.9
    n_min: int = 3
    unit: ClassVar[Unit] = Unit.SAMPLE
    needs_scores: ClassVar[bool] = True
    needs_features: ClassVar[tuple[str, ...]] = ()
    family: ClassVar[str] = "self_consistency"
    scale: ClassVar[str] = "weights"
    reads_sums: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_counts("asc_conf", n_max=self.n_max, n_min=self.n_min)
        if self.n_min > self.n_max:
            raise UserError(f"n_min of asc_conf is {self.n_min} and n_max {self.n_max}: choose n_min <= n_max.")
        if not 0 < self.share <= 1:
            raise UserError(f"share of asc_conf is {self.share}: choose a share of the scores, above 0 and at most 1.")

    @property
    def limit(self) -> int:
        return self.n_max

    def bind(self, known: Calibration) -> Self:
        return self

    def init(self, rows: int) -> "Weights":
        return Weights(np.zeros((rows, 0)), np.zeros(rows))

    def step(self, state: "Weights", batch: Batch, seen: np.ndarray) -> tuple["Weights", Decision]:
        state = self.see(state, batch, seen)
        return state, self.look(state, batch)

    @staticmethod
    def see(state: "Weights", batch: Batch, seen: np.ndarray) -> "Weights":
        return add_weights(state, batch, seen)

    def look(self, state: "Weights", batch: Batch) -> Decision:
        leading = state.of_answer.max(axis=1, initial=0.0)
        met = (leading > 0) & (leading >= self.share * state.total - 1e-12) & (batch.n >= self.n_min)
        want = np.where(met, batch.n, np.maximum(batch.n + 1, self.n_min))
        return stop_or_limit(batch.n, want, self.n_max, Reason.SHARE, met)

    def select(self, state: "Weights", batch: Batch) -> np.ndarray:
        return heaviest(batch.cluster, np.nan_to_num(batch.score))


@dataclass(frozen=True, slots=True)
class Weights:
    """Scores so far in B rows: summed by answer [B, C], and of all samples [B]."""

    of_answer: np.ndarray
    total: np.ndarray


def add_weights(state: Weights, batch: Batch, seen: np.ndarray) -> Weights:
    """The sums with the samples that arrived since `seen`."""
    missing = int(batch.cluster.max(initial=-1)) + 1 - state.of_answer.shape[1]
    of_answer, total = np.pad(state.of_answer, ((0, 0), (0, max(missing, 0)))), state.total.copy()
    for column in range(int(seen.min(initial=batch.cluster.shape[1])), batch.cluster.shape[1]):
        rows = np.flatnonzero((column >= seen) & (column < batch.n) & ~np.isnan(batch.score[:, column]))
        total[rows] += batch.score[rows, column]
        rows = rows[batch.cluster[rows, column] >= 0]
        of_answer[rows, batch.cluster[rows, column]] += batch.score[rows, column]
    return Weights(of_answer, total)
