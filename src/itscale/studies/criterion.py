"""By what a setting is chosen: as good as the fixed N for fewer tokens, and how sure one is of "as good" (docs/choosing.md)."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from itscale.theory.intervals import SHARE, difference_intervals

TOLERANCE = 0.01


class Criterion(StrEnum):
    """`interval` looks at noise; `point` is the rule of before, kept for comparison; `promise` looks at promised errors."""

    INTERVAL = "interval"
    POINT = "point"
    PROMISE = "promise"


class Verdict(StrEnum):
    """What the questions say of a choice."""

    AS_GOOD = "as good as the fixed N"
    TOO_FEW = "too few questions to tell"
    WORSE = "less accurate than the fixed N"
    KEPT = "errs as rarely as promised"
    BROKEN = "errs more often than promised"


EXPLAINED = {
    Criterion.INTERVAL: "fewest tokens among the settings whose paired 95 % interval against the same family's fixed N lies "
    "above -1 point; where none does, the setting fixed beforehand if the questions are too few to tell, else the most accurate",
    Criterion.POINT: "fewest tokens among the settings whose accuracy is within 1 point of the same family's fixed N; the most "
    "accurate where none is",
    Criterion.PROMISE: "of rules that promise an error, fewest tokens among the settings whose measured error of the consensus "
    "is at most the promise fixed beforehand, and the one that errs least where none is; of others as `interval`",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The index of a setting, what is known of it, and the loss (a share) that the questions can exclude at best."""

    index: int
    verdict: Verdict
    excluded: float


def choose(
    difference: np.ndarray, cost: np.ndarray, criterion: Criterion = Criterion.INTERVAL, fixed: int | None = None
) -> Choice:
    """The cheapest of C settings that is as good as a fixed N.

    Args:
        difference: [C, Q], accuracy per question minus that of the fixed N.
        cost: [C], mean tokens.
        fixed: index of the setting that was fixed beforehand. It is taken where the questions are too few to say that any is as
            good, unless they say that it is worse.
    """
    mean, low, high = difference_intervals(difference, SHARE)
    excluded = float(max(0.0, -low.max()))
    near = np.flatnonzero((mean if criterion is Criterion.POINT else low) >= -TOLERANCE)
    if len(near):
        return Choice(int(near[np.lexsort((-mean[near], cost[near]))[0]]), Verdict.AS_GOOD, excluded)
    best = int(np.lexsort((cost, -mean))[0])
    if criterion is Criterion.POINT or mean[best] < -TOLERANCE:
        return Choice(best, Verdict.WORSE, excluded)
    if fixed is not None and high[fixed] >= 0:
        best = fixed
    return Choice(best, Verdict.TOO_FEW, excluded)


def keep_promise(error: np.ndarray, cost: np.ndarray, promised: float, difference: np.ndarray) -> Choice:
    """The cheapest of C settings whose measured error [C] is at most what is promised; the one that errs least where none is.

    An error of NaN is that of a setting that never stopped by itself: it broke no promise. `cost`, `difference`: as in `choose`.
    """
    excluded = float(max(0.0, -difference_intervals(difference, SHARE)[1].max()))
    error = np.nan_to_num(error, nan=0.0)
    kept = np.flatnonzero(error <= promised)
    if len(kept):
        return Choice(int(kept[cost[kept].argmin()]), Verdict.KEPT, excluded)
    return Choice(int(np.lexsort((cost, error))[0]), Verdict.BROKEN, excluded)
