"""Fixed N: best-of-N, self-consistency, and re-answering for a fixed number of rounds."""

from dataclasses import dataclass, fields
from typing import ClassVar, Self

import numpy as np

from itscale.data.records import Unit
from itscale.policies.calibration import Calibration
from itscale.policies.protocol import Batch, Decision, NoState, Reason, best_scored, check_counts, decide
from itscale.theory.voting import heaviest, plurality


@dataclass(frozen=True, slots=True)
class _Fixed:
    """Draws `limit` at once."""

    def __post_init__(self) -> None:
        check_counts(type(self).__name__, **{f.name: getattr(self, f.name) for f in fields(self)})

    def bind(self, known: Calibration) -> Self:
        return self

    def init(self, rows: int) -> NoState:
        return NoState()

    def step(self, state: NoState, batch: Batch, seen: np.ndarray) -> tuple[NoState, Decision]:
        return state, decide(batch.n, np.full_like(batch.n, self.limit), self.limit, Reason.FIXED)


@dataclass(frozen=True, slots=True)
class OfN(_Fixed):
    """Draws n samples at once; what becomes of them is the rule's."""

    n: int
    unit: ClassVar[Unit] = Unit.SAMPLE
    needs_features: ClassVar[tuple[str, ...]] = ()

    @property
    def limit(self) -> int:
        return self.n


@dataclass(frozen=True, slots=True)
class BestOfN(OfN):
    """Highest verifier score of n samples; the first of equals, samples without an answer skipped."""

    needs_scores: ClassVar[bool] = True
    family: ClassVar[str] = "best_of_n"

    def select(self, state: NoState, batch: Batch) -> np.ndarray:
        return best_scored(batch)


@dataclass(frozen=True, slots=True)
class WeightedBestOfN(OfN):
    """The answer whose samples have the highest summed verifier score; ties go to the answer seen first.

    Unanswered samples never count, a sample without a score adds nothing to its answer. Scores are weights: 0 or more.
    """

    scale: ClassVar[str] = "weights"
    needs_scores: ClassVar[bool] = True
    family: ClassVar[str] = "best_of_n"

    def select(self, state: NoState, batch: Batch) -> np.ndarray:
        return heaviest(batch.cluster, np.nan_to_num(batch.score))


@dataclass(frozen=True, slots=True)
class SelfConsistency(OfN):
    """Plurality of n samples (Wang et al. 2023); ties go to the answer seen first, unanswered samples never vote."""

    needs_scores: ClassVar[bool] = False
    family: ClassVar[str] = "self_consistency"

    def select(self, state: NoState, batch: Batch) -> np.ndarray:
        return plurality(batch.cluster)


@dataclass(frozen=True, slots=True)
class MultiRoundThinking(_Fixed):
    """The answer of the last of a fixed number of rounds (MR-Thinking, arXiv 2503.19855)."""

    rounds: int
    unit: ClassVar[Unit] = Unit.ROUND
    needs_scores: ClassVar[bool] = False
    needs_features: ClassVar[tuple[str, ...]] = ()
    family: ClassVar[str] = "mr_thinking"

    @property
    def limit(self) -> int:
        return self.rounds

    def select(self, state: NoState, batch: Batch) -> np.ndarray:
        return last_round(batch)


def last_round(batch: Batch) -> np.ndarray:
    """Column [B] of the last visible round; -1 where it has no answer."""
    last = batch.n - 1
    return np.where(batch.cluster[np.arange(len(last)), last] >= 0, last, -1)
