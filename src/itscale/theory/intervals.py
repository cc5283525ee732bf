"""95 % intervals over questions: Student's, with one more question at each end of the range where the values have one.

A mean of values that end at 0 and 1 is wrong about itself near an end: a sample of answers that are all right says nothing of
the wrong ones to come, and a bootstrap of it has width 0. One invented question at either end mends that, as it does for
proportions (Agresti and Coull 1998; two proportions: Agresti and Caffo 2000). `benchmarks/coverage.py` measures what is covered.
The two at the end of their names `over_seeds` hold the choice of seeds as well.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95
SHARE = (0.0, 1.0)  # the range of an accuracy
_ROUNDING = 1e-9  # of a range: less than a difference can be


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over questions with the ends of its interval, NaN where nothing can be said of them."""

    mean: float
    low: float
    high: float

    def columns(self, name: str) -> dict[str, float]:
        """The interval as columns of a table: NAME, NAME_low, NAME_high."""
        return {name: self.mean, f"{name}_low": self.low, f"{name}_high": self.high}


ITSELF = Interval(0.0, 0.0, 0.0)  # what anything differs from itself by


def mean_interval(values: np.ndarray, within: tuple[float, float] | None = None) -> Interval:
    """Interval of the mean of `values` [Q], one per question, which lie `within` a range (None: tokens, which have none).

    Without a range the ends are NaN for one question, and where all values are the same: they show no spread to judge by.
    """
    return ratio_interval(values, np.ones(len(values)), within)


def ratio_interval(sums: np.ndarray, counts: np.ndarray, within: tuple[float, float] | None = None) -> Interval:
    """Interval of sum(sums) / sum(counts), both [Q] per question: the mean over items of which questions hold different numbers.

    Questions are the units, those without an item left out; the ratio is linearised around its value. A question invented at an
    end of the range has as many items as a question has on average.
    """
    return _estimate(sums, counts, within or ()).interval(within)


def paired_difference(values: np.ndarray, baseline: np.ndarray, within: tuple[float, float] | None = None) -> Interval:
    """Interval of mean(values - baseline), both [Q] over the same questions in the same order and `within` the same range.

    The invented questions differ by the geometric mean of the largest difference seen and the largest possible, one in either
    direction: two rules that answer most questions alike may differ more on the next, but hardly by the whole range.
    Exactly 0 if both are one and the same array.
    """
    if values is baseline and len(values):
        return ITSELF
    difference = np.asarray(values, float) - np.asarray(baseline, float)
    if within is None:
        return mean_interval(difference)
    return Interval(*(float(end[0]) for end in difference_intervals(difference[None], within)))


def mean_over_seeds(values: np.ndarray, within: tuple[float, float] | None = None) -> Interval:
    """Interval of the mean of `values` [S, Q], by seed and question, that holds the choice of both.

    The questions' part is `mean_interval` of the means over seeds, the seeds' the variance of the means over questions. Their sum
    counts chance between seed and question twice, so that it is rather too wide (as is the bootstrap of rows and columns, Owen
    2007). Student's quantile has the degrees of freedom of the sum (Satterthwaite 1946). One seed shows no spread of seeds: its
    interval is that over questions.
    """
    values = np.asarray(values, float)
    one = _estimate(values.mean(axis=0), np.ones(values.shape[1]), within or ())
    return one.interval(within, _spread(values))


def difference_over_seeds(values: np.ndarray, baseline: np.ndarray, within: tuple[float, float]) -> Interval:
    """`paired_difference` of `values` and `baseline` [S, Q], paired by seed and question, as `mean_over_seeds` holds both.

    Exactly 0 if both are one and the same array.
    """
    if values is baseline and values.size:
        return ITSELF
    difference = np.asarray(values, float) - np.asarray(baseline, float)
    questions, most = difference.mean(axis=0), within[1] - within[0]
    reach = float(_reach(np.abs(questions).max(), most))
    one = _estimate(questions, np.ones(len(questions)), (-reach, reach))
    return one.interval((-most, most), _spread(difference))


def difference_intervals(difference: np.ndarray, within: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`paired_difference` of many rules at once: mean, low and high [C] of differences [C, Q] between values `within` a range."""
    difference, most = np.asarray(difference, float), within[1] - within[0]
    questions = difference.shape[1]
    if not questions:
        return tuple(np.full(len(difference), np.nan) for _ in range(3))
    mean, largest = difference.mean(axis=1), np.abs(difference).max(axis=1)
    reach = _reach(largest, most)
    count = questions + 2
    centre = questions * mean / count
    square = ((difference - centre[:, None]) ** 2).sum(axis=1) + 2 * (reach**2 + centre**2)
    half = stdtrit(count - 1, 1 - (1 - LEVEL) / 2) * np.sqrt(square / (count - 1) / count)
    return mean, np.maximum(centre - half, -most), np.minimum(centre + half, most)


@dataclass(frozen=True, slots=True)
class _Estimate:
    """A mean, and the middle of its interval with that one's variance and degrees of freedom."""

    mean: float
    centre: float
    variance: float
    freedom: int

    def interval(self, within: tuple[float, float] | None, more: tuple[float, int] = (0.0, 1)) -> Interval:
        """The interval, cut to a range; `more` variance from elsewhere, with its degrees of freedom."""
        variance, (extra, few) = self.variance, more
        total = variance + extra
        if not total > 0:
            return Interval(self.mean, float("nan"), float("nan"))
        freedom = total**2 / (variance**2 / self.freedom + extra**2 / few)
        half = stdtrit(freedom, 1 - (1 - LEVEL) / 2) * np.sqrt(total)
        low, high = within or (-np.inf, np.inf)
        return Interval(self.mean, float(max(self.centre - half, low)), float(min(self.centre + half, high)))


def _estimate(sums: np.ndarray, counts: np.ndarray, invented: tuple[float, ...]) -> _Estimate:
    """Of sum(sums) / sum(counts) over questions and those invented; the variance is NaN where nothing shows it."""
    sums, counts = np.asarray(sums, float)[counts > 0], np.asarray(counts, float)[counts > 0]
    if not len(counts):
        return _Estimate(*[float("nan")] * 3, 1)
    mean, size = float(sums.sum() / counts.sum()), counts.mean()
    sums, counts = np.append(sums, np.multiply(invented, size)), np.append(counts, np.full(len(invented), size))
    if len(counts) == 1 or np.ptp(sums / counts) == 0:
        return _Estimate(mean, mean, float("nan"), 1)
    centre = sums.sum() / counts.sum()
    variance = np.var((sums - centre * counts) / size, ddof=1) / len(counts)
    return _Estimate(mean, float(centre), float(variance), len(counts) - 1)


def _spread(values: np.ndarray) -> tuple[float, int]:
    """Variance of the mean of [S, Q] by the choice of seeds, and its degrees of freedom; none of one seed."""
    seeds = len(values)
    return (float(np.var(values.mean(axis=1), ddof=1) / seeds), seeds - 1) if seeds > 1 else (0.0, 1)


def _reach(largest: np.ndarray, most: float) -> np.ndarray:
    """How far the invented questions of a difference differ, from the largest difference seen and the largest possible.

    What two ways of adding up leave between equal values is no difference seen.
    """
    return np.sqrt(most * np.where(largest > _ROUNDING * most, largest, most))
