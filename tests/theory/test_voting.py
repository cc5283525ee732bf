"""Votes against Counter, and the vote lead against the likelihood ratio and a simulated error."""

from collections import Counter
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itscale.theory.voting import asc_confidence, empty_tally, lead_needed, plurality, vote

VOTES = st.lists(st.integers(-1, 6), max_size=30)


@given(VOTES)
def test_plurality_is_the_first_seen_of_the_most_frequent(votes):
    column = int(plurality(np.array([votes], int).reshape(1, -1))[0])
    answered = [v for v in votes if v >= 0]
    if not answered:
        assert column == -1
    else:  # most_common keeps the order of first appearance among equals
        assert column == votes.index(Counter(answered).most_common(1)[0][0])


@given(VOTES)
def test_tally_holds_the_two_highest_counts(votes):
    tally = empty_tally(1)
    for v in votes:
        tally = vote(tally, np.array([v]))
    counts = [*sorted(Counter(v for v in votes if v >= 0).values(), reverse=True), 0, 0]
    assert [int(tally.first[0]), int(tally.second[0])] == counts[:2]


@given(st.floats(1.5, 200), st.floats(0.4, 0.95), st.integers(3, 10))
def test_lead_is_the_least_that_passes_the_likelihood_ratio(bound, p0, options):
    r = p0 / ((1 - p0) / (options - 1))
    assert lead_needed(bound, p0, options) == next(d for d in range(1, 1000) if r**d >= bound * (1 - 1e-9))


def test_two_options_err_as_the_closed_form_says():
    p0, d, rng = 0.6, 3, np.random.default_rng(0)
    r = p0 / (1 - p0)
    walk = np.where(rng.random((20_000, 400)) < p0, 1, -1).cumsum(axis=1)
    stopped = np.abs(walk) >= d
    end = walk[np.arange(len(walk)), stopped.argmax(axis=1)]
    assert stopped.any(axis=1).all()
    assert (end < 0).mean() == pytest.approx(1 / (1 + r**d), abs=0.01)


def test_a_consensus_no_better_than_chance_is_refused():
    with pytest.raises(ValueError, match="must exceed"):
        lead_needed(10, 0.25, 4)


@given(st.integers(0, 70), st.integers(0, 70))
def test_confidence_of_two_counts_is_a_binomial_sum(v1, v2):
    n = v1 + v2 + 1  # P(Beta(v1 + 1, v2 + 1) > 1/2) = P(Binomial(n, 1/2) <= v1)
    expected = sum(comb(n, j) for j in range(v1 + 1)) / 2**n
    assert float(asc_confidence(v1, v2)) == pytest.approx(expected, rel=1e-9)


def test_a_unanimous_vote_errs_with_half_to_the_power_of_its_size():
    # 1 - 2^-(v+1) for a unanimous vote
    assert asc_confidence(np.array([3, 4, 5]), np.zeros(3)).tolist() == pytest.approx([15 / 16, 31 / 32, 63 / 64])
