"""A certificate of a vote's mode that holds at any moment of stopping, without p0, m or a prior (docs/optpo.md).

Ideas: the Martingale Majority Certificate (arXiv 2510.17472) and CITE (arXiv 2605.05873); this form and its proof are ours.
"""

import numpy as np
from scipy import special


def log_evidence(own: np.ndarray, rival: np.ndarray) -> np.ndarray:
    """ln E of own and rival votes, any shape: the mixture likelihood ratio of "own is more probable" against a fair coin.

    E(s, f) = integral over (1/2, 1) of (2 theta)^s (2 (1 - theta))^f under Beta(1/2, 1/2) folded onto (1/2, 1)
            = 2^(s + f) B(s + 1/2, f + 1/2) / B(1/2, 1/2) * 2 I_{1/2}(f + 1/2, s + 1/2).
    It is 1 without votes, rises with s, falls with f, and along votes of which a share theta <= 1/2 is for `own` it is a
    supermartingale. Absolute error below 1e-9 up to 10,000 votes where `own` has no fewer than `rival`, as a rule asks; where it
    has far fewer, E may underflow to 0.
    """
    s, f = np.asarray(own, float), np.asarray(rival, float)
    half = special.betainc(f + 0.5, s + 0.5, 0.5)
    return (s + f + 1) * np.log(2) + special.betaln(s + 0.5, f + 0.5) - np.log(np.pi) + np.log(half)


def log_bar(place: np.ndarray, delta: float) -> np.ndarray:
    """ln(k (k + 1) / delta), which the k-th answer to appear has to reach: the chances of all claims add up to delta."""
    place = np.asarray(place, float)
    return np.log(place * (place + 1) / delta)
