"""Confidence of a completion against plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itscale.models.confidence import Gauge


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
