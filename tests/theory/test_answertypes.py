"""The posterior of the mode under a prior over answer distributions: against enumeration, logs, and what it promises."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itscale.policies import make_policy
from itscale.policies.calibration import known_of_votes
from itscale.studies.votes import simulate
from itscale.theory import answertypes
from itscale.theory.answertypes import AnswerTypes, answer_types, mode_posterior


def by_enumeration(types, first, second, rest):
    """All ways in which a type's shares can belong to leader, runner-up and the others (pooled answers one by one)."""
    good = total = 0.0
    for shares, weight in zip(types.shares.tolist(), types.weight, strict=True):
        if types.others:
            shares = [*shares[:-1], *[shares[-1] / types.others] * types.others]
        for named in permutations(range(len(shares)), 2):
            own, rival = (shares[i] for i in named)
            other = sum(q for i, q in enumerate(shares) if i not in named)
            chance = weight * own**first * rival**second * (other**rest if rest else 1.0)
            total += chance
            good += chance * (named[0] == 0)
    return good / total


def random_types(rng, answers, others=0):
    shares = -np.sort(-rng.dirichlet(np.full(answers, 0.7), 5), axis=1)
    if others:
        shares = np.column_stack([shares[:, :-1], shares[:, -1] * others])
        shares /= shares.sum(axis=1, keepdims=True)
    return AnswerTypes(shares, rng.integers(1, 9, 5).astype(float), others)


@given(st.integers(0, 10_000), st.integers(2, 4), st.sampled_from([0, 1, 2, 4]))
def test_the_posterior_is_that_of_an_enumeration(seed, answers, others):
    rng = np.random.default_rng(seed)
    types = random_types(rng, answers, others)
    first = rng.integers(0, 12)
    second, rest = rng.integers(0, first + 1), rng.integers(0, 8) * (answers + max(others - 1, 0) > 2)
    expected = by_enumeration(types, first, second, rest)
    assert float(mode_posterior(types, first, second, rest)) == pytest.approx(expected, rel=1e-9)
    assert answertypes._posterior(types, np.array([[first], [second], [rest]]))[0] == pytest.approx(expected, rel=1e-9)


def by_count_vectors(types, first, second, rest):
    """P(the leader is the mode | leader, runner-up and all others, none of which has more than the runner-up), four answers."""
    good = total = 0.0
    for shares, weight in zip(types.shares.tolist(), types.weight, strict=True):
        for i, j in permutations(range(4), 2):
            one, two = (q for place, q in enumerate(shares) if place not in (i, j))
            splits = (math.comb(rest, n) * one**n * two ** (rest - n) for n in range(rest + 1) if max(n, rest - n) <= second)
            chance = weight * shares[i] ** first * shares[j] ** second * sum(splits)
            total += chance
            good += chance * (i == 0)
    return good / total


@given(st.integers(0, 10_000))
def test_the_posterior_is_exact_where_the_others_have_no_more_than_the_runner_up(seed):
    rng = np.random.default_rng(seed)
    types = random_types(rng, 4)
    first = rng.integers(1, 12)
    second = rng.integers(0, first + 1)
    rest = rng.integers(0, second + 1)
    assert float(mode_posterior(types, first, second, rest)) == pytest.approx(
        by_count_vectors(types, first, second, rest), rel=1e-9
    )


def test_the_posterior_errs_where_the_others_have_more():
    """Types that were searched for a large error on the side of stopping too early (the docstring tells it)."""
    shares = [
        (0.302, 0.250, 0.232, 0.216),
        (0.330, 0.251, 0.231, 0.188),
        (0.614, 0.238, 0.144, 0.004),
        (0.644, 0.164, 0.159, 0.033),
    ]
    types = AnswerTypes(np.array(shares), np.ones(4))
    assert by_count_vectors(types, 6, 1, 2) == pytest.approx(0.860, abs=2e-3)
    assert float(mode_posterior(types, 6, 1, 2)) == pytest.approx(0.915, abs=2e-3)


def test_many_votes_go_by_logs_and_agree_with_the_table():
    types = random_types(np.random.default_rng(0), 6)
    counts = np.array([[60, 40, 28], [64, 64, 0], [30, 5, 90], [0, 0, 0]]).T
    table = mode_posterior(types, *counts)
    assert table == pytest.approx(answertypes._posterior(types, counts), rel=1e-9)
    more = mode_posterior(types, *np.hstack([counts, [[300], [280], [100]]]))
    assert more[:-1] == pytest.approx(table, rel=1e-9) and 0.5 < more[-1] < 1


def test_votes_that_no_type_could_give_have_a_posterior_all_the_same():
    sure = answer_types(np.zeros((50, 64), int))
    assert 0.4 < float(mode_posterior(sure, 64, 64, 0)) < 0.6
    assert float(mode_posterior(sure, 120, 1, 0)) > 0.999


def test_types_are_shares_in_falling_order_without_names_or_labels():
    cluster = np.array([[0, 0, 1, 2], [1, 1, 0, 2], [0, 0, 0, 0], [-1, -1, -1, -1], [0, 0, -1, -1]])
    types = answer_types(cluster, strength=0.5)
    assert types.shares.sum(axis=1) == pytest.approx(1.0)
    assert (np.diff(types.shares, axis=1) <= 1e-12).all() and (types.shares > 0).all()
    assert sorted(types.weight) == [1.0, 1.0, 2.0]  # two questions look alike, one has no vote
    renamed = np.array([5, 3, 9])[cluster] * (cluster >= 0) - (cluster < 0)
    assert answer_types(renamed, strength=0.5).shares == pytest.approx(types.shares)


def test_answers_beyond_the_tenth_are_pooled():
    cluster = np.random.default_rng(1).integers(0, 30, (20, 64))
    types = answer_types(cluster)
    assert types.shares.shape[1] == answertypes.PAIRED + 1 and types.others > 10
    assert types.shares.sum(axis=1) == pytest.approx(1.0)
    assert float(mode_posterior(types, 2, 1, 20)) == pytest.approx(by_enumeration(types, 2, 1, 20), rel=1e-9)


def test_stops_err_as_rarely_as_promised_on_questions_like_those_of_the_calibration():
    """Hard, middling and easy questions: the posterior of one p0 breaks its promise on them, this one keeps it."""
    rng, eps = np.random.default_rng(2), 0.05
    kinds = [np.array([0.95, 0.03, 0.02]), np.array([0.55, 0.25, 0.2]), np.array([0.4, 0.35, 0.25])]
    known = known_of_votes(np.array([rng.choice(3, 200, p=kinds[i % 3]) for i in range(150)]))

    def measured(name):
        rule = make_policy(name, eps=eps, n_max=128).bind(known)
        found = [simulate(rule, kind, 4000, seed=3 + i) for i, kind in enumerate(kinds)]
        stops = np.array([f.stopped for f in found])
        return float(stops @ [f.error_of_stopped for f in found] / stops.sum()), stops

    bayes, stops = measured("vote_bayes")
    assert stops.min() > 0.3 and bayes <= eps + 3 * np.sqrt(eps * (1 - eps) / 12_000)
    assert measured("vote_posterior")[0] > 2 * eps
