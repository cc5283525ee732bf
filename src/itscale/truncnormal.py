"""The normal distribution truncated to [0, 1] as an exponential family (METHODS: OptScale, numerics; derived).

Density proportional to exp(e1 x + e2 x^2) on [0, 1], e1 = mu / sigma^2, e2 = -1 / (2 sigma^2), e2 <= 0; at e2 = 0 it is the
truncated exponential. Everything is vectorised over the leading shape of its arguments and works in log space.
"""

from dataclasses import dataclass

import numpy as np
from numpy.polynomial.legendre import leggauss

_NODES, _WEIGHTS = leggauss(40)
# exp(-_DEPTH) is what lies beyond the window that the quadrature looks at.
_DEPTH = 40.0


@dataclass(frozen=True, slots=True)
class Fit:
    """Natural parameters, arrays of one shape; `degenerate` marks a fit without spread, whose mass is at `mean`."""

    e1: np.ndarray
    e2: np.ndarray
    mean: np.ndarray
    degenerate: np.ndarray


def natural(mu: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(e1, e2) of the normal (mu, sigma > 0) before truncation."""
    return np.asarray(mu) / np.square(sigma), -0.5 / np.square(sigma)


def _window(e1: np.ndarray, e2: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part of [low, high] where the integrand is above exp(-40) of its maximum, and where that is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mode = np.where(e2 < 0, -e1 / (2 * e2), np.where(e1 > 0, np.inf, -np.inf))
    mode = np.clip(mode, low, high)
    slope = np.abs(e1 + 2 * e2 * mode)
    # Where slope d + |e2| d^2 = _DEPTH, in the form that does not cancel.
    reach = 2 * _DEPTH / np.maximum(slope + np.sqrt(slope**2 + 4 * _DEPTH * np.abs(e2)), 1e-300)
    return mode, np.maximum(low, mode - reach), np.minimum(high, mode + reach)


def log_integral(e1: np.ndarray, e2: np.ndarray, low: np.ndarray = 0.0, high: np.ndarray = 1.0) -> np.ndarray:
    """log of the integral of exp(e1 x + e2 x^2) over [low, high]; relative error of the integral below 1e-10."""
    e1, e2, low, high = np.broadcast_arrays(*(np.asarray(a, float) for a in (e1, e2, low, high)))
    mode, start, end = _window(e1, e2, low, high)
    x = start[..., None] + (end - start)[..., None] * (_NODES + 1) / 2
    d = x - mode[..., None]
    exponent = (e1 + 2 * e2 * mode)[..., None] * d + e2[..., None] * d**2
    with np.errstate(divide="ignore"):
        return e1 * mode + e2 * mode**2 + np.log((np.exp(exponent) @ _WEIGHTS) * (end - start) / 2)


def density(x: np.ndarray, e1: np.ndarray, e2: np.ndarray) -> np.ndarray:
    """Density at x in [0, 1]."""
    x = np.asarray(x, float)
    return np.exp(e1 * x + e2 * x**2 - log_integral(e1, e2))


def log_cdf(x: np.ndarray, e1: np.ndarray, e2: np.ndarray) -> np.ndarray:
    """log F(x); -inf at x <= 0, 0 at x >= 1. Relative tolerance 1e-10 on F."""
    return np.minimum(log_integral(e1, e2, 0.0, np.clip(x, 0, 1)) - log_integral(e1, e2), 0.0)


def log_survival(x: np.ndarray, e1: np.ndarray, e2: np.ndarray) -> np.ndarray:
    """log(1 - F(x)), integrated directly, so that it holds far in the tail. Relative tolerance 1e-10 on 1 - F."""
    return np.minimum(log_integral(e1, e2, np.clip(x, 0, 1), 1.0) - log_integral(e1, e2), 0.0)


def samples_needed(s_min: float, alpha: float, fit: Fit, n_max: int) -> np.ndarray:
    """N* = ceil(log(1 - alpha) / log F(s_min) - 1e-9), between 1 and n_max (OptScale, METHODS section 1).

    A degenerate fit needs one sample where its mass is at or above s_min, and n_max where it is below.
    """
    survival = np.exp(log_survival(s_min, fit.e1, fit.e2))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        needed = np.ceil(np.log1p(-alpha) / np.log1p(-survival) - 1e-9)
    needed = np.where(survival >= 1, 1, np.where(survival <= 0, n_max, needed))
    needed = np.where(fit.degenerate, np.where(fit.mean >= s_min, 1, n_max), needed)
    return np.clip(needed, 1, n_max).astype(np.int64)


def _moments(a: np.ndarray, b: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log normaliser and E[z], E[z^2], E[z^3], E[z^4] (last axis) of exp(a z + b z^2) on [low, high]."""
    mode, start, end = _window(a, b, low, high)
    z = start[:, None] + (end - start)[:, None] * (_NODES + 1) / 2
    d = z - mode[:, None]
    weight = np.exp((a + 2 * b * mode)[:, None] * d + b[:, None] * d * d) * _WEIGHTS
    total = weight.sum(axis=1)
    z2 = z * z
    powers = [np.einsum("ij,ij->i", weight, p) / total for p in (z, z2, z2 * z, z2 * z2)]
    return a * mode + b * mode**2 + np.log(total * (end - start) / 2), np.stack(powers, axis=1)


def fit(mean: np.ndarray, mean_square: np.ndarray, iterations: int = 60, tolerance: float = 1e-9) -> Fit:
    """Maximum likelihood from the mean and the mean square of the scores (arrays [B]).

    The likelihood is concave and depends on the scores only through these two, so pooled pseudo-samples give the MAP fit
    with a conjugate prior. Newton's method in the standardised score with the bound e2 <= 0, steps halved until they
    ascend; the moments of the result agree with the given ones to `tolerance` standard deviations, but for the second
    where the bound binds.
    """
    mean, mean_square = (np.atleast_1d(np.asarray(v, float)) for v in (mean, mean_square))
    variance = mean_square - mean**2
    degenerate = ~(variance > 1e-12)
    spread = np.sqrt(np.where(degenerate, 1.0, variance))
    low, high = -mean / spread, (1 - mean) / spread
    a, b = np.zeros_like(mean), np.full_like(mean, -0.5)
    rows = np.flatnonzero(~degenerate)
    if len(rows):
        a[rows], b[rows] = _newton(low[rows], high[rows], iterations, tolerance)
    # From z = (x - mean) / spread back to x.
    e2 = b / spread**2
    e1 = a / spread - 2 * e2 * mean
    e1, e2 = np.where(degenerate, 0.0, e1), np.where(degenerate, 0.0, e2)
    return Fit(e1, e2, mean, degenerate)


def _newton(low: np.ndarray, high: np.ndarray, iterations: int, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """(a, b) with E[z] = 0 and E[z^2] = 1 on [low, high], b <= 0."""
    a, b = np.zeros_like(low), np.full_like(low, -0.5)
    rows = np.arange(len(low))
    log_norm, m = _moments(a, b, low, high)
    for _ in range(iterations):
        ga, gb = -m[:, 0], 1 - m[:, 1]
        held = (b[rows] >= 0) & (gb > 0)
        going = (np.abs(ga) > tolerance) | ((np.abs(gb) > tolerance) & ~held)
        if not going.any():
            break
        rows, m, log_norm, ga, gb, held = (v[going] for v in (rows, m, log_norm, ga, gb, held))
        vaa, vab, vbb = m[:, 1] - m[:, 0] ** 2, m[:, 2] - m[:, 0] * m[:, 1], m[:, 3] - m[:, 1] ** 2
        determinant = np.maximum(vaa * vbb - vab**2, 1e-12 * vaa * vbb)
        da = np.where(held, ga / vaa, (vbb * ga - vab * gb) / determinant)
        db = np.where(held, 0.0, (vaa * gb - vab * ga) / determinant)
        value = b[rows] - log_norm
        step = np.ones_like(da)
        for _ in range(40):
            new_a, new_b = a[rows] + step * da, np.minimum(b[rows] + step * db, 0.0)
            new_norm, new_m = _moments(new_a, new_b, low[rows], high[rows])
            worse = ~(new_b - new_norm >= value - 1e-12 * (1 + np.abs(value)))
            if not worse.any():
                break
            step = np.where(worse, step / 2, step)
        a[rows], b[rows], log_norm, m = new_a, new_b, new_norm, new_m
    return a, b
