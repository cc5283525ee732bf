"""How well densities fit the scores of a question: the truncated normal of OptScale, a beta of the same moments, and a beta with
atoms at 0 and 1.

Each density is fitted to every other score of a question and assessed by those between, which it has not seen.
"""

import numpy as np
import pandas as pd

from itscale.data.records import Pool
from itscale.policies.optscale import BETA, INFLATED, NORMAL
from itscale.theory import betafit, inflated, truncnormal
from itscale.theory.intervals import mean_interval, paired_difference

_BINS = 10
_COLUMNS = [
    *("benchmark", "verifier", "density", "questions", "scores"),
    *(f"{name}{end}" for name in ("log_likelihood", "log_likelihood_difference") for end in ("", "_low", "_high")),
    *(f"tenth_{i + 1}" for i in range(_BINS)),
    "miss",
]


def held_out(pool: Pool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each density: mean log density [Q] of a row's held-out scores, and their ranks [N] in the fitted distribution.

    Rows whose fitted scores number fewer than four, or are all the same, are left out.
    """
    known = np.take_along_axis(pool.score, np.argsort(np.isnan(pool.score), axis=1, kind="stable"), axis=1)  # NaNs come last
    fitted, other = known[:, ::2], np.clip(known[:, 1::2], 1e-6, 1 - 1e-6)
    there = ~np.isnan(fitted)
    count = there.sum(axis=1)
    spread = np.fmax.reduce(fitted, axis=1, initial=-np.inf) - np.fmin.reduce(fitted, axis=1, initial=np.inf)
    rows = np.flatnonzero((count >= 4) & (spread >= 1e-9))
    mean, square = (np.where(there, fitted**power, 0.0).sum(axis=1)[rows] / count[rows] for power in (1, 2))
    of, column = np.nonzero(~np.isnan(other[rows]))
    x, (m, s) = other[rows][of, column], (moment[of] for moment in (mean, square))
    fit = truncnormal.fit(mean, square)
    e1, e2 = fit.e1[of], fit.e2[of]
    each = np.bincount(of, minlength=len(rows))
    low, high = there & (fitted < inflated.END), there & (fitted > 1 - inflated.END)
    inner = np.where(there & ~low & ~high, fitted, 0.0)
    sums = (count, low.sum(axis=1), high.sum(axis=1), inner.sum(axis=1), (inner**2).sum(axis=1))
    ends = inflated.from_sums(*(values[rows][of] for values in sums))
    apart = np.concatenate([*map(inflated.spread, np.split(x, np.cumsum(each)[:-1])), np.zeros(0)])
    found = {
        NORMAL: (truncnormal.log_density(x, e1, e2), np.exp(truncnormal.log_cdf(x, e1, e2))),
        BETA: (betafit.log_density(x, m, s), betafit.cdf(x, m, s)),
        INFLATED: (inflated.log_density(x, ends), inflated.cdf(apart, ends)),
    }
    return {name: (np.bincount(of, log, len(rows)) / each, ranks) for name, (log, ranks) in found.items()}


def better_density(pool: Pool) -> str:
    """The density with the highest held-out likelihood on a pool; the truncated normal where nothing can be said."""
    found = held_out(pool)
    if len(found[NORMAL][0]) == 0:
        return NORMAL
    return max(found, key=lambda name: float(found[name][0].mean()))


def fit_calibration(pool: Pool, *, benchmark: str, verifier: str) -> pd.DataFrame:
    """A row a density: held-out log-likelihood a score with its interval, and its difference to the truncated normal, paired; the
    shares of held-out scores in each tenth of the fitted distribution (all a tenth where the density is right, but for what a
    fit to so few scores does not know), and their largest distance from it (`miss`). No rows where questions have too
    few scores."""
    found, rows = held_out(pool) if pool.scored else {}, []
    for name, (likelihood, ranks) in found.items():
        if not len(likelihood):
            continue
        share = np.histogram(ranks, np.linspace(0, 1, _BINS + 1))[0] / len(ranks)
        rows.append(
            {"benchmark": benchmark, "verifier": verifier, "density": name, "questions": len(likelihood), "scores": len(ranks)}
            | mean_interval(likelihood).columns("log_likelihood")
            | paired_difference(likelihood, found[NORMAL][0]).columns("log_likelihood_difference")
            | {f"tenth_{i + 1}": float(s) for i, s in enumerate(share)}
            | {"miss": float(np.abs(share - 1 / _BINS).max())}
        )
    return pd.DataFrame(rows, columns=_COLUMNS)
