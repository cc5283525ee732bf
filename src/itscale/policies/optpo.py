"""OptPO's votes (arXiv 2512.02882, METHODS section 4): stop when the vote can be trusted.

All rules count answered samples in submission order, `chunk` at a time (the overshoot is paid), and look at n_min samples at
the earliest. What a threshold stop certifies, under the model, is the consensus, not that it is right; a stop at n_max
certifies nothing. `vote_ratio` and `vote_posterior` are the paper's test, `vote_lead` is its derived form, `vote_heuristic`
counts the answers as it goes and has no guarantee, `vote_dirichlet` is ours.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from itscale.errors import UserError
from itscale.policies.calibration import Calibration
from itscale.policies.protocol import Batch, Decision, Reason, stop_or_limit, take
from itscale.records import Unit
from itscale.voting import (
    Tally,
    VoteModel,
    dirichlet_mode_posterior,
    empty_tally,
    leader_posterior,
    log_ratio,
    plurality,
    vote,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Vote:
    """Counts votes until `trusted` or n_max; answers with the plurality."""

    n_max: int
    n_min: int = 1
    chunk: int = 1
    unit: ClassVar[Unit] = Unit.SAMPLE
    needs_scores: ClassVar[bool] = False
    needs_features: ClassVar[tuple[str, ...]] = ()
    family: ClassVar[str] = "self_consistency"
    reason: ClassVar[Reason] = Reason.POSTERIOR

    def __post_init__(self) -> None:
        if not 1 <= self.n_min <= self.n_max or self.chunk < 1:
            raise UserError(f"a vote needs 1 <= n_min <= n_max and chunk >= 1, not {self.n_min}, {self.n_max}, {self.chunk}.")

    @property
    def limit(self) -> int:
        return self.n_max

    def bind(self, known: Calibration) -> Self:
        return self

    def init(self, rows: int) -> Tally:
        return empty_tally(rows)

    def step(self, state: Tally, batch: Batch, seen: np.ndarray) -> tuple[Tally, Decision]:
        for column in range(int(seen.min(initial=self.n_max)), batch.cluster.shape[1]):
            state = vote(state, np.where((column >= seen) & (column < batch.n), batch.cluster[:, column], -1))
        met = (state.first > 0) & (batch.n >= self.n_min)
        met[met] = self.trusted(take(state, met))
        want = np.where(met, batch.n, np.maximum(batch.n + self.chunk, self.n_min))
        return state, stop_or_limit(batch.n, want, self.n_max, self.reason, met)

    def trusted(self, state: Tally) -> np.ndarray:
        """Whether each row's vote [B] can be trusted; every row has a leader."""
        raise NotImplementedError

    def select(self, state: Tally, batch: Batch) -> np.ndarray:
        return plurality(batch.cluster)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteLead(_Vote):
    """Stop when the leader is `lead` votes ahead of the runner-up: Lambda_t = r^(v_L - v_S) >= B as an integer (derived)."""

    lead: int
    reason: ClassVar[Reason] = Reason.LEAD

    def trusted(self, state: Tally) -> np.ndarray:
        return state.first - state.second >= self.lead


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model(_Vote):
    """A rule that knows p0 and the number of answers m: given (multiple choice), or the calibration split's estimate."""

    p0: float | None = None
    options: int | None = None
    known: VoteModel | None = None

    def __post_init__(self) -> None:
        _Vote.__post_init__(self)
        _in_unit("p0", self.p0)
        if self.options is not None and self.options < 2:
            raise UserError(f"a vote needs options >= 2, not {self.options}.")
        if None not in (self.p0, self.options) and self.p0 <= 1 / self.options:
            raise UserError(f"p0 = {self.p0} must exceed 1/options = {1 / self.options:.3g}, or the vote never stops.")

    def bind(self, known: Calibration) -> Self:
        return replace(self, known=known.votes)

    @property
    def model(self) -> VoteModel:
        """p0 and m, those given before those estimated; estimates with p0 <= 1/m let every vote run to its limit."""
        known = self.known
        if known is None:
            if None in (self.p0, self.options):
                raise ValueError("bind the policy to a calibration first")
            known = VoteModel(self.p0, self.options)
        p0 = known.p0 if self.p0 is None else self.p0
        return VoteModel(p0, known.options if self.options is None else self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteRatio(_Model):
    """Stop at Lambda_t = P(H_leader | votes) / P(H_runner-up | votes) >= `ratio`; errs <= (m - 1) / (ratio + m - 1)."""

    ratio: float
    reason: ClassVar[Reason] = Reason.LEAD

    def __post_init__(self) -> None:
        _Model.__post_init__(self)
        if self.ratio <= 1:
            raise UserError(f"the ratio of a vote must exceed 1, not {self.ratio}.")

    def trusted(self, state: Tally) -> np.ndarray:
        log_r = log_ratio(self.model.p0, self.model.options)
        return (state.first - state.second) * log_r >= np.log(self.ratio) - 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class VotePosterior(_Model):
    """Stop when the leader's posterior reaches 1 - `eps`; under the model such a stop errs with probability <= eps."""

    eps: float

    def __post_init__(self) -> None:
        _Model.__post_init__(self)
        _in_unit("eps", self.eps)

    def trusted(self, state: Tally) -> np.ndarray:
        log_r = log_ratio(self.model.p0, self.model.options)
        return (log_r > 0) & (leader_posterior(state.counts, log_r, self.model.options) >= 1 - self.eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteHeuristic(_Model):
    """The posterior rule with m = distinct answers seen + 1, which moves with the votes: no guarantee (METHODS section 4)."""

    eps: float

    def __post_init__(self) -> None:
        _Model.__post_init__(self)
        _in_unit("eps", self.eps)

    def trusted(self, state: Tally) -> np.ndarray:
        options = (state.counts > 0).sum(axis=1) + 1
        log_r = log_ratio(self.model.p0, options)
        return (log_r > 0) & (leader_posterior(state.counts, log_r, options) >= 1 - self.eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteDirichlet(_Model):
    """Stop when P(the leader is the most probable answer) >= 1 - `eps` under a symmetric Dirichlet(`alpha`) on m answers (ours).

    Unlike the model of the paper it lets wrong answers cluster; p0 is not read.
    """

    eps: float
    alpha: float = 1.0

    def __post_init__(self) -> None:
        _Model.__post_init__(self)
        _in_unit("eps", self.eps)
        if self.alpha <= 0:
            raise UserError(f"alpha of a vote must be positive, not {self.alpha}.")

    def trusted(self, state: Tally) -> np.ndarray:
        return dirichlet_mode_posterior(state.counts, self.model.options, self.alpha) >= 1 - self.eps


def _in_unit(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < 1:
        raise UserError(f"{name} of a vote must lie between 0 and 1, not {value}.")
