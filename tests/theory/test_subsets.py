"""Expectations over subsets against the rules themselves, run on every order of a few samples."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itscale.data.records import Pool, Unit
from itscale.drivers.expectation import expected, question_means
from itscale.drivers.replay import replay
from itscale.errors import UserError
from itscale.policies import make_policy
from itscale.policies.fixed import SelfConsistency
from itscale.theory.subsets import MOST_VOTES, any_of, best_of, plurality_of
from pools import random_pool

ROW = st.lists(st.tuples(st.integers(-1, 2), st.sampled_from([-np.inf, 0.2, 0.5, 0.9]), st.booleans()), min_size=1, max_size=5)


def first_best(samples):
    """Of (cluster, score, correct): the first of the highest scores, -inf none."""
    best = max(range(len(samples)), key=lambda i: samples[i][1])
    return samples[best][1] > -np.inf and samples[best][2]


def first_mode(samples):
    votes = [c for c, _, _ in samples if c >= 0]
    leaders = [c for c in votes if votes.count(c) == max(map(votes.count, votes))]
    return bool(leaders) and next(right for c, _, right in samples if c == leaders[0])


@given(ROW)
def test_expectations_are_means_over_every_order(row):
    cluster, score, correct = (np.array([values]) for values in zip(*row, strict=True))
    orders = list(permutations(row))
    found = {first_best: best_of(score, correct), first_mode: plurality_of(cluster, correct, len(row)), any: any_of(correct)}
    for rule, chance in found.items():
        for n in range(1, len(row) + 1):
            seen = [any(c for *_, c in order[:n]) if rule is any else rule(order[:n]) for order in orders]
            assert chance[0, n - 1] == pytest.approx(np.mean(seen), abs=1e-12)


def test_expectations_are_what_a_replay_tends_to():
    pool = random_pool(5, rows=30, size=16)
    usable = np.where((pool.cluster >= 0) & ~np.isnan(pool.score), pool.score, -np.inf)
    exact = {"best_of_n": best_of(usable, pool.correct), "self_consistency": plurality_of(pool.cluster, pool.correct, 12)}
    for name, chance in exact.items():
        for n in (2, 5, 12):
            mean = replay(make_policy(name, n=n), pool, orders=1600).correct.reshape(30, -1).mean(axis=1)
            assert np.abs(mean - chance[:, n - 1]).max() < 5 * 0.5 / 40
            assert mean.mean() == pytest.approx(chance[:, n - 1].mean(), abs=0.006)


def test_large_pools_neither_overflow_nor_lose_their_small_terms():
    rng = np.random.default_rng(0)
    cluster = np.minimum(rng.geometric(0.3, (2, 256)) - 1, 30)
    correct = cluster == 1
    chance = plurality_of(cluster, correct, 256)
    assert plurality_of(cluster, correct, 40) == pytest.approx(chance[:, :40], rel=1e-12)
    assert chance[:, 0] == pytest.approx(correct.mean(axis=1), rel=1e-9)
    assert chance[:, -1].tolist() == [0, 0]
    assert best_of(rng.random((2, 2000)), np.ones((2, 2000), bool)) == pytest.approx(np.ones((2, 2000)), rel=1e-9)


def test_a_thousand_votes_are_counted_and_more_are_replayed():
    cluster = np.repeat([[0, 1]], 500, axis=1).reshape(1, -1)
    chance = plurality_of(cluster, cluster == 0, 3)
    assert chance[0] == pytest.approx([0.5, 0.5, 0.5], rel=1e-9)
    wide = np.zeros((1, MOST_VOTES + 1), int)
    pool = Pool(Unit.SAMPLE, np.zeros(1, int), ("p",), wide, wide == 0, wide + 0.5, *[wide + 1] * 4)
    policy = make_policy("self_consistency", n=2)
    assert question_means(policy, pool, replay(policy, pool, orders=3)).accuracy.tolist() == [1]
    with pytest.raises(UserError, match="computed for 1000 at most"):
        expected(SelfConsistency, pool, [2])
