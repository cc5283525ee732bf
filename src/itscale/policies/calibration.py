"""What the calibration split says before any test sample is seen: one part per family of rules, absent if not measured."""

from dataclasses import dataclass

import numpy as np

from itscale.theory.answertypes import AnswerTypes, answer_types
from itscale.theory.voting import VoteModel, estimate_model


@dataclass(frozen=True, slots=True)
class Moments:
    """Average over questions of the mean and the mean square of their verifier scores."""

    mean: float
    mean_square: float


@dataclass(frozen=True, slots=True)
class Ends:
    """Average shares of scores as good as 0 and 1 over questions, and moments of all those between (theory/inflated.py)."""

    low: float
    high: float
    mean: float
    mean_square: float


@dataclass(frozen=True, slots=True)
class Strata:
    """Bins of the first answer's score: edges [S-1], and per bin [S] transition rates and the counts behind them."""

    edges: np.ndarray
    a: np.ndarray
    b: np.ndarray
    n_c: np.ndarray  # rounds left from a correct answer
    n_cw: np.ndarray  # of these, to a wrong one
    n_w: np.ndarray
    n_wc: np.ndarray

    def of(self, score: np.ndarray) -> np.ndarray:
        """Stratum of each score; an answer without a score belongs to the lowest."""
        return np.searchsorted(self.edges, np.nan_to_num(score, nan=-np.inf), side="right")


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Of P calibration questions: difficulty [P] as predicted beforehand (NaN: not), and as all their scores show it, and ASC's
    confidence after each sample [P, K]."""

    predicted: np.ndarray
    observed: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True, slots=True)
class FirstScore:
    """P(correct) of a first answer by its score: a rising curve through (knots, value), each [M]."""

    knots: np.ndarray
    value: np.ndarray

    def of(self, score: np.ndarray, cluster: np.ndarray) -> np.ndarray:
        """P(correct) [B] of answers with scores [B]; 0 without an answer, the lowest value without a score."""
        found = np.interp(np.nan_to_num(score, nan=-np.inf), self.knots, self.value)
        return np.where(cluster >= 0, found, 0.0)


@dataclass(frozen=True, slots=True)
class ScoreMap:
    """A rising map of a score of any scale to P(correct), through (knots, value), each [M]; level beyond them."""

    knots: np.ndarray
    value: np.ndarray

    def of(self, score: np.ndarray) -> np.ndarray:
        """Scores of any shape mapped to [0, 1]; NaN stays."""
        return np.interp(score, self.knots, self.value)


@dataclass(frozen=True, slots=True)
class Rounds:
    """What the filter over rounds knows of chains: log score densities on the emission grid [G], and how often things happen."""

    log_correct: np.ndarray
    log_wrong: np.ndarray
    density_correct: str
    density_wrong: str
    p0: float  # first answers that are correct
    q: float  # wrong answers that follow a wrong one and differ from it
    exponent: float  # weight of a repeated answer's score as evidence
    knots: np.ndarray  # smoothed posteriors of answers to held-out calibration questions [M], and
    value: np.ndarray  # how often these were correct [M], both rising

    def worth(self, posterior: np.ndarray) -> np.ndarray:
        """P(correct) [...] of answers with smoothed posteriors [...], as held-out calibration questions had it."""
        return np.interp(posterior, self.knots, self.value)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The parts that policies bind to; a part is None where the calibration split could not give it."""

    moments: Moments | None = None
    difficulty: Difficulty | None = None
    strata: Strata | None = None
    votes: VoteModel | None = None
    first_score: FirstScore | None = None
    rounds: Rounds | None = None
    types: AnswerTypes | None = None
    score_map: ScoreMap | None = None  # that made scores from 0 to 1 of a confidence
    density: str | None = None  # of a question's scores, by held-out likelihood
    ends: Ends | None = None
    scores: np.ndarray | None = None  # quantiles of all scores, evenly spaced


def known_of_votes(cluster: np.ndarray, options: int | None = None) -> Calibration:
    """What votes cluster [R, K] of R questions say to rules that count votes; `options` is m where it is known."""
    types = answer_types(cluster) if (cluster >= 0).any() else None
    return Calibration(votes=estimate_model(cluster, options), types=types)
