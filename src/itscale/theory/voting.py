"""Votes over answer clusters: counts, leads, the plurality, and when a vote can be trusted; vectorised over rows.

OptPO's model (arXiv 2512.02882, docs/optpo.md): a vote names the true consensus with probability p0 and each of the other
m - 1 answers with p1 = (1 - p0) / (m - 1); r = p0 / p1. Everything is in log space; log r is `log_ratio(p0, m)`.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import special


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
    return heaviest(cluster, np.ones(cluster.shape, np.int32))


def heaviest(cluster: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """First column [B] of the cluster with the most weight (>= 0) in cluster [B, K], weight [B, K]; as `plurality`."""
    rows, k = cluster.shape
    if k == 0:
        return np.full(rows, -1)
    size = int(cluster.max(initial=-1)) + 1
    place = np.where(cluster < 0, size, cluster) + np.arange(rows)[:, None] * (size + 1)  # the last column takes the -1s
    total = np.bincount(place.ravel(), weight.ravel(), rows * (size + 1))
    total[size :: size + 1] = -1
    votes = total[place]
    return np.where(votes.max(axis=1) >= 0, votes.argmax(axis=1), -1)


def asc_confidence(v1: np.ndarray, v2: np.ndarray, prior: float = 1.0) -> np.ndarray:
    """P(theta > 1/2 | Beta(v1 + prior, v2 + prior)) = 1 - I_{1/2} of the two highest counts (ASC, docs/optscale.md).

    Any shape; relative tolerance 1e-12. Two equal counts (none voted yet among them) give 1/2. It is also P(g_1 > g_2) of two
    gamma variables of these shapes: how surely one answer beats another under a symmetric Dirichlet(prior).
    """
    v1, v2 = (np.asarray(v).astype(np.intp) for v in (v1, v2))
    most = int(max(v1.max(initial=0), v2.max(initial=0)))
    if most >= 1024:
        return special.betainc(v2 + prior, v1 + prior, 0.5)
    return _asc_table(1 << most.bit_length(), float(prior))[v1, v2]


@cache
def _asc_table(size: int, prior: float) -> np.ndarray:
    """`asc_confidence` of all pairs of counts below `size`: they are few, and asked for at every vote."""
    v = np.arange(size, dtype=float)
    return special.betainc(v + prior, v[:, None] + prior, 0.5)


def log_ratio(p0: float, options: np.ndarray | int) -> np.ndarray:
    """ln r = ln(p0 (m - 1) / (1 - p0)) for m = `options` >= 2; positive iff p0 > 1/m, without which no lead is ever enough."""
    return np.log(p0) - np.log1p(-p0) + np.log(np.asarray(options, float) - 1)


def lead_needed(ratio: float, p0: float, options: int) -> int:
    """d = ceil(ln B / ln r - 1e-9), r = p0 (m - 1) / (1 - p0) (OptPO, docs/optpo.md; derived).

    Raises:
        ValueError: p0 does not exceed 1/m.
    """
    log_r = float(log_ratio(p0, options))
    if log_r <= 1e-12:
        raise ValueError(f"p0 = {p0} must exceed 1/m = {1 / options:.3g}, or no lead is ever enough")
    return max(1, int(np.ceil(np.log(ratio) / log_r - 1e-9)))


def leader_posterior(counts: np.ndarray, log_r: np.ndarray | float, options: np.ndarray | int) -> np.ndarray:
    """pi_L = r^v_L / sum_c r^v_c per row of counts [B, C]; answers not seen count with v = 0 (docs/optpo.md).

    `log_r` and `options` are scalars or [B]. More answers than `options` may have been seen: then none is unseen. 1/m in a
    row without votes.
    """
    counts = np.asarray(counts)
    log_r, options = np.broadcast_to(log_r, len(counts)).astype(float), np.broadcast_to(options, len(counts))
    if counts.shape[1] == 0:
        return 1.0 / options
    seen = counts > 0
    behind = (counts - counts.max(axis=1, keepdims=True)) * log_r[:, None]
    unseen = np.maximum(options - seen.sum(axis=1), 0)
    total = np.where(seen, np.exp(behind), 0.0).sum(axis=1) + unseen * np.exp(-counts.max(axis=1) * log_r)
    voted = seen.any(axis=1)
    return np.where(voted, 1.0 / np.where(voted, total, 1.0), 1.0 / options)


@cache
def _gamma_grid(votes: int, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Log CDF and log density times weight, both [V + 1, Q], of gamma(alpha + v) on a Gauss-Legendre grid in sqrt(x)."""
    top = votes + alpha + 8 * np.sqrt(votes + alpha + 1) + 12
    # sqrt(x) spreads by about a half whatever the shape, so that nodes lie as dense for many votes as for few.
    root, weight = np.polynomial.legendre.leggauss(max(64, int(5 * np.sqrt(top))))
    root, weight = (root + 1) / 2 * np.sqrt(top), weight / 2 * np.sqrt(top)
    nodes, shape = root**2, alpha + np.arange(votes + 1)[:, None]
    log_cdf = np.log(np.maximum(special.gammainc(shape, nodes), 1e-300))
    log_density = (shape - 1) * np.log(nodes) - nodes - special.gammaln(shape) + np.log(2 * root * weight)
    return log_cdf, log_density


def dirichlet_mode_posterior(counts: np.ndarray, options: int, alpha: float = 1.0) -> np.ndarray:
    """P(the leader is the most probable answer) per row of counts [B, C] under a symmetric Dirichlet(alpha) on m answers (ours).

    With gamma variables g_c of shape alpha + v_c it is P(g_L > g_c for all others) = E[prod_c F_c(g_L)], one integral
    that is shared by rows through the number of answers with each count; absolute error below 1e-5. Ties share the leader.
    """
    counts = np.asarray(counts)
    rows = len(counts)
    if counts.shape[1] == 0:
        return np.full(rows, 1.0 / options)
    first = counts.max(axis=1)
    votes = int(first.max(initial=0))
    log_cdf, log_density = _gamma_grid(int(2 ** np.ceil(np.log2(votes + 1))), float(alpha))
    place = np.arange(rows)[:, None] * len(log_cdf) + counts
    # How many of the other answers have v votes.
    others = np.bincount(place.ravel(), minlength=rows * len(log_cdf)).reshape(rows, len(log_cdf)).astype(float)
    others[:, 0] = np.maximum(options - (counts > 0).sum(axis=1), 0)
    others[np.arange(rows), first] -= 1
    others = np.maximum(others, 0)
    return np.exp(others @ log_cdf + log_density[first]).sum(axis=1)


def ratio_error_bound(ratio: float, options: int) -> float:
    """(m - 1) / (B + m - 1): the most a stop at Lambda >= B errs, under the model (docs/optpo.md)."""
    return (options - 1) / (ratio + options - 1)


def ratio_for_error(eps: float, options: int) -> float:
    """B = (m - 1)(1 - eps) / eps, at which `ratio_error_bound` is eps."""
    return (options - 1) * (1 - eps) / eps


@dataclass(frozen=True, slots=True)
class VoteModel:
    """What a sample of questions says about their votes: p0 and m of OptPO's model."""

    p0: float
    options: int


def estimate_model(cluster: np.ndarray, options: int | None = None) -> VoteModel:
    """(p0, m) from votes cluster [R, K] of R questions, no labels used (ours).

    p0 is the mean share of the plurality among a question's votes. m - 1 is the effective number of other answers: one
    over the probability that two votes against the plurality agree, pairs pooled over questions: answers that cluster make
    m small, and the test careful. Both are pooled; questions differ, and the guarantees do not know it. `options` is m where
    it is known (multiple choice).
    """
    shares, agreeing, pairs = [], 0.0, 0.0
    for row in np.asarray(cluster):
        counts = np.sort(np.bincount(row[row >= 0]))[::-1].astype(float)
        if counts.sum() == 0:
            continue
        shares.append(counts[0] / counts.sum())
        against = counts[1:]
        agreeing += float((against * (against - 1)).sum())
        pairs += float(against.sum() * (against.sum() - 1))
    p0 = float(np.clip(np.mean(shares), 1e-6, 1 - 1e-6)) if shares else 0.5
    return VoteModel(p0, options or 1 + max(1, round((pairs + 1) / (agreeing + 1))))
