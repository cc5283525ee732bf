"""How sure a model was of a completion, from log-probabilities while it is drawn (DeepConf, arXiv 2508.15260, and its code).

A token's confidence is minus the mean log-probability of the `ALTERNATIVES` most probable tokens in its place, at temperature 1
and before anything is left out. A group is `WINDOW` tokens in a row (the whole completion where it is shorter).
"""

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from itscale.errors import UserError

ALTERNATIVES = 20
WINDOW = 2048


@dataclass(frozen=True, slots=True)
class Confidence:
    """Of one completion, in nats."""

    logprob_mean: float  # of the chosen tokens
    conf_mean: float
    conf_tail: float  # of the last group
    conf_low10: float  # mean of the lowest tenth of all groups
    conf_min: float  # of the lowest group


class Gauge:
    """Takes a completion's tokens one by one; holds two numbers a token until the completion has ended, and no longer."""

    __slots__ = ("_chosen", "_tokens")

    def __init__(self) -> None:
        self._chosen = array("f")
        self._tokens = array("f")

    def add(self, chosen: float, alternatives: Iterable[float]) -> None:
        """A token's log-probability and those of the most probable in its place."""
        best = sorted(alternatives, reverse=True)[:ALTERNATIVES]
        self.add_mean(chosen, sum(best) / len(best))

    def add_mean(self, chosen: float, mean: float) -> None:
        """As `add`, of the mean of the most probable."""
        self._chosen.append(chosen)
        self._tokens.append(-mean)

    def read(self, window: int = WINDOW) -> Confidence | None:
        """None before the first token."""
        if not self._tokens:
            return None
        tokens = np.asarray(self._tokens, float)
        width = min(window, len(tokens))
        below = np.concatenate([[0.0], tokens.cumsum()])
        groups = np.sort((below[width:] - below[:-width]) / width)
        lowest = groups[: max(1, len(groups) // 10)]
        return Confidence(
            logprob_mean=float(np.mean(self._chosen)),
            conf_mean=float(tokens.mean()),
            conf_tail=float(tokens[-width:].mean()),
            conf_low10=float(lowest.mean()),
            conf_min=float(groups[0]),
        )


def fit_score(values: np.ndarray, how: str, correct: np.ndarray | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """The rising map from a confidence to a score in [0, 1] that calibration samples decide; NaN stays NaN.

    `rank`: the share of the calibration samples below, ties shared, never 0 or 1. `isotonic`: how often such samples are correct,
    the rising fit of least squares (ours). Between two values of the calibration samples the map is a line, beyond them flat.

    Args:
        values: confidence [n] of the calibration samples; NaN where there is none.
        how: `rank` or `isotonic`.
        correct: [n] bool, which `isotonic` reads.

    Raises:
        UserError: another map, or no value.
    """
    known = ~np.isnan(values)
    if not known.any():
        raise UserError("the calibration samples have no confidence: draw with sampling: {confidence: true}, or import it.")
    knots, place, count = np.unique(values[known], return_inverse=True, return_counts=True)
    if how == "rank":
        score = (np.cumsum(count) - count / 2) / count.sum()
    elif how == "isotonic":
        score = isotonic_regression(np.bincount(place, correct[known]) / count, weights=count).x
    else:
        raise UserError(f"there is no map {how!r} from confidence to score: choose rank or isotonic.")
    return lambda wanted: np.where(np.isnan(wanted), np.nan, np.interp(wanted, knots, score))
