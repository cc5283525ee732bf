"""What a rule does under every limit at once, from one replay of it under its own.

Under a lower limit n a rule that knows its limit only as a cap stops where it stopped, or at n; and it answers with what it
selects of the first n samples. A rule whose decisions depend on its limit otherwise carries an attribute `limit_shapes = True`.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from itscale.data.records import Pool, Unit
from itscale.drivers.replay import known_features, orders_of, refuse_misfit, replay_rows, visible
from itscale.policies.protocol import Batch, Policy

# Settings that hold the most that a rule may draw.
LIMITS = ("n_max", "n", "rounds")


def limit_setting(policy: Policy | type) -> str:
    """The name of the setting that holds a rule's limit."""
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

    def of(self, policies: list[Policy], limits: np.ndarray) -> Spent:
        """What a rule does under each of `limits` [N], which do not exceed its own.

        Args:
            policies: the rule as bound for each fold; one for all if it is the same everywhere.
        """
        if self.pool.unit is Unit.SAMPLE and not getattr(policies[0], "limit_shapes", False):
            drawn = np.minimum(self._drive(policies).drawn, limits[:, None])
            # Answers of the longest prefix that is needed hold those of the others.
            right = self._right(policies[0])[np.arange(len(self._row)), drawn - 1]
            return self._means(right, drawn)
        found = [self._drive([with_limit(policy, int(limit)) for policy in policies]) for limit in limits]
        return self._means(np.stack([f.correct for f in found]), np.stack([f.drawn for f in found]))

    def _drive(self, policies: list[Policy]) -> Any:
        refuse_misfit(policies[0], self.pool)
        every = np.arange(len(self._row))
        if all(policy is policies[0] for policy in policies):
            return self._replayed(policies[0], every)
        drawn, correct = np.empty(len(every), np.int64), np.empty(len(every), bool)
        for policy, rows in zip(policies, self._folds, strict=True):
            found = self._replayed(policy, rows)
            drawn[rows], correct[rows] = found.drawn, found.correct
        return replace(found, drawn=drawn, correct=correct)

    def _replayed(self, policy: Policy, rows: np.ndarray) -> Any:
        order = self._order[rows, : policy.limit]
        return replay_rows(policy, self.pool, known_features(policy, self.pool), False, self._row[rows], order)

    def _right(self, policy: Policy) -> np.ndarray:
        """Whether what a rule selects of the first 1, 2, ... samples is right, [B, limit]; rules that select alike share it."""
        select = (type(policy).select, *(getattr(policy, name) for name in getattr(policy, "selects_by", ())))
        known = self._chosen.get(select)
        if known is None or known.shape[1] < policy.limit:
            order = self._order[:, : policy.limit]
            cluster, score, tokens, correct = (
                values[self._row[:, None], order]
                for values in (self.pool.cluster, self.pool.score, self.pool.completion_tokens, self.pool.correct)
            )
            rows = np.arange(len(self._row))
            whole, state = Batch(rows, cluster, score, tokens), policy.init(len(rows))
            known = np.empty(order.shape, bool)
            for n in range(1, policy.limit + 1):
                column = policy.select(state, visible(whole, rows, np.full(len(rows), n)))
                known[:, n - 1] = np.where(column >= 0, correct[rows, np.maximum(column, 0)], False)
            self._chosen[select] = known
        return known

    def _means(self, right: np.ndarray, drawn: np.ndarray) -> Spent:
        """Means per question of what replays [N, B] answered and drew."""
        problems, size = len(self.pool.problem_ids), np.bincount(self._problem, minlength=len(self.pool.problem_ids))

        def mean(values: np.ndarray) -> np.ndarray:
            return np.stack([np.bincount(self._problem, weights=v, minlength=problems) for v in values]) / size

        def spent(tokens: np.ndarray) -> np.ndarray:
            upto = np.cumsum(tokens[self._row[:, None], self._order], axis=1)
            return mean(upto[np.arange(len(self._row)), drawn - 1])

        pool = self.pool
        kinds = {kind: spent(getattr(pool, f"{kind}_tokens")) for kind in ("completion", "prompt", "cached_prompt")}
        return Spent(mean(right), mean(drawn), **kinds)
