"""OptPO's votes (arXiv 2512.02882, docs/optpo.md): stop when the vote can be trusted.

All rules count answered samples in submission order, `chunk` at a time (the overshoot is paid), and look at n_min samples at
the earliest. What a threshold stop certifies, under the model, is the consensus, not that it is right; a stop at n_max
certifies nothing. `vote_ratio` and `vote_posterior` are the paper's test, `vote_lead` is its derived form, `vote_heuristic`
counts the answers as it goes and has no guarantee, `vote_dirichlet` is ours.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from scipy import special

from itscale.errors import UserError
from itscale.policies.calibration import Calibration
from itscale.policies.protocol import Batch, Reason, check_counts
from itscale.policies.votes import Vote
from itscale.theory.voting import (
    Tally,
    VoteModel,
    asc_confidence,
    dirichlet_mode_posterior,
    leader_posterior,
    log_ratio,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteLead(Vote):
    """Stop when the leader is `lead` votes ahead of the runner-up: Lambda_t = r^(v_L - v_S) >= B as an integer (derived)."""

    lead: int
    reason: ClassVar[Reason] = Reason.LEAD

    def __post_init__(self) -> None:
        Vote.__post_init__(self)
        check_counts("vote_lead", lead=self.lead)

    def trusted(self, state: Tally, batch: Batch, rows: np.ndarray) -> np.ndarray:
        return state.first - state.second >= self.lead


@dataclass(frozen=True, slots=True, kw_only=True)
class _Estimated(Vote):
    """A rule that knows p0 or the number of answers m: given (multiple choice), or the calibration split's estimate."""

    known: VoteModel | None = None

    def __post_init__(self) -> None:
        Vote.__post_init__(self)
        p0, options = getattr(self, "p0", None), getattr(self, "options", None)
        for name in ("p0", "eps"):
            value = getattr(self, name, None)
            if value is not None and not 0 < value < 1:
                raise UserError(f"{name} of a vote must lie between 0 and 1, not {value}.")
        if options is not None and options < 2:
            raise UserError(f"a vote needs options >= 2, not {options}.")
        if None not in (p0, options) and p0 <= 1 / options:
            raise UserError(f"p0 = {p0} must exceed 1/options = {1 / options:.3g}, or the vote never stops.")

    def bind(self, known: Calibration) -> Self:
        return replace(self, known=known.votes)

    def fixed(self, name: str) -> Any:
        """p0 or options: as given, else as estimated. Estimates with p0 <= 1/m let every vote run to its limit."""
        given = getattr(self, name)
        if given is None and self.known is None:
            raise ValueError("bind the policy to a calibration first")
        return getattr(self.known, name) if given is None else given


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteRatio(_Estimated):
    """Stop at Lambda_t = P(H_leader | votes) / P(H_runner-up | votes) >= `ratio`; errs <= (m - 1) / (ratio + m - 1)."""

    ratio: float
    p0: float | None = None
    options: int | None = None
    reason: ClassVar[Reason] = Reason.LEAD

    def __post_init__(self) -> None:
        _Estimated.__post_init__(self)
        if self.ratio <= 1:
            raise UserError(f"the ratio of a vote must exceed 1, not {self.ratio}.")

    def trusted(self, state: Tally, batch: Batch, rows: np.ndarray) -> np.ndarray:
        log_r = log_ratio(self.fixed("p0"), self.fixed("options"))
        return (state.first - state.second) * log_r >= np.log(self.ratio) - 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class VotePosterior(_Estimated):
    """Stop when the leader's posterior reaches 1 - `eps`; under the model such a stop errs with probability <= eps.

    Real questions differ in p0, which the model does not know: at eps = 5 % the stops erred 3 to 20 % on seven pools
    (docs/optpo.md); `vote_bayes` was not shown to break its promise there.
    """

    eps: float
    p0: float | None = None
    options: int | None = None

    def trusted(self, state: Tally, batch: Batch, rows: np.ndarray) -> np.ndarray:
        return _sure(state, self.fixed("p0"), self.fixed("options"), self.eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteHeuristic(_Estimated):
    """The posterior rule with m = distinct answers seen + 1, which moves with the votes: no guarantee (docs/optpo.md)."""

    eps: float
    p0: float | None = None

    def trusted(self, state: Tally, batch: Batch, rows: np.ndarray) -> np.ndarray:
        return _sure(state, self.fixed("p0"), (state.counts > 0).sum(axis=1) + 1, self.eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteDirichlet(_Estimated):
    """Stop when P(the leader is the most probable answer) >= 1 - `eps` under a symmetric Dirichlet(`alpha`) on m answers (ours).

    Unlike the model of the paper it lets wrong answers cluster.
    """

    eps: float
    alpha: float = 1.0
    options: int | None = None

    def __post_init__(self) -> None:
        _Estimated.__post_init__(self)
        if self.alpha <= 0:
            raise UserError(f"alpha of a vote must be positive, not {self.alpha}.")

    def bind(self, known: Calibration) -> Self:
        # It reads no p0: calibrations that differ in nothing else make the same rule.
        return self if known.votes is None or self.options is not None else replace(self, options=known.votes.options)

    def trusted(self, state: Tally, batch: Batch, rows: np.ndarray) -> np.ndarray:
        # The leader is no surer to beat all others than to beat the runner-up, which settles most votes.
        sure = asc_confidence(state.first, state.second, self.alpha) >= 1 - self.eps
        sure[sure] = dirichlet_mode_posterior(state.counts[sure], self.fixed("options"), self.alpha) >= 1 - self.eps
        return sure


def _sure(state: Tally, p0: float, options: np.ndarray | int, eps: float) -> np.ndarray:
    """Whether the leader's posterior reaches 1 - eps; never where p0 <= 1/m."""
    log_r, options = (np.broadcast_to(v, len(state.first)) for v in (log_ratio(p0, options), options))
    # The posterior with the runner-up alone is above the one with all others, which settles most votes.
    sure = (log_r > 0) & (special.expit((state.first - state.second) * log_r) >= 1 - eps - 1e-12)
    sure[sure] = leader_posterior(state.counts[sure], log_r[sure], options[sure]) >= 1 - eps
    return sure
