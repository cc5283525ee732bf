"""How sure a model was of a completion, from log-probabilities while it is drawn (DeepConf, arXiv 2508.15260, and its code).

A token's confidence is minus the mean log-probability of the `ALTERNATIVES` most probable tokens in its place, at temperature 1
and before anything is left out. A group is `WINDOW` tokens in a row (the whole completion where it is shorter).
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

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
