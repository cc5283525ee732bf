"""The study of OptScale against plain loops, the published table, and the figures that it feeds."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from itscale.data.records import Unit
from itscale.drivers.expectation import expected
from itscale.drivers.replay import orders_of, replay
from itscale.policies import make_policy
from itscale.policies.fixed import BestOfN
from itscale.policies.frozen import frozen_policies, known_from_json, known_to_json
from itscale.policies.protocol import Reason
from itscale.studies import calibrate as stage
from itscale.studies import optscale as study
from itscale.studies.compare import compare
from itscale.studies.methods import read_methods
from itscale.theory.intervals import SHARE, paired_difference, ratio_interval
from pools import random_pool

POOLS = {Unit.SAMPLE: random_pool(1, rows=20), Unit.ROUND: random_pool(2, rows=20, size=6, unit=Unit.ROUND)}
METHODS = {
    "best-of-N": {"policy": "best_of_n", "sweep": {"n": [8, 16]}},
    "score threshold": {"sweep": {"n_max": [16]}, "grid": {"s_min": [0.5, 0.7, 0.9]}},
    "OptScale^0 (paper)": {
        "sweep": {"n_max": [8, 16]},
        "grid": {"s_min": [0.6, 0.8], "alpha": [0.5, 0.9]},
    },
}
PUBLISHED = Path(__file__).parents[2] / "config" / "published.csv"


@pytest.fixture(scope="module")
def record():
    known = stage.known_from_pools(POOLS, strata=3, strength=5.0)
    chosen = stage.calibrate(read_methods(METHODS), POOLS, known, orders=5, seed=0)
    return {"known": known_to_json(known), "methods": chosen}


def best_of_prefix(pool, row, columns):
    usable = [c for c in columns if pool.cluster[row, c] >= 0 and not np.isnan(pool.score[row, c])]
    return bool(usable) and bool(pool.correct[row, max(usable, key=lambda c: pool.score[row, c])])


def test_the_oracle_stop_is_the_shortest_prefix_that_loses_nothing():
    pool = POOLS[Unit.SAMPLE]
    found = study.oracle_stop(pool, 8, orders=3, seed=0)
    order = orders_of(pool, 3, 0).reshape(-1, pool.size)[:, :8]
    for i, columns in enumerate(order):
        row = i // 3
        if best_of_prefix(pool, row, columns):
            expected = next(n for n in range(1, 9) if best_of_prefix(pool, row, columns[:n]))
            assert found.correct[i]
        else:
            expected = 1
        assert found.drawn[i] == expected
    assert (found.reason == list(Reason).index(Reason.FIXED)).all()
    # More rows than a replay takes at once.
    assert len(study.oracle_stop(pool, 8, orders=3000, seed=0).drawn) == 3000 * pool.rows


def test_bounds_hold_pass_at_n_and_the_oracle_stop():
    table = study.bounds(POOLS[Unit.SAMPLE], [4, 16], benchmark="b", orders=4, seed=0).set_index(["method", "budget"])
    passed, best = table.loc[("pass@N", 16)], table.loc[("oracle stop", 16)]
    assert passed["accuracy"] == pytest.approx(POOLS[Unit.SAMPLE].correct.any(axis=1).mean())
    assert passed["accuracy"] >= best["accuracy"] and best["accuracy_difference"] >= 0
    assert best["completion_tokens"] < passed["completion_tokens"]
    one = table.loc[("pass@N", 4)]
    wrong = (~POOLS[Unit.SAMPLE].correct).sum(axis=1)
    solved = np.array([1 - math.comb(w, 4) / math.comb(16, 4) for w in wrong])
    full = expected(BestOfN, POOLS[Unit.SAMPLE], [4]).accuracy[0]
    gain = paired_difference(solved, full, SHARE).columns("accuracy_difference")
    assert {name: one[name] for name in gain} == pytest.approx(gain) and one["accuracy_difference"] > 0
    assert one["accuracy"] == pytest.approx(solved.mean())


def test_no_bound_lies_below_what_it_bounds():
    """Whatever the number of orders: pass@N above the oracle stop, above best-of-N, which takes no fewer tokens."""
    for seed in range(6):
        pool = random_pool(seed, rows=8, size=6)
        for orders in (1, 2, 7, 12):
            for n in (1, 2, 5, 6):
                bounds = study.bounds(pool, [n], benchmark="b", orders=orders, seed=seed).set_index("method")
                best = compare([("b", BestOfN(n))], {Unit.SAMPLE: pool}, benchmark="b", orders=orders, seed=seed)[0].iloc[0]
                stop, passed = bounds.loc["oracle stop"], bounds.loc["pass@N"]
                assert passed["accuracy"] >= stop["accuracy"] - 1e-12 and stop["accuracy"] >= best["accuracy"] - 1e-12
                assert stop["total_tokens"] <= best["total_tokens"] + 1e-9
                assert stop["accuracy_difference"] >= 0 and passed["accuracy_difference"] >= -1e-12
                if n == 1:
                    usable = pool.correct & (pool.cluster >= 0) & ~np.isnan(pool.score)
                    first = usable[:, 0] if orders == 1 else usable
                    assert stop["accuracy"] == pytest.approx(best["accuracy"]) == pytest.approx(first.mean())


def test_reliability_of_true_scores_lies_on_the_diagonal():
    pool = study.simulated_pool(0.6, 0.2, 3000, 9, 0)
    mean, sd = (float(pool.features[name][0]) for name in ("score_mean", "score_sd"))
    known = stage.Calibration(moments=study.Moments(mean, mean**2 + sd**2))
    table = study.reliability(pool, known, benchmark="b", orders=1, seed=0)
    assert set(table["fit"]) == {"maximum likelihood", "calibration prior", "predicted prior"}
    assert table.groupby("fit")["cases"].sum().eq(9000).all()
    error = (table["predicted"] - table["observed"]).abs() * table["cases"]
    gap = error.groupby(table["fit"]).sum() / 9000
    assert gap["predicted prior"] < gap["maximum likelihood"]  # the prior is the truth here
    # Without any estimation only the noise of 3000 questions remains.
    fit = study.truncnormal.fit(np.array([mean]), np.array([mean**2 + sd**2]))
    thresholds = np.minimum(mean + sd * np.arange(3), 0.99)
    promised = study.truncnormal.confidence(thresholds, 4, fit.e1, fit.e2)
    happened = (pool.score[:, 5:9].max(axis=1)[:, None] >= thresholds).mean(axis=0)
    assert happened == pytest.approx(promised, abs=0.03)
    assert gap["predicted prior"] < 0.05 and gap["calibration prior"] < 0.05


def test_bins_have_the_interval_of_their_share_of_cases():
    """Nine questions with one case that fails, one with 91 that succeed: the share is 91 %, and most resamples say so."""
    problem = np.concatenate([np.arange(9), np.full(91, 9)])
    table = study._bins(np.full(100, 0.55), problem == 9, problem)
    row, whole = table.iloc[0], ratio_interval(np.array([0] * 9 + [91]), np.array([1] * 9 + [91]), SHARE)
    assert len(table) == 1 and row["observed"] == 0.91
    assert (row["observed_low"], row["observed_high"]) == pytest.approx((whole.low, whole.high))
    rng = np.random.default_rng(0)  # the exact interval of the ratio, by resampling questions whose sizes differ little
    size, hits = rng.integers(5, 9, 200), rng.random(200)
    problem = np.repeat(np.arange(200), size)
    seen = rng.random(len(problem)) < hits[problem]
    row = study._bins(np.full(len(problem), 0.5), seen, problem).iloc[0]
    drawn = rng.integers(0, 200, (4000, 200))
    sums = np.bincount(problem, seen)
    low, high = np.quantile(sums[drawn].sum(1) / size[drawn].sum(1), (0.025, 0.975))
    assert (row["observed_low"], row["observed_high"]) == pytest.approx((low, high), abs=0.006)


def test_published_protocol_takes_the_best_cell_on_the_benchmark_itself(record):
    chosen = dict(((name, policy.limit), policy) for name, policy in stage.choose_published(record, POOLS) if policy is not None)
    for entry in record["methods"]:
        if not entry["candidates"]:
            continue
        tried = []
        for candidate in entry["candidates"]:
            policy = stage.make_policy(entry["policy"], **entry["settings"], **candidate["hyperparameters"])
            outcomes = replay(policy.bind(known_from_json(record["known"])), POOLS[Unit.SAMPLE], orders=1)
            tried.append((outcomes.correct.mean(), -np.mean(outcomes.ledger.completion), candidate["hyperparameters"]))
        best = max(tried, key=lambda t: t[:2])
        policy = chosen[entry["method"], policy.limit]
        assert {name: getattr(policy, name) for name in best[2]} == best[2]


def test_selection_shows_every_protocol_of_every_rule_with_hyperparameters(record):
    policies = frozen_policies(record)
    table = study.selection(record, policies, study.Replays(POOLS, 4, 0), benchmark="b")
    assert len(table) == 3 * 3
    pivot = table.pivot_table(index=["method", "budget"], columns="protocol", values="accuracy")
    one_order, *_ = compare(policies, POOLS, benchmark="b", orders=1, seed=0)
    frozen = one_order.set_index(["method", "budget"])["accuracy"]
    assert (pivot["published"] >= frozen.loc[pivot.index] - 1e-9).all()  # in one order, nothing of the grid beats its best


def test_verdicts_follow_from_the_paired_intervals(record):
    policies = frozen_policies(record)
    table = study.versus(policies, study.Replays(POOLS, 3, 0), benchmark="b")
    assert set(zip(table["rival"], table["budget"], strict=True)) == {
        ("best-of-N", 8),
        ("best-of-N", 16),
        ("score threshold", 16),
    }
    main, *_ = compare(policies, POOLS, benchmark="b", orders=3, seed=0)
    mine = main[(main["method"] == "OptScale^0 (paper)") & (main["budget"] == 16)].iloc[0]
    row = table[(table["rival"] == "best-of-N") & (table["budget"] == 16)].iloc[0]
    for quantity in ("accuracy", "completion_tokens"):  # best-of-N is this family's fixed N
        assert row[quantity] == pytest.approx(mine[f"{quantity}_difference"])
        assert row[f"{quantity}_low"] == pytest.approx(mine[f"{quantity}_difference_low"])


def test_a_verdict_is_one_word_for_two_signs():
    words = {
        (1, 0): "beats",
        (0, 1): "beats",
        (1, 1): "beats",
        (-1, 0): "loses to",
        (1, -1): "trades with",
        (0, 0): "is level with",
    }
    assert {signs: study.verdict(*signs) for signs in words} == words


@pytest.mark.slow
def test_reached_confidence_holds_for_known_parameters():
    table = study.reached_confidence(rows=300, seed=0)
    known = table[table["rule"] == "known parameters"]
    assert (known["reached_high"] >= known["alpha"]).all()
    assert set(table["alpha"]) == set(study.ALPHAS) and table["samples"].between(1, 64).all()


def test_published_figures_are_32_rows_of_five_benchmarks():
    table = pd.read_csv(PUBLISHED)
    assert len(table) == 32 and table["source"].str.contains("Albertwyk/OptScale@").all()
    numbers = table.filter(regex="_(accuracy|tokens)$")
    assert numbers.shape == (32, 10) and numbers.notna().all().all()
    row = table[(table["method"] == "best-of-N") & (table["budget"] == 8)].iloc[0]
    assert (row["MATH500_accuracy"], row["MATH500_tokens"], row["AIME24_accuracy"]) == (94.8, 22135, 70.0)


def test_table_beside_the_published_one_differs_only_where_it_may(record):
    main, *_ = compare(frozen_policies(record), POOLS, benchmark="b", orders=2, seed=0)
    published = pd.read_csv(PUBLISHED)
    same, other = (study.beside_published(main, published, "MATH500", same) for same in (True, False))
    assert len(same) == 32 and other["difference"].isna().all()
    row = same[(same["method"] == "best-of-N") & (same["budget"] == 8)].iloc[0]
    ours = main[(main["method"] == "best-of-N") & (main["budget"] == 8)].iloc[0]
    assert row["difference"] == pytest.approx(100 * ours["accuracy"] - 94.8)
    assert row["share_of_best_of_n"] == 1 and row["published_share_of_best_of_n"] == 1
    assert same[same["method"] == "ASC"]["accuracy"].isna().all()  # not among ours: nothing is invented


@pytest.mark.slow
def test_every_figure_draws(tmp_path, record):
    from itscale.figures import budget, frontier, number_of_samples, predictor_label, reached_confidence, reliability, selection

    policies = frozen_policies(record)
    main, *_ = compare(policies, POOLS, benchmark="b", orders=2, seed=0)
    known = known_from_json(record["known"])
    bounds = study.bounds(POOLS[Unit.SAMPLE], [8, 16], benchmark="b", orders=2, seed=0)
    rng = np.random.default_rng(0)
    labels = pd.DataFrame(
        {"benchmark": "b", "problem_id": "p", "head": "p0", "prediction": rng.random(9), "label": rng.random(9)}
    )
    tables = {
        frontier: pd.concat([main, bounds]),
        budget: main,
        reliability: study.reliability(replace(POOLS[Unit.SAMPLE], features={}), known, benchmark="b", orders=2, seed=0).assign(
            verifier="own"
        ),
        selection: study.selection(record, policies, study.Replays(POOLS, 2, 0), benchmark="b"),
        number_of_samples: study.number_of_samples(0.9, 0.9, 64),
        reached_confidence: study.reached_confidence(rows=20, seed=0),
        predictor_label: labels,
    }
    for module, table in tables.items():
        out = tmp_path / f"{module.__name__.rpartition('.')[2]}.pdf"
        module.draw(table, "b", out)
        assert out.stat().st_size > 5000 and out.with_suffix(".png").exists()


def test_both_forms_of_pandora_are_held_against_the_threshold():
    pool, known = POOLS[Unit.SAMPLE], stage.known_from_pools(POOLS, strata=3, strength=5.0)
    rules = [
        ("score threshold", make_policy("score_threshold", s_min=0.8, n_max=8)),
        ("Pandora", make_policy("pandora", cost=0.05, n_max=8).bind(known)),
        ("Pandora by data", make_policy("pandora_by_data", cost=0.05, n_max=8).bind(known)),
    ]
    table = study.versus(rules, study.Replays(POOLS, 3, 0), benchmark="b").set_index(["method", "rival"])
    assert set(table.index) == {("Pandora", "score threshold"), ("Pandora by data", "score threshold")}
    for name, rule in rules[1:]:
        mine, theirs = (replay(each, pool, orders=3, seed=0) for each in (rule, rules[0][1]))
        gap = [np.mean(mine.ledger.completion[i::3]) - np.mean(theirs.ledger.completion[i::3]) for i in range(3)]
        assert table.loc[(name, "score threshold"), "completion_tokens"] == pytest.approx(np.mean(gap))
