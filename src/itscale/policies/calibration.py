"""What the calibration split says before any test sample is seen: one part per family of rules, absent if not measured."""

from dataclasses import dataclass

import numpy as np

from itscale.voting import VoteModel


@dataclass(frozen=True, slots=True)
class Moments:
    """Average over questions of the mean and the mean square of their verifier scores."""

    mean: float
    mean_square: float


@dataclass(frozen=True, slots=True)
class Strata:
    """Bins of the first answer's score: edges [S-1], transition rates a, b and first-round accuracy p0, each [S]."""

    edges: np.ndarray
    a: np.ndarray
    b: np.ndarray
    p0: np.ndarray

    def of(self, score: np.ndarray) -> np.ndarray:
        """Stratum of each score; an answer without a score belongs to the lowest."""
        return np.searchsorted(self.edges, np.nan_to_num(score, nan=-np.inf), side="right")


@dataclass(frozen=True, slots=True)
class Calibration:
    """The parts that policies bind to; a part is None where the calibration split could not give it."""

    moments: Moments | None = None
    strata: Strata | None = None
    votes: VoteModel | None = None
