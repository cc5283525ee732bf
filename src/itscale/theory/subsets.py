"""How often a fixed rule over N of K stored samples is right, in expectation over every choice of the N and every order of them.

All functions take correct [R, K] bool, whether each sample of a row is right, and give the chance for N = 1, 2, ... [R, N].
"""

from functools import cache

import numpy as np
import scipy
from scipy.special import betaln

MOST_VOTES = 1000  # of a row, in `plurality_of`: 2^-K is still a number


def any_of(correct: np.ndarray) -> np.ndarray:
    """Chance that any of N samples is right: pass@N (Chen et al. 2021, the unbiased estimate)."""
    left, wrong = correct.shape[1] - np.arange(correct.shape[1]), (~correct).sum(axis=1)[:, None]
    return 1 - np.cumprod(np.clip((wrong - np.arange(len(left))) / left, 0, 1), axis=1)


def best_of(score: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Chance that the sample with the highest score [R, K] of N is right; -inf is never returned, equal scores win in turn.

    The j-th highest of K scores is the best of N where it is drawn and the j - 1 above it are not: C(K - j, N - 1) / C(K, N).
    """
    size = score.shape[1]
    order = np.argsort(-score, axis=1, kind="stable")
    ranked, right = (np.take_along_axis(v, order, axis=1) for v in (score, correct & np.isfinite(score)))
    # Equal scores: each as right as they are on average.
    new = np.pad(ranked[:, 1:] != ranked[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    group = np.cumsum(new) - 1
    share = (np.bincount(group, right.ravel()) / np.bincount(group))[group].reshape(right.shape)
    n, above = np.arange(1, size + 1), np.arange(size)[:, None]
    left = size - above - 1  # below the one that is best
    with np.errstate(invalid="ignore"):
        chance = np.exp(_log_choose(left, n - 1) - _log_choose(size, n))
    return share @ chance


def _log_choose(n: np.ndarray | int, k: np.ndarray) -> np.ndarray:
    """ln C(n, k), -inf for k > n."""
    inside = k <= n
    k = np.where(inside, k, 0)
    return np.where(inside, -np.log1p(n) - betaln(n - k + 1, k + 1), -np.inf)


def plurality_of(cluster: np.ndarray, correct: np.ndarray, most: int) -> np.ndarray:
    """Chance that the plurality of N <= `most` votes cluster [R, K <= MOST_VOTES] is right (-1: none; equals are first in turn).

    With v of N votes an answer wins alone where every other has fewer, and one time in t + 1 where t others have as many. The
    choices of N are counted by a product of polynomials, a factor sum_k C(m, k) x^k an answer of m votes, in which a
    tie is marked by y: integral_0^1 y^t dy = 1 / (t + 1), which Gauss-Legendre nodes give exactly.
    """
    return np.array([_plurality(*row, most) for row in zip(cluster, correct, strict=True)]).reshape(-1, most)


def _plurality(cluster: np.ndarray, correct: np.ndarray, most: int) -> np.ndarray:
    size, votes, right = len(cluster), np.bincount(cluster + 1), np.bincount(cluster + 1, correct)
    halves = _halves(size)
    found = np.zeros(most)
    for winner in 1 + np.flatnonzero(right[1:]):
        others, top = np.delete(votes[1:], winner - 1), min(most, votes[winner])
        # A row for each number of votes that the winner may have, and for each node of the integral over y.
        nodes = [_nodes(int((others >= v).sum()) // 2 + 1) for v in range(1, top + 1)]
        own = np.repeat(np.arange(1, top + 1), [len(y) for y, _ in nodes])
        y, weight = (np.concatenate(part) for part in zip(*nodes, strict=True))
        choices = np.zeros((len(own), most + 1))
        choices[np.arange(len(own)), own] = weight * halves[votes[winner], own]
        for count in others[others > 0]:
            k = np.arange(count + 1)
            allowed = np.select([k < own[:, None], k == own[:, None]], [1.0, y[:, None]])
            choices = _times(choices, allowed * halves[count, k])
        total = _times(choices.sum(axis=0)[None], halves[votes[0], None, : votes[0] + 1])[0, 1:]
        found += right[winner] / votes[winner] * total
    return found / halves[size, 1 : most + 1]


def _times(choices: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Products [B, N + 1], cut off there, of polynomials [B, N + 1] and [B, M], each scaled by 2^-degree: nothing overflows.

    Term by term: everything is positive, so that the smallest coefficients are as exact as the largest (by FFT they are not).
    """
    product = np.zeros_like(choices)
    width = choices.shape[1]
    for k in range(min(width, factor.shape[1])):
        product[:, k:] += factor[:, k : k + 1] * choices[:, : width - k]
    return product


@cache
def _halves(size: int) -> np.ndarray:
    """C(m, k) / 2^m for m, k = 0 to `size`, [m, k]."""

    k = np.arange(size + 1)
    return scipy.stats.binom.pmf(k, k[:, None], 0.5)


@cache
def _nodes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    y, weight = np.polynomial.legendre.leggauss(count)
    return (y + 1) / 2, weight / 2
