"""A beta with atoms at 0 and 1 (the inflated beta of Ospina and Ferrari 2010): many verifier scores are as good as 0 or 1.

An atom is a uniform density over the last hundredth of the range, so that its likelihood can be compared with that of a density
without atoms. Between the two lies a beta that is given by its moments (betafit.py).
"""

from dataclasses import dataclass

import numpy as np

from itscale.theory import betafit

# Scores nearer than this to 0 or 1 belong to an atom.
END = 0.01


@dataclass(frozen=True, slots=True)
class Inflated:
    """Weights of the atoms, and moments of the scores between them as they stand; all of one shape."""

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    mean_square: np.ndarray

    @property
    def between(self) -> tuple[np.ndarray, np.ndarray]:
        """The moments stretched to [0, 1]."""
        width = 1 - 2 * END
        mean = (self.mean - END) / width
        return mean, (self.mean_square - 2 * END * self.mean + END**2) / width**2


def from_sums(count: np.ndarray, low: np.ndarray, high: np.ndarray, total: np.ndarray, square: np.ndarray) -> Inflated:
    """From numbers of scores (all, and those in each atom) and the sum and the sum of squares of those between.

    Half a score is added to each of the three parts, so that nothing is impossible; and to those between, number of them n, a
    uniform distribution with the weight of 1 / (n + 1) scores, which matters where there is hardly any.
    """
    number = np.maximum(count - low - high, 0.0)
    weight = 1 / (number + 1)
    mean, mean_square = (total + weight / 2) / (number + weight), (square + weight / 3) / (number + weight)
    return Inflated((low + 0.5) / (count + 1.5), (high + 0.5) / (count + 1.5), mean, mean_square)


def spread(scores: np.ndarray) -> np.ndarray:
    """Scores [n] with those in an atom evenly over its hundredth: where exactly they lie there says nothing."""
    scores = scores.copy()
    for inside, start in ((scores < END, 0.0), (scores > 1 - END, 1 - END)):
        scores[inside] = start + END * (np.arange(inside.sum()) + 0.5) / max(inside.sum(), 1)
    return scores


def log_density(x: np.ndarray, fit: Inflated) -> np.ndarray:
    """Log density at scores x, which broadcast against the fit."""
    width = 1 - 2 * END
    with np.errstate(divide="ignore"):
        between = betafit.log_density((x - END) / width, *fit.between) - np.log(width) + np.log1p(-fit.low - fit.high)
        return np.select([x < END, x > 1 - END], [np.log(fit.low / END), np.log(fit.high / END)], between)


def cdf(x: np.ndarray, fit: Inflated) -> np.ndarray:
    """P(score <= x), as `log_density`."""
    between = (1 - fit.low - fit.high) * betafit.cdf((x - END) / (1 - 2 * END), *fit.between)
    low, high = np.clip(x / END, 0, 1), np.clip((x - 1 + END) / END, 0, 1)
    return np.clip(fit.low * low + between + fit.high * high, 0, 1)


def samples_needed(s_min: float, alpha: float, fit: Inflated, n_max: int) -> np.ndarray:
    """N* as in `betafit.samples_needed`."""
    return betafit.number_needed(cdf(np.asarray(s_min), fit), alpha, n_max)
