"""Pools whose questions have different numbers of samples, against rectangular pools of each number alone."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from stored import bound
from test_policies import CASES

from itscale.data.records import Pool, Unit
from itscale.drivers.expectation import expected, pass_at
from itscale.drivers.limits import Limits, with_limit
from itscale.drivers.replay import orders_of, replay
from itscale.errors import UserError
from itscale.policies import make_policy
from itscale.policies.fixed import BestOfN, SelfConsistency
from itscale.policies.protocol import CODE, Reason
from itscale.studies.promise import HeldOut
from pools import KNOWN, random_pool

COUNTS = np.array([16, 3, 7, 16, 1, 5, 7, 12, 3, 16, 2, 9])


def cut(whole: Pool, counts: np.ndarray) -> Pool:
    """A pool of which each row has so many samples; behind them lies nothing."""
    there = np.arange(whole.size) < counts[:, None]
    blank = {"cluster": -1, "correct": False, "score": np.nan, "completion_tokens": 0, "prompt_tokens": 0}
    blank |= {"cached_prompt_tokens": 0, "verifier_tokens": 0}
    return replace(whole, **{name: np.where(there, getattr(whole, name), v) for name, v in blank.items()}, counts=counts)


def ragged(seed: int = 0) -> Pool:
    return cut(random_pool(seed, rows=len(COUNTS), size=16), COUNTS)


def alone(pool: Pool, row: int) -> Pool:
    """One row, as a pool of its own number of samples."""
    return pool.subset(np.array([row])).first(int(pool.counts[row]))


SAMPLES = [
    (name, options)
    for name, options in CASES
    if bound(name, options).unit is Unit.SAMPLE and not getattr(bound(name, options), "limit_shapes", False)
]


@pytest.mark.parametrize(("name", "options"), SAMPLES)
def test_a_rule_does_with_a_short_row_what_it_does_with_a_pool_of_that_size(name, options):
    pool, policy = ragged(), bound(name, options)
    policy = with_limit(policy, min(policy.limit, 16))
    found = replay(policy, pool, orders=1)
    for row, count in enumerate(COUNTS):
        try:
            short = with_limit(policy, min(policy.limit, int(count)))
            one = replay(short, alone(pool, row), orders=1)
        except UserError:  # it draws more before its first decision, or reads scores that a row alone lacks
            assert found.drawn[row] <= min(count, policy.limit)
            continue
        assert (found.drawn[row], found.correct[row], found.column[row]) == (one.drawn[0], one.correct[0], one.column[0])
        assert found.ledger.completion[row] == one.ledger.completion[0] and found.unanswered[row] == one.unanswered[0]
        if found.reason[row] == CODE[Reason.EXHAUSTED]:
            assert found.drawn[row] == count < policy.limit


def test_a_fixed_number_that_a_question_lacks_is_told_as_its_reason():
    found = replay(make_policy("self_consistency", n=16), ragged(), orders=3)
    short = np.repeat(COUNTS < 16, 3)
    assert (found.reason[short] == CODE[Reason.EXHAUSTED]).all() and (found.reason[~short] == CODE[Reason.FIXED]).all()
    assert (found.drawn == np.repeat(COUNTS, 3)).all()


def test_every_sample_of_a_short_row_comes_first_equally_often_and_nothing_before_it():
    order = orders_of(ragged(), 48, 0)
    for row, count in enumerate(COUNTS):
        times = np.bincount(order[row, :, 0], minlength=16)
        assert times[:count].max() - times[:count].min() <= 1 and times[count:].sum() == 0
        assert (np.sort(order[row, :, :count]) == np.arange(count)).all()
        assert (order[row, :, count:] == np.arange(count, 16)).all()


@pytest.mark.parametrize("slug", ["asc", "vote_lead", "score_threshold", "esc", "self_consistency", "best_of_n"])
def test_many_limits_at_once_are_single_replays(slug):
    pool = ragged(1)
    name = "n" if slug in ("self_consistency", "best_of_n") else "n_max"
    policy = make_policy(slug, **{name: 16}).bind(KNOWN)
    sizes = np.array([5, 8, 16])
    spent = Limits(pool, orders=6, seed=2).of([policy], sizes)
    for i, size in enumerate(sizes):
        one = replay(with_limit(policy, int(size)), pool, orders=6, seed=2)
        assert spent.drawn[i].mean() == pytest.approx(one.drawn.mean())
        assert spent.accuracy[i].mean() == pytest.approx(one.correct.mean())
        assert spent.completion[i].mean() == pytest.approx(one.ledger.completion.mean())


@pytest.mark.parametrize("rule", [BestOfN, SelfConsistency])
def test_what_is_expected_is_the_mean_over_all_orders(rule):
    counts = np.array([4, 2, 3])
    pool = cut(random_pool(3, rows=3, size=4), counts)
    found, passed = expected(rule, pool, [1, 2, 3, 4]), pass_at(pool, [1, 2, 3, 4])
    for row, count in enumerate(counts.tolist()):
        part, orders = alone(pool, row), list(permutations(range(count)))
        for i, drawn in enumerate(min(n, count) for n in (1, 2, 3, 4)):
            moved = [
                replace(part, **{f: getattr(part, f)[:, list(order)] for f in ("cluster", "correct", "score")})
                for order in orders
            ]
            right = [replay(rule(drawn), each, orders=1).correct[0] for each in moved]
            assert found.accuracy[i, row] == pytest.approx(np.mean(right))
            assert found.ledger.completion[i, row] == pytest.approx(part.completion_tokens.mean() * drawn)
            assert passed[i, row] == pytest.approx(np.mean([each.correct[0, :drawn].any() for each in moved]))


def test_promises_are_measured_with_half_of_the_fewest_samples():
    pool = cut(random_pool(2, rows=4, size=16), np.array([16, 7, 9, 12]))
    held_out = HeldOut(pool, 4, 0)
    assert held_out.limit == 3 and 0 <= held_out.measured(make_policy("self_consistency", n=3))["error"] <= 1
