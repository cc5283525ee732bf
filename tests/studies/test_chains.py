"""Is it Markov: the tests of the theory on chains that are first order, and on chains that are not."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from itscale.data.records import Pool, Problem, Unit
from itscale.drivers.replay import replay
from itscale.figures import accuracy_round, forecast_error, posterior_traces
from itscale.policies import make_policy
from itscale.policies.protocol import Reason
from itscale.studies.calibrate import known_from_pools
from itscale.studies.chains import forecast, tables, validation
from itscale.studies.chains.comparison import Curve, compare_rounds, markdown
from itscale.theory import markov
from itscale.theory.intervals import Interval
from itscale.theory.rates import fit_chains
from pools import KNOWN, random_pool


def unlike_questions(seed, questions=40, chains=6, rounds=8):
    """First-order chains of questions that differ: (correct, problem, level, p0, a, b)."""
    rng = np.random.default_rng(seed)
    level = np.arange(questions) % 2
    ease = rng.beta(0.5, 0.5, questions)
    p0, a, b = 0.1 + 0.8 * ease, 0.02 + 0.5 * (1 - ease), 0.02 + 0.6 * ease
    problem = np.repeat(np.arange(questions), chains)
    return markov.simulate(p0[problem], a[problem], b[problem], rounds, rng), problem, level, p0, a, b


def with_memory(correct, rng):
    """The same chains, but an answer before last comes back with chance one half: second order."""
    correct = correct.copy()
    for t in range(2, correct.shape[1]):
        back = rng.random(len(correct)) < 0.5
        correct[:, t] = np.where(back, correct[:, t - 2], correct[:, t])
    return correct


def test_first_order_chains_are_not_rejected_within_questions_though_pooling_rejects_them():
    found = []
    for seed in range(6):
        correct, problem, level, *_ = unlike_questions(seed)
        fit = fit_chains(correct, problem, level)
        found.append(validation.validate(correct, problem, level, fit, replicates=60, seed=seed))
    within = np.array([order.within_p for _, order in found])
    assert (within > 0.05).sum() >= 5 and within.max() > 0.3
    assert np.mean([order.pooled_p for _, order in found]) < 0.01
    every = np.array([fit.p_value[-1] for fit, _ in found])
    assert (every > 0.05).sum() >= 5
    memory = np.array([order.memory_p for _, order in found])
    assert (memory > 0.05).mean() >= 0.75


def rarely_moving(seed, questions=60, chains=6, rounds=8):
    """First-order chains of questions of which most hardly ever move: (correct, problem, level)."""
    rng = np.random.default_rng(seed)
    ease, problem = rng.beta(0.5, 0.5, questions), np.repeat(np.arange(questions), chains)
    rates = (ease, 0.3 * (1 - ease) ** 3, 0.3 * ease**3)
    return markov.simulate(*(rate[problem] for rate in rates), rounds, rng), problem, np.arange(questions) % 2


@pytest.mark.slow
@pytest.mark.parametrize("chains_of", [unlike_questions, rarely_moving])
def test_p_values_of_first_order_chains_are_spread_evenly(chains_of):
    found = []
    for seed in range(24):
        correct, problem, level, *_ = chains_of(100 + seed)
        _, order = validation.validate(correct, problem, level, fit_chains(correct, problem, level), replicates=40, seed=seed)
        found.append(order.within_p)
    # Twenty-four of them: the mean of even ones has a standard deviation of 0.06.
    assert 0.32 < np.mean(found) < 0.68 and np.min(found) < 0.3 and np.max(found) > 0.7


def test_second_order_chains_are_rejected_and_their_memory_is_seen():
    correct, problem, level, *_ = unlike_questions(20, questions=60)
    correct = with_memory(correct, np.random.default_rng(0))
    fit = fit_chains(correct, problem, level)
    _, order = validation.validate(correct, problem, level, fit, replicates=60)
    assert order.within_p < 0.05
    assert (order.memory > 0.2).all() and (order.memory_p < 0.05).all()


def test_accuracy_that_drifts_is_not_explained():
    correct, problem, level, p0, *_ = unlike_questions(21, questions=60)
    rng = np.random.default_rng(0)
    rate = p0[problem][:, None] * np.where(np.arange(8) < 4, 1.0, 0.4)  # independent rounds that become worse
    correct = rng.random((len(problem), 8)) < rate
    fit = fit_chains(correct, problem, level)
    fitted, _ = validation.validate(correct, problem, level, fit, replicates=60)
    assert fitted.p_value[-1] < 0.05
    outside = (fitted.observed[-1] < fitted.low[-1]) | (fitted.observed[-1] > fitted.high[-1])
    assert outside.sum() >= 3


def test_g_squared_is_the_likelihood_ratio_of_the_two_orders():
    rng = np.random.default_rng(3)
    counts = rng.integers(1, 30, (2, 2, 2)).astype(float)
    total = stats.contingency.chi2_contingency  # conditional independence of i and k given j: a 2 x 2 table for each j
    expected = sum(total(counts[:, j], correction=False, lambda_="log-likelihood").statistic for j in (0, 1))
    assert float(validation.g_squared(counts)) == pytest.approx(expected)


def test_triples_are_counted_by_hand():
    correct = np.array([[1, 0, 0, 1], [1, 1, 1, 1]], bool)
    counts = validation.second_order_counts(correct, np.array([0, 1]), 2)
    assert counts[0, 1, 0, 0] == 1 and counts[0, 0, 0, 1] == 1 and counts[1, 1, 1, 1] == 2
    assert counts.sum() == 4


@pytest.mark.slow
def test_pooled_rates_are_biased_where_questions_differ_and_rates_per_question_are_not():
    correct, problem, level, *_ = unlike_questions(5, questions=80, chains=8)
    fit = fit_chains(correct, problem, level)
    simulated = forecast.simulated_errors(problem, level, fit, 8, replicates=12)
    data = forecast.held_out_errors(correct, problem, level)
    for errors in (simulated, data):
        pooled, own = (errors[forecast.WRONG, name][-1] for name in (forecast.POOLED, forecast.PER_QUESTION))
        assert abs(own.mean) < 0.5 * pooled.mean
    assert simulated[forecast.WRONG, forecast.POOLED][-1].low > 0.02
    assert data[forecast.WRONG, forecast.POOLED][-1].low > 0
    assert all(e.low <= 0.02 and e.high >= -0.02 for e in data[forecast.ALL, forecast.PER_QUESTION])


def test_nothing_is_fitted_to_the_chains_that_it_is_held_against():
    correct, problem, level, *_ = unlike_questions(6, questions=30, chains=4)
    whole = forecast.held_out_errors(correct, problem, level)
    alone = np.concatenate([problem, [30]])  # one more question, of a level of its own, with one chain
    more = forecast.held_out_errors(np.concatenate([correct, [[True] * 8]]), alone, np.concatenate([level, [2]]))
    assert {key: [e.mean for e in found] for key, found in more.items()} == {
        key: pytest.approx([e.mean for e in found]) for key, found in whole.items()
    }
    single = np.arange(30) * 4
    assert forecast.held_out_errors(correct[single], problem[single], level) == {}
    assert forecast.simulated_errors(problem[single], level, fit_chains(correct, problem, level), 8, replicates=2) == {}


def test_simulated_forecasts_are_fitted_as_those_of_the_data_are(monkeypatch):
    correct, problem, level, *_ = unlike_questions(7, questions=20, chains=6)
    fit, given = fit_chains(correct, problem, level), []
    monkeypatch.setattr(forecast, "fit_chains", lambda *chains: given.append(chains) or fit_chains(*chains))
    data = forecast.held_out_errors(correct, problem, level)
    simulated = forecast.simulated_errors(problem, level, fit, 8, replicates=2)
    assert simulated.keys() == data.keys() and len(given) == 8
    shapes = {tuple(np.shape(part) for part in chains) for chains in given}
    assert shapes == {((60, 8), (60,), (20,)), ((60, 2), (60,), (20,))}  # three of six chains of each question


def test_errors_are_forecast_minus_observed():
    rates = forecast.Rates(np.array([0.5, 1.0]), np.zeros(2), np.zeros(2))
    correct = np.array([[1, 1], [0, 1], [1, 1]], bool)
    errors, chains = forecast.missed(rates, correct, np.array([0, 0, 1]))
    assert errors.tolist() == [[0.5 * 2 - 1, 0.5 * 2 - 2], [0, 0]] and chains.tolist() == [2, 1]
    wrong, chains = forecast.missed(rates, correct, np.array([0, 0, 1]), forecast.WRONG)
    assert wrong.tolist() == [[0, -1], [0, 0]] and chains.tolist() == [1, 0]


def test_a_forecast_carries_to_the_last_round_within_a_point():
    errors = [Interval(0, 0, 0), Interval(0.03, -0.01, 0.07), Interval(0.05, 0.03, 0.07), Interval(0, 0, 0)]
    assert forecast.carries_to(errors) == 2
    assert forecast.carries_to(errors[:2]) == 2
    assert forecast.halves(np.array([0, 0, 1, 0])).tolist() == [True, False, True, True]


def test_levels_are_in_the_order_of_their_numbers():
    level, names = tables.levels_of(("a", "b", "c"), {"a": "10", "b": "2", "c": "10"})
    assert names == ["2", "10"] and level.tolist() == [1, 0, 1]


def test_equal_tokens_are_reached_by_chance_between_two_numbers_of_samples():
    curve = Curve(accuracy=np.array([[0.0, 1.0], [1.0, 1.0]]), tokens=np.array([[10.0, 10.0], [20.0, 20.0]]))
    assert curve.at(12.5) == pytest.approx([0.25, 1.0])
    assert curve.at(5).tolist() == [0, 1] and curve.at(99).tolist() == [1, 1]


POOLS = {Unit.SAMPLE: random_pool(1, rows=12, size=8), Unit.ROUND: random_pool(2, rows=24, size=6, unit=Unit.ROUND, chains=2)}


def test_table_sets_every_method_beside_the_first_answer_and_parallel_samples():
    rules = {"mr_thinking": {"rounds": 1}, "markovscale_filter": {"rounds": 6}}
    policies = [(name, make_policy(name, **settings).bind(KNOWN)) for name, settings in rules.items()]
    table, stops, curves = compare_rounds(policies, POOLS, benchmark="b")
    assert table.loc[0, ["gain", "gain_low", "gain_high"]].tolist() == [0, 0, 0]
    assert stops.groupby("method")["count"].sum().to_dict() == {"mr_thinking": 24, "markovscale_filter": 24}
    assert curves.groupby("method").size().to_dict() == {"self-consistency": 8, "best-of-N": 8}
    spent = replay(policies[1][1], POOLS[Unit.ROUND]).ledger.total.mean()
    assert table.loc[1, "total_tokens"] == pytest.approx(spent)
    # Accuracy by chance between two numbers of samples is the line between their mean accuracies.
    for name, curve in curves.groupby("method"):
        for kind, end in (("total", ""), ("completion", " at equal completion")):
            equal = np.interp(table[f"{kind}_tokens"], curve[f"{kind}_tokens"], curve["accuracy"])
            assert table[f"{name}{end}"].to_numpy() == pytest.approx(equal)
            assert table[f"minus {name}{end}"].to_numpy() == pytest.approx(table["accuracy"] - equal)
            assert (table[f"minus {name}{end}_low"] <= table[f"minus {name}{end}_high"]).all()
    one = replay(make_policy("self_consistency", n=3), POOLS[Unit.SAMPLE], orders=8).ledger
    row = curves.set_index(["method", "budget"]).loc[("self-consistency", 3)]
    assert (row["total_tokens"], row["completion_tokens"]) == pytest.approx((one.total.mean(), one.completion.mean()))
    text = markdown(table)
    assert all(
        title in text for title in ("against the first answer", "self-consistency, equal total", "best-of-N, equal completion")
    )


@pytest.mark.slow
def test_tables_of_the_theory_hold_what_their_figures_read(tmp_path):
    chains = POOLS[Unit.ROUND]
    known = known_from_pools(POOLS, strata=3, strength=5.0)
    labels = {f"p{i}": str(1 + i % 2) for i in range(12)}
    found = tables.validation_tables(chains, labels, known, benchmark="b", replicates=20, seed=0)
    assert found["rounds"]["level"].unique().tolist() == ["1", "2", "all"]
    every = found["rounds"][found["rounds"]["level"] == "all"]
    assert every["observed"].to_numpy() == pytest.approx(chains.correct.mean(0))
    assert (every["lower"] <= every["neutral"]).all() and (every["neutral"] <= every["upper"]).all()
    questions = found["questions"]
    assert len(questions) == 12 and set(questions["effect"]) <= {"helps", "harms", "undecided"}
    assert (questions["effect"] == "undecided").to_numpy().tolist() == (
        (questions["first_gain_low"] <= 0) & (questions["first_gain_high"] >= 0)
    ).tolist()
    assert found["chain_fits"]["questions"].tolist() == [6, 6, 12]
    assert set(found["forecasts"]["source"]) == {"simulation", "data"} and (found["forecasts"]["questions"] == 12).all()
    forecast_error.draw(found["forecasts"], "b", tmp_path / "whole.pdf")
    alone = chains.subset(np.arange(0, 24, 2))
    found = tables.validation_tables(alone, labels, known, benchmark="b", replicates=4, seed=0)
    assert found["forecasts"]["forecast"].unique().tolist() == [forecast.LABEL_FREE]
    forecast_error.draw(found["forecasts"], "b", tmp_path / "alone.pdf")


def test_reliability_counts_every_answer_once():
    chains = POOLS[Unit.ROUND]
    known = known_from_pools(POOLS, strata=3, strength=5.0)
    policy = make_policy("markovscale_filter", rounds=6, tau=0.8).bind(known)
    found = tables.reliability(chains, known, policy, benchmark="b")
    given = int((chains.cluster >= 0).sum())
    outcomes = replay(policy, chains)
    returned = int((outcomes.column >= 0).sum())
    assert 0 < given < chains.cluster.size
    counts = found.groupby("posterior")["answers"].sum().to_dict()
    assert counts == {"filtered": given, "recalibrated": given, "smoothed": given, "returned": returned}
    share = found["observed"] * found["answers"]
    assert share[found["posterior"] == "filtered"].sum() == pytest.approx(chains.correct.sum())
    assert share[found["posterior"] == "returned"].sum() == pytest.approx(outcomes.correct.sum())
    # The rule's own reason to stop: what it returns then has reached tau.
    sure = found[(found["posterior"] == "returned") & (found["bin_low"] >= 0.8 - 1e-9)]
    assert sure["answers"].sum() == (outcomes.reason == list(Reason).index(Reason.POSTERIOR)).sum() > 0


def test_reliability_where_only_chains_without_an_answer_run_to_the_end():
    chains = POOLS[Unit.ROUND]
    known = known_from_pools(POOLS, strata=3, strength=5.0)
    policy = make_policy("markovscale_filter", rounds=6, tau=0.8).bind(known)
    long = (replay(policy, chains).drawn == 6)[:, None]
    silent = replace(chains, cluster=np.where(long, -1, chains.cluster), correct=chains.correct & ~long)
    outcomes = replay(policy, silent)
    assert long.any() and set(outcomes.drawn[outcomes.column >= 0]) == set(outcomes.drawn) - {6}
    found = tables.reliability(silent, known, policy, benchmark="b")
    assert found[found["posterior"] == "returned"]["answers"].sum() == (outcomes.column >= 0).sum() > 0


def fooled(rng, questions):
    """Chains of eight rounds whose verifier takes wrong answers for right ones on every third question, in each round alike."""
    p = np.repeat(rng.beta(1, 1, questions), 4)
    correct = rng.random((len(p), 8)) < p[:, None]
    believed = correct | (np.arange(len(p)) // 4 % 3 == 0)[:, None]
    score = np.where(believed, rng.beta(8, 2, correct.shape), rng.beta(2, 8, correct.shape))
    cluster = np.where(correct, 0, rng.integers(1, 4, correct.shape))
    tokens, ids = np.ones(correct.shape, int), tuple(f"p{i:03d}" for i in range(questions))
    return Pool(Unit.ROUND, np.repeat(np.arange(questions), 4), ids, cluster, correct, score, *[tokens] * 4)


def test_a_recalibrated_posterior_means_what_it_says():
    rng = np.random.default_rng(1)
    known = known_from_pools({Unit.ROUND: fooled(rng, 300)}, strata=4, strength=10.0)
    policy = make_policy("markovscale_filter", rounds=8).bind(known)
    found = tables.reliability(fooled(rng, 600), known, policy, benchmark="b")
    error = found.groupby("posterior")["calibration_error"].first()
    # Scores that are wrong alike are no independent evidence: the model of the filter is too sure, and cannot know it.
    assert error["recalibrated"] < 0.02 < 0.03 < error["smoothed"]


def test_traces_follow_the_filter():
    chains = POOLS[Unit.ROUND]
    policy = make_policy("markovscale_filter", rounds=6, tau=0.9).bind(KNOWN)
    found = tables.traces(chains, KNOWN, policy, benchmark="b")
    assert found.groupby("chain").size().tolist() == [6] * 6
    assert isinstance(found, pd.DataFrame) and found["filtered"].between(0, 1).all()
    blank = replace(chains, cluster=np.full_like(chains.cluster, -1), correct=np.zeros_like(chains.correct))
    assert (tables.traces(blank, KNOWN, policy, benchmark="b")["answered_with"] == 0).all()


def test_traces_show_chains_that_move_with_their_questions_and_answers(tmp_path):
    chains = POOLS[Unit.ROUND]
    policy = make_policy("markovscale_filter", rounds=6, tau=0.9).bind(KNOWN)
    of = np.arange(chains.rows)
    number = np.array([int((chains.problem[:row] == chains.problem[row]).sum()) for row in of])
    ids = [chains.problem_ids[chains.problem[row]] for row in of]
    answers = pd.concat(
        pd.DataFrame({"problem_id": ids, "chain": number, "round": t, "answer": [f"$\\frac{{{row}}}{{{t}" for row in of]})
        for t in range(6)
    )
    problems = [Problem(name, f"what is {name} in $?", "gold", "") for name in chains.problem_ids]
    found = tables.traces(chains, KNOWN, policy, benchmark="b", answers=answers, problems=problems)
    assert found.groupby("chain")["filtered"].agg(lambda p: p.diff().abs().sum()).ge(0.1).all()
    assert found["answer"].str.startswith("$\\frac{").all()
    rounds = found["answer"].str.rsplit("{", n=1).str[1].astype(int) + 1
    assert (rounds == found["round"]).all()
    assert (found["question"] == "what is " + found["chain"].str.split(",").str[0] + " in $?").all()
    posterior_traces.draw(found, "b", tmp_path / "traces.pdf")  # broken markup of a model is drawn as it stands
    assert (tmp_path / "traces.png").stat().st_size > 10_000


def test_two_rounds_say_nothing_of_order_and_memory():
    correct, problem, level, *_ = unlike_questions(3, rounds=2)
    fit = fit_chains(correct, problem, level)
    fitted, order = validation.validate(correct, problem, level, fit, replicates=20)
    assert np.isnan([order.within, order.within_p, order.pooled, order.pooled_p, *order.memory, *order.memory_p]).all()
    assert fitted.observed.shape == (3, 2) and np.isfinite(fitted.predicted).all()


def test_chains_alone_and_without_scores_are_studied_as_far_as_they_go():
    chains = random_pool(5, rows=24, size=4, unit=Unit.ROUND, chains=2)
    chains = replace(chains, score=np.full(chains.score.shape, np.nan), features={})
    known = known_from_pools({Unit.ROUND: chains}, strata=4, strength=10.0)
    assert known.strata is None and known.first_score is None and known.rounds is None and known.votes is None
    found = tables.validation_tables(chains, {}, known, benchmark="mine", replicates=10, seed=0)
    assert found["rounds"]["label_free"].isna().all() and forecast.LABEL_FREE not in set(found["forecasts"]["forecast"])
    methods, _, curves = compare_rounds(
        [("MR-Thinking", make_policy("mr_thinking", rounds=4))], {Unit.ROUND: chains}, benchmark="m"
    )
    assert curves.empty and "accuracy_low" in curves and "against self-consistency" not in markdown(methods)


@pytest.mark.parametrize("levels", [("all",), ("all", None), ("all", "easy", "hard")])
def test_a_figure_of_rounds_has_a_panel_of_levels_only_where_there_are_some(levels, tmp_path):
    columns = ["observed", "predicted", "observed_low", "observed_high", "predicted_low", "predicted_high", "label_free"]
    rows = [
        {"benchmark": "b", "level": level, "round": r, "fit_p": 0.5, "upper": 0.6, "lower": 0.2} | dict.fromkeys(columns, 0.4)
        for level in levels
        for r in (1, 2)
    ]
    accuracy_round.draw(pd.DataFrame(rows), "b", tmp_path / "f.pdf")
    assert ("Right: by level" in (tmp_path / "f.txt").read_text().replace("\n", " ")) == ("easy" in levels)
    assert (tmp_path / "f.png").stat().st_size > 5000
