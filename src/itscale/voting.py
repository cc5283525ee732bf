"""Votes over answer clusters: counts, leads and the plurality, vectorised over rows."""

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc


@dataclass(frozen=True, slots=True)
class Tally:
    """Votes so far in B rows: counts [B, C], the leading cluster [B] (-1: none), its votes and the runner-up's."""

    counts: np.ndarray
    leader: np.ndarray
    first: np.ndarray
    second: np.ndarray


def empty_tally(rows: int) -> Tally:
    """No votes yet."""
    return Tally(np.zeros((rows, 0), np.int32), np.full(rows, -1), np.zeros(rows, np.int64), np.zeros(rows, np.int64))


def vote(tally: Tally, cluster: np.ndarray) -> Tally:
    """Add one vote per row, cluster [B]; -1 votes for nothing. Takes over the tally's counts, widened for new clusters."""
    rows = np.flatnonzero(cluster >= 0)
    voted = cluster[rows]
    missing = int(voted.max(initial=-1)) + 1 - tally.counts.shape[1]
    counts = np.pad(tally.counts, ((0, 0), (0, 2 * missing))) if missing > 0 else tally.counts
    counts[rows, voted] += 1
    count = counts[rows, voted]
    leader, first, second = tally.leader.copy(), tally.first.copy(), tally.second.copy()
    leads = leader[rows] == voted
    passes = ~leads & (count > first[rows])
    second[rows] = np.where(passes, first[rows], np.where(leads, second[rows], np.maximum(second[rows], count)))
    first[rows] = np.where(leads | passes, count, first[rows])
    leader[rows] = np.where(passes, voted, leader[rows])
    return Tally(counts, leader, first, second)


def plurality(cluster: np.ndarray) -> np.ndarray:
    """First column [B] of the cluster with the most votes in cluster [B, K]; ties go to the first seen, -1 if none voted."""
    rows, k = cluster.shape
    if k == 0:
        return np.full(rows, -1)
    size = int(cluster.max(initial=-1)) + 1
    counts = np.zeros((rows, size + 1), np.int32)  # the last column takes the -1s
    index = np.arange(rows)
    for column in range(k):
        counts[index, cluster[:, column]] += 1
    counts[:, -1] = 0
    votes = np.take_along_axis(counts, np.where(cluster < 0, size, cluster), axis=1)
    return np.where(votes.max(axis=1) > 0, votes.argmax(axis=1), -1)


def asc_confidence(v1: np.ndarray, v2: np.ndarray) -> np.ndarray:
    """P(theta > 1/2 | Beta(v1 + 1, v2 + 1)) = 1 - I_{1/2}(v1 + 1, v2 + 1) of the two highest counts (ASC, METHODS section 2).

    Any shape; relative tolerance 1e-12. Two equal counts (none voted yet among them) give 1/2.
    """
    return betainc(np.asarray(v2, float) + 1, np.asarray(v1, float) + 1, 0.5)


def lead_needed(ratio: float, p0: float, options: int) -> int:
    """d = ceil(ln B / ln r - 1e-9), r = p0 (m - 1) / (1 - p0) (OptPO, METHODS section 4; derived)."""
    r = p0 * (options - 1) / (1 - p0)
    if r <= 1:
        raise ValueError(f"p0 = {p0} must exceed 1/m = {1 / options:.3g}, or no lead is ever enough")
    return max(1, int(np.ceil(np.log(ratio) / np.log(r) - 1e-9)))
