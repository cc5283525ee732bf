"""What a rule does under every limit at once, from one replay of it under its own.

Under a lower limit n a rule that knows its limit only as a cap stops where it stopped, or at n; and it answers with what it
selects of the first n samples. A rule whose decisions depend on its limit otherwise carries an attribute `limit_shapes = True`.
"""

from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import numpy as np

from itscale.data.records import Pool, Unit
from itscale.drivers.prefixes import Prefixes, fits
from itscale.drivers.replay import known_features, orders_of, refuse_misfit, replay_rows, visible
from itscale.policies.protocol import Batch, Policy

# Settings that hold the most that a rule may draw.
LIMITS = ("n_max", "n", "rounds")


def limit_setting(policy: Policy | type) -> str:
    """The name of the setting that holds a rule's limit."""
    return _limit_setting(policy if isinstance(policy, type) else type(policy))


@cache
def _limit_setting(policy: type) -> str:
    names = {f.name for f in fields(policy)}
    return next(name for name in LIMITS if name in names)


def with_limit(policy: Policy, limit: int) -> Policy:
    """The same rule under another limit."""
    return replace(policy, **{limit_setting(policy): limit})


@dataclass(frozen=True, slots=True)
class Spent:
    """What a rule does per question, each [N, P]: a row a limit, means over the question's replays."""

    accuracy: np.ndarray
    drawn: np.ndarray
    completion: np.ndarray
    prompt: np.ndarray
    cached_prompt: np.ndarray
    unanswered: np.ndarray  # of the samples drawn those without an answer
    cut_off: np.ndarray  # and those that were cut off at their limit of tokens

    def row(self, index: int) -> "Spent":
        """Of one limit, each [P]."""
        return Spent(*(getattr(self, f.name)[index] for f in fields(self)))


class Limits:
    """Replays over one pool, in the same orders for every rule.

    Args:
        pool: of either kind.
        orders: of each question's samples, as in `replay`.
        fold: [P] int, the fold of each question, for rules that are bound to the other folds; without, all are one.
    """

    def __init__(self, pool: Pool, *, orders: int, seed: int, fold: np.ndarray | None = None) -> None:
        self.pool, order = pool, orders_of(pool, orders, seed)
        self._order = order.reshape(-1, pool.size)
        self._row = np.repeat(np.arange(pool.rows), order.shape[1])
        self._problem = pool.problem[self._row]
        fold = np.zeros(len(pool.problem_ids), int) if fold is None else fold
        self._folds = [np.flatnonzero(fold[self._problem] == k) for k in range(int(fold.max(initial=0)) + 1)]
        self._chosen: dict[Any, np.ndarray] = {}
        self._upto: dict[str, np.ndarray] = {}
        self._prefixes: Prefixes | None = None

    def of(self, policies: list[Policy], limits: np.ndarray) -> Spent:
        """What a rule does under each of `limits` [N], which do not exceed its own.

        Args:
            policies: the rule as bound for each fold; folds for which it is the same are replayed as one.
        """
        if self.pool.unit is Unit.SAMPLE and not getattr(policies[0], "limit_shapes", False):
            drawn = np.minimum(np.minimum(self._drawn(policies), self.pool.have[self._row]), limits[:, None])
            # Answers of the longest prefix that is needed hold those of the others.
            right = self._right(policies[0])[np.arange(len(self._row)), drawn - 1]
            return self._means(right, drawn)
        found = [self._drive([with_limit(policy, int(limit)) for policy in policies]) for limit in limits]
        return self._means(np.stack([correct for _, correct in found]), np.stack([drawn for drawn, _ in found]))

    def _drawn(self, policies: list[Policy]) -> np.ndarray:
        """Samples drawn [B]."""
        if not fits(policies[0], *self._order.shape):
            return self._drive(policies)[0]
        refuse_misfit(policies[0], self.pool)
        features = known_features(policies[0], self.pool)
        if self._prefixes is None:
            self._prefixes = Prefixes(self._whole(self.pool.size))
        drawn = np.empty(len(self._row), np.int64)
        for policy, folds in _alike(policies):
            rows = np.sort(np.concatenate([self._folds[k] for k in folds]))
            drawn[rows] = self._prefixes.drawn(policy, rows, {name: values[self._row[rows]] for name, values in features.items()})
        return drawn

    def _drive(self, policies: list[Policy]) -> tuple[np.ndarray, np.ndarray]:
        """Samples drawn [B], and whether the answer is right [B]."""
        refuse_misfit(policies[0], self.pool)
        drawn, correct = np.empty(len(self._row), np.int64), np.empty(len(self._row), bool)
        features = known_features(policies[0], self.pool)
        for policy, folds in _alike(policies):
            rows = np.sort(np.concatenate([self._folds[k] for k in folds]))
            found = replay_rows(policy, self.pool, features, False, self._row[rows], self._order[rows, : policy.limit])
            drawn[rows], correct[rows] = found.drawn, found.correct
        return drawn, correct

    def _right(self, policy: Policy) -> np.ndarray:
        """Whether what a rule selects of the first 1, 2, ... samples is right, [B, limit]; rules that select alike share it."""
        select = (type(policy).select, *(getattr(policy, name) for name in getattr(policy, "selects_by", ())))
        known = self._chosen.get(select)
        if known is None or known.shape[1] < policy.limit:
            rows, whole = np.arange(len(self._row)), self._whole(policy.limit)
            correct, state = self._in_order(self.pool.correct, policy.limit), policy.init(len(rows))
            known = np.empty(correct.shape, bool)
            for n in range(1, policy.limit + 1):
                column = policy.select(state, visible(whole, rows, np.full(len(rows), n)))
                known[:, n - 1] = np.where(column >= 0, correct[rows, np.maximum(column, 0)], False)
            self._chosen[select] = known
        return known

    def _whole(self, size: int) -> Batch:
        """The first `size` samples of every replay."""
        pool = self.pool
        shown = (self._in_order(values, size) for values in (pool.cluster, pool.score, pool.completion_tokens))
        return Batch(np.full(len(self._row), size), *shown)

    def _in_order(self, values: np.ndarray, size: int) -> np.ndarray:
        """Values [R, K] of the pool's rows as the replays come upon them, [B, size]."""
        return values[self._row[:, None], self._order[:, :size]]

    def _means(self, right: np.ndarray, drawn: np.ndarray) -> Spent:
        """Means per question of what replays [N, B] answered and drew."""
        problems, size = len(self.pool.problem_ids), np.bincount(self._problem, minlength=len(self.pool.problem_ids))

        def mean(values: np.ndarray) -> np.ndarray:
            return np.stack([np.bincount(self._problem, weights=v, minlength=problems) for v in values]) / size

        pool, rows = self.pool, np.arange(len(self._row))

        def spent(name: str, per_sample: np.ndarray | None) -> np.ndarray:
            """Sums over the samples drawn; the running sums of all replays are the same for every rule."""
            if per_sample is None or not per_sample.any():
                return np.zeros((len(drawn), problems))
            if name not in self._upto:
                self._upto[name] = np.cumsum(per_sample[self._row[:, None], self._order], axis=1)
            return mean(self._upto[name][rows, drawn - 1])

        kinds = {kind: spent(kind, getattr(pool, f"{kind}_tokens")) for kind in ("completion", "prompt", "cached_prompt")}
        lost = {"unanswered": spent("unanswered", pool.cluster < 0), "cut_off": spent("cut_off", pool.cut_off)}
        return Spent(mean(right), mean(drawn), **kinds, **lost)


def _alike(policies: list[Policy]) -> list[tuple[Policy, list[int]]]:
    """Each distinct policy with the places where it stands; one that holds an array is told by identity alone."""
    places: dict[Any, list[int]] = {}
    for k, policy in enumerate(policies):
        try:
            hash(policy)
        except TypeError:
            policy = _Itself(policy)
        places.setdefault(policy, []).append(k)
    return [(policies[at[0]], at) for at in places.values()]


@dataclass(frozen=True, slots=True, eq=False)
class _Itself:
    """Equal to nothing else."""

    policy: Policy
