"""The filter over rounds against the enumeration of every hidden path, and against chains drawn from its own model."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from itscale.data.records import Pool, Unit
from itscale.policies import rounds as rounds_policy
from itscale.policies.markovscale import fit_strata
from itscale.policies.rounds import fit_rounds, posteriors
from itscale.theory import emissions, markov, roundfilter
from itscale.theory.emissions import GRID

P = st.floats(0.01, 0.99)


def tables(seed):
    """Log densities of correct and wrong scores, and an exponent."""
    rng = np.random.default_rng(seed)
    return (
        emissions.normalise(stats.beta.logpdf(GRID, *rng.uniform(1, 6, 2))),
        emissions.normalise(stats.beta.logpdf(GRID, *rng.uniform(1, 6, 2))),
        float(rng.uniform()),
    )


def observed(seed, rounds):
    rng = np.random.default_rng(seed)
    cluster = np.minimum(rng.integers(-1, 3, rounds), 1)
    score = rng.uniform(0, 1, rounds)
    score[rng.random(rounds) < 0.1] = np.nan
    return cluster, score


def enumerate_paths(cluster, score, p0, a, b, q, model):
    """P(C_t | all) and P(C_t | rounds to t) of every round, and log evidence, by summing over all hidden paths."""
    correct, wrong, exponent = model
    again = emissions.normalise(exponent * correct), emissions.normalise(exponent * wrong)

    def density(state, t):
        if cluster[t] < 0:
            return 0.0 if state == 0 else 1.0
        if np.isnan(score[t]):
            return 1.0
        repeated = t > 0 and cluster[t] == cluster[t - 1]
        table = (again if repeated else (correct, wrong))[state]
        x = min(max(score[t], emissions.EDGE), 1 - emissions.EDGE)
        return float(np.exp(np.interp(np.log(x / (1 - x)), np.log(GRID / (1 - GRID)), table)))

    def joint(path):
        weight = (p0 if path[0] == 0 else 1 - p0) * density(path[0], 0)
        for t in range(1, len(path)):
            changed = cluster[t] != cluster[t - 1]
            if path[t - 1] == 0:
                move = (0.0 if changed else 1 - a) if path[t] == 0 else (a if changed else 0.0)
            else:
                move = (b if changed else 0.0) if path[t] == 0 else (1 - b) * (q if changed else 1 - q)
            weight *= move * density(path[t], t)
        return weight

    def posterior(n):
        paths = list(product((0, 1), repeat=n))
        weight = np.array([joint(path) for path in paths])
        return np.array([[path[s] == 0 for path in paths] @ weight for s in range(n)]) / weight.sum(), np.log(weight.sum())

    filtered = [posterior(n)[0][-1] for n in range(1, len(cluster) + 1)]
    smoothed, evidence = posterior(len(cluster))
    return np.array(filtered), smoothed, evidence


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), P, P, P, P)
def test_posteriors_are_those_of_all_hidden_paths(seed, rounds, p0, a, b, q):
    check_against_enumeration(seed, rounds, p0, a, b, q)


@pytest.mark.parametrize("seed", range(3))
def test_posteriors_are_those_of_all_hidden_paths_of_ten_rounds(seed):
    check_against_enumeration(seed, 10, *np.random.default_rng(seed).uniform(0.1, 0.9, 4))


def check_against_enumeration(seed, rounds, p0, a, b, q):
    cluster, score = observed(seed, rounds)
    model = tables(seed)
    expected = enumerate_paths(cluster, score, p0, a, b, q, model)
    found = run(cluster[None], score[None], p0, a, b, q, model)
    assert found.filtered[0] == pytest.approx(expected[0], abs=1e-6)
    assert found.smoothed[0] == pytest.approx(expected[1], abs=1e-6)
    assert found.log_evidence[0] == pytest.approx(expected[2], abs=1e-6)

    joint, message = step_by_step(cluster[None], score[None], p0, a, b, q, model)
    assert roundfilter.smoothed_so_far(joint)[0] == pytest.approx(expected[1], abs=1e-6)
    assert roundfilter.probability(message)[0] == pytest.approx(expected[0][-1], abs=1e-6)


def run(cluster, score, p0, a, b, q, model):
    emission = roundfilter.log_emissions(score, cluster, roundfilter.temper(*model))
    moves = roundfilter.log_moves(a, b, q)
    return roundfilter.forward_backward(emission, roundfilter.changes(cluster), roundfilter.log_start(p0), moves)


def step_by_step(cluster, score, p0, a, b, q, model):
    """joint and message of the incremental smoother after all rounds."""
    rows, rounds = cluster.shape
    emission = roundfilter.log_emissions(score, cluster, roundfilter.temper(*model))
    changed, moves = roundfilter.changes(cluster), roundfilter.log_moves(a, b, q)
    joint = np.full((rounds, rows, 2, 2), -np.inf)
    message = np.broadcast_to(roundfilter.log_start(p0), (rows, 2))
    for t in range(rounds):
        joint, message = roundfilter.join(joint, message, roundfilter.taken(moves, changed[:, t]), emission[:, t], t)
    return joint, message


def draw(rng, chains, rounds, p0, a, b, q, model):
    """Clusters, scores and true states of chains that follow the model."""
    correct, wrong, _ = model
    states = markov.simulate(np.full(chains, p0), a, b, rounds, rng)
    changed = np.zeros((chains, rounds), bool)
    changed[:, 1:] = (states[:, 1:] != states[:, :-1]) | (
        ~states[:, 1:] & ~states[:, :-1] & (rng.random((chains, rounds - 1)) < q)
    )
    again = roundfilter.temper(*model)
    score = np.empty((chains, rounds))
    for repeated, state, table in (
        (False, True, correct),
        (False, False, wrong),
        (True, True, again.repeated_correct),
        (True, False, again.repeated_wrong),
    ):
        here = (states == state) & ((~changed & (np.arange(rounds) > 0)) == repeated)
        cumulative = np.cumsum(np.exp(table) * emissions.weights(GRID))
        score[here] = np.interp(rng.random(here.sum()), cumulative, GRID)
    return changed.cumsum(axis=1), score, states


def test_posterior_of_its_own_chains_is_calibrated():
    model = tables(3)
    cluster, score, states = draw(np.random.default_rng(0), 4000, 6, 0.4, 0.15, 0.3, 0.6, model)
    found = run(cluster, score, 0.4, 0.15, 0.3, 0.6, model)
    for posterior in (found.filtered, found.smoothed):
        for low in np.arange(0, 1, 0.2):
            inside = (posterior >= low) & (posterior < low + 0.2)
            if inside.sum() > 300:
                error = 4 * np.sqrt(0.25 / inside.sum())
                assert states[inside].mean() == pytest.approx(posterior[inside].mean(), abs=error + 0.01)


def test_expected_best_posterior_is_the_mean_over_simulated_next_rounds():
    model, rates = tables(5), (0.4, 0.15, 0.3, 0.6)
    rng = np.random.default_rng(1)
    cluster, score, _ = draw(rng, 1, 3, *rates, model)
    joint, message = step_by_step(cluster, score, *rates, model)
    padded = np.concatenate([joint, np.full((1, 1, 2, 2), -np.inf)])
    expected = roundfilter.best_one_on(padded, message, roundfilter.log_moves(*rates[1:]), roundfilter.temper(*model))

    # Draw the state now from its posterior, then the next round from the model.
    states = rng.random(20_000) < roundfilter.probability(message)[0]
    nexts = [draw(rng, int(n), 2, float(s), *rates[1:], model) for s, n in ((1, states.sum()), (0, (~states).sum()))]
    best = []
    for c, s, _ in nexts:
        rows = len(c)
        whole = np.tile(cluster, (rows, 1)), np.tile(score, (rows, 1))
        following = whole[0][:, -1:] + (c[:, 1:] - c[:, :1]) * 100, s[:, 1:]
        both = [np.concatenate([x, y], axis=1) for x, y in zip(whole, following, strict=True)]
        best.append(run(*both, *rates, model).smoothed.max(axis=1))
    values = np.concatenate(best)
    assert expected[0] == pytest.approx(values.mean(), abs=4 * values.std() / np.sqrt(len(values)) + 2e-3)
    assert expected[0] >= roundfilter.smoothed_so_far(joint).max() - 1e-6


def test_an_unanswered_round_is_wrong_and_a_change_ends_a_correct_answer():
    model = tables(7)
    cluster, score = np.array([[0, -1, -1, 1]]), np.full((1, 4), 0.5)
    found = run(cluster, score, 0.5, 0.2, 0.3, 0.5, model)
    assert found.smoothed[0, 1:3].tolist() == [0, 0]
    both = run(np.array([[0, 1]]), np.full((1, 2), np.nan), 0.5, 0.2, 0.3, 0.0, model)
    assert both.smoothed[0].sum() == pytest.approx(1)  # with q = 0 a change is between right and wrong


def test_no_rate_makes_an_observation_impossible():
    cluster, score = np.array([[0, 1, 1, -1, 2, 2]]), np.full((1, 6), 0.4)
    for rates in product((0.0, 1.0), repeat=4):
        found = run(cluster, score, *rates, tables(1))
        assert np.isfinite(found.smoothed).all() and np.isfinite(found.log_evidence).all(), rates


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(sorted(emissions.CANDIDATES)))
def test_a_tabulated_density_is_a_density(seed, name):
    rng = np.random.default_rng(seed)
    scores = rng.beta(*rng.uniform(0.3, 6, 2), size=rng.integers(1, 200))
    table = emissions.tabulate(name, scores)
    area = integrate.trapezoid(np.exp(table), GRID) + emissions.EDGE * (np.exp(table[0]) + np.exp(table[-1]))
    assert area == pytest.approx(1, abs=1e-6)
    assert np.exp(table).min() >= 0.009


@pytest.mark.parametrize(
    ("name", "reference"),
    [("beta", stats.beta(4, 2)), ("truncated normal", stats.truncnorm(-0.6 / 0.3, 0.4 / 0.3, 0.6, 0.3))],
)
def test_a_density_comes_back_from_its_own_scores(name, reference):
    scores = reference.rvs(4000, random_state=0)
    table = emissions.tabulate(name, scores)
    x = np.linspace(0.1, 0.95, 30)
    assert np.exp(emissions.look_up(table, x)) == pytest.approx(0.99 * reference.pdf(x) + 0.01, abs=0.12)


def test_the_family_that_made_the_scores_wins_on_held_out_ones():
    fold = np.arange(3000) % 5
    humped = np.random.default_rng(0).beta(0.4, 0.4, 3000)
    assert emissions.choose(humped, fold).name in ("beta", "kernel of logits")
    two = np.concatenate([np.random.default_rng(i).beta(*ab, 1500) for i, ab in enumerate([(60, 20), (20, 60)])])
    chosen = emissions.choose(two, fold)
    assert chosen.name == "kernel of logits" and chosen.held_out[chosen.name] == max(chosen.held_out.values())


def drawn_chains(seed, copied, questions=120, chains=4, rounds=8, p0=0.4, a=0.2, b=0.15, q=0.3):
    """A pool of chains from the filter's model; `copied`: a repeated answer has the score that it had before."""
    rng = np.random.default_rng(seed)
    rows = questions * chains
    correct = markov.simulate(np.full(rows, p0), np.full(rows, a), np.full(rows, b), rounds, rng)
    cluster, fresh = np.zeros((rows, rounds), int), np.ones((rows, rounds), bool)
    cluster[:, 0] = np.where(correct[:, 0], 0, 1)
    for t in range(1, rounds):
        stays = ~correct[:, t] & ~correct[:, t - 1] & (rng.random(rows) >= q)
        cluster[:, t] = np.where(correct[:, t], 0, np.where(stays, cluster[:, t - 1], t + 1))
        fresh[:, t] = cluster[:, t] != cluster[:, t - 1]
    score = np.where(correct, rng.beta(6, 3, correct.shape), rng.beta(3, 5, correct.shape))
    for t in range(1, rounds if copied else 0):
        score[:, t] = np.where(fresh[:, t], score[:, t], score[:, t - 1])
    tokens, ids = np.ones(correct.shape, int), tuple(f"p{i:03d}" for i in range(questions))
    return Pool(Unit.ROUND, np.repeat(np.arange(questions), chains), ids, cluster, correct, score, *[tokens] * 4)


def test_the_fit_finds_what_chains_were_drawn_with():
    found = fit_rounds(drawn_chains(0, copied=False), strata=1)
    assert found.p0 == pytest.approx(0.4, abs=0.06) and found.q == pytest.approx(0.3, abs=0.04)
    # Scores that are drawn anew for a repeated answer count in full; what is merely repeated counts for nothing.
    assert found.exponent >= 0.75
    assert fit_rounds(drawn_chains(0, copied=True), strata=1).exponent <= 0.125
    for table, shape in ((found.log_correct, (6, 3)), (found.log_wrong, (3, 5))):
        apart = np.abs(np.exp(table) - stats.beta.pdf(GRID, *shape))
        assert apart @ emissions.weights(GRID) < 0.15


def test_what_a_posterior_is_worth_is_seen_on_questions_that_were_not_fitted(monkeypatch):
    pool, seen = drawn_chains(1, copied=False, questions=20), []
    monkeypatch.setattr(
        rounds_policy, "fit_strata", lambda rest, strata: seen.append(set(rest.problem)) or fit_strata(rest, strata)
    )
    held = []
    monkeypatch.setattr(
        rounds_policy, "posteriors", lambda part, *known: held.append(set(part.problem)) or posteriors(part, *known)
    )
    fit_rounds(pool, strata=1)
    assert len(seen) == 5 and all(fitted & out == set() for fitted, out in zip(seen, held[-5:], strict=True))
    assert set().union(*held[-5:]) == set(range(20))
