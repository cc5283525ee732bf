"""The two-state chain against matrix powers, brute force and simulation; its estimation against chains of known rates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itscale.theory import markov
from itscale.theory.rates import fit_chains, fit_rates

P = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0]))
T = st.integers(0, 12)


def power(p0, a, b, t):
    transition = np.array([[1 - a, a], [b, 1 - b]])
    return float((np.array([p0, 1 - p0]) @ np.linalg.matrix_power(transition, t))[0])


@given(P, P, P, T)
def test_accuracy_is_that_of_the_matrix_power(p0, a, b, t):
    assert float(markov.accuracy_at(p0, a, b, t)) == pytest.approx(power(p0, a, b, t), abs=1e-9)
    gain = power(p0, a, b, t + 1) - power(p0, a, b, t)
    assert float(markov.gain(p0, a, b, t)) == pytest.approx(gain, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(P, P, P, st.integers(0, 2**32))
def test_accuracy_is_that_of_simulated_chains(p0, a, b, seed):
    chains = markov.simulate(np.full(4000, p0), a, b, 6, np.random.default_rng(seed))
    expected = markov.accuracy_at(p0, a, b, np.arange(6))
    assert np.abs(chains.mean(axis=0) - expected).max() <= 5 * np.sqrt(0.25 / 4000)


@given(P, P, P, st.one_of(st.just(0.0), st.floats(1e-4, 0.3)), st.integers(0, 20))
def test_best_depth_is_the_brute_force_one(p0, a, b, cost, t_max):
    depth = int(markov.best_depth(p0, a, b, cost, t_max))
    values = [power(p0, a, b, t) - cost * t for t in range(t_max + 1)]
    assert 0 <= depth <= t_max
    assert values[depth] == pytest.approx(max(values), abs=1e-8)


def test_best_depth_with_a_cost_is_exact():
    """Chains and costs by hand, and a grid by brute force: one round more or less is another depth."""
    # p_t = 0.8 - 0.6 * 0.5^t rises by 0.3, 0.15, 0.075, 0.0375.
    found = markov.best_depth(0.2, 0.1, 0.4, np.array([0.31, 0.29, 0.16, 0.14, 0.08, 0.07, 0.04, 0.03]), 9)
    assert found.tolist() == [0, 1, 1, 2, 2, 3, 3, 4]
    grid = [(p0, a, b, cost) for p0 in (0.1, 0.4) for a in (0.05, 0.2) for b in (0.1, 0.3, 0.6) for cost in (0.003, 0.011, 0.047)]
    for p0, a, b, cost in grid:
        values = [power(p0, a, b, t) - cost * t for t in range(41)]
        assert int(markov.best_depth(p0, a, b, cost, 40)) == int(np.argmax(values)), (p0, a, b, cost)


def test_best_depth_without_cost_runs_all_rounds_of_a_rising_chain_and_one_of_an_overshooting_one():
    depth = markov.best_depth(
        p0=np.array([0.2, 0.9, 0.2, 0.2, 0.2, 0.5]),
        a=np.array([0.1, 0.1, 0.7, 0.0, 1.0, 0.1]),
        b=np.array([0.3, 0.3, 0.9, 0.0, 1.0, 0.1]),
        cost=0.0,
        t_max=9,
    )
    assert depth.tolist() == [9, 0, 1, 0, 1, 0]
    with pytest.raises(ValueError, match="negative"):
        markov.best_depth(0.2, 0.1, 0.3, -0.1, 3)


@given(P, P, P)
def test_one_more_round_helps_exactly_below_the_fixed_point(p0, a, b):
    gain = float(markov.first_gain(p0, a, b))
    distance = float(markov.fixed_point(a, b, p0)) - p0
    assert gain == pytest.approx((a + b) * distance, abs=1e-12)
    if abs(gain) > 1e-12:
        assert np.sign(gain) == np.sign(distance)


@given(P, P, P, st.floats(1e-3, 0.5))
def test_rounds_to_come_near_are_the_least(p0, a, b, eps):
    needed = float(markov.rounds_to_within(eps, p0, a, b))
    pi = float(markov.fixed_point(a, b, p0))
    if np.isinf(needed):
        assert abs(abs(1 - a - b) - 1) < 1e-12 and abs(p0 - pi) > eps  # swings, or moves less than a float can tell
        return
    if needed <= 400:
        assert abs(power(p0, a, b, int(needed)) - pi) <= eps * (1 + 1e-6) + 1e-9
    if 0 < needed <= 400:
        assert abs(power(p0, a, b, int(needed) - 1) - pi) > eps * (1 - 1e-6) - 1e-9


def test_rounds_to_come_near_at_the_ends():
    frozen, swinging, settled, at_once = (0.3, 0.0, 0.0), (0.3, 1.0, 1.0), (0.25, 0.3, 0.1), (0.3, 0.4, 0.6)
    needed = [float(markov.rounds_to_within(0.01, *chain)) for chain in (frozen, swinging, settled, at_once)]
    assert needed == [0, np.inf, 0, 1]
    with pytest.raises(ValueError, match="eps"):
        markov.rounds_to_within(0.0, 0.1, 0.2, 0.3)


@given(P, P, P)
def test_bounds_hold_every_round_and_are_reached(p0, a, b):
    found = markov.bounds(p0, a, b)
    values = np.array([power(p0, a, b, t) for t in range(60)])
    assert found.lower - 1e-9 <= values.min() and values.max() <= found.upper + 1e-9
    assert float(found.neutral) == p0
    ends = [p0, power(p0, a, b, 1), float(markov.fixed_point(a, b, p0))]
    assert float(found.upper) == pytest.approx(max(ends), abs=1e-9)
    assert float(found.lower) == pytest.approx(min(ends), abs=1e-9)


def test_bounds_of_a_data_set_are_the_means():
    p0, a, b = np.array([0.2, 0.9]), np.array([0.1, 0.2]), np.array([0.3, 0.2])
    mean = markov.bounds(p0, a, b).mean()
    assert (mean.lower, mean.neutral, mean.upper) == pytest.approx((0.35, 0.55, 0.825))


def test_frozen_chain_stays_where_it_is():
    assert float(markov.fixed_point(0.0, 0.0, 0.3)) == 0.3
    assert float(markov.accuracy_at(0.3, 0.0, 0.0, 7)) == 0.3
    assert markov.accuracy_at(0.3, 1.0, 1.0, np.arange(4)) == pytest.approx([0.3, 0.7, 0.3, 0.7])


def test_transitions_are_counted_by_hand():
    correct = np.array([[1, 0, 0, 1], [1, 1, 1, 1]], bool)
    assert [c.tolist() for c in markov.transition_counts(correct)] == [[1, 3], [1, 0], [2, 0], [1, 0]]


def test_a_rate_is_drawn_towards_the_overall_one():
    assert float(markov.shrunk_rate(3, 6, 0.2, 4.0)) == pytest.approx((3 + 0.8) / 10)
    assert float(markov.shrunk_rate(0, 0, 0.2, 0.0)) == 0.2


def questions(seed, levels=(0.1, 0.3, 0.6), strength=12.0, each=60):
    """Rates of questions drawn around their level's mean."""
    rng = np.random.default_rng(seed)
    level = np.repeat(np.arange(len(levels)), each)
    mean = np.asarray(levels)[level]
    return rng, level, rng.beta(strength * mean, strength * (1 - mean))


def test_shrunken_rates_are_nearer_to_the_truth_than_raw_ones_and_their_intervals_hold():
    shrunk, raw, inside = [], [], []
    for seed in range(4):
        rng, level, rate = questions(seed)
        rounds = rng.integers(0, 25, len(rate))
        moves = rng.binomial(rounds, rate)
        found = fit_rates(moves, rounds, level)
        shrunk.append(np.abs(found.question.mean - rate).mean())
        raw.append(np.abs(np.where(rounds > 0, moves / np.maximum(rounds, 1), 0.5) - rate).mean())
        inside.append((found.question.low <= rate) & (rate <= found.question.high))
        assert found.level.mean == pytest.approx([0.1, 0.3, 0.6], abs=0.08)
        assert (found.level.low < found.level.mean).all() and (found.level.mean < found.level.high).all()
    assert np.mean(shrunk) < 0.75 * np.mean(raw)
    assert 0.92 <= np.mean(inside) <= 0.98


def test_a_question_without_opportunities_gets_its_levels_mean():
    rng, level, rate = questions(9)
    rounds = np.where(np.arange(len(rate)) % 60 == 0, 0, 10)
    found = fit_rates(rng.binomial(rounds, rate), rounds, level)
    assert found.question.mean[rounds == 0] == pytest.approx(found.level.mean, abs=0.01)
    none = fit_rates(np.zeros(len(rate)), np.zeros(len(rate)), level)
    assert np.ptp(none.question.mean) < 1e-6 and (none.question.high - none.question.low > 0.5).all()


def test_alike_questions_are_drawn_to_one_rate_and_unlike_ones_left_alone():
    level = np.zeros(200, int)
    alike = fit_rates(np.random.default_rng(0).binomial(10, 0.3, 200), np.full(200, 10), level)
    assert alike.question.mean == pytest.approx(np.full(200, 0.3), abs=0.09)
    unlike = np.repeat([0, 10], 100)
    assert fit_rates(unlike, np.full(200, 10), level).question.mean == pytest.approx(unlike / 10, abs=0.06)


def test_strength_follows_how_alike_the_questions_are():
    def strength(alike):
        rng, level, rate = questions(3, levels=(0.3,), strength=alike, each=200)
        return fit_rates(rng.binomial(20, rate), np.full(200, 20), level).strength

    assert strength(2.0) < 6 < 60 < strength(1000.0)


def test_fixed_points_and_their_intervals_cover_the_truth():
    rng, level, a = questions(4, levels=(0.1, 0.2), each=100)
    _, _, b = questions(5, levels=(0.2, 0.5), each=100)
    p0 = np.random.default_rng(6).beta(3, 3, 200)
    problem = np.repeat(np.arange(200), 8)
    correct = markov.simulate(p0[problem], a[problem], b[problem], 8, rng)
    found = fit_chains(correct, problem, level)
    pi = b / (a + b)
    assert 0.9 <= ((found.pi.low <= pi) & (pi <= found.pi.high)).mean() <= 0.99
    assert np.corrcoef(found.pi.mean, pi)[0, 1] > 0.8
    assert (found.pi_level.low <= found.pi_level.mean).all() and (found.pi_level.mean <= found.pi_level.high).all()


def test_a_chain_that_never_moves_tends_to_its_first_answer():
    rng = np.random.default_rng(0)
    first = rng.random(160) < np.repeat([0.1, 0.5, 0.95, 1.0], 40)
    problem = np.repeat(np.arange(20), 8)
    fit = fit_chains(np.repeat(first[:, None], 8, axis=1), problem, np.zeros(20, int))
    assert (fit.pi.mean[15:] > 0.6).all() and (fit.pi.mean[:5] < 0.5).all()
    assert (fit.pi.low <= fit.p0.question.mean).all() and (fit.p0.question.mean <= fit.pi.high).all()
    assert np.abs(fit.gain.mean).max() < 0.01
