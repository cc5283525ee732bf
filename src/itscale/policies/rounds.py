"""Rules over rounds that keep every round's answer in play: majority, best score, and the filter (docs/markovscale.md; ours)."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from itscale.data.records import Pool, Unit
from itscale.errors import UserError
from itscale.policies.calibration import Calibration, Rounds, Strata
from itscale.policies.fixed import BestOfN, SelfConsistency
from itscale.policies.markovscale import fit_strata, rising
from itscale.policies.protocol import CODE, Batch, Decision, Reason, check_counts
from itscale.theory import roundfilter
from itscale.theory.emissions import choose, tabulate

_EXPONENTS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)
_FOLDS = 5


@dataclass(frozen=True, slots=True)
class MajorityOverRounds(SelfConsistency):
    """Plurality of a fixed number of rounds."""

    unit: ClassVar[Unit] = Unit.ROUND
    family: ClassVar[str] = "mr_thinking"


@dataclass(frozen=True, slots=True)
class BestScoredRound(BestOfN):
    """Highest verifier score of a fixed number of rounds."""

    unit: ClassVar[Unit] = Unit.ROUND
    family: ClassVar[str] = "mr_thinking"


@dataclass(frozen=True, slots=True)
class Posterior:
    """log P(state now | all seen) [B, 2], and jointly with the state of each round [B, S, 2 (now), 2 (then)]."""

    message: np.ndarray
    joint: np.ndarray


@dataclass(frozen=True, slots=True)
class Filter:
    """One more round until the best answer so far is probably right, or until another round would not pay.

    Stops when the highest smoothed P(C_s | all seen) reaches `tau`, when its expected rise by one more round is below
    `cost` (accuracy per round), or at `rounds`; answers with the round of the highest smoothed posterior.
    """

    rounds: int
    tau: float = 0.99
    cost: float = 0.0
    strata: Strata | None = None
    known: Rounds | None = None
    unit: ClassVar[Unit] = Unit.ROUND
    needs_scores: ClassVar[bool] = True
    scale: ClassVar[str] = "unit"
    needs_features: ClassVar[tuple[str, ...]] = ()
    family: ClassVar[str] = "mr_thinking"

    def __post_init__(self) -> None:
        check_counts("markovscale_filter", rounds=self.rounds)
        if not 0 < self.tau <= 1:
            raise UserError(f"tau of markovscale_filter is {self.tau}: choose a probability above 0, 1 at most.")
        if self.cost < 0:
            raise UserError(f"cost of markovscale_filter is {self.cost}: it is a loss of accuracy per round, 0 or more.")

    @property
    def limit(self) -> int:
        return self.rounds

    def bind(self, known: Calibration) -> Self:
        return replace(self, strata=known.strata, known=known.rounds)

    def init(self, rows: int) -> Posterior:
        return Posterior(np.zeros((rows, 2)), np.full((rows, self.rounds, 2, 2), -np.inf))

    def step(self, state: Posterior, batch: Batch, seen: np.ndarray) -> tuple[Posterior, Decision]:
        if not batch.n.any():
            return state, Decision(np.ones_like(batch.n), np.full(len(batch.n), CODE[Reason.CONTINUE]))
        if self.strata is None or self.known is None:
            raise ValueError("bind the policy to a calibration first")
        emissions = roundfilter.temper(self.known.log_correct, self.known.log_wrong, self.known.exponent)
        moves = log_moves_of(batch.score[:, 0], self.strata, self.known)
        emission = roundfilter.log_emissions(batch.score, batch.cluster, emissions)
        changed = roundfilter.changes(batch.cluster)
        joint, message = np.moveaxis(state.joint, 1, 0).copy(), state.message.copy()
        for t in range(int(seen.min()), int(batch.n.max())):
            new = np.flatnonzero((seen <= t) & (t < batch.n))
            before = message[new] if t else np.broadcast_to(roundfilter.log_start(self.known.p0), (len(new), 2))
            move = roundfilter.taken(moves[new], changed[new, t])
            joint[:, new], message[new] = roundfilter.join(joint[:, new], before, move, emission[new, t], t)
        best = roundfilter.smoothed_so_far(joint).max(axis=1)
        rise = roundfilter.best_one_on(joint, message, moves, emissions) - best
        sure, idle, spent = best >= self.tau, rise < self.cost - 1e-9, batch.n >= self.rounds
        reason = np.select(
            [sure, idle, spent],
            [CODE[Reason.POSTERIOR], CODE[Reason.NO_GAIN], CODE[Reason.LIMIT]],
            CODE[Reason.CONTINUE],
        )
        want = np.where(sure | idle | spent, batch.n, batch.n + 1)
        return Posterior(message, np.moveaxis(joint, 0, 1)), Decision(want, reason.astype(np.int8))

    def select(self, state: Posterior, batch: Batch) -> np.ndarray:
        shown = batch.cluster >= 0
        posterior = roundfilter.smoothed_so_far(np.moveaxis(state.joint, 1, 0))[:, : shown.shape[1]]
        posterior = np.where(shown, posterior, -1.0)
        return np.where(shown.any(axis=1), posterior.argmax(axis=1), -1)


def log_moves_of(first_score: np.ndarray, strata: Strata, known: Rounds) -> np.ndarray:
    """log T g [B, 2, 2, 2] of chains, by the stratum of their first score.

    The rates are those of rounds (moves over rounds left, Jeffreys prior), not the mean over questions that Strata holds
    as a and b: a round that is wrong belongs most probably to a question that stays wrong.
    """
    stratum = strata.of(first_score)
    a = (strata.n_cw + 0.5) / (strata.n_c + 1)
    b = (strata.n_wc + 0.5) / (strata.n_w + 1)
    return roundfilter.log_moves(a[stratum], b[stratum], known.q)


def posteriors(pool: Pool, strata: Strata, known: Rounds) -> roundfilter.Smoothed:
    """Filtered and smoothed posteriors of every round of a pool of chains, as the filter sees them."""
    emissions = roundfilter.temper(known.log_correct, known.log_wrong, known.exponent)
    emission = roundfilter.log_emissions(pool.score, pool.cluster, emissions)
    moves = log_moves_of(pool.score[:, 0], strata, known)
    start = roundfilter.log_start(known.p0)
    return roundfilter.forward_backward(emission, roundfilter.changes(pool.cluster), start, moves)


def fit_rounds(pool: Pool, strata: int) -> Rounds:
    """The filter's part of the calibration: densities and exponent by likelihood held out over questions.

    Densities are fitted to the scores of answers that are not a repetition. The exponent is the one under which the true
    states of held-out questions are likeliest given the rounds up to each (everything else refitted without them). What a
    smoothed posterior is worth is then seen on the same questions.
    """
    fold = pool.problem % _FOLDS
    fresh = (pool.cluster >= 0) & ~np.isnan(pool.score)
    fresh[:, 1:] &= roundfilter.changes(pool.cluster)[:, 1:]
    folds = np.broadcast_to(fold[:, None], fresh.shape)
    names = []
    for state in (pool.correct, ~pool.correct):
        chosen = fresh & state
        names.append(choose(pool.score[chosen], folds[chosen]).name if chosen.any() else "truncated normal")
    parts = []
    for f in range(_FOLDS):
        rest, held = pool.subset(fold != f), pool.subset(fold == f)
        if rest.rows and held.rows:
            parts.append((held, fit_strata(rest, strata), _rounds(rest, fresh[fold != f], names, 1.0)))
    likelihood = {
        exponent: sum(_state_likelihood(held, s, replace(known, exponent=exponent)) for held, s, known in parts)
        for exponent in _EXPONENTS
    }
    exponent = max(likelihood, key=likelihood.__getitem__)
    found = _rounds(pool, fresh, names, exponent)
    posterior, correct = [], []
    for held, s, known in parts:
        answered = held.cluster >= 0
        posterior += posteriors(held, s, replace(known, exponent=exponent)).smoothed[answered].tolist()
        correct += held.correct[answered].tolist()
    if not correct:
        return found
    knots, value, _ = rising(np.array(posterior), np.array(correct))
    return replace(found, knots=knots, value=value)


def _rounds(pool: Pool, fresh: np.ndarray, names: list[str], exponent: float) -> Rounds:
    tables = []
    for name, state in zip(names, (pool.correct, ~pool.correct), strict=True):
        scores = pool.score[fresh & state]
        tables.append(tabulate(name, scores if len(scores) else np.array([0.25, 0.75])))
    stayed_wrong = ~pool.correct[:, 1:] & ~pool.correct[:, :-1]
    moved = roundfilter.changes(pool.cluster)[:, 1:] & stayed_wrong
    return Rounds(
        *tables,
        *names,
        p0=float((pool.correct[:, 0].sum() + 0.5) / (pool.rows + 1)),
        q=float((moved.sum() + 0.5) / (stayed_wrong.sum() + 1)),
        exponent=exponent,
        knots=np.array([0.0, 1.0]),
        value=np.array([0.0, 1.0]),
    )


def _state_likelihood(pool: Pool, strata: Strata, known: Rounds) -> float:
    """Sum over rounds of log P(the true state | the rounds up to it)."""
    found = np.clip(posteriors(pool, strata, known).filtered, 1e-9, 1 - 1e-9)
    return float(np.log(np.where(pool.correct, found, 1 - found)).sum())
