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


def held_out(pool: Pool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each density: mean log density [Q] of a row's held-out scores, and their ranks [N] in the fitted distribution.

    Rows whose fitted scores number fewer than four, or are all the same, are left out.
    """
    likelihood: dict[str, list[float]] = {NORMAL: [], BETA: [], INFLATED: []}
    ranks: dict[str, list[np.ndarray]] = {NORMAL: [], BETA: [], INFLATED: []}
    for score in pool.score:
        known = score[~np.isnan(score)]
        fitted, other = known[::2], np.clip(known[1::2], 1e-6, 1 - 1e-6)
        if len(fitted) < 4 or len(other) == 0 or np.ptp(fitted) < 1e-9:
            continue
        mean, square = float(fitted.mean()), float((fitted**2).mean())
        fit = truncnormal.fit(np.array([mean]), np.array([square]))
        low, high = fitted < inflated.END, fitted > 1 - inflated.END
        inner = fitted[~low & ~high]
        ends = inflated.from_sums(len(fitted), low.sum(), high.sum(), inner.sum(), (inner**2).sum())
        for name, density, below in (
            (NORMAL, truncnormal.log_density(other, fit.e1, fit.e2), np.exp(truncnormal.log_cdf(other, fit.e1, fit.e2))),
            (BETA, betafit.log_density(other, mean, square), betafit.cdf(other, mean, square)),
            (INFLATED, inflated.log_density(other, ends), inflated.cdf(inflated.spread(other), ends)),
        ):
            likelihood[name].append(float(np.mean(density)))
            ranks[name].append(below)
    return {name: (np.array(likelihood[name]), np.concatenate([*ranks[name], np.zeros(0)])) for name in likelihood}


def better_density(pool: Pool) -> str:
    """The density with the highest held-out likelihood on a pool; the truncated normal where nothing can be said."""
    found = held_out(pool)
    if len(found[NORMAL][0]) == 0:
        return NORMAL
    return max(found, key=lambda name: float(found[name][0].mean()))


def fit_calibration(pool: Pool, *, benchmark: str, verifier: str) -> pd.DataFrame:
    """A row a density: held-out log-likelihood a score with its interval, and its difference to the truncated normal, paired; the
    shares of held-out scores in each tenth of the fitted distribution (all a tenth where the density is right, but for what a
    fit to so few scores does not know), and their largest distance from it (`miss`)."""
    found, rows = held_out(pool), []
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
    return pd.DataFrame(rows)
