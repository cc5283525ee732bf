"""Votes that stop when they can be trusted: what they share, ASC, and the rules of the field (docs/optpo.md, "Which votes").

All count answered samples in submission order and answer with the plurality; OptPO's own are in optpo.py.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from itscale.data.records import Unit
from itscale.errors import UserError
from itscale.policies.calibration import Calibration
from itscale.policies.consistency import check_majority, count_votes
from itscale.policies.protocol import Batch, Decision, Reason, check_counts, stop_or_limit, take
from itscale.theory.voting import Tally, asc_confidence, empty_tally, plurality


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """Counts votes until `trusted` or n_max, looking n_min samples in at the earliest."""

    n_max: int
    n_min: int = 1
    unit: ClassVar[Unit] = Unit.SAMPLE
    needs_scores: ClassVar[bool] = False
    needs_features: ClassVar[tuple[str, ...]] = ()
    family: ClassVar[str] = "self_consistency"
    reason: ClassVar[Reason] = Reason.CONFIDENT

    def __post_init__(self) -> None:
        check_counts("a vote", n_max=self.n_max, n_min=self.n_min)
        if self.n_min > self.n_max:
            raise UserError(f"n_min of a vote is {self.n_min} and n_max {self.n_max}: choose n_min <= n_max.")

    @property
    def limit(self) -> int:
        return self.n_max

    def bind(self, known: Calibration) -> Self:
        return self

    def init(self, rows: int) -> Tally:
        return empty_tally(rows)

    def step(self, state: Tally, batch: Batch, seen: np.ndarray) -> tuple[Tally, Decision]:
        state = count_votes(state, batch, seen)
        met = (state.first > 0) & (batch.n >= self.n_min)
        met[met] = self.trusted(take(state, met), batch, np.flatnonzero(met))
        want = np.where(met, batch.n, np.maximum(self.next_look(batch.n), self.n_min))
        return state, stop_or_limit(batch.n, want, self.n_max, self.reason, met)

    def next_look(self, n: np.ndarray) -> np.ndarray:
        """How many samples [B] the look after the one at n [B] waits for."""
        raise NotImplementedError

    def trusted(self, state: Tally, batch: Batch, rows: np.ndarray) -> np.ndarray:
        """Whether each row's vote can be trusted [B']; `state` is that of rows [B'] of the batch, which all have a leader."""
        raise NotImplementedError

    def select(self, state: Tally, batch: Batch) -> np.ndarray:
        return plurality(batch.cluster)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote(Looks):
    """A vote that looks after every `chunk` samples; what it draws beyond is paid."""

    chunk: int = 1

    def __post_init__(self) -> None:
        Looks.__post_init__(self)
        check_counts("a vote", chunk=self.chunk)

    def next_look(self, n: np.ndarray) -> np.ndarray:
        return n + self.chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptive(Vote):
    """ASC (Aggarwal et al. 2023): stop when P(theta > 1/2 | Beta(v1 + 1, v2 + 1)), v1 and v2 the top counts, is `threshold`."""

    threshold: float = 0.95

    def __post_init__(self) -> None:
        Vote.__post_init__(self)
        check_majority("asc", self.threshold)

    def trusted(self, state: Tally, batch: Batch, rows: np.ndarray) -> np.ndarray:
        return asc_confidence(state.first, state.second) >= self.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubling(Looks):
    """Look at n_min, 2 n_min, 4 n_min, ... samples; stop where one answer has at least `share` of all that were drawn.

    As its_hub's AdaptiveSelfConsistency does (pull request 262, Apache-2.0): 2 samples first and a share of 0.75. An unanswered
    sample counts against every answer. No promise comes with it: two samples that agree are enough.
    """

    n_min: int = 2
    share: float = 0.75
    reason: ClassVar[Reason] = Reason.SHARE

    def __post_init__(self) -> None:
        Looks.__post_init__(self)
        if not 0 < self.share <= 1:
            raise UserError(f"share of vote_doubling is {self.share}: choose a share of the samples, above 0 and at most 1.")

    def next_look(self, n: np.ndarray) -> np.ndarray:
        return 2 * n

    def trusted(self, state: Tally, batch: Batch, rows: np.ndarray) -> np.ndarray:
        return state.first >= self.share * batch.n[rows] - 1e-9
