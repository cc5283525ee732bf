"""What a rule that reads its samples through running sums draws, from the sums of all prefixes at once.

A replay asks a rule a few hundred times about ever fewer rows, which costs most where a pool is small. Here the sums of every
prefix are made once for all rules that read the same ones, whatever their settings, and each rule looks at all prefixes in one
call; the looks that it would not have taken are passed over.
"""

from itertools import pairwise
from typing import Any

import numpy as np

from itscale.policies.protocol import Batch, Policy, join, take

MOST = 1 << 16  # prefixes that are held at once: some tens of megabytes
_BORDERS = (16,)  # rows that stopped by then are not asked about later looks


def fits(policy: Policy, rows: int, size: int) -> bool:
    """Whether a rule can be asked about all prefixes of rows of `size` samples at once."""
    return getattr(policy, "reads_sums", False) and rows * size <= MOST


class Prefixes:
    """The prefixes of B rows of K samples, in one order each.

    Args:
        whole: all that lies in the rows, [B, K].
    """

    def __init__(self, whole: Batch) -> None:
        self._whole = whole
        self._sums: dict[Any, Any] = {}

    def drawn(self, policy: Policy, rows: np.ndarray, features: dict[str, np.ndarray]) -> np.ndarray:
        """Samples [R] that a bound rule draws of some rows, which have these features [R]; `reads_sums` holds for it."""
        before = self._unseen(np.zeros(len(rows), np.int64), features)
        n = np.minimum(policy.step(policy.init(len(rows)), before, before.n)[1].want, policy.limit)
        going = np.arange(len(rows))
        for start, end in pairwise([0, *(b for b in _BORDERS if b < policy.limit), policy.limit]):
            here = going[n[going] <= end]
            want = self._wants(policy, rows[here], {name: values[here] for name, values in features.items()}, start, end)
            each, at = np.arange(len(here)), n[here]
            while ((ahead := np.where(at <= end, want[each, np.minimum(at, end) - start - 1], at)) > at).any():
                at = ahead
            n[here] = at
            going = going[n[going] > end]
        return n

    def _wants(self, policy: Policy, rows: np.ndarray, features: dict[str, np.ndarray], start: int, end: int) -> np.ndarray:
        """How many samples a rule wants at each look from `start` + 1 to `end`, [R, end - start]; the look itself: it stops."""
        looks = np.arange(start, end)
        place = (rows[:, None] * self._whole.cluster.shape[1] + looks).ravel()
        repeated = {name: np.repeat(values, len(looks)) for name, values in features.items()}
        batch = self._unseen(np.tile(looks + 1, len(rows)), repeated)
        want = policy.look(take(self._of(policy), place), batch).want
        return np.minimum(want, policy.limit).reshape(len(rows), len(looks))

    def _of(self, policy: Policy) -> Any:
        """The sums [B * K] of every prefix; rules that see alike share them."""
        see = type(policy).see
        if see not in self._sums:
            rows, size = self._whole.cluster.shape
            state, states = policy.init(rows), []
            for n in range(1, size + 1):
                upto = (values[:, :n] for values in (self._whole.cluster, self._whole.score, self._whole.tokens))
                state = see(state, Batch(np.full(rows, n), *upto), np.full(rows, n - 1))
                states.append(take(state, np.arange(rows)))  # a copy: the next sums may be made in place
            by_row = np.arange(size * rows).reshape(size, rows).T.ravel()
            self._sums[see] = take(join(states), by_row)
        return self._sums[see]

    def _unseen(self, n: np.ndarray, features: dict[str, np.ndarray]) -> Batch:
        """A batch of which nothing is shown but how far it goes."""
        whole = self._whole
        return Batch(n, *(np.zeros((len(n), 0), v.dtype) for v in (whole.cluster, whole.score, whole.tokens)), features)
