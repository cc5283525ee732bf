"""A rule that is written for one question as a policy: "am I done?" of the answers and scores so far."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from itscale.data.records import Unit
from itscale.policies.calibration import Calibration
from itscale.policies.protocol import Batch, Decision, NoState, Reason, best_scored, check_counts, stop_or_limit
from itscale.theory.voting import plurality

Done = Callable[[Sequence[int | None], Sequence[float]], bool]


@dataclass(frozen=True, slots=True)
class Scalar:
    """Draws one sample at a time until `done(answers, scores)` or n_max.

    Equal answers are equal numbers, None is no answer; a sample without a score has NaN. Without `needs_scores` no sample is
    scored and the most frequent answer is returned, with it that of the highest score.
    """

    done: Done
    n_max: int
    needs_scores: bool = False
    unit: ClassVar[Unit] = Unit.SAMPLE
    needs_features: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_counts("your rule", n_max=self.n_max)

    @property
    def family(self) -> str:
        return "best_of_n" if self.needs_scores else "self_consistency"

    @property
    def limit(self) -> int:
        return self.n_max

    def bind(self, known: Calibration) -> Self:
        return self

    def init(self, rows: int) -> NoState:
        return NoState()

    def step(self, state: NoState, batch: Batch, seen: np.ndarray) -> tuple[NoState, Decision]:
        met = np.zeros(len(batch.n), bool)
        for row, n in enumerate(batch.n.tolist()):
            answers = [None if cluster < 0 else cluster for cluster in batch.cluster[row, :n].tolist()]
            met[row] = n > 0 and bool(self.done(answers, batch.score[row, :n].tolist()))
        return state, stop_or_limit(batch.n, np.where(met, batch.n, batch.n + 1), self.n_max, Reason.OWN, met)

    def select(self, state: NoState, batch: Batch) -> np.ndarray:
        return best_scored(batch) if self.needs_scores else plurality(batch.cluster)


def as_policy(done: Done, n_max: int, *, needs_scores: bool = False) -> Scalar:
    """A policy from a rule for one question; it can be replayed, compared and run live as those that are built in."""
    return Scalar(done, n_max, needs_scores)
