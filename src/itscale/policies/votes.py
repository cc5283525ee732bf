"""Votes that stop when they can be trusted: what they share, ASC, and the rules of the field (docs/optpo.md, "Which votes").

All count answered samples in submission order and answer with the plurality; OptPO's own are in optpo.py.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from itscale.data.records import Unit
from itscale.errors import UserError
from itscale.policies.calibration import Calibration
from itscale.policies.consistency import check_majority, count_votes
from itscale.policies.protocol import Batch, Decision, Reason, check_counts, stop_or_limit, take
from itscale.theory.answertypes import AnswerTypes, mode_posterior
from itscale.theory.certificate import log_bar, log_evidence
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
    reads_sums: ClassVar[bool] = True
    see = staticmethod(count_votes)

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
        state = self.see(state, batch, seen)
        return state, self.look(state, batch)

    def look(self, state: Tally, batch: Batch) -> Decision:
        met = (state.first > 0) & (batch.n >= self.n_min)
        met[met] = self.trusted(take(state, met), batch, np.flatnonzero(met))
        want = np.where(met, batch.n, np.maximum(self.next_look(batch.n), self.n_min))
        return stop_or_limit(batch.n, want, self.n_max, self.reason, met)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Bayes(Vote):
    """Stop when the leader is the mode with a posterior of 1 - `eps`, the prior being the calibration questions' answers.

    Questions differ: the prior is over whole answer distributions (theory/answertypes.py; idea: arXiv 2602.05395, this form is
    derived). Where test questions are like the calibration questions, such stops err with probability <= eps on their average.
    """

    eps: float
    types: AnswerTypes | None = None

    def __post_init__(self) -> None:
        Vote.__post_init__(self)
        check_error("vote_bayes", eps=self.eps)

    def bind(self, known: Calibration) -> Self:
        return replace(self, types=known.types)

    def trusted(self, state: Tally, batch: Batch, rows: np.ndarray) -> np.ndarray:
        if self.types is None:
            raise ValueError("bind the policy to a calibration first")
        rest = state.counts.sum(axis=1) - state.first - state.second
        return mode_posterior(self.types, state.first, state.second, rest) >= 1 - self.eps


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified(Vote):
    """Stop when the leader is certified: whatever the question, P(it ever stops at an answer that is not the mode) <= `delta`.

    No p0, no number of answers, no prior, and any moment of stopping; a tie for the mode counts as an error. Proof in
    docs/optpo.md. The price is many votes: it is there to be honest, not to save.
    """

    delta: float
    reads_sums: ClassVar[bool] = False  # it asks in which order the answers appeared

    def __post_init__(self) -> None:
        Vote.__post_init__(self)
        check_error("vote_certified", delta=self.delta)

    def trusted(self, state: Tally, batch: Batch, rows: np.ndarray) -> np.ndarray:
        # The vote that introduced the leader is not counted for it.
        evidence = log_evidence(state.first - 1, state.second)
        sure = evidence >= log_bar(1, self.delta)
        sure[sure] = evidence[sure] >= log_bar(_places(batch.cluster[rows[sure]], state.leader[sure]), self.delta)
        return sure


def _places(cluster: np.ndarray, leader: np.ndarray) -> np.ndarray:
    """As the how manieth answer of cluster [B, K] each row's leader [B] appeared, from 1."""
    rows, columns = cluster.shape
    first = np.full((rows, int(cluster.max(initial=-1)) + 2), columns)  # the last column takes the -1s
    for column in range(columns - 1, -1, -1):
        first[np.arange(rows), cluster[:, column]] = column
    return 1 + (first[:, :-1] < first[np.arange(rows), leader][:, None]).sum(axis=1)


def check_error(rule: str, **errors: float) -> None:
    """A promised error.

    Raises:
        UserError: it does not lie between 0 and 1.
    """
    for name, value in errors.items():
        if not 0 < value < 1:
            raise UserError(f"{name} of {rule} is {value}: it is a promised error, between 0 and 1.")
