"""OptScale (arXiv 2506.22376) and the threshold rule that it must beat."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np

from itscale import truncnormal
from itscale.errors import UserError
from itscale.policies.calibration import Calibration, Moments
from itscale.policies.protocol import (
    Batch,
    Decision,
    NoState,
    Reason,
    best_scored,
    decide,
    stop_or_limit,
    usable_scores,
)
from itscale.records import Pool, Unit

# How many scores the released code fits, by its maximum number of samples.
_PEEK = {8: 3, 16: 5, 32: 10, 64: 20}


@dataclass(frozen=True, slots=True)
class Threshold:
    """Stop at the first answered sample whose score reaches s_min, or at n_max; answer with the best score."""

    s_min: float
    n_max: int
    unit: ClassVar[Unit] = Unit.SAMPLE
    needs_scores: ClassVar[bool] = True
    needs_features: ClassVar[tuple[str, ...]] = ()
    family: ClassVar[str] = "best_of_n"

    @property
    def limit(self) -> int:
        return self.n_max

    def bind(self, known: Calibration) -> Self:
        return self

    def init(self, rows: int) -> NoState:
        return NoState()

    def step(self, state: NoState, batch: Batch, seen: np.ndarray) -> tuple[NoState, Decision]:
        reached = usable_scores(batch).max(axis=1, initial=-np.inf) >= self.s_min
        return state, stop_or_limit(batch.n, np.where(reached, batch.n, batch.n + 1), self.n_max, Reason.THRESHOLD, reached)

    def select(self, state: NoState, batch: Batch) -> np.ndarray:
        return best_scored(batch)


@dataclass(frozen=True, slots=True)
class OptScale:
    """OptScale^0: draw until the best of n scores reaches s_min with probability alpha under the fitted distribution.

    `paper`: one maximum likelihood fit of the first `peek` scores, then N* samples. `ours`: the fit pools the scores with n0
    pseudo-samples of the calibration split's average moments and is repeated as samples arrive, after each of the first
    four and then whenever a quarter more is there; it stops at the first look with n >= N*.
    """

    s_min: float
    alpha: float
    n_max: int
    variant: Literal["paper", "ours"] = "ours"
    peek: int | None = None
    n0: float = 1.0
    prior: Moments | None = None
    unit: ClassVar[Unit] = Unit.SAMPLE
    needs_scores: ClassVar[bool] = True
    needs_features: ClassVar[tuple[str, ...]] = ()
    family: ClassVar[str] = "best_of_n"

    def __post_init__(self) -> None:
        if self.variant not in ("paper", "ours"):
            raise UserError(f"variant {self.variant!r} of optscale is not known: choose paper or ours.")
        if not 0 < self.alpha < 1:
            raise UserError(f"alpha of optscale is {self.alpha}: choose a probability between 0 and 1.")
        if self.variant == "paper" and self.peek is None and self.n_max not in _PEEK:
            raise UserError(f"optscale (paper) has no published peek for n_max {self.n_max}: set peek.")

    @property
    def limit(self) -> int:
        return self.n_max

    @property
    def first(self) -> int:
        """Samples before the first look."""
        if self.variant == "ours":
            return 1
        return min(self.peek if self.peek is not None else _PEEK[self.n_max], self.n_max)

    def bind(self, known: Calibration) -> Self:
        return replace(self, prior=known.moments)

    def init(self, rows: int) -> NoState:
        return NoState()

    def step(self, state: NoState, batch: Batch, seen: np.ndarray) -> tuple[NoState, Decision]:
        if not batch.n.any():
            return state, decide(batch.n, np.full_like(batch.n, self.first), self.n_max, Reason.ENOUGH)
        if self.variant == "paper" and (seen > 0).all():  # the one fit was made before: its N* are here
            return state, stop_or_limit(batch.n, batch.n, self.n_max, Reason.ENOUGH, batch.n < self.n_max)
        needed = self.needed(batch)
        enough = batch.n >= needed
        if self.variant == "ours":
            look = np.where(batch.n < 4, batch.n + 1, np.ceil(1.25 * batch.n).astype(np.int64))
            needed = np.where(enough, batch.n, np.minimum(needed, look))
        return state, stop_or_limit(batch.n, np.maximum(needed, batch.n), self.n_max, Reason.ENOUGH, enough)

    def needed(self, batch: Batch) -> np.ndarray:
        """N* [B] from the visible scores."""
        valid = ~np.isnan(batch.score)
        score = np.where(valid, batch.score, 0.0)
        count, total, square = valid.sum(axis=1), score.sum(axis=1), (score**2).sum(axis=1)
        if self.variant == "ours":
            if self.prior is None:
                raise ValueError("bind the policy to a calibration first")
            count, total, square = count + self.n0, total + self.n0 * self.prior.mean, square + self.n0 * self.prior.mean_square
        known = np.maximum(count, 1e-9)
        fit = truncnormal.fit(total / known, square / known)
        needed = truncnormal.samples_needed(self.s_min, self.alpha, fit, self.n_max)
        return np.where(count > 0, needed, self.n_max)

    def select(self, state: NoState, batch: Batch) -> np.ndarray:
        return best_scored(batch)


def average_moments(pool: Pool) -> Moments:
    """Average over rows of the mean and the mean square of their scores."""
    return Moments(float(np.nanmean(np.nanmean(pool.score, axis=1))), float(np.nanmean(np.nanmean(pool.score**2, axis=1))))
