"""95 % bootstrap intervals over problems (percentile method, one seed for every quantity)."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

RESAMPLES = 2000
SEED = 20251


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over problems with the ends of its interval; both are NaN for fewer than two problems."""

    mean: float
    low: float
    high: float

    def columns(self, name: str) -> dict[str, float]:
        """The interval as columns of a table: NAME, NAME_low, NAME_high."""
        return {name: self.mean, f"{name}_low": self.low, f"{name}_high": self.high}


def mean_interval(values: np.ndarray) -> Interval:
    """Interval of the mean of `values` [P], one value per problem, problems resampled.

    Every call draws the same problems, so that two methods on the same benchmark are resampled as pairs.
    """
    values = np.asarray(values, float)
    mean = float(values.mean()) if len(values) else float("nan")
    if len(values) < 2:
        return Interval(mean, float("nan"), float("nan"))
    if np.ptp(values) == 0:  # every resample has this mean
        return Interval(mean, mean, mean)
    result = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=0.95,
        method="percentile",
        rng=np.random.default_rng(SEED),
        vectorized=True,
    )
    return Interval(mean, float(result.confidence_interval.low), float(result.confidence_interval.high))


def ratio_interval(sums: np.ndarray, counts: np.ndarray) -> Interval:
    """Interval of sum(sums) / sum(counts), both [P] per problem: the mean over items of which problems hold different numbers.

    Problems are resampled; the ratio is linearised around its value.
    """
    ratio = float(np.sum(sums) / np.sum(counts)) if np.sum(counts) else float("nan")
    spread = mean_interval((np.asarray(sums, float) - ratio * np.asarray(counts)) / max(np.mean(counts), 1e-12))
    return Interval(ratio, ratio + spread.low, ratio + spread.high)


def paired_difference(values: np.ndarray, baseline: np.ndarray) -> Interval:
    """Interval of mean(values - baseline), both [P] over the same problems in the same order."""
    return mean_interval(np.asarray(values, float) - np.asarray(baseline, float))
