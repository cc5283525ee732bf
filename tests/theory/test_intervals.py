"""Intervals against their definition and against a simulation of their coverage."""

import numpy as np

from itscale.data.ledger import Ledger
from itscale.theory.intervals import mean_interval, paired_difference


def test_interval_is_about_two_standard_errors():
    values = np.random.default_rng(0).normal(size=400)
    interval = mean_interval(values)
    error = values.std(ddof=1) / 20
    np.testing.assert_allclose(
        [interval.low, interval.high], [values.mean() - 1.96 * error, values.mean() + 1.96 * error], atol=0.3 * error
    )


def test_interval_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(1)
    covered = [interval.low <= 0.3 <= interval.high for interval in (mean_interval(rng.random(60) < 0.3) for _ in range(200))]
    assert 0.89 <= np.mean(covered) <= 0.99


def test_pairing_removes_what_two_methods_share():
    rng = np.random.default_rng(2)
    shared = rng.normal(size=100) * 10
    difference = paired_difference(shared + 1, shared)
    np.testing.assert_allclose([difference.mean, difference.low, difference.high], 1)


def test_degenerate_data_has_a_degenerate_interval():
    assert mean_interval(np.ones(5)).high == 1
    assert np.isnan(mean_interval(np.array([1.0])).low)


def test_ledger_counts_cached_prompts_apart():
    ledger = Ledger(prompt=10, cached_prompt=4, completion=7, aborted=2, verifier=3) + Ledger(completion=1)
    assert ledger.total == 10 - 4 + 7 + 2 + 3 + 1
