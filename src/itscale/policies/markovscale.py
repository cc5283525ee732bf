"""MarkovScale (arXiv 2602.01120, docs/markovscale.md): re-answer where, and as deep as, the two-state chain says that it helps.

Three variants share one estimate-then-decide shape and differ in what they estimate from and in what they decide. All of
them look at the first answer's score, none at a test label; the last round's answer counts.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import scipy
from scipy import special

from itscale.data.records import Pool, Unit
from itscale.errors import UserError
from itscale.policies.calibration import Calibration, FirstScore, Rounds, ScoreMap, Strata
from itscale.policies.fixed import last_round
from itscale.policies.protocol import CODE, Batch, Decision, NoState, Reason, check_counts
from itscale.theory import markov
from itscale.theory.emissions import look_up
from itscale.theory.rates import fit_rates


@dataclass(frozen=True, slots=True)
class _Chain:
    """Draws the first round, then the whole depth that a variant's estimates call for."""

    rounds: int
    strata: Strata | None = None
    first_score: FirstScore | None = None
    unit: ClassVar[Unit] = Unit.ROUND
    needs_scores: ClassVar[bool] = True
    scores_read: ClassVar[int] = 1
    needs_features: ClassVar[tuple[str, ...]] = ()
    family: ClassVar[str] = "mr_thinking"

    def __post_init__(self) -> None:
        check_counts(type(self).__name__, rounds=self.rounds)

    @property
    def limit(self) -> int:
        return self.rounds

    def bind(self, known: Calibration) -> Self:
        return replace(self, strata=known.strata, first_score=known.first_score)

    def init(self, rows: int) -> NoState:
        return NoState()

    def step(self, state: NoState, batch: Batch, seen: np.ndarray) -> tuple[NoState, Decision]:
        if not batch.n.any():
            return state, Decision(np.ones_like(batch.n), np.full(len(batch.n), CODE[Reason.CONTINUE]))
        want = 1 + self.depth(*self.estimate(batch))
        whole = CODE[Reason.ALL_ROUNDS]
        stopped = np.where(want == 1, CODE[Reason.KEPT_FIRST], np.where(want == self.rounds, whole, CODE[Reason.DEPTH]))
        return state, Decision(want, np.where(want > batch.n, CODE[Reason.CONTINUE], stopped))

    def estimate(self, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """p0, a, b [B]: the calibrated first score, and the rates of its stratum."""
        if self.strata is None or self.first_score is None:
            raise ValueError("bind the policy to a calibration first")
        stratum = self.strata.of(batch.score[:, 0])
        return self.first_score.of(batch.score[:, 0], batch.cluster[:, 0]), self.strata.a[stratum], self.strata.b[stratum]

    def depth(self, p0: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Rounds to re-answer [B], 0 to rounds - 1."""
        raise NotImplementedError

    def select(self, state: NoState, batch: Batch) -> np.ndarray:
        return last_round(batch)


@dataclass(frozen=True, slots=True)
class Gate(_Chain):
    """All rounds where p0 < pi, else the first answer."""

    def depth(self, p0: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.where(markov.first_gain(p0, a, b) > 0, self.rounds - 1, 0)


@dataclass(frozen=True, slots=True)
class Zero(_Chain):
    """MarkovScale^0, without training: the depth t* at which the next round's expected gain falls below its cost."""

    cost: float = 0.0

    def __post_init__(self) -> None:
        _Chain.__post_init__(self)
        _check_cost("markovscale_zero", self.cost)

    def depth(self, p0: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return markov.best_depth(p0, a, b, self.cost, self.rounds - 1)


@dataclass(frozen=True, slots=True)
class Map(_Chain):
    """The depth t* with rates and p0 predicted from the question, brought up to date by what the first answer shows.

    The predicted a and b are prior means with the weight of `strength` transitions, updated by the counts of the first
    score's stratum; the predicted p0 is updated by Bayes' rule with the score densities of correct and wrong answers. A
    question without a prediction falls back on its stratum and on the overall p0.
    """

    cost: float = 0.0
    strength: float = 100.0
    known: Rounds | None = None
    scale: ClassVar[str] = "unit"
    needs_features: ClassVar[tuple[str, ...]] = ("p0", "a", "b")

    def __post_init__(self) -> None:
        _Chain.__post_init__(self)
        _check_cost("markovscale_map", self.cost)
        if self.strength < 0:
            raise UserError(f"strength of markovscale_map is {self.strength}: it is a number of transitions, 0 or more.")

    def bind(self, known: Calibration) -> Self:
        return replace(self, strata=known.strata, first_score=known.first_score, known=known.rounds)

    def estimate(self, batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self.strata is None or self.known is None:
            raise ValueError("bind the policy to a calibration first")
        score, stratum = batch.score[:, 0], self.strata.of(batch.score[:, 0])
        prior = np.nan_to_num(batch.features["p0"], nan=self.known.p0)
        evidence = look_up(self.known.log_correct, score) - look_up(self.known.log_wrong, score)
        p0 = np.where(batch.cluster[:, 0] >= 0, special.expit(special.logit(np.clip(prior, 1e-6, 1 - 1e-6)) + evidence), 0.0)
        a, b = (
            np.where(np.isnan(predicted), own, markov.shrunk_rate(moves, left, predicted, self.strength))
            for predicted, own, moves, left in (
                (batch.features["a"], *(s[stratum] for s in (self.strata.a, self.strata.n_cw, self.strata.n_c))),
                (batch.features["b"], *(s[stratum] for s in (self.strata.b, self.strata.n_wc, self.strata.n_w))),
            )
        )
        return p0, a, b

    def depth(self, p0: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return markov.best_depth(p0, a, b, self.cost, self.rounds - 1)


def _check_cost(policy: str, cost: float) -> None:
    if cost < 0:
        raise UserError(f"cost of {policy} is {cost}: it is a loss of accuracy per round, 0 or more.")


def fit_strata(pool: Pool, strata: int) -> Strata:
    """Transition rates per stratum of the first answer's score, from the calibration split's labels.

    Strata are quantile bins of the first score; bins that coincide are merged. Rates are the means over the stratum's
    questions, drawn towards each other (`rates.fit_rates`), since transitions pooled over questions are biased.
    """
    first = np.nan_to_num(pool.score[:, 0], nan=-np.inf)
    edges = np.unique(np.quantile(first, np.arange(1, strata) / strata, method="lower"))
    edges = edges[edges > first.min()]  # each bin holds someone
    stratum = np.searchsorted(edges, first, side="right")
    cell, index = np.unique(np.stack([stratum, pool.problem]), axis=1, return_inverse=True)
    index = index.ravel()
    per_cell = [np.bincount(index, counts) for counts in markov.transition_counts(pool.correct)]
    n_c, n_cw, n_w, n_wc = (np.bincount(cell[0], counts) for counts in per_cell)
    a, b = (fit_rates(per_cell[m], per_cell[n], cell[0]).level.mean for n, m in ((0, 1), (2, 3)))
    return Strata(edges, a, b, n_c, n_cw, n_w, n_wc)


def rising(x: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Isotonic regression of correct [N] on x [N]: of each step [M] the mean x, the share correct, and how many it holds."""
    point, index, count = np.unique(x, return_inverse=True, return_counts=True)
    right = np.bincount(index, correct)
    begins = scipy.optimize.isotonic_regression(right / count, weights=count).blocks[:-1]
    size = np.add.reduceat(count, begins)
    return np.add.reduceat(point * count, begins) / size, np.add.reduceat(right, begins) / size, size


def fit_score_map(pool: Pool) -> ScoreMap:
    """Isotonic regression of the correctness of a pool's answers on their scores, made strictly rising between its ends.

    The map goes through the middle of each step, and at the lowest and the highest score through what its step says with one
    wrong, or one right, answer more: two scores within them never become equal.
    """
    known = (pool.cluster >= 0) & ~np.isnan(pool.score)
    score = pool.score[known]
    middle, share, size = rising(score, pool.correct[known])
    if share[0] == 0:  # none right, or below none wrong: half an answer keeps the ends apart
        share[0] = min(0.5 / (size[0] + 1), share[1] / 2 if len(share) > 1 else 1.0)
    if share[-1] == 1:
        share[-1] = max(1 - 0.5 / (size[-1] + 1), (1 + share[-2]) / 2 if len(share) > 1 else 0.0)
    low, high = share[0] * size[0] / (size[0] + 1), (share[-1] * size[-1] + 1) / (size[-1] + 1)
    knots = np.concatenate([[score.min()], middle, [score.max()]])
    kept = np.append(True, np.diff(knots) > 0)
    return ScoreMap(knots[kept], np.concatenate([[low], share, [high]])[kept])


def fit_first_score(pool: Pool, strength: float) -> FirstScore:
    """Isotonic regression of first answers' correctness on their scores, each step drawn to the mean by `strength` answers."""
    known = (pool.cluster[:, 0] >= 0) & ~np.isnan(pool.score[:, 0])
    mean = float(pool.correct[:, 0].mean())
    if not known.any():
        return FirstScore(np.array([0.5]), np.array([mean]))
    middle, share, size = rising(pool.score[known, 0], pool.correct[known, 0])
    value = markov.shrunk_rate(share * size, size, mean, strength)
    # Steps of few answers are drawn to the mean more than others, which may cost the order.
    value = scipy.optimize.isotonic_regression(value, weights=size).x
    return FirstScore(middle, value)
