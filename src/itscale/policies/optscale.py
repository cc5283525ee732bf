"""OptScale (arXiv 2506.22376), and the rules over scores that it must beat: score threshold and Pandora."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, Literal, Self

import numpy as np

from itscale.data.records import Pool, Unit
from itscale.errors import UserError
from itscale.policies.calibration import Calibration, Ends, Moments
from itscale.policies.protocol import (
    Batch,
    Decision,
    Reason,
    best_scored,
    check_counts,
    decide,
    stop_or_limit,
)
from itscale.theory import betafit, inflated, truncnormal

# Densities of scores that a calibration chooses from (studies/densities.py).
NORMAL, BETA, INFLATED = "truncated normal", "beta", "beta with atoms"
# How many scores the released code fits, by its maximum number of samples.
PUBLISHED_PEEKS = {8: 3, 16: 5, 32: 10, 64: 20}


@dataclass(frozen=True, slots=True)
class Scores:
    """Sufficient statistics of the scores seen, each [B]: their number, sum and sum of squares, and the best usable one; how many
    are as good as 0 and as 1, and sum and sum of squares of those between."""

    count: np.ndarray
    total: np.ndarray
    square: np.ndarray
    best: np.ndarray  # -inf before the first answered sample with a score
    low: np.ndarray
    high: np.ndarray
    inner_total: np.ndarray
    inner_square: np.ndarray


def no_scores(rows: int) -> Scores:
    zero = np.zeros(rows)
    return Scores(zero, zero, zero, np.full(rows, -np.inf), zero, zero, zero, zero)


def add_scores(state: Scores, batch: Batch, seen: np.ndarray) -> Scores:
    """The statistics with the scores that arrived since `seen`."""
    start = int(seen.min(initial=batch.score.shape[1]))
    columns = np.arange(start, batch.score.shape[1])
    new = (columns >= seen[:, None]) & (columns < batch.n[:, None]) & ~np.isnan(batch.score[:, start:])
    score = np.where(new, batch.score[:, start:], 0.0)
    usable = np.where(new & (batch.cluster[:, start:] >= 0), score, -np.inf)
    low, high = new & (score < inflated.END), new & (score > 1 - inflated.END)
    inner = np.where(low | high, 0.0, score)
    return Scores(
        state.count + new.sum(axis=1),
        _plus(state.total, score),
        _plus(state.square, score**2),
        np.maximum(state.best, usable.max(axis=1, initial=-np.inf)),
        state.low + low.sum(axis=1),
        state.high + high.sum(axis=1),
        _plus(state.inner_total, inner),
        _plus(state.inner_square, inner**2),
    )


def _plus(total: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums [B] with values [B, K], one after the other, so that it is the same number however many are added at once."""
    for column in values.T:
        total = total + column
    return total


@dataclass(frozen=True, slots=True)
class _BestScored:
    """What rules with an `n_max` share that read the sums of the scores seen and answer with the best one."""

    unit: ClassVar[Unit] = Unit.SAMPLE
    needs_scores: ClassVar[bool] = True
    family: ClassVar[str] = "best_of_n"
    see = staticmethod(add_scores)

    @property
    def limit(self) -> int:
        return self.n_max

    def init(self, rows: int) -> Scores:
        return no_scores(rows)

    def step(self, state: Scores, batch: Batch, seen: np.ndarray) -> tuple[Scores, Decision]:
        state = self.see(state, batch, seen)
        return state, self.look(state, batch)

    def select(self, state: Scores, batch: Batch) -> np.ndarray:
        return best_scored(batch)


@dataclass(frozen=True, slots=True)
class ScoreThreshold(_BestScored):
    """Stop at the first answered sample whose score reaches s_min, or at n_max; answer with the best score."""

    s_min: float
    n_max: int
    needs_features: ClassVar[tuple[str, ...]] = ()
    reads_sums: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_counts("score_threshold", n_max=self.n_max)

    def bind(self, known: Calibration) -> Self:
        return self

    def look(self, state: Scores, batch: Batch) -> Decision:
        reached = state.best >= self.s_min
        return stop_or_limit(batch.n, np.where(reached, batch.n, batch.n + 1), self.n_max, Reason.THRESHOLD, reached)


@dataclass(frozen=True, slots=True)
class _Fitted(_BestScored):
    """What the rules share that fit a truncated normal to the scores seen, with a prior of n0 pseudo-samples.

    The prior's moments are the question's predicted ones (`predicted`, OptScale^t), else the calibration split's average.
    """

    n_max: int
    n0: float = 1.0
    predicted: bool = False
    prior: Moments | None = None
    scale: ClassVar[str] = "unit"

    @property
    def needs_features(self) -> tuple[str, ...]:
        return ("score_mean", "score_sd") if self.predicted else ()

    def bind(self, known: Calibration) -> Self:
        return replace(self, prior=known.moments)

    def pooled(self, state: Scores, batch: Batch) -> truncnormal.Fit:
        """The conjugate MAP fit: scores and pseudo-samples together."""
        return _conjugate(np.stack(self.pooled_moments(state, batch)).tobytes())

    def pooled_moments(self, state: Scores, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Mean [B] and mean square [B] of scores and pseudo-samples together."""
        mean, square = self.prior_moments(batch)
        count = np.maximum(state.count + self.n0, 1e-9)
        return (state.total + self.n0 * mean) / count, (state.square + self.n0 * square) / count

    def prior_moments(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Mean [B] and mean square [B] of the pseudo-samples; a question without a prediction has the calibration split's.

        A predicted standard deviation is kept below that of any distribution on [0, 1] with the predicted mean.
        """
        if self.prior is None:
            raise ValueError("bind the policy to a calibration first")
        average = [np.full(len(batch.n), m) for m in (self.prior.mean, self.prior.mean_square)]
        if not self.predicted:
            return average[0], average[1]
        mean = np.clip(batch.features["score_mean"], 1e-3, 1 - 1e-3)
        sd = np.clip(batch.features["score_sd"], 1e-3, 0.999 * np.sqrt(mean * (1 - mean)))
        known = ~np.isnan(mean + sd)
        return np.where(known, mean, average[0]), np.where(known, mean**2 + sd**2, average[1])


@lru_cache(maxsize=8)
def _conjugate(data: bytes) -> truncnormal.Fit:
    """The fit of (mean, mean square), [2, B] as bytes: the same prefixes' for all cells of a grid, and for several rules."""
    return truncnormal.fit(*np.frombuffer(data).reshape(2, -1))


@lru_cache(maxsize=8)
def _published_map(data: bytes) -> truncnormal.Fit:
    """The released MAP fit of (count, mean, mean square, prior mu, prior sigma), [5, B] as bytes.

    The one look of `paper` does not depend on s_min and alpha, so that all cells of a grid ask for the same fit.
    """
    return truncnormal.fit_with_normal_prior(*np.frombuffer(data).reshape(5, -1))


@dataclass(frozen=True, slots=True, kw_only=True)
class OptScale(_Fitted):
    """Draw until the best of n scores reaches s_min with probability alpha under the fitted distribution.

    `paper`: one fit of the first `peek` scores, by maximum likelihood (OptScale^0) or with normal priors around the predicted
    parameters (`predicted`: OptScale^t), then N* samples. `ours`: the fit has n0 pseudo-samples and is repeated as samples
    arrive, after each of the first four and then whenever `growth` times as many are there (1: after every one). `fitted`: the
    same under the density (truncated normal, beta, or beta with atoms at 0 and 1) that the calibration split's scores are
    likeliest under. Both stop at the first look with n >= N*.
    """

    s_min: float
    alpha: float
    variant: Literal["paper", "ours", "fitted"] = "ours"
    peek: int | None = None
    growth: float = 1.25
    density: str | None = None
    ends: Ends | None = None

    def __post_init__(self) -> None:
        if self.variant not in ("paper", "ours", "fitted"):
            raise UserError(f"variant {self.variant!r} of optscale is not known: choose paper, ours or fitted.")
        check_counts("optscale", n_max=self.n_max, peek=self.peek)
        if self.n0 < 0:
            raise UserError(f"n0 of optscale is {self.n0}: it is a number of pseudo-samples, 0 or more.")
        if not 0 < self.alpha < 1:
            raise UserError(f"alpha of optscale is {self.alpha}: choose a probability between 0 and 1.")
        if self.variant == "paper" and self.peek is None and self.n_max not in PUBLISHED_PEEKS:
            raise UserError(f"optscale (paper) has no published peek for n_max {self.n_max}: set peek.")
        if self.growth < 1:
            raise UserError(f"growth of optscale is {self.growth}: choose 1 (look after every sample) or more.")

    def bind(self, known: Calibration) -> Self:
        density = known.density if self.variant == "fitted" else None
        return replace(self, prior=known.moments, density=density, ends=known.ends if density == INFLATED else None)

    @property
    def limit_shapes(self) -> bool:
        return self.variant == "paper"

    @property
    def reads_sums(self) -> bool:
        return self.variant != "paper"

    @property
    def first(self) -> int:
        """Samples before the first look."""
        if self.variant != "paper":
            return 1
        return min(self.peek if self.peek is not None else PUBLISHED_PEEKS[self.n_max], self.n_max)

    def step(self, state: Scores, batch: Batch, seen: np.ndarray) -> tuple[Scores, Decision]:
        if not batch.n.any():
            return state, decide(batch.n, np.full_like(batch.n, self.first), self.n_max, Reason.ENOUGH)
        if self.variant == "paper" and (seen > 0).all():  # the one fit was made before: its N* are here
            return state, stop_or_limit(batch.n, batch.n, self.n_max, Reason.ENOUGH, batch.n < self.n_max)
        state = self.see(state, batch, seen)
        return state, self.look(state, batch)

    def look(self, state: Scores, batch: Batch) -> Decision:
        needed = self.needed(state, batch)
        enough = batch.n >= needed
        if self.variant != "paper":
            look = np.where(batch.n < 4, batch.n + 1, np.ceil(self.growth * batch.n).astype(np.int64))
            needed = np.where(enough, batch.n, np.minimum(needed, np.maximum(look, batch.n + 1)))
        return stop_or_limit(batch.n, np.maximum(needed, batch.n), self.n_max, Reason.ENOUGH, enough)

    def needed(self, state: Scores, batch: Batch) -> np.ndarray:
        """N* [B] from the statistics of the scores; n_max where nothing is known."""
        if self.ends is not None:
            needed = inflated.samples_needed(self.s_min, self.alpha, self.with_ends(state), self.n_max)
            return np.where(state.count + self.n0 > 0, needed, self.n_max)
        if self.density == BETA:
            moments = self.pooled_moments(state, batch)
            needed = betafit.samples_needed(self.s_min, self.alpha, *moments, self.n_max)
            return np.where(state.count + self.n0 > 0, needed, self.n_max)
        if self.variant != "paper":
            fit, some = self.pooled(state, batch), state.count + self.n0 > 0
        else:
            count = np.maximum(state.count, 1)
            mean, square = state.total / count, state.square / count
            if self.predicted:
                mu, prior_square = self.prior_moments(batch)
                fit = _published_map(np.stack([state.count, mean, square, mu, np.sqrt(prior_square - mu**2)]).tobytes())
                some = np.ones(len(count), bool)
            else:
                fit, some = truncnormal.fit(mean, square), state.count > 0
        return np.where(some, truncnormal.samples_needed(self.s_min, self.alpha, fit, self.n_max), self.n_max)

    def with_ends(self, state: Scores) -> inflated.Inflated:
        """The beta with atoms of the scores seen and n0 pseudo-samples of the calibration split."""
        ends = self.ends
        between = self.n0 * (1 - ends.low - ends.high)
        return inflated.from_sums(
            state.count + self.n0,
            state.low + self.n0 * ends.low,
            state.high + self.n0 * ends.high,
            state.inner_total + between * ends.mean,
            state.inner_square + between * ends.mean_square,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pandora(_Fitted):
    """Weitzman's rule with recall (1979; ours): go on while the expected gain E[(S - best)^+] of one more sample is above `cost`.

    The same as stopping once the best score reaches the reservation value. `cost` is the price of a sample in score units. The
    fit has n0 pseudo-samples and is repeated after every sample; before the first answered one the best is 0.
    """

    cost: float
    reads_sums: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_counts("pandora", n_max=self.n_max)
        if not 0 < self.cost < 1:
            raise UserError(f"cost of pandora is {self.cost}: choose a price between 0 and 1, in units of the score.")
        if self.n0 <= 0:
            raise UserError(f"n0 of pandora is {self.n0}: its first look needs a prior, choose more than 0.")

    def step(self, state: Scores, batch: Batch, seen: np.ndarray) -> tuple[Scores, Decision]:
        if not batch.n.any():
            return state, decide(batch.n, np.ones_like(batch.n), self.n_max, Reason.RESERVATION)
        state = self.see(state, batch, seen)
        return state, self.look(state, batch)

    def look(self, state: Scores, batch: Batch) -> Decision:
        met = (self.gain(state, batch) <= self.cost) & (batch.n < self.n_max)
        return stop_or_limit(batch.n, np.where(met, batch.n, batch.n + 1), self.n_max, Reason.RESERVATION, met)

    def gain(self, state: Scores, batch: Batch) -> np.ndarray:
        """E[(S - best)^+] [B] of one more sample."""
        fit = self.pooled(state, batch)
        best = np.clip(state.best, 0.0, 1.0)
        gain = np.exp(truncnormal.log_excess(best, fit.e1, fit.e2))
        return np.where(fit.degenerate, np.maximum(fit.mean - best, 0.0), gain)


@dataclass(frozen=True, slots=True, kw_only=True)
class PandoraByData(_BestScored):
    """Pandora without a distribution (ours): the expected excess over the best score is read off scores.

    They are those of the calibration split, with the weight of n0 samples, and those seen, which never exceed the best. Go on
    while mean + bonus * sd / sqrt(n0 + n) of the excess is above `cost`, which is in units of the score: any scale will do.
    Before the first answered sample it goes on.
    """

    n_max: int
    cost: float
    n0: float = 4.0
    bonus: float = 0.0
    scores: np.ndarray | None = None
    needs_features: ClassVar[tuple[str, ...]] = ()
    reads_sums: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_counts("pandora_by_data", n_max=self.n_max)
        for name, least in (("cost", 0.0), ("n0", 0.0)):
            if getattr(self, name) <= least:
                raise UserError(f"{name} of pandora_by_data is {getattr(self, name)}: choose more than 0.")
        if self.bonus < 0:
            raise UserError(f"bonus of pandora_by_data is {self.bonus}: it is a number of standard errors, 0 or more.")

    def bind(self, known: Calibration) -> Self:
        return replace(self, scores=known.scores)

    def look(self, state: Scores, batch: Batch) -> Decision:
        met = np.isfinite(state.best)
        met[met] = self.gain(state.best[met], state.count[met]) <= self.cost
        return stop_or_limit(batch.n, np.where(met, batch.n, batch.n + 1), self.n_max, Reason.RESERVATION, met)

    def gain(self, best: np.ndarray, scored: np.ndarray) -> np.ndarray:
        """Upper bound [B] of the expected excess over the best score [B] of so many scored samples [B]."""
        if self.scores is None:
            raise ValueError("bind the policy to a calibration first")
        known = np.sort(self.scores)
        # Sums over the scores above each: of ones, of scores, of their squares.
        above = [np.append(np.cumsum((known**power)[::-1])[::-1], 0.0) for power in range(3)]
        count, total, square = (sums[np.searchsorted(known, best, side="right")] / len(known) for sums in above)
        weight = self.n0 / (self.n0 + scored)
        mean = weight * (total - count * best)
        mean_square = weight * (square - 2 * best * total + count * best**2)
        return mean + self.bonus * np.sqrt(np.maximum(mean_square - mean**2, 0.0) / (self.n0 + scored))


def score_quantiles(pool: Pool, number: int = 201) -> np.ndarray | None:
    """Quantiles [number] of all scores of a pool, questions alike; None without any."""
    score = pool.score[~np.isnan(pool.score)]
    return np.quantile(score, np.linspace(0, 1, number)) if len(score) else None


def average_ends(pool: Pool) -> Ends:
    """Average over rows of the shares of their scores as good as 0 and 1, and the moments of all scores between.

    A uniform distribution's where there are none.
    """
    known = ~np.isnan(pool.score)
    rows = known.any(axis=1)
    low, high = known & (pool.score < inflated.END), known & (pool.score > 1 - inflated.END)
    share = [float((part[rows].sum(axis=1) / known[rows].sum(axis=1)).mean()) if rows.any() else 0.0 for part in (low, high)]
    between = pool.score[known & ~low & ~high]
    if not len(between):
        return Ends(*share, 0.5, 1 / 3)
    return Ends(*share, float(between.mean()), float((between**2).mean()))


def average_moments(pool: Pool) -> Moments:
    """Average over rows of the mean and the mean square of their scores."""
    score = pool.score[~np.isnan(pool.score).all(axis=1)]
    if not len(score):
        return Moments(float("nan"), float("nan"))
    return Moments(float(np.nanmean(score, axis=1).mean()), float(np.nanmean(score**2, axis=1).mean()))
