"""Adaptive self-consistency: ESC and DSC (docs/optscale.md; ASC is in votes.py). Both answer with the plurality, unverified."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from itscale.data.records import Pool, Unit
from itscale.errors import UserError
from itscale.policies.calibration import Calibration, Difficulty
from itscale.policies.protocol import CODE, Batch, Decision, NoState, Reason, check_counts, decide, stop_or_limit
from itscale.theory.voting import Tally, asc_confidence, empty_tally, plurality, vote


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """ESC (Li et al. 2024): disjoint windows of `window` samples; stop at one whose answers all agree.

    A window with an unanswered sample never agrees; a last window cut short by n_max is not assessed.
    """

    n_max: int
    window: int = 5
    unit: ClassVar[Unit] = Unit.SAMPLE
    needs_scores: ClassVar[bool] = False
    needs_features: ClassVar[tuple[str, ...]] = ()
    family: ClassVar[str] = "self_consistency"

    def __post_init__(self) -> None:
        check_counts("esc", n_max=self.n_max, window=self.window)

    @property
    def limit(self) -> int:
        return self.n_max

    def bind(self, known: Calibration) -> Self:
        return self

    def init(self, rows: int) -> NoState:
        return NoState()

    def step(self, state: NoState, batch: Batch, seen: np.ndarray) -> tuple[NoState, Decision]:
        unanimous = (batch.n > 0) & (batch.n % self.window == 0)
        rows = np.flatnonzero(unanimous)
        columns = batch.n[rows, None] - self.window + np.arange(self.window)
        last = batch.cluster[rows[:, None], columns]
        unanimous[rows] = (last[:, 0] >= 0) & (last == last[:, :1]).all(axis=1)
        want = np.where(unanimous, batch.n, (batch.n // self.window + 1) * self.window)
        return state, stop_or_limit(batch.n, want, self.n_max, Reason.UNANIMOUS, unanimous)

    def select(self, state: NoState, batch: Batch) -> np.ndarray:
        return plurality(batch.cluster)


def count_votes(state: Tally, batch: Batch, seen: np.ndarray) -> Tally:
    """The tally with the votes that arrived since `seen`."""
    for column in range(int(seen.min(initial=batch.cluster.shape[1])), batch.cluster.shape[1]):
        state = vote(state, np.where((column >= seen) & (column < batch.n), batch.cluster[:, column], -1))
    return state


def check_majority(name: str, threshold: float) -> None:
    """A threshold of ASC.

    Raises:
        UserError: it is no probability above a half.
    """
    if not 0.5 < threshold < 1:
        raise UserError(f"threshold of {name} is {threshold}: choose a probability between 0.5 and 1.")


@dataclass(frozen=True, slots=True)
class DifficultyAdaptive:
    """DSC (Wang et al. 2025): one sample for easy questions, all up to the limit for hard ones, ASC between.

    A question's difficulty is known before its first sample: one minus its predicted mean score. The borders come from the
    calibration questions in order of difficulty by binary search. Easy: all of a window of `judge_window` questions satisfy ASC
    after `sample_window` samples; hard: all of it need at least half the budget. `bind` finds the borders.
    """

    n_max: int
    threshold: float = 0.95
    judge_window: int = 3
    sample_window: int = 5
    easy: float | None = None  # easy where the difficulty is at most this
    hard: float | None = None  # hard where it is at least this, and not easy
    unit: ClassVar[Unit] = Unit.SAMPLE
    needs_scores: ClassVar[bool] = False
    needs_features: ClassVar[tuple[str, ...]] = ("score_mean",)
    family: ClassVar[str] = "self_consistency"
    limit_shapes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_counts("dsc", n_max=self.n_max, judge_window=self.judge_window, sample_window=self.sample_window)
        check_majority("dsc", self.threshold)

    @property
    def limit(self) -> int:
        return self.n_max

    def bind(self, known: Calibration) -> Self:
        if known.difficulty is None:
            return self
        easy, hard = self.borders(known.difficulty.predicted, known.difficulty.confidence)
        return replace(self, easy=easy, hard=hard)

    def borders(self, difficulty: np.ndarray, confidence: np.ndarray) -> tuple[float, float]:
        """(easy, hard) borders from difficulties [P] and ASC's confidences after each sample [P, K]; NaN is left out."""
        known = ~np.isnan(difficulty)
        order = np.argsort(difficulty[known], kind="stable")
        difficulty, confidence = difficulty[known][order], confidence[known][order, : self.n_max]
        looks = np.arange(self.sample_window, confidence.shape[1] + 1, self.sample_window)
        sure = confidence[:, looks - 1] >= self.threshold
        spent = np.where(sure.any(axis=1), looks[sure.argmax(axis=1)] if len(looks) else 0, self.n_max)
        easy = _last_of(spent <= self.sample_window, self.judge_window)
        hard = len(difficulty) - _last_of((2 * spent >= self.n_max)[::-1], self.judge_window)
        return (
            float(difficulty[easy - 1]) if easy else -np.inf,
            float(difficulty[hard]) if hard < len(difficulty) else np.inf,
        )

    def init(self, rows: int) -> Tally:
        return empty_tally(rows)

    def step(self, state: Tally, batch: Batch, seen: np.ndarray) -> tuple[Tally, Decision]:
        if self.easy is None or self.hard is None:
            raise ValueError("bind the policy to a calibration first")
        state = count_votes(state, batch, seen)
        difficulty = 1 - batch.features[self.needs_features[0]]
        easy = difficulty <= self.easy
        hard = ~easy & (difficulty >= self.hard)
        between = asc_confidence(state.first, state.second) >= self.threshold
        sure = ~easy & ~hard & between
        want = np.where(sure, batch.n, batch.n + 1)
        decision = stop_or_limit(batch.n, want, self.n_max, Reason.CONFIDENT, sure)
        one, whole = (
            decide(batch.n, np.full_like(batch.n, n), self.n_max, reason)
            for n, reason in ((1, Reason.EASY), (self.n_max, Reason.HARD))
        )
        return state, Decision(
            np.select([easy, hard], [one.want, whole.want], decision.want),
            np.select([easy, hard], [one.reason, whole.reason], decision.reason).astype(CODE[Reason.EASY].dtype),
        )

    def select(self, state: Tally, batch: Batch) -> np.ndarray:
        return plurality(batch.cluster)


def _last_of(flag: np.ndarray, window: int) -> int:
    """How many questions from the start pass: binary search for the last whose surrounding window is all flagged."""
    left, right = 0, len(flag)
    while left < right:
        middle = (left + right) // 2
        around = flag[max(0, middle - window // 2) : middle + window // 2 + 1]
        left, right = (middle + 1, right) if around.all() else (left, middle)
    return left


@dataclass(frozen=True, slots=True)
class DifficultyOracle(DifficultyAdaptive):
    """DSC as released: difficulty is one minus the mean of ALL verifier scores of the question under test.

    It reads samples before they are drawn, so it exists in a replay only, and those samples' tokens are not counted.
    """

    needs_features: ClassVar[tuple[str, ...]] = ("oracle_score_mean",)
    replay_only: ClassVar[bool] = True

    def bind(self, known: Calibration) -> Self:
        if known.difficulty is None:
            return self
        easy, hard = self.borders(known.difficulty.observed, known.difficulty.confidence)
        return replace(self, easy=easy, hard=hard)


def measure_difficulty(pool: Pool) -> Difficulty:
    """What DSC's borders come from: a parallel pool's difficulties, predicted and observed, and ASC's confidences."""
    tally, confidence = empty_tally(pool.rows), np.empty(pool.cluster.shape)
    for column in range(pool.size):
        tally = vote(tally, pool.cluster[:, column])
        confidence[:, column] = asc_confidence(tally.first, tally.second)
    predicted = pool.features.get("score_mean", np.full(pool.rows, np.nan))
    return Difficulty(1 - predicted, 1 - mean_scores(pool), confidence)


def mean_scores(pool: Pool) -> np.ndarray:
    """Mean [R] of each row's verifier scores; NaN without any."""
    known = ~np.isnan(pool.score)
    total = np.where(known, pool.score, 0.0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)
