"""Intervals against their definition, and how often they cover the truth: exactly for values 0 and 1, else by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit

from itscale.data.ledger import Ledger
from itscale.theory.intervals import (
    ITSELF,
    SHARE,
    difference_over_seeds,
    mean_interval,
    mean_over_seeds,
    paired_difference,
    ratio_interval,
)

SIZES = (20, 30, 40, 150)
SHARES = (0.01, 0.05, 0.2, 0.5, 0.9, 0.95, 0.99)
VALUES = st.lists(st.sampled_from([0.0, 0.01, 0.5, 0.99, 1.0]), min_size=1, max_size=12)


def covers(interval, truth):
    return interval.low - 1e-12 <= truth <= interval.high + 1e-12


def test_without_a_range_it_is_students_interval():
    values = np.random.default_rng(0).normal(size=40)
    interval, expected = mean_interval(values), stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((values.mean(), expected.low, expected.high))


def test_a_range_adds_a_question_at_each_end():
    values = np.array([1.0] * 28 + [0.0] * 2)
    interval = mean_interval(values, SHARE)
    expected = stats.ttest_1samp([*values, 0.0, 1.0], 0).confidence_interval(0.95)
    assert (interval.mean, interval.low) == pytest.approx((28 / 30, expected.low))
    assert interval.high == pytest.approx(min(expected.high, 1))


@pytest.mark.parametrize("n", SIZES)
def test_means_of_0_and_1_are_covered_whatever_their_share(n):
    """Exact: each number of ones with its binomial probability; shares from 0.5 to 99.5 %."""
    intervals = [mean_interval(np.arange(n) < ones, SHARE) for ones in range(n + 1)]
    for p in np.arange(0.005, 1, 0.005):
        covered = np.array([covers(interval, p) for interval in intervals])
        assert stats.binom.pmf(np.arange(n + 1), n, p)[covered].sum() > 0.92


@pytest.mark.parametrize("n", (20, 40))
def test_paired_differences_of_0_and_1_are_covered_however_the_two_agree(n):
    """Exact: each number of gains and losses with its multinomial probability, from no agreement beyond chance to almost all."""
    counts = [(gains, losses) for gains in range(n + 1) for losses in range(n + 1 - gains)]
    baseline = np.zeros(n)
    table = np.array([(gains, losses, n - gains - losses) for gains, losses in counts])
    intervals = [paired_difference(np.repeat([1.0, -1.0, 0.0], row), baseline, SHARE) for row in table]
    low, high = np.array([[i.low, i.high] for i in intervals]).T
    for gain in (0.0, 0.01, 0.02, 0.05, 0.1, 0.25, 0.45):
        for loss in (0.0, 0.01, 0.05, 0.1, 0.25, 0.5):
            delta = gain - loss
            inside = (low <= delta + 1e-12) & (delta <= high + 1e-12)
            chance = stats.multinomial.pmf(table, n, [gain, loss, 1 - gain - loss])
            assert chance[inside].sum() > 0.92, (gain, loss)


@pytest.mark.parametrize("n", (20, 150))
@pytest.mark.parametrize("strength", (1, 10))
def test_means_of_several_levels_are_covered(n, strength):
    """Beta(strength p, strength (1 - p)): near 0 and 1 most values lie at the end, which a bootstrap takes for all there is."""
    rng = np.random.default_rng([n, strength])
    for p in SHARES:
        values = rng.beta(strength * p, strength * (1 - p), (300, n))
        assert np.mean([covers(mean_interval(row, SHARE), p) for row in values]) > 0.92


@pytest.mark.parametrize("correlation", (0.0, 0.5, 0.9, 0.99))
def test_paired_differences_of_several_levels_are_covered(correlation):
    rng = np.random.default_rng(int(100 * correlation))
    for n in (20, 150):
        for p, q in ((0.5, 0.6), (0.95, 0.99)):
            noise = rng.standard_normal((2, 300, n))
            first, second = noise[0], correlation * noise[0] + np.sqrt(1 - correlation**2) * noise[1]
            ours, theirs = (
                stats.beta.ppf(stats.norm.cdf(z), 3 * share, 3 * (1 - share)) for z, share in ((first, p), (second, q))
            )
            assert np.mean([covers(paired_difference(*rows, SHARE), p - q) for rows in zip(ours, theirs, strict=True)]) > 0.92


@given(VALUES, VALUES)
def test_an_interval_has_width_holds_its_mean_and_keeps_to_its_range(values, others):
    size = min(len(values), len(others))
    x, y = np.array(values[:size]), np.array(others[:size])
    counts = 1 + np.arange(size) % 3
    cases = ((mean_interval(x, SHARE), 0), (ratio_interval(x * counts, counts, SHARE), 0), (paired_difference(x, y, SHARE), -1))
    for interval, least in cases:
        assert least <= interval.low <= interval.mean + 1e-12 and interval.mean - 1e-12 <= interval.high <= 1
        assert interval.high - interval.low > 1e-3


def test_a_thing_differs_from_itself_by_0_and_from_its_like_by_something():
    values = np.ones(150)
    assert paired_difference(values, values, SHARE) == paired_difference(values, values) == ITSELF
    like = paired_difference(values, values.copy(), SHARE)
    assert like.mean == 0 and like.high == -like.low == pytest.approx(0.0184, abs=1e-4)  # about three in 150, the rule of three


def test_sums_in_another_order_leave_no_difference_that_narrows_an_interval():
    values = np.linspace(0.1, 0.9, 40)
    equal, rounded = (paired_difference(v, values.copy(), SHARE) for v in (values.copy(), values + 1e-16 * (1 + np.arange(40))))
    assert rounded.high - rounded.low == pytest.approx(equal.high - equal.low) and equal.high > 0.05


def test_small_differences_seen_make_large_ones_unlikely():
    rng = np.random.default_rng(0)
    baseline = rng.random(150)
    width = {}
    for most in (0.01, 0.1, 1.0):
        gap = paired_difference(baseline + most * rng.choice([-1, 0, 0, 0, 1], 150), baseline, (-1, 2))
        width[most] = gap.high - gap.low
    assert width[0.01] < 0.3 * width[0.1] and width[0.1] < 0.4 * width[1.0]


def test_pairing_removes_what_two_methods_share():
    rng = np.random.default_rng(2)
    shared, noise = rng.normal(size=(2, 100))
    difference = paired_difference(100 * shared + 1 + noise, 100 * shared)
    assert difference.mean == pytest.approx(1, abs=0.3) and difference.high - difference.low < 0.5


def test_a_ratio_is_over_questions_and_leaves_out_those_without_an_item():
    rng = np.random.default_rng(0)
    values = rng.random(50)
    one, two = ratio_interval(4 * values, np.full(50, 4), SHARE), mean_interval(values, SHARE)
    assert (one.mean, one.low, one.high) == pytest.approx((two.mean, two.low, two.high))
    none = ratio_interval(np.append(4 * values, np.zeros(99)), np.append(np.full(50, 4), np.zeros(99)), SHARE)
    assert (none.mean, none.low, none.high) == pytest.approx((one.mean, one.low, one.high))
    sizes = rng.integers(1, 9, (400, 40))
    hits = rng.binomial(sizes, rng.beta(9.5, 0.5, sizes.shape))
    assert np.mean([covers(ratio_interval(h, n, SHARE), 0.95) for h, n in zip(hits, sizes, strict=True)]) > 0.92


def test_what_says_nothing_has_no_ends():
    for found in (mean_interval(np.zeros(0), SHARE), ratio_interval(np.zeros(3), np.zeros(3)), paired_difference([], [], SHARE)):
        assert np.isnan([found.mean, found.low, found.high]).all()
    assert np.isnan(mean_interval(np.array([7.0])).low) and mean_interval(np.array([7.0])).mean == 7
    assert np.isnan(mean_interval(np.full(9, 8.0)).high)
    alone = mean_interval(np.array([1.0]), SHARE)
    assert (alone.mean, alone.low, alone.high) == (1, 0, 1)


def test_ledger_counts_cached_prompts_apart():
    ledger = Ledger(prompt=10, cached_prompt=4, completion=7, aborted=2, verifier=3) + Ledger(completion=1)
    assert ledger.total == 10 - 4 + 7 + 2 + 3 + 1
    assert (ledger - Ledger(prompt=1)).total == ledger.total - 1


# Seeds and questions.


def test_one_seed_has_the_interval_over_questions():
    ours, theirs = np.random.default_rng(0).random((2, 1, 30))
    assert mean_over_seeds(ours, SHARE) == mean_interval(ours[0], SHARE)
    both, one = difference_over_seeds(ours, theirs, SHARE), paired_difference(ours[0], theirs[0], SHARE)
    assert (both.mean, both.low, both.high) == pytest.approx((one.mean, one.low, one.high))
    assert difference_over_seeds(ours, ours, SHARE) == ITSELF


def test_questions_that_do_not_differ_leave_students_interval_over_seeds():
    seeds = np.array([0.2, 0.5, 0.3, 0.45, 0.25])
    interval, expected = mean_over_seeds(np.repeat(seeds[:, None], 9, axis=1)), stats.ttest_1samp(seeds, 0).confidence_interval()
    assert np.isnan(interval.low)  # nothing shows what other questions would do
    interval = mean_over_seeds(seeds[:, None] + np.linspace(-1e-6, 1e-6, 9))
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-5)


@pytest.mark.parametrize("seeds", (3, 5))
@pytest.mark.parametrize("spread", (0.0, 0.3, 1.0))
def test_differences_are_covered_however_seeds_differ(seeds, spread):
    """Shares of 16 samples before and after training: logits of questions, moved by the seed, the question, and both."""
    rng, repeats, n = np.random.default_rng(1), 400, 60

    def drawn(questions):
        logit = rng.normal(-1, 2, questions)
        moved = logit + 0.4 + rng.normal(0, spread, (seeds, 1)) + rng.normal(0, 0.5, questions)
        return logit, moved + rng.normal(0, 0.5, (seeds, questions))

    def truth():
        logit, standard = rng.normal(-1, 2, 1_000_000), np.sqrt(spread**2 + 0.5)
        return (expit(logit + 0.4 + standard * rng.standard_normal(len(logit))) - expit(logit)).mean()

    expected, covered = truth(), 0
    for _ in range(repeats):
        before, after = (rng.binomial(16, np.broadcast_to(expit(logit), (seeds, n))) / 16 for logit in drawn(n))
        covered += covers(difference_over_seeds(after, before, SHARE), expected)
    assert covered / repeats > 0.9
