"""Confidence of a completion against plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itscale.errors import UserError
from itscale.models.confidence import Gauge, fit_score


@given(st.lists(st.tuples(st.floats(-9, 0), st.lists(st.floats(-9, 0), min_size=1, max_size=25)), min_size=1, max_size=60))
def test_it_is_what_plain_loops_say(tokens):
    gauge, window = Gauge(), 7
    for chosen, alternatives in tokens:
        gauge.add(chosen, alternatives)
    found = gauge.read(window)
    each = [-float(np.mean(sorted(alternatives)[::-1][:20])) for _, alternatives in tokens]
    groups = [np.mean(each[i : i + window]) for i in range(max(1, len(each) - window + 1))]
    lowest = sorted(groups)[: max(1, len(groups) // 10)]
    assert found.logprob_mean == pytest.approx(np.mean([chosen for chosen, _ in tokens]), abs=1e-5)
    assert found.conf_mean == pytest.approx(np.mean(each), abs=1e-5)
    assert found.conf_tail == pytest.approx(np.mean(each[-window:]), abs=1e-5)
    assert found.conf_low10 == pytest.approx(np.mean(lowest), abs=1e-5)
    assert found.conf_min == pytest.approx(min(groups), abs=1e-5)


def test_nothing_was_drawn():
    assert Gauge().read() is None


def test_confidence_becomes_its_rank_among_the_calibration_samples():
    rank = fit_score(np.array([-3.0, -1.0, -1.0, np.nan, -2.0]), "rank")
    # Of four samples: below -3 none, the tie of -1 shares the last two places.
    assert rank(np.array([-9.0, -3.0, -2.0, -1.5, -1.0, 0.0])) == pytest.approx([0.125, 0.125, 0.375, 0.5625, 0.75, 0.75])
    assert np.isnan(rank(np.array([np.nan]))).all()


def test_or_how_often_such_samples_are_correct():
    values, correct = np.array([-4.0, -3.0, -2.0, -1.0]), np.array([False, True, False, True])
    assert fit_score(values, "isotonic", correct)(np.array([-4.0, -3.0, -2.5, -1.0])) == pytest.approx([0, 0.5, 0.5, 1])


def test_a_pool_without_confidence_and_an_unknown_map_are_refused():
    with pytest.raises(UserError, match="have no confidence"):
        fit_score(np.array([np.nan]), "rank")
    with pytest.raises(UserError, match="choose rank or isotonic"):
        fit_score(np.array([1.0]), "logistic")


@given(st.lists(st.floats(-9, 0), min_size=1, max_size=30), st.lists(st.floats(-10, 1), min_size=2, max_size=20))
def test_both_maps_rise_and_stay_within_0_and_1(values, wanted):
    rng = np.random.default_rng(len(values))
    for how in ("rank", "isotonic"):
        scores = fit_score(np.array(values), how, rng.random(len(values)) < 0.5)(np.sort(wanted))
        assert (np.diff(scores) >= -1e-12).all() and 0 <= scores.min() and scores.max() <= 1
