"""How surely the leader of a vote is its question's mode, where questions differ (idea: arXiv 2602.05395; closed form derived).

OptPO's tests give every question the same p0. Here the prior is over whole answer distributions: a *type* is what one
calibration question's answers look like, its shares sorted downwards, without their names and without labels. A vote is read
as three numbers: n_1 votes for the leader, n_2 for the runner-up, n_3 for all others. If the leader is a type's i-th answer and
the runner-up its j-th, these have probability proportional to q_i^n_1 q_j^n_2 (1 - q_i - q_j)^n_3, and the posterior that the
leader is the mode is the sum of that over types and j with i = 1, over the sum of all i and j.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

PAIRED = 10  # answers of a type that are told apart; the others share what is left equally
_LEAST = 1e-280  # of a sum of probabilities that is still exact
_TABLE = 128  # votes up to which all posteriors are tabulated at once


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AnswerTypes:
    """T types: the shares [T, A] of a question's answers, falling, which sum to 1, and how many questions [T] have them.

    Where there are more than `PAIRED` answers the last column is the share of all others together, `others` in number.
    """

    shares: np.ndarray
    weight: np.ndarray
    others: int = 0

    def __repr__(self) -> str:
        """With all that is in it: a run's fingerprint is made of it."""
        digest = hashlib.sha256(self.shares.tobytes() + self.weight.tobytes()).hexdigest()
        return f"AnswerTypes({len(self.shares)} types, others={self.others}, sha256={digest})"


def answer_types(cluster: np.ndarray, strength: float = 1.0) -> AnswerTypes:
    """Types from the votes cluster [R, K] of R questions (-1 votes for none), no labels used; questions without votes count not.

    Shares are (c + s h) / (n + s), with c of n votes, s = `strength`, and h the mean of all questions' shares in the same place
    with one answer more than was ever seen, three at least: nothing is impossible.

    Raises:
        ValueError: no question has a vote.
    """
    counts = [np.sort(np.unique(row[row >= 0], return_counts=True)[1])[::-1] for row in cluster if (row >= 0).any()]
    if not counts:
        raise ValueError("answer types need questions with votes")
    width = max(3, 1 + max(len(c) for c in counts))
    table = np.zeros((len(counts), width))
    for row, c in zip(table, counts, strict=True):
        row[: len(c)] = c
    table, times = np.unique(table, axis=0, return_counts=True)
    weight = times.astype(float)
    votes = table.sum(axis=1, keepdims=True)
    mean = weight @ ((table + 1 / width) / (votes + 1)) / weight.sum()
    shares = (table + strength * mean) / (votes + strength)
    if width > PAIRED + 1:
        return AnswerTypes(np.column_stack([shares[:, :PAIRED], shares[:, PAIRED:].sum(axis=1)]), weight, width - PAIRED)
    return AnswerTypes(shares, weight)


def mode_posterior(types: AnswerTypes, first: np.ndarray, second: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """P(the leader is the mode | votes) of the counts of leader, runner-up and all others, any one shape; relative error 1e-9.

    What is left out is that none of the others has more votes than the runner-up. So it is exact where they have no more
    together, and else an approximation that may err to either side (0.06 too high at 6, 1 and 2 votes for types that were looked
    for; docs/optpo.md has measured errors). Without votes it is that of an answer picked at random. NaN where three answers have
    votes and the types have two.
    """
    counts = np.stack(np.broadcast_arrays(first, second, rest)).astype(np.int64)
    shape, counts = counts.shape[1:], counts.reshape(3, -1)
    if (votes := int(counts.sum(axis=0).max(initial=0))) <= _TABLE:
        size = 8 << max(0, (votes - 1).bit_length() - 3)
        found = _table(types.shares.tobytes(), types.weight.tobytes(), types.shares.shape[0], types.others, size)[tuple(counts)]
    else:
        found = np.full(counts.shape[1], np.nan)
    if (by_logs := np.isnan(found)).any():
        distinct, inverse = np.unique(counts[:, by_logs], axis=1, return_inverse=True)
        found[by_logs] = _posterior(types, distinct)[inverse.ravel()]
    return found.reshape(shape)


def _posterior(types: AnswerTypes, counts: np.ndarray) -> np.ndarray:
    """The posterior [U] of counts [3, U], in log space, as the formula says."""
    place, many = _places(types)
    log_q = np.log(place)
    i, j = _pairs(place.shape[1], types.others)
    with np.errstate(divide="ignore"):
        log_left = np.log(np.maximum(1 - place[:, i] - place[:, j], 0.0))
    base = np.log(types.weight)[:, None] + np.log(_ways(i, j, many))
    found = np.empty(counts.shape[1])
    for u, (first, second, rest) in enumerate(counts.T.tolist()):
        left = rest * log_left if rest else 0.0
        terms = base + first * log_q[:, i] + second * log_q[:, j] + left
        with np.errstate(invalid="ignore"):
            found[u] = np.exp(special.logsumexp(terms[:, i == 0]) - special.logsumexp(terms))
    return found


@lru_cache(maxsize=32)  # of the folds of an advice, each of a few sizes
def _table(shares: bytes, weight: bytes, rows: int, others: int, votes: int) -> np.ndarray:
    """All posteriors of up to `votes` votes by (leader, runner-up, others): few, and asked for at every vote.

    A product of matrices for each number of other votes; NaN where all underflows, for no type gives such votes.
    """
    types = AnswerTypes(np.frombuffer(shares).reshape(rows, -1), np.frombuffer(weight), others)
    place, many = _places(types)
    answers = place.shape[1]
    i, j = _pairs(answers, others)
    ways, left = np.zeros((2, len(place), answers, answers))
    ways[:, i, j] = types.weight[:, None] * _ways(i, j, many)
    left[:, i, j] = np.maximum(1 - place[:, i] - place[:, j], 0.0)
    powers = place[:, None, :] ** np.arange(votes + 1)[:, None]  # [T, n, A]
    found = np.full((votes + 1, votes // 2 + 1, votes + 1), np.nan)
    for rest in range(votes + 1):
        most, least = votes - rest, (votes - rest) // 2
        moved = (ways * left**rest) @ powers[:, : least + 1].transpose(0, 2, 1)  # [T, i, n_2]
        own = powers[:, : most + 1]
        mode = own[:, :, 0].T @ moved[:, 0]
        total = np.tensordot(own, moved, axes=([0, 2], [0, 1]))
        with np.errstate(invalid="ignore"):
            found[: most + 1, : least + 1, rest] = np.where(total > _LEAST, mode / total, np.nan)
    found.flags.writeable = False
    return found


def _places(types: AnswerTypes) -> tuple[np.ndarray, np.ndarray]:
    """Shares [T, A] of the answers in each place, and how many answers [A] stand there: several where they are pooled."""
    place, many = types.shares.copy(), np.ones(types.shares.shape[1])
    if types.others:
        many[-1] = types.others
        place[:, -1] /= types.others
    return place, many


def _pairs(answers: int, others: int) -> tuple[np.ndarray, np.ndarray]:
    """Places [N] of leader and runner-up, which are two answers: only where several stand may it be the same place."""
    allowed = ~np.eye(answers, dtype=bool)
    allowed[-1, -1] = others > 1
    return np.nonzero(allowed)


def _ways(i: np.ndarray, j: np.ndarray, many: np.ndarray) -> np.ndarray:
    """How many pairs of answers [N] stand in places i and j."""
    return many[i] * np.where(i == j, many[j] - 1, many[j])
