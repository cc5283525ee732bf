"""The two-state chain against matrix powers and brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itscale import markov

P = st.floats(0, 1)


@given(P, P, P, st.integers(0, 12))
def test_accuracy_is_that_of_the_matrix_power(p0, a, b, t):
    transition = np.array([[1 - a, a], [b, 1 - b]])
    expected = (np.array([p0, 1 - p0]) @ np.linalg.matrix_power(transition, t))[0]
    assert float(markov.accuracy_at(p0, a, b, t)) == pytest.approx(expected, abs=1e-9)


@given(P, st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0.001, 0.2), st.integers(0, 20))
def test_best_depth_is_the_brute_force_one(p0, a, b, cost, t_max):
    values = [float(markov.accuracy_at(p0, a, b, t)) - cost * t for t in range(t_max + 1)]
    assert values[markov.best_depth(p0, a, b, cost, t_max)] == pytest.approx(max(values), abs=1e-9)


@given(P, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_one_more_round_helps_exactly_below_the_fixed_point(p0, a, b):
    gain = float(markov.accuracy_at(p0, a, b, 1)) - p0
    assert np.sign(round(gain, 12)) == np.sign(round((a + b) * (float(markov.fixed_point(a, b, p0)) - p0), 12))


def test_frozen_chain_stays_where_it_is():
    assert float(markov.fixed_point(0.0, 0.0, 0.3)) == 0.3
    assert float(markov.accuracy_at(0.3, 0.0, 0.0, 7)) == 0.3


def test_transitions_are_counted_by_hand():
    correct = np.array([[1, 0, 0, 1], [1, 1, 1, 1]], bool)
    assert [c.tolist() for c in markov.transition_counts(correct)] == [[1, 3], [1, 0], [2, 0], [1, 0]]


def test_a_rate_is_drawn_towards_the_overall_one():
    assert float(markov.shrunk_rate(3, 6, 0.2, 4.0)) == pytest.approx((3 + 0.8) / 10)
    assert float(markov.shrunk_rate(0, 0, 0.2, 0.0)) == 0.2
