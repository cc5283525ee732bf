"""A beta distribution with the moments of scores on [0, 1]: what OptScale's N* is under another density than the normal."""

import numpy as np
from scipy import special

# Scores are kept this far from 0 and 1, where a beta's density may be infinite.
_EDGE = 1e-6


def shapes(mean: np.ndarray, mean_square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(a, b) of the beta with this mean and mean square, any one shape; spread is kept within (0, mean (1 - mean))."""
    mean = np.clip(mean, _EDGE, 1 - _EDGE)
    most = mean * (1 - mean)
    variance = np.clip(mean_square - mean**2, 1e-9 * most, (1 - 1e-9) * most)
    strength = most / variance - 1
    return mean * strength, (1 - mean) * strength


def log_density(x: np.ndarray, mean: np.ndarray, mean_square: np.ndarray) -> np.ndarray:
    """Log density at scores x, which broadcast against the moments."""
    # As scipy.stats has it, which takes a second to import.
    x, (a, b) = np.clip(x, _EDGE, 1 - _EDGE), shapes(mean, mean_square)
    return special.xlogy(a - 1, x) + special.xlog1py(b - 1, -x) - special.betaln(a, b)


def cdf(x: np.ndarray, mean: np.ndarray, mean_square: np.ndarray) -> np.ndarray:
    """P(score <= x), as `log_density`."""
    a, b = shapes(mean, mean_square)
    return special.betainc(a, b, np.clip(x, 0.0, 1.0))


def samples_needed(s_min: float, alpha: float, mean: np.ndarray, mean_square: np.ndarray, n_max: int) -> np.ndarray:
    """N* = ceil(log(1 - alpha) / log F(s_min) - 1e-9), between 1 and n_max, of moments of any one shape."""
    return number_needed(cdf(np.asarray(s_min), mean, mean_square), alpha, n_max)


def number_needed(below: np.ndarray, alpha: float, n_max: int) -> np.ndarray:
    """N* of F(s_min) = `below`, of any shape."""
    with np.errstate(divide="ignore"):
        needed = np.where(below < 1, np.ceil(np.log1p(-alpha) / np.log(below) - 1e-9), n_max)
    return np.clip(needed, 1, n_max).astype(np.int64)
