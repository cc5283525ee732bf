"""Drive a policy over a stored pool, many orders of each problem's samples at once.

I.i.d. samples have no order, so parallel pools are replayed over seeded permutations of each problem's samples, in which every
sample comes first, second, ... equally often; chains have one, so each is replayed as it was drawn. The driver shows a policy
only the columns it asked for.

Rows never depend on each other, so they are replayed in blocks that fit the processor's cache: memory stays that of a block.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np

from itscale.data.ledger import Ledger
from itscale.data.records import Pool, Unit
from itscale.errors import UserError
from itscale.policies.consistency import mean_scores
from itscale.policies.protocol import CODE, Batch, Policy, Reason, scores_read, take

_BLOCK = 1 << 18  # entries of one array of a block: 2 MB


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What a policy did in B replays (problem x order, or problem x chain).

    `column` is the column of the pool it answered with (-1: no answer), `drawn` the samples or rounds it paid for.
    """

    problem: np.ndarray  # [B] int, index into the pool's problem_ids
    drawn: np.ndarray  # [B] int
    column: np.ndarray  # [B] int
    correct: np.ndarray  # [B] bool
    reason: np.ndarray  # [B] int8, index into list(Reason)
    ledger: Ledger  # arrays of [B]
    unanswered: np.ndarray  # [B] int, of the samples drawn those without an answer
    cut_off: np.ndarray  # [B] int, and those that were cut off at their limit of tokens


def orders_of(pool: Pool, orders: int, seed: int) -> np.ndarray:
    """Column permutations [R, orders, K]; one order, or a pool of rounds, is the submission order itself.

    Each order of a row is a random one. Over K of them every sample has every place exactly once, so that a mean over a multiple
    of K orders (best-of-1, tokens of a fixed number) is that over the pool; over other numbers each has each place equally
    often but for one time. A row of fewer samples than K has them first, in orders of its own number.
    """
    identity = np.broadcast_to(np.arange(pool.size), (pool.rows, 1, pool.size))
    if pool.unit is Unit.ROUND or orders == 1:
        return identity
    if pool.counts is None:
        return _latin_squares(pool.rows, orders, pool.size, seed)
    found = np.tile(identity, (1, orders, 1))
    for count in np.unique(pool.counts):
        rows = np.flatnonzero(pool.counts == count)
        found[rows, :, :count] = _latin_squares(len(rows), orders, int(count), seed)
    return found


@lru_cache(maxsize=1)
def _latin_squares(rows: int, orders: int, size: int, seed: int) -> np.ndarray:
    """Permutations [rows, orders, size], kept for the next policy, which is replayed over the same; read only.

    Every `size` orders of a row are a random Latin square: order r has sample s[(r + c[j]) mod size] at place j, s and c random
    permutations. (With c in order these were cyclic shifts, in which a sample's neighbours never change.)
    """
    rng = np.random.default_rng(seed)
    columns = np.broadcast_to(np.arange(size), (2, rows, -(-orders // size), size))
    sample, place = rng.permuted(columns, axis=-1)
    square, shift = np.divmod(np.arange(orders), size)
    drawn = np.take_along_axis(sample[:, square], (place[:, square] + shift[:, None]) % size, axis=-1)
    drawn.flags.writeable = False
    return drawn


def refuse_misfit(policy: Policy, pool: Pool) -> None:
    """Raise a UserError if a policy cannot be replayed over a pool: the wrong unit, too few samples, no scores."""
    name = type(policy).__name__
    if policy.unit is not pool.unit:
        raise UserError(f"the rule {name} counts {policy.unit}s and the pool has {pool.unit}s: give it a pool of its kind.")
    if policy.limit > pool.size:
        raise UserError(
            f"the rule {name} may use {policy.limit} {policy.unit}s and the pool has {pool.size}: lower its limit, or draw more."
        )
    if policy.needs_scores and pool.rows and np.isnan(pool.score).all():
        raise UserError(
            f"the rule {name} reads verifier scores and the pool has none: score the samples, or take rules that count votes."
        )
    scale = getattr(policy, "scale", None)
    if scale and pool.score.size:
        low, high = np.nanmin(pool.score, initial=np.inf), np.nanmax(pool.score, initial=-np.inf)
        if low < 0 or (scale == "unit" and high > 1):
            wanted = "numbers from 0 to 1" if scale == "unit" else "weights of 0 or more"
            raise UserError(
                f"the rule {name} takes scores for {wanted} and the pool has {low if low < 0 else high:g}: import them with "
                "--score sigmoid or rank, or take best-of-N, score threshold, CISC or Pandora by data, which need no scale."
            )


def replay(policy: Policy, pool: Pool, *, orders: int = 100, seed: int = 0, block: int = _BLOCK) -> Outcomes:
    """Replay a bound policy over a pool; nothing of the gold answers reaches the policy.

    `block` entries of an array are replayed at once (speed and memory, not results).

    Raises:
        UserError: the policy counts rounds and the pool samples (or the reverse), it asks for more than the pool has, or it
            reads scores or features that the pool lacks.
    """
    refuse_misfit(policy, pool)
    features = known_features(policy, pool)
    predicted = bool(features) and not getattr(policy, "replay_only", False)
    order = orders_of(pool, orders, seed)
    repeats = order.shape[1]
    order = order.reshape(-1, pool.size)[:, : policy.limit]
    row = np.repeat(np.arange(pool.rows), repeats)
    blocks = np.array_split(np.arange(len(row)), max(1, -(-order.size // block)))
    return _joined([replay_rows(policy, pool, features, predicted, row[block], order[block]) for block in blocks])


def known_features(policy: Policy, pool: Pool) -> dict[str, np.ndarray]:
    """What a rule is told of each row beforehand, [R] by name.

    Raises:
        UserError: the pool lacks a feature that the rule reads.
    """
    # What a rule that exists in a replay only may know: the pool that it is tested on.
    oracle = {"oracle_score_mean": mean_scores(pool)} if getattr(policy, "replay_only", False) else {}
    available = {**pool.features, **oracle}
    missing = [feature for feature in policy.needs_features if feature not in available]
    if missing:
        raise UserError(
            f"the rule {type(policy).__name__} reads the predicted feature {missing[0]!r}, which these questions lack: train a "
            "predictor with that head, or leave the method out."
        )
    return {feature: available[feature] for feature in policy.needs_features}


def replay_prescribed(
    prescribe: Callable[[np.ndarray, np.ndarray], Policy], pool: Pool, *, orders: int, seed: int, block: int = _BLOCK
) -> Outcomes:
    """`replay` of a rule that is made anew for each block of rows, by the rows [B] of the pool and their orders [B, K]."""
    order = orders_of(pool, orders, seed)
    row = np.repeat(np.arange(pool.rows), order.shape[1])
    order = order.reshape(-1, pool.size)
    found = []
    for part in np.array_split(np.arange(len(row)), max(1, -(-order.size // block))):
        policy = prescribe(row[part], order[part])
        found.append(replay_rows(policy, pool, {}, False, row[part], order[part, : policy.limit]))
    return _joined(found)


def replay_rows(
    policy: Policy, pool: Pool, features: dict[str, np.ndarray], predicted: bool, row: np.ndarray, order: np.ndarray
) -> Outcomes:
    """Replay rows [B] of a pool, each in its order [B, limit] of columns; `predicted`: the features cost predictor tokens."""
    columns = np.arange(policy.limit)
    scored = columns < scores_read(policy)
    cluster = pool.cluster[row[:, None], order]
    score = np.where(scored, pool.score[row[:, None], order], np.nan)
    tokens = pool.completion_tokens[row[:, None], order]
    known = {name: values[row] for name, values in features.items()}
    have = None if pool.counts is None else pool.counts[row]
    drawn, column, reason = drive(policy, Batch(np.zeros(len(row), np.int64), cluster, score, tokens, known), have)

    paid = columns < drawn[:, None]

    def spent(field: np.ndarray) -> np.ndarray:
        return np.where(paid, field[row[:, None], order], 0).sum(axis=1)

    picked = np.where(column >= 0, order[np.arange(len(row)), np.maximum(column, 0)], -1)
    return Outcomes(
        problem=pool.problem[row],
        drawn=drawn,
        column=picked,
        correct=np.where(picked >= 0, pool.correct[row, np.maximum(picked, 0)], False),
        reason=reason,
        ledger=Ledger(
            prompt=spent(pool.prompt_tokens),
            cached_prompt=spent(pool.cached_prompt_tokens),
            completion=np.where(paid, tokens, 0).sum(axis=1),
            verifier=np.where(scored & paid, pool.verifier_tokens[row[:, None], order], 0).sum(axis=1),
            predictor=np.broadcast_to(pool.predictor_tokens, pool.rows)[row] if predicted else 0,
        ),
        unanswered=(paid & (cluster < 0)).sum(axis=1),
        cut_off=spent(pool.cut_off) if pool.cut_off is not None else np.zeros(len(row), np.int64),
    )


def _joined(parts: list[Any]) -> Any:
    """Outcomes (or ledgers) of several blocks as one; what is no array is the same in all."""
    first = parts[0]
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)
    if not isinstance(first, Outcomes | Ledger):
        return first
    return type(first)(**{f.name: _joined([getattr(part, f.name) for part in parts]) for f in fields(first)})


def drive(policy: Policy, whole: Batch, have: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """Step a policy until every row has stopped; returns drawn[B], column[B] (in the replayed order) and reason[B].

    `have`: samples [B] that each row has, where not all have the same number; a rule that asks for more stops there.
    """
    rows, limit = whole.cluster.shape
    drawn = np.zeros(rows, np.int64)
    column = np.full(rows, -1, np.int64)
    reason = np.zeros(rows, np.int8)
    active = np.arange(rows)
    n = np.zeros(rows, np.int64)
    seen = n
    state = policy.init(rows)
    while len(active):
        batch = visible(whole, active, n)
        state, decision = policy.step(state, batch, seen)
        want = np.minimum(decision.want, limit)
        spent = np.zeros(len(active), bool)
        if have is not None:
            spent = (want > n) & (have[active] <= n)
            want = np.minimum(want, have[active])
        done = want <= n
        if done.any():
            finished = np.flatnonzero(done)
            drawn[active[finished]] = n[finished]
            column[active[finished]] = policy.select(take(state, finished), batch.rows(finished))
            reason[active[finished]] = np.where(spent[finished], CODE[Reason.EXHAUSTED], decision.reason[finished])
            going = np.flatnonzero(~done)
            active, state, n, want = active[going], take(state, going), n[going], want[going]
        seen, n = n, want
    return drawn, column, reason


def visible(whole: Batch, rows: np.ndarray, n: np.ndarray) -> Batch:
    """The first n columns of some rows; what lies beyond is hidden."""
    width = int(n.max(initial=0))
    cluster, score, tokens = (values[rows, :width] for values in (whole.cluster, whole.score, whole.tokens))
    if (ragged := np.flatnonzero(n < width)).size:
        hidden = np.arange(width) >= n[ragged, None]
        for values, nothing in ((cluster, -1), (score, np.nan), (tokens, 0)):
            values[ragged] = np.where(hidden, nothing, values[ragged])
    return Batch(n, cluster, score, tokens, {name: values[rows] for name, values in whole.features.items()})


def reason_shares(outcomes: Outcomes) -> dict[str, float]:
    """The share of replays that stopped for each reason, reasons that never occurred left out."""
    counts = np.bincount(outcomes.reason, minlength=len(Reason))
    return {str(r): float(c / counts.sum()) for r, c in zip(Reason, counts, strict=True) if c}


def per_problem(values: np.ndarray, of: Outcomes | Pool, problems: int) -> np.ndarray:
    """The mean of values [B] over each problem's replays (or rows of a pool), [problems]."""
    return np.bincount(of.problem, weights=values, minlength=problems) / np.bincount(of.problem, minlength=problems)
