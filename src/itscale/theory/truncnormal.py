"""The normal distribution truncated to [0, 1] as an exponential family (docs/optscale.md; derived).

Density proportional to exp(e1 x + e2 x^2) on [0, 1], e1 = mu / sigma^2, e2 = -1 / (2 sigma^2), e2 <= 0; at e2 = 0 it is the
truncated exponential. Everything is vectorised over the leading shape of its arguments and works in log space. The
tolerances hold for mu in [-100, 100], sigma in [1e-3, 10] and in the exponential limit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.polynomial.legendre import leggauss

_NODES, _WEIGHTS = leggauss(36)
_NODES = (_NODES + 1) / 2
_WEIGHTS = _WEIGHTS / 2
# exp(-_DEPTH) is what lies beyond the window that the quadrature looks at.
_DEPTH = 38.0
_CHUNK = 4096  # rows whose quadrature nodes stay in the processor's cache


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


def known(mu: np.ndarray, sigma: np.ndarray) -> Fit:
    """A fit whose normal (mu, sigma > 0) before truncation is given, not estimated."""
    mu, sigma = np.broadcast_arrays(np.atleast_1d(np.asarray(mu, float)), np.asarray(sigma, float))
    return Fit(*natural(mu, sigma), mu, np.zeros(mu.shape, bool))


def _window(e1: np.ndarray, e2: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part of [low, high] where the integrand is above exp(-38) of its maximum, and where that is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mode = np.where(e2 < 0, -e1 / (2 * e2), np.where(e1 > 0, np.inf, -np.inf))
    mode = np.clip(mode, low, high)
    slope = np.abs(e1 + 2 * e2 * mode)
    # Where slope d + |e2| d^2 = _DEPTH, in the form that does not cancel.
    reach = 2 * _DEPTH / np.maximum(slope + np.sqrt(slope**2 + 4 * _DEPTH * np.abs(e2)), 1e-300)
    return mode, np.maximum(low, mode - reach), np.minimum(high, mode + reach)


def _relative_integral(e1: np.ndarray, e2: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mode on [low, high], and the log of the integral there of exp(f(x) - f(mode)), f(x) = e1 x + e2 x^2."""
    if e1.ndim == 1 and len(e1) > _CHUNK:
        parts = [slice(i, i + _CHUNK) for i in range(0, len(e1), _CHUNK)]
        done = [_relative_integral(e1[p], e2[p], low[p], high[p]) for p in parts]
        return np.concatenate([d[0] for d in done]), np.concatenate([d[1] for d in done])
    mode, start, end = _window(e1, e2, low, high)
    d = (start - mode)[..., None] + (end - start)[..., None] * _NODES
    d *= (e1 + 2 * e2 * mode)[..., None] + e2[..., None] * d
    with np.errstate(divide="ignore"):
        return mode, np.log((np.exp(d, out=d) @ _WEIGHTS) * (end - start))


def _rise(e1: np.ndarray, e2: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """f(end) - f(start), in the form that does not cancel."""
    return (end - start) * (e1 + e2 * (start + end))


def _arrays(*values: np.ndarray) -> list[np.ndarray]:
    return np.broadcast_arrays(*(np.asarray(v, float) for v in values))


def log_integral(e1: np.ndarray, e2: np.ndarray, low: np.ndarray = 0.0, high: np.ndarray = 1.0) -> np.ndarray:
    """log of the integral of exp(e1 x + e2 x^2) over [low, high]; tolerance 1e-9 max(1, |result|)."""
    e1, e2, low, high = _arrays(e1, e2, low, high)
    mode, size = _relative_integral(e1, e2, low, high)
    return e1 * mode + e2 * mode**2 + size


def log_density(x: np.ndarray, e1: np.ndarray, e2: np.ndarray) -> np.ndarray:
    """log f(x) at x in [0, 1]; tolerance 1e-9 max(1, |result|)."""
    x, e1, e2 = _arrays(x, e1, e2)
    mode, size = _relative_integral(e1, e2, np.zeros_like(x), np.ones_like(x))
    return _rise(e1, e2, mode, x) - size


def density(x: np.ndarray, e1: np.ndarray, e2: np.ndarray) -> np.ndarray:
    """Density at x in [0, 1]."""
    return np.exp(log_density(x, e1, e2))


def _log_odds(x: np.ndarray, e1: np.ndarray, e2: np.ndarray) -> np.ndarray:
    """log((1 - F(x)) / F(x)), each side integrated directly, so that it holds far in both tails."""
    x, e1, e2 = _arrays(np.clip(x, 0, 1), e1, e2)
    below, under = _relative_integral(e1, e2, np.zeros_like(x), x)
    above, over = _relative_integral(e1, e2, x, np.ones_like(x))
    return _rise(e1, e2, below, above) + over - under


def log_cdf(x: np.ndarray, e1: np.ndarray, e2: np.ndarray) -> np.ndarray:
    """log F(x); -inf at x <= 0, 0 at x >= 1. Relative tolerance 1e-9, also where F is close to 1."""
    return -np.logaddexp(0, _log_odds(x, e1, e2))


def log_survival(x: np.ndarray, e1: np.ndarray, e2: np.ndarray) -> np.ndarray:
    """log(1 - F(x)), not through F; 0 at x <= 0, -inf at x >= 1. Relative tolerance 1e-9, also where 1 - F is close to 1."""
    return -np.logaddexp(0, -_log_odds(x, e1, e2))


def log_cdf_max(x: np.ndarray, n: np.ndarray, e1: np.ndarray, e2: np.ndarray) -> np.ndarray:
    """log of F(x)^n, the CDF of the maximum of n samples. Relative tolerance 1e-9."""
    return n * log_cdf(x, e1, e2)


def confidence(s_min: np.ndarray, n: np.ndarray, e1: np.ndarray, e2: np.ndarray) -> np.ndarray:
    """P(max of n >= s_min) = 1 - F(s_min)^n. Relative tolerance 1e-9."""
    return -np.expm1(log_cdf_max(s_min, n, e1, e2))


def log_excess(z: np.ndarray, e1: np.ndarray, e2: np.ndarray) -> np.ndarray:
    """log E[(S - z)^+] for z in [0, 1]; -inf at z = 1. Tolerance 1e-9 max(1, |result|)."""
    z, e1, e2 = _arrays(z, e1, e2)
    mode, size = _relative_integral(e1, e2, np.zeros_like(z), np.ones_like(z))
    above, start, end = _window(e1, e2, z, np.ones_like(z))
    d = (start - above)[..., None] + (end - start)[..., None] * _NODES
    weight = np.exp((e1 + 2 * e2 * above)[..., None] * d + e2[..., None] * d**2) * _WEIGHTS
    with np.errstate(divide="ignore"):
        gain = np.log(np.einsum("...k,...k->...", weight, d + (above - z)[..., None]) * (end - start))
    return _rise(e1, e2, mode, above) + gain - size


def reservation(cost: np.ndarray, e1: np.ndarray, e2: np.ndarray) -> np.ndarray:
    """z with E[(S - z)^+] = cost (Weitzman 1979): go on while the best score is below it. Absolute tolerance 1e-9.

    0 where even a first sample is worth less than its cost (> 0).
    """
    cost, e1, e2 = _arrays(cost, e1, e2)
    low, high = np.zeros_like(cost), np.ones_like(cost)
    for _ in range(40):
        middle = (low + high) / 2
        worth = log_excess(middle, e1, e2) >= np.log(cost)
        low, high = np.where(worth, middle, low), np.where(worth, high, middle)
    return low


def expected_maximum(n: np.ndarray, e1: np.ndarray, e2: np.ndarray) -> np.ndarray:
    """E[max of n samples] = 1 - integral of F^n over [0, 1], n >= 1. Absolute tolerance 1e-9.

    The integral runs over the panels of the interval in which F^n climbs from exp(-38) to 1 - exp(-38).
    """
    n, e1, e2 = _arrays(n, e1, e2)

    def where(reached: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        low, high = np.zeros_like(n), np.ones_like(n)
        for _ in range(60):
            middle = (low + high) / 2
            above = reached(middle)
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return high

    start = where(lambda x: log_cdf_max(x, n, e1, e2) >= -_DEPTH)
    end = where(lambda x: np.log(n) + log_survival(x, e1, e2) <= -_DEPTH)
    panels = 8
    nodes = ((np.arange(panels)[:, None] + _NODES) / panels).ravel()
    x = start[..., None] + (end - start)[..., None] * nodes
    f = np.exp(log_cdf_max(x, n[..., None], e1[..., None], e2[..., None]))
    return end - (end - start) * (f @ np.tile(_WEIGHTS / panels, panels))


def samples_needed(s_min: np.ndarray | float, alpha: np.ndarray | float, fit: Fit, n_max: int) -> np.ndarray:
    """N* = ceil(log(1 - alpha) / log F(s_min) - 1e-9), between 1 and n_max (OptScale, docs/optscale.md).

    s_min and alpha broadcast against the fit, so that a whole grid of cells ([T, 1, 1] and [Q, 1]) is one call.
    A degenerate fit needs one sample where its mass is at or above s_min, and n_max where it is below.
    """
    with np.errstate(divide="ignore", over="ignore"):
        needed = np.ceil(np.log1p(-alpha) / log_cdf(s_min, fit.e1, fit.e2) - 1e-9)
    needed = np.where(fit.degenerate, np.where(fit.mean >= s_min, 1, n_max), needed)
    return np.clip(needed, 1, n_max).astype(np.int64)


# Powers of the nodes with the weights: one matrix product gives a window's moments.
_MOMENTS = _WEIGHTS[:, None] * _NODES[:, None] ** np.arange(5)


def _moments(a: np.ndarray, b: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of exp(a z + b z^2) on [low, high], arrays [B]: the log normaliser relative to the mode, the mode, and
    E[z], Var z, Cov(z, z^2), Var z^2 (last axis)."""
    mode, start, end = _window(a, b, low, high)
    size = end - start
    d = (start - mode)[:, None] + size[:, None] * _NODES
    d *= (a + 2 * b * mode)[:, None] + b[:, None] * d
    raw = np.exp(d, out=d) @ _MOMENTS
    total = raw[:, 0]
    t1, t2, t3, t4 = (raw[:, 1:] / total[:, None]).T
    # Central moments on the window, then of z = start + size t.
    c2 = (t2 - t1 * t1) * size**2
    c3 = (t3 - 3 * t1 * t2 + 2 * t1**3) * size**3
    c4 = (t4 - 4 * t1 * t3 + 6 * t1 * t1 * t2 - 3 * t1**4) * size**4
    mean = start + size * t1
    covariance = 2 * mean * c2 + c3
    return np.log(total * size), mode, np.stack([mean, c2, covariance, 4 * mean * (mean * c2 + c3) + c4 - c2 * c2], axis=1)


def fit(mean: np.ndarray, mean_square: np.ndarray, iterations: int = 60, tolerance: float = 1e-9) -> Fit:
    """Maximum likelihood from the mean and the mean square of the scores (arrays [B], any number of prefixes).

    The likelihood is concave and depends on the scores only through these two, so pooled pseudo-samples give the MAP fit
    with a conjugate prior (`ours` in docs/optscale.md). Newton's method in the standardised score with the bound e2 <= 0
    starts from a table of solutions; steps are halved until they ascend. The moments of the result agree with the given
    ones to `tolerance` standard deviations, but for the second where the bound binds. A variance below 1e-12 is degenerate.
    """
    mean, mean_square = (np.atleast_1d(np.asarray(v, float)) for v in (mean, mean_square))
    variance = mean_square - mean**2
    degenerate = ~(variance > 1e-12)
    spread = np.sqrt(np.where(degenerate, 1.0, variance))
    a, b = np.zeros_like(mean), np.full_like(mean, -0.5)
    rows = np.flatnonzero(~degenerate)
    for start in range(0, len(rows), _CHUNK):
        r = rows[start : start + _CHUNK]
        low, high = -mean[r] / spread[r], (1 - mean[r]) / spread[r]
        a[r], b[r] = _newton(low, high, *_start(mean[r], spread[r]), iterations, tolerance)
    # From z = (x - mean) / spread back to x.
    e2 = b / spread**2
    e1 = a / spread - 2 * e2 * mean
    e1, e2 = np.where(degenerate, 0.0, e1), np.where(degenerate, 0.0, e2)
    return Fit(e1, e2, mean, degenerate)


def fit_with_normal_prior(
    count: np.ndarray,
    mean: np.ndarray,
    mean_square: np.ndarray,
    prior_mu: np.ndarray,
    prior_sigma: np.ndarray,
    width: float = 0.1,
    iterations: int = 80,
) -> Fit:
    """MAP of the released code (`paper` in docs/optscale.md): N(prior_mu, width^2) on mu, N(prior_sigma, width^2) on sigma.

    All arguments are arrays [B] but for the width; `count` scores with this mean and mean square. The posterior is not
    concave: Levenberg's method in (mu, log sigma), sigma >= 1e-6, from five starts, of which the best end is kept. At
    the end the gradient per score is below 1e-8 where the bound does not bind.
    """
    count, mean, mean_square, prior_mu, prior_sigma = (
        np.atleast_1d(v) for v in _arrays(count, mean, mean_square, prior_mu, prior_sigma)
    )
    variance = np.maximum(mean_square - mean**2, 0.0)
    degenerate = ~(variance > 1e-12) & (count > 0)
    best_value = np.full(mean.shape, -np.inf)
    best = np.stack([prior_mu, np.log(np.maximum(prior_sigma, 1e-3))])
    data = (count, mean, variance, prior_mu, prior_sigma, width)
    spread = np.log(np.maximum(np.sqrt(variance), 1e-3))
    likeliest = fit(mean, mean_square)
    with np.errstate(divide="ignore", invalid="ignore"):
        wide = np.where(likeliest.e2 < -0.5, np.sqrt(-0.5 / likeliest.e2), 1.0)
    starts = (
        (mean, spread),
        (prior_mu, best[1]),
        ((mean + prior_mu) / 2, np.full_like(mean, np.log(0.25))),
        (np.where(mean > 0.5, 1.2, -0.2), np.full_like(mean, np.log(0.2))),
        (np.clip(likeliest.e1 * wide**2, -1, 2), np.log(wide)),
    )
    for mu, rho in starts:
        value, found = _levenberg(np.stack([mu, rho]), data, iterations)
        better = value > best_value
        best_value, best = np.where(better, value, best_value), np.where(better, found, best)
    e1, e2 = natural(best[0], np.exp(best[1]))
    return Fit(np.where(degenerate, 0.0, e1), np.where(degenerate, 0.0, e2), mean, degenerate)


def _posterior(theta: np.ndarray, data: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value [B], gradient [2, B] and Hessian (mu mu, mu rho, rho rho) [3, B] of the log posterior at theta = (mu, log sigma)."""
    count, mean, variance, prior_mu, prior_sigma, width = data
    mu, sigma = theta[0], np.exp(theta[1])
    e1, e2 = natural(mu, sigma)
    zero = np.zeros_like(mu)
    log_norm, mode, m = _moments(e1, e2, zero, zero + 1)
    value = count * (_rise(e1, e2, mode, mean) + e2 * variance - log_norm)
    value -= ((mu - prior_mu) ** 2 + (sigma - prior_sigma) ** 2) / (2 * width**2)
    # d log p / d(e1, e2), centred: mean square = mean^2 + variance on both sides.
    g1 = count * (mean - m[:, 0])
    g2 = count * ((mean - m[:, 0]) * (mean + m[:, 0]) + variance - m[:, 1])
    v11, v12, v22 = count * m[:, 1], count * m[:, 2], count * m[:, 3]
    p = 1 / sigma**2  # de1/dmu = p, de1/drho = -2 mu p, de2/drho = p
    j1, j2 = -2 * mu * p, p
    gradient = np.stack(
        [
            g1 * p - (mu - prior_mu) / width**2,
            g1 * j1 + g2 * j2 - (sigma - prior_sigma) * sigma / width**2,
        ]
    )
    hessian = np.stack(
        [
            -v11 * p * p - 1 / width**2,
            -p * (v11 * j1 + v12 * j2) - 2 * p * g1,
            -(v11 * j1 * j1 + 2 * v12 * j1 * j2 + v22 * j2 * j2)
            + 4 * mu * p * g1
            - 2 * p * g2
            - (2 * sigma - prior_sigma) * sigma / width**2,
        ]
    )
    return value, gradient, hessian


def _levenberg(theta: np.ndarray, data: tuple, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """(value [B], theta [2, B]) of an ascent that adds damping until a step gains."""
    floor = np.log(1e-6)
    theta = theta.copy()
    value, gradient, hessian = _posterior(theta, data)
    damping = np.full(value.shape, 1e-3)
    rows = np.arange(len(value))
    for _ in range(iterations):
        scale = 1 + data[0][rows]
        going = (np.abs(gradient[:, rows]).max(axis=0) > 1e-9 * scale) & (damping[rows] < 1e12)
        rows = rows[going]
        if not len(rows):
            break
        here = tuple(v[rows] if isinstance(v, np.ndarray) else v for v in data)
        hmm, hmr, hrr = -hessian[:, rows]
        extra = damping[rows] * (np.abs(hmm) + np.abs(hrr))
        # A definite matrix: the negative Hessian, shifted by its lowest eigenvalue where that is negative.
        lowest = (hmm + hrr) / 2 - np.hypot((hmm - hrr) / 2, hmr)
        extra = extra + np.maximum(-lowest, 0) * 1.1
        hmm, hrr = hmm + extra, hrr + extra
        gm, gr = gradient[:, rows]
        determinant = hmm * hrr - hmr * hmr
        step = np.stack([hrr * gm - hmr * gr, hmm * gr - hmr * gm]) / determinant
        step[1] = np.clip(step[1], -1, 1)
        new = theta[:, rows] + step
        new[1] = np.maximum(new[1], floor)
        new_value, new_gradient, new_hessian = _posterior(new, here)
        gains = new_value >= value[rows]
        better = rows[gains]
        theta[:, better], value[better] = new[:, gains], new_value[gains]
        gradient[:, better], hessian[:, better] = new_gradient[:, gains], new_hessian[:, gains]
        damping[rows] = np.where(gains, np.maximum(damping[rows] / 10, 1e-12), np.maximum(damping[rows] * 10, 1e-9))
    return value, theta


def _newton(
    low: np.ndarray, high: np.ndarray, a: np.ndarray, b: np.ndarray, iterations: int, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """(a, b) with E[z] = 0 and E[z^2] = 1 on [low, high], b <= 0, from the given start."""
    a, b = a.copy(), b.copy()
    rows = np.arange(len(low))

    def evaluate(a: np.ndarray, b: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log likelihood, and the moments."""
        log_norm, mode, m = _moments(a, b, low[rows], high[rows])
        return b - (a * mode + b * mode**2) - log_norm, m

    value, m = evaluate(a, b, rows)
    for _ in range(iterations):
        ga, gb = -m[:, 0], 1 - m[:, 1] - m[:, 0] ** 2
        held = (b[rows] >= 0) & (gb > 0)
        going = (np.abs(ga) > tolerance) | ((np.abs(gb) > tolerance) & ~held)
        if not going.any():
            break
        rows, m, value, ga, gb, held = (v[going] for v in (rows, m, value, ga, gb, held))
        _, vaa, vab, vbb = m.T
        determinant = np.maximum(vaa * vbb - vab**2, 1e-12 * vaa * vbb)
        da = np.where(held, ga / vaa, (vbb * ga - vab * gb) / determinant)
        db = np.where(held, 0.0, (vaa * gb - vab * ga) / determinant)
        # So close, Newton's next point (the error is at most about 8 times the square) needs no look: 1e-9 by then.
        last = (np.abs(ga) < 1e-5) & (held | ((np.abs(gb) < 1e-5) & (b[rows] + db < 0)))
        a[rows[last]] += da[last]
        b[rows[last]] += db[last]
        rows, value, da, db = (v[~last] for v in (rows, value, da, db))
        step = np.ones_like(da)
        for _ in range(40):
            new_a, new_b = a[rows] + step * da, np.minimum(b[rows] + step * db, 0.0)
            new_value, new_m = evaluate(new_a, new_b, rows)
            worse = ~(new_value >= value - 1e-12 * (1 + np.abs(value)))
            if not worse.any():
                break
            step = np.where(worse, step / 2, step)
        a[rows], b[rows], value, m = new_a, new_b, new_value, new_m
    return a, b


# The table: solutions over the logit of the mean and the variance as a share of the exponential's with that mean.
_LOGITS = np.linspace(-12, 12, 193)
_SHARES = np.linspace(0.01, 1.0, 133)


def _logit(mean: np.ndarray) -> np.ndarray:
    mean = np.clip(mean, 1e-300, 1 - 1e-16)
    return np.clip(np.log(mean) - np.log1p(-mean), _LOGITS[0], _LOGITS[-1])


def _cubic(grid: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of an even grid the four points [B, 4] around each x [B], and their weights in the cubic through them (Lagrange's).

    Scipy's splines do the same, and take half a second to import.
    """
    place = (x - grid[0]) / (grid[1] - grid[0])
    first = np.clip(place.astype(np.intp) - 1, 0, len(grid) - 4)
    u = (place - first)[:, None] - np.arange(4)
    u0, u1, u2, u3 = u.T
    weight = np.stack([-u1 * u2 * u3 / 6, u0 * u2 * u3 / 2, -u0 * u1 * u3 / 2, u0 * u1 * u2 / 6], axis=1)
    return first[:, None] + np.arange(4), weight


@cache
def _exponentials() -> np.ndarray:
    """Over the logits of the mean [2, L]: the truncated exponential's variance over that of a coin with the same mean, and its
    standardised rate."""
    mean = 1 / (1 + np.exp(-_LOGITS))
    low, high = np.full_like(mean, -4.0 * 1e6), np.full_like(mean, 4.0 * 1e6)
    zero = np.zeros_like(mean)
    for _ in range(80):
        rate = (low + high) / 2
        too_low = _moments(rate, zero, zero, zero + 1)[2][:, 0] < mean
        low, high = np.where(too_low, rate, low), np.where(too_low, high, rate)
    variance = _moments(low, zero, zero, zero + 1)[2][:, 1]
    return np.stack([variance / (mean * (1 - mean)), low * np.sqrt(variance)])


@cache
def _table() -> np.ndarray:
    """The solution (a, b) of `_newton` over logits and shares [2, L, S]."""
    logit, share = (v.ravel() for v in np.meshgrid(_LOGITS, _SHARES, indexing="ij"))
    mean = 1 / (1 + np.exp(-logit))
    spread = np.sqrt(share * np.repeat(_exponentials()[0], len(_SHARES)) * mean * (1 - mean))
    found = _newton(-mean / spread, (1 - mean) / spread, 0 * mean, 0 * mean - 0.5, 200, 1e-12)
    return np.stack(found).reshape(2, len(_LOGITS), len(_SHARES))


def _start(mean: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where `_newton` starts: the table's solution, or the truncated exponential where the variance exceeds its own."""
    logit = _logit(mean)
    row, along = _cubic(_LOGITS, logit)
    ratio, rate = (_exponentials()[:, row] * along).sum(axis=2)
    share = spread**2 / (mean * (1 - mean) * ratio)
    column, across = _cubic(_SHARES, np.clip(share, _SHARES[0], 1.0))
    near = _table()[:, row[:, :, None], column[:, None, :]]
    a, b = np.einsum("tbij,bi,bj->tb", near, along, across)
    bound = share >= 1
    # The table's rate is per spread of the exponential; the sample's is sqrt(share) as wide.
    return np.where(bound, rate * np.sqrt(share), a), np.where(bound, 0.0, np.minimum(b, 0.0))
