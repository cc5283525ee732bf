"""What a stopped vote promises: the closed form for two answers, dynamic programming for three, bounds, and where they fail."""

from collections import defaultdict

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from itscale.data.records import Pool, Unit
from itscale.drivers.replay import orders_of
from itscale.figures import vote_sweep
from itscale.policies import make_policy
from itscale.policies.calibration import Calibration
from itscale.studies import votes as vote_study
from itscale.studies.votes import clustered, lead_sweep, simulate
from itscale.theory.voting import (
    VoteModel,
    dirichlet_mode_posterior,
    estimate_model,
    leader_posterior,
    log_ratio,
    ratio_error_bound,
    ratio_for_error,
)

COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any)


@given(COUNTS, st.floats(0.3, 0.95), st.integers(8, 20))
def test_posterior_is_the_normalised_likelihood(counts, p0, options):
    r = mpmath.mpf(p0) / ((1 - mpmath.mpf(p0)) / (options - 1))
    everyone = counts + [0] * (options - len(counts))
    expected = r ** max(counts) / mpmath.fsum(r**v for v in everyone)
    got = leader_posterior(np.array([counts]), log_ratio(p0, options), options)[0]
    assert got == pytest.approx(float(expected), rel=1e-9)


def test_posterior_of_a_long_vote_does_not_overflow():
    assert leader_posterior(np.array([[5000, 10]]), np.log(50), 4)[0] == 1.0
    assert leader_posterior(np.array([[5000, 5000]]), np.log(50), 4)[0] == pytest.approx(0.5)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=4).filter(any), st.sampled_from([0.3, 1.0, 2.0]))
def test_dirichlet_posterior_is_the_integral(counts, alpha):
    shapes = [alpha + v for v in counts]
    leader = shapes.index(max(shapes))

    def integrand(x):
        others = [mpmath.gammainc(a, 0, x, regularized=True) for i, a in enumerate(shapes) if i != leader]
        return x ** (shapes[leader] - 1) * mpmath.exp(-x) / mpmath.gamma(shapes[leader]) * mpmath.fprod(others)

    expected = mpmath.quad(integrand, [0, 10, 30, 100])
    assert dirichlet_mode_posterior(np.array([counts]), len(counts), alpha)[0] == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("counts", [[128, 120], [256, 250, 3], [600, 500], [1000, 990]])
def test_the_posterior_of_the_mode_is_exact_for_many_votes_too(counts):
    first, others = counts[0], [*counts[1:], *[0] * (10 - len(counts))]

    def density(x):
        return np.exp(stats.gamma.logpdf(x, 1 + first) + sum(stats.gamma.logcdf(x, 1 + v) for v in others))

    spread = np.sqrt(first)
    expected, _ = integrate.quad(density, max(0, first - 14 * spread), first + 20 * spread, limit=400, epsabs=1e-12)
    assert dirichlet_mode_posterior(np.array([counts]), 10)[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("p0", "lead"), [(0.6, 1), (0.6, 3), (0.75, 2), (0.9, 2)])
def test_two_answers_err_exactly_as_the_closed_form_says(p0, lead):
    r = p0 / (1 - p0)
    got = simulate(make_policy("vote_lead", lead=lead, n_max=120), np.array([p0, 1 - p0]), 10_000, seed=1)
    assert got.stopped == 1
    expected = 1 / (1 + r**lead)
    assert got.error == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 10_000))


def exact(stops, probabilities, n_max):
    """Error of threshold stops, share stopped and mean votes of a rule on three answers, over all count vectors."""
    alive, votes, stopped, wrong = {(0, 0, 0): 1.0}, 0.0, 0.0, 0.0
    for t in range(1, n_max + 1):
        after = defaultdict(float)
        for counts, mass in alive.items():
            for j, p in enumerate(probabilities):
                after[tuple(v + (i == j) for i, v in enumerate(counts))] += mass * p
        alive = {}
        for counts, mass in after.items():
            if stops(counts):
                stopped, votes = stopped + mass, votes + t * mass
                wrong += mass * (counts[0] != max(counts))
            else:
                alive[counts] = mass
    return wrong / stopped, stopped, votes + n_max * sum(alive.values())


@pytest.mark.parametrize("probabilities", [(0.5, 0.25, 0.25), (0.5, 0.4, 0.1), (0.4, 0.3, 0.3)])
@pytest.mark.parametrize("name", ["vote_lead", "vote_posterior", "vote_ratio"])
def test_three_answers_stop_and_err_as_dynamic_programming_says(name, probabilities):
    p0, m, n_max, eps, bound, lead = 0.5, 3, 24, 0.05, 20.0, 3
    r = p0 / ((1 - p0) / (m - 1))
    hyperparameters = {"vote_lead": {"lead": lead}, "vote_posterior": {"eps": eps}, "vote_ratio": {"ratio": bound}}[name]
    if name != "vote_lead":
        hyperparameters |= {"p0": p0, "options": m}

    def stops(counts):
        first, second, _ = sorted(counts, reverse=True)
        if name == "vote_posterior":
            return r**first / sum(r**v for v in counts) >= 1 - eps
        return first - second >= lead if name == "vote_lead" else r ** (first - second) >= bound * (1 - 1e-9)

    error, stopped, votes = exact(stops, probabilities, n_max)
    got = simulate(make_policy(name, n_max=n_max, **hyperparameters), np.array(probabilities), 10_000, seed=2)
    assert got.stopped == pytest.approx(stopped, abs=4 * np.sqrt(stopped * (1 - stopped) / 10_000) + 1e-12)
    assert got.error_of_stopped == pytest.approx(error, abs=4.5 * np.sqrt(error * (1 - error) / (10_000 * stopped)) + 1e-12)
    assert got.rollouts == pytest.approx(votes, abs=0.25)


@pytest.mark.parametrize(("p0", "options"), [(0.6, 2), (0.4, 4), (0.3, 10), (0.7, 5)])
@pytest.mark.parametrize("eps", [0.1, 0.02])
def test_under_the_model_threshold_stops_keep_their_bounds(p0, options, eps):
    votes, model = clustered(p0, options, 0.0), {"p0": p0, "options": options, "n_max": 100}
    assert votes == pytest.approx([p0, *[(1 - p0) / (options - 1)] * (options - 1)])
    ratio = ratio_for_error(eps, options)
    assert ratio_error_bound(ratio, options) == pytest.approx(eps)
    noise = 4 * np.sqrt(eps * (1 - eps) / 3000)
    for rule in (make_policy("vote_posterior", eps=eps, **model), make_policy("vote_ratio", ratio=ratio, **model)):
        got = simulate(rule, votes, 3000, seed=3)
        assert got.stopped > 0.9
        assert got.error_of_stopped <= eps + noise
        chunked = simulate(type(rule)(**{**_settings(rule), "chunk": 5, "n_min": 7}), votes, 3000, seed=4)
        assert chunked.error_of_stopped <= eps + noise


def _settings(policy):
    from dataclasses import fields

    return {f.name: getattr(policy, f.name) for f in fields(policy)}


def test_the_bounds_break_where_wrong_answers_cluster():
    p0, options, eps = 0.4, 10, 0.05
    rule = make_policy("vote_posterior", eps=eps, p0=p0, options=options, n_max=80)
    errors = [simulate(rule, clustered(p0, options, c), 3000, seed=5).error_of_stopped for c in (0.0, 0.5, 1.0)]
    assert errors[0] <= eps < errors[1] < errors[2]
    assert errors[2] > 4 * eps


def test_an_estimate_from_clustered_answers_makes_the_test_careful():
    p0, options, eps = 0.6, 10, 0.05
    votes = clustered(p0, options, 0.9)
    sample = np.random.default_rng(6).choice(options, (400, 64), p=votes)
    known = estimate_model(sample)
    assert known.options < 4
    naive = make_policy("vote_posterior", eps=eps, p0=p0, options=options, n_max=80)
    careful = make_policy("vote_posterior", eps=eps, n_max=80).bind(Calibration(votes=known))
    errors = [simulate(rule, votes, 3000, seed=7).error_of_stopped for rule in (naive, careful)]
    assert errors[1] < errors[0] / 2


@pytest.mark.parametrize(("p0", "options"), [(0.6, 2), (0.5, 4), (0.5, 12)])
def test_the_estimate_finds_the_model_it_was_drawn_from(p0, options):
    votes = np.random.default_rng(8).choice(options, (300, 64), p=clustered(p0, options, 0.0))
    # The grader numbers clusters as they come.
    votes = np.array([[{c: i for i, c in enumerate(dict.fromkeys(row))}[c] for c in row] for row in votes.tolist()])
    known = estimate_model(votes)
    assert known.p0 == pytest.approx(p0, abs=0.02)
    assert abs(known.options - options) <= 1


def test_the_estimate_of_votes_without_any_dissent():
    assert estimate_model(np.zeros((4, 8), int)) == VoteModel(1 - 1e-6, 2)
    assert estimate_model(np.full((4, 8), -1)) == VoteModel(0.5, 2)


def test_a_vote_whose_consensus_is_no_better_than_chance_never_stops():
    for name, hyperparameters in (("vote_posterior", {"eps": 0.05}), ("vote_ratio", {"ratio": 9.0})):
        rule = make_policy(name, n_max=40, **hyperparameters).bind(Calibration(votes=VoteModel(0.2, 4)))
        assert simulate(rule, np.array([0.9, 0.1]), 200, seed=9).stopped == 0


def pool_of(cluster):
    """A parallel pool, a problem a row, in which cluster 0 is right."""
    zero = np.zeros(cluster.shape, int)
    ids = tuple(f"p{i}" for i in range(len(cluster)))
    return Pool(Unit.SAMPLE, np.arange(len(cluster)), ids, cluster, cluster == 0, zero.astype(float), zero + 1, zero, zero, zero)


def test_the_sweep_measures_a_vote_by_samples_that_it_did_not_see():
    """Of coins, half of the votes differ from the next vote, also those that go on to the limit."""
    coins = pool_of(np.random.default_rng(10).integers(0, 2, (2000, 30)))
    found = lead_sweep(coins, VoteModel(0.6, 2), (1, 12, 16), benchmark="b", orders=1, seed=0).set_index("lead")
    assert found.index.tolist() == [1, 12] and (found["limit"] == 15).all()
    assert found.loc[1, "stopped"] == 1 and found.loc[12, "stopped"] < 0.01
    assert found["error"].tolist() == pytest.approx([0.5, 0.5], abs=0.05)


def test_the_sweep_is_what_a_plain_loop_finds_and_keeps_the_bound_under_the_model():
    p0, options = 0.6, 4
    rng = np.random.default_rng(11)
    cluster = rng.choice([0, 1, 2, 3, -1], (60, 40), p=[*0.95 * clustered(p0, options, 0.0), 0.05])
    cluster[0] = -1
    pool = pool_of(cluster)
    found = lead_sweep(pool, VoteModel(p0, options), (2, 3, 4), benchmark="b", orders=7, seed=3).set_index("lead")
    for lead in (2, 3, 4):
        wrong, stopped, drawn = [], [], []
        for row, orders in enumerate(orders_of(pool, 7, 3)):
            for order in orders:
                votes, n = np.zeros(4, int), 0
                while n < 20 and np.diff(np.sort(votes)[-2:])[0] < lead:
                    if cluster[row, order[n]] >= 0:
                        votes[cluster[row, order[n]]] += 1
                    n += 1
                reference = np.bincount(cluster[row, order[20:]] + 1, minlength=5)[1:]
                seen = [c for c in cluster[row, order[:n]] if c >= 0]
                answer = max(seen, key=lambda c: (votes[c], -seen.index(c))) if seen else -1
                wrong.append(reference[answer] < reference.max() if answer >= 0 else reference.any())
                stopped.append(np.diff(np.sort(votes)[-2:])[0] >= lead)
                drawn.append(n)
        row = found.loc[lead]
        assert (row["rollouts"], row["stopped"]) == pytest.approx((np.mean(drawn), np.mean(stopped)))
        assert (row["error"], row["error_of_stopped"]) == pytest.approx((np.mean(wrong), np.mean(np.array(wrong)[stopped])))
        assert row["error_of_stopped_low"] <= row["error_of_stopped"] <= row["error_of_stopped_high"]
        assert row["error_of_stopped_low"] <= row["bound"]


def test_the_sweep_draws_the_votes_that_the_bound_is_about(tmp_path):
    cluster = np.random.default_rng(12).choice(4, (30, 16), p=clustered(0.6, 4, 0.5))
    table = lead_sweep(pool_of(cluster), VoteModel(0.6, 4), (1, 2, 3), benchmark="b", orders=5, seed=0)
    vote_sweep.draw(table.drop(columns=["error", "error_low", "error_high", "model_error"]), "b", tmp_path / "sweep.pdf")
    assert (tmp_path / "sweep.png").stat().st_size > 5000


def test_an_estimated_rule_is_not_measured_by_the_votes_it_was_estimated_from(monkeypatch):
    drawn, generator = [], np.random.default_rng

    def recorded(seed):
        drawn.append(generator(seed).random())
        return generator(seed)

    monkeypatch.setattr(vote_study.np.random, "default_rng", recorded)
    vote_study.guarantees(3, repeats=4, limit=8)
    estimates = drawn[::12]  # a draw of votes to estimate from, then one for each of six rules told and five estimated
    assert len(drawn) == 60 and len(set(estimates)) == 5
    assert not set(estimates) & {value for i, value in enumerate(drawn) if i % 12}
