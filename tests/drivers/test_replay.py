"""The replay driver: orders, the ledger, and the calibration that precedes it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare, kstest

from itscale.data.records import Unit
from itscale.data.tables import interval_cells
from itscale.drivers.expectation import expected, pass_at, question_means, replayed
from itscale.drivers.replay import orders_of, per_problem, reason_shares, replay
from itscale.errors import UserError
from itscale.policies import make_policy
from itscale.policies.frozen import known_from_json, known_to_json
from itscale.studies import calibrate as stage
from itscale.studies.compare import _distance_to_fit, accuracy_curves, against_fixed, compare, fit_p_value
from itscale.studies.criterion import Criterion
from itscale.studies.methods import read_methods
from itscale.studies.optscale import simulated_pool
from itscale.theory.intervals import SHARE, paired_difference
from itscale.theory.truncnormal import log_cdf
from pools import KNOWN, random_pool

POOLS = {Unit.SAMPLE: random_pool(1, rows=12), Unit.ROUND: random_pool(2, rows=12, size=6, unit=Unit.ROUND, chains=2)}
METHODS = {
    "best-of-N": {"policy": "best_of_n", "sweep": {"n": [1, 16]}},
    "threshold": {"policy": "score_threshold", "sweep": {"n_max": [16]}, "grid": {"s_min": [0.5, 0.7, 0.9]}},
    "markovscale_gate": {"policy": "markovscale_gate", "settings": {"rounds": 6}},
}


def test_orders_are_permutations_and_one_order_is_that_of_submission():
    order = orders_of(POOLS[Unit.SAMPLE], 5, seed=0)
    assert (np.sort(order, axis=-1) == np.arange(16)).all()
    assert (order[:, 0] != order[:, 1]).any()
    assert (orders_of(POOLS[Unit.SAMPLE], 1, seed=0)[:, 0] == np.arange(16)).all()
    assert orders_of(POOLS[Unit.ROUND], 5, seed=0).shape == (12, 1, 6)


@pytest.mark.parametrize("orders", [5, 16, 37, 48])
def test_every_sample_has_every_place_equally_often_but_for_one_time(orders):
    order = orders_of(POOLS[Unit.SAMPLE], orders, seed=0)
    for row in order:
        counts = np.array([np.bincount(place, minlength=16) for place in row.T])
        assert set(np.unique(counts)) <= {orders // 16, -(-orders // 16)}
    # No two rows of the pool share an order, and no sample follows another more often than by chance.
    assert len(np.unique(order.reshape(-1, 16), axis=0)) == 12 * orders
    follows = np.bincount(16 * order[..., :-1].ravel() + order[..., 1:].ravel(), minlength=256).reshape(16, 16)
    expected = 12 * orders * 15 / (16 * 15)
    assert np.abs(follows[~np.eye(16, dtype=bool)] - expected).max() < 6 * np.sqrt(expected * 2)


def test_each_order_is_a_random_one():
    """Over seeds, all 24 orders of four samples are as frequent at each place in the list of orders."""
    pool = random_pool(0, rows=400, size=4)
    order = orders_of(pool, 6, seed=1) @ np.array([64, 16, 4, 1])
    for at in range(6):
        assert chisquare(np.unique(order[:, at], return_counts=True)[1]).pvalue > 1e-4
        assert len(np.unique(order[:, at])) == 24


def test_ledger_adds_up_the_samples_drawn():
    pool = POOLS[Unit.SAMPLE]
    outcomes = replay(make_policy("score_threshold", s_min=0.8, n_max=16), pool, orders=1)
    for i in range(pool.rows):
        n = outcomes.drawn[i]
        expected = (pool.prompt_tokens - pool.cached_prompt_tokens + pool.completion_tokens + pool.verifier_tokens)[i, :n].sum()
        assert outcomes.ledger.total[i] == expected
    votes = replay(make_policy("self_consistency", n=16), pool, orders=1)
    assert (votes.ledger.verifier == 0).all()


def test_one_sample_over_a_multiple_of_the_pool_is_the_mean():
    pool = random_pool(3, rows=40)
    pool = replace(pool, cluster=np.maximum(pool.cluster, 0), score=np.nan_to_num(pool.score))
    outcomes = replay(make_policy("best_of_n", n=1), pool, orders=32)
    assert per_problem(outcomes.correct, outcomes, 40) == pytest.approx(pool.correct.mean(axis=1))
    spent = replay(make_policy("self_consistency", n=5), pool, orders=16).ledger.total.reshape(40, 16).mean(axis=1)
    paid = pool.prompt_tokens - pool.cached_prompt_tokens + pool.completion_tokens
    assert spent == pytest.approx(5 * paid.mean(axis=1))


@pytest.mark.parametrize("name", ["best_of_n", "self_consistency"])
def test_expectations_stand_in_for_replays_over_several_orders(name):
    pool, policy = POOLS[Unit.SAMPLE], make_policy(name, n=5)
    many, one = replay(policy, pool, orders=1600), replay(policy, pool, orders=1)
    exact, mean = question_means(policy, pool, many), replayed(many, 12)
    assert np.abs(exact.accuracy - mean.accuracy).max() < 0.06 and (exact.accuracy != mean.accuracy).any()
    for kind in ("prompt", "cached_prompt", "completion", "verifier", "total"):
        assert getattr(exact.ledger, kind) == pytest.approx(getattr(mean.ledger, kind))
    assert (question_means(policy, pool, one).accuracy == replayed(one, 12).accuracy).all()
    adaptive = make_policy("score_threshold", s_min=0.8, n_max=5)
    outcomes = replay(adaptive, pool, orders=7)
    assert (question_means(adaptive, pool, outcomes).accuracy == replayed(outcomes, 12).accuracy).all()
    with pytest.raises(UserError, match="may use 17 samples and the pool has 16"):
        expected(type(policy), pool, [1, 17])


@pytest.mark.parametrize("name", ["best_of_n", "score_threshold", "vote_posterior", "pandora", "dsc_oracle", "optscale"])
def test_rows_do_not_depend_on_the_block_that_they_are_replayed_in(name):
    settings = {
        "best_of_n": {"n": 9},
        "score_threshold": {"s_min": 0.8},
        "vote_posterior": {"eps": 0.1},
        "pandora": {"cost": 0.02},
    }
    settings |= {"optscale": {"s_min": 0.8, "alpha": 0.9, "predicted": True}}
    policy = make_policy(name, **({"n_max": 9} if name != "best_of_n" else {}), **settings.get(name, {})).bind(KNOWN)
    whole = replay(policy, POOLS[Unit.SAMPLE], orders=7)
    parts = replay(policy, POOLS[Unit.SAMPLE], orders=7, block=40)  # four rows at a time
    for name in ("problem", "drawn", "column", "correct", "reason"):
        assert (getattr(parts, name) == getattr(whole, name)).all()
    assert (parts.ledger.total == whole.ledger.total).all()
    assert len(whole.drawn) == 84


def test_shares_of_reasons_add_up_to_one():
    outcomes = replay(make_policy("score_threshold", s_min=0.9, n_max=8), POOLS[Unit.SAMPLE], orders=7)
    assert sum(reason_shares(outcomes).values()) == pytest.approx(1)


def test_a_policy_that_does_not_fit_the_pool_is_refused():
    with pytest.raises(UserError, match="may use 99 samples and the pool has 16"):
        replay(make_policy("best_of_n", n=99), POOLS[Unit.SAMPLE])
    with pytest.raises(UserError, match="counts rounds"):
        replay(make_policy("mr_thinking", rounds=2), POOLS[Unit.SAMPLE])


@pytest.mark.parametrize(("name", "options"), [("best_of_n", {"n": 4}), ("score_threshold", {"s_min": 0.5, "n_max": 4})])
def test_a_rule_over_scores_refuses_a_pool_without_any(name, options):
    pool = replace(POOLS[Unit.SAMPLE], score=np.full((12, 16), np.nan))
    with pytest.raises(UserError, match="reads verifier scores and the pool has none"):
        replay(make_policy(name, **options), pool)
    assert len(replay(make_policy("self_consistency", n=4), pool, orders=1).drawn) == 12
    pool.score[3, 2] = 0.5
    assert len(replay(make_policy(name, **options), pool, orders=1).drawn) == 12


def test_calibration_by_point_takes_the_cheapest_within_a_point_of_the_fixed():
    record = stage.calibrate(read_methods(METHODS), POOLS, KNOWN, orders=20, seed=0, criterion=Criterion.POINT)[2]
    assert record["method"] == "threshold" and len(record["candidates"]) == 3
    near = [c for c in record["candidates"] if c["accuracy"] >= record["reference_accuracy"] - 0.01]
    if near:
        assert record["hyperparameters"] == min(near, key=lambda c: c["completion_tokens"])["hyperparameters"]
    else:
        assert record["hyperparameters"] == max(record["candidates"], key=lambda c: c["accuracy"])["hyperparameters"]


def test_calibration_survives_json():
    known = stage.known_from_pools(POOLS, strata=3, strength=5.0)
    again = known_from_json(known_to_json(known))
    assert again.moments == known.moments and (again.strata.edges == known.strata.edges).all()
    older = known_to_json(known)
    del older["rounds"]["knots"]
    with pytest.raises(UserError, match="Rounds does not agree on 'knots': another version wrote it"):
        known_from_json(older)


def test_main_table_compares_a_fixed_with_itself_as_equal():
    policies = [("best-of-N", make_policy("best_of_n", n=16)), ("gate", make_policy("markovscale_gate", rounds=6).bind(KNOWN))]
    main, stops, _ = compare(policies, POOLS, benchmark="b", orders=5, seed=0)
    assert main.loc[0, ["accuracy_difference", "accuracy_difference_low", "accuracy_difference_high"]].tolist() == [0, 0, 0]
    assert stops.groupby("method")["count"].sum().to_dict() == {"best-of-N": 60, "gate": 12}


def test_every_rule_stands_against_every_fixed_n_by_its_questions():
    policies = [
        ("best-of-N", make_policy("best_of_n", n=16)),
        ("threshold", make_policy("score_threshold", s_min=0.8, n_max=16)),
        ("votes", make_policy("self_consistency", n=8)),
    ]
    main, _, accuracy = compare(policies, POOLS, benchmark="b", orders=5, seed=0, verifier="v")
    pairs = against_fixed(main, accuracy).set_index(["method", "baseline"])
    # Votes read no scores, so that they stand beside rules that do; the other way round too.
    assert set(pairs.index) == {(m, b) for m in ("best-of-N", "threshold", "votes") for b in ("best-of-N", "votes")}
    of = ["accuracy_difference", "accuracy_difference_low", "accuracy_difference_high"]
    assert pairs.loc[("votes", "votes"), of].tolist() == [0, 0, 0]
    # Against its own fixed N it is the main table's difference.
    assert pairs.loc[("threshold", "best-of-N"), of].tolist() == pytest.approx(main.loc[1, of].tolist())
    gap = paired_difference(accuracy.iloc[1].to_numpy(), accuracy.iloc[2].to_numpy(), SHARE)
    assert pairs.loc[("threshold", "votes"), of].tolist() == pytest.approx([gap.mean, gap.low, gap.high])


def test_pass_at_n_is_the_share_of_subsets_with_a_correct_sample():
    pool = random_pool(4, rows=5, size=6)
    from itertools import combinations

    for row in range(5):
        subsets = list(combinations(pool.correct[row], 3))
        assert pass_at(pool, [3])[0, row] == pytest.approx(np.mean([any(s) for s in subsets]))
    curves = accuracy_curves(pool, benchmark="b").pivot(index="n", columns="method", values="accuracy")
    assert curves.index.tolist() == [1, 2, 4]
    answered = pool.cluster >= 0
    assert curves.loc[1, "self-consistency"] == pytest.approx((pool.correct & answered).mean())
    assert curves.loc[1, "best-of-N"] == pytest.approx((pool.correct & answered & ~np.isnan(pool.score)).mean())
    assert (curves["pass@N"] >= curves.max(axis=1) - 1e-12).all()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"policy": "best_of_n", "swep": {"n": [1]}}, "unknown key 'swep'"),
        ({"settings": {"n": 1}}, "there is no policy 'x'"),
        ({"policy": "best_of_n", "settings": {"m": 1}}, r"methods.x in the configuration: .*'m'"),
    ],
)
def test_a_wrong_method_is_named(entry, message):
    with pytest.raises(UserError, match=message):
        read_methods({"x": entry})


def test_a_rule_that_reads_the_first_score_pays_for_no_other():
    pool = replace(POOLS[Unit.ROUND], score=POOLS[Unit.ROUND].score.copy())
    policy = make_policy("markovscale_gate", rounds=6).bind(KNOWN)
    outcomes = replay(policy, pool)
    assert (outcomes.drawn == 6).any()
    assert (outcomes.ledger.verifier == pool.verifier_tokens[:, 0]).all()
    pool.score[:, 1:] = 0.123
    again = replay(policy, pool)
    assert (again.drawn == outcomes.drawn).all() and (again.column == outcomes.column).all()


def test_p_values_of_fitted_curves_are_uniform_where_the_curve_is_right():
    pool = simulated_pool(0.6, 0.25, 80, 40, seed=5)
    found = np.array([fit_p_value(scores, replicates=199) for scores in pool.score])
    assert found.mean() == pytest.approx(0.5, abs=0.12)
    assert 0.08 < (found < 0.2).mean() < 0.34  # against a curve fixed beforehand hardly any would be


def test_p_values_of_fitted_curves_reject_what_is_no_truncated_normal():
    scores = np.concatenate([np.linspace(0.1, 0.15, 30), np.linspace(0.85, 0.9, 30)])
    assert fit_p_value(scores, replicates=199) == 1 / 200
    distance, curve = _distance_to_fit(scores[None])
    assert distance[0] == pytest.approx(kstest(scores, lambda x: np.exp(log_cdf(x, curve.e1[0], curve.e2[0]))).statistic)
    assert np.isnan(fit_p_value(np.full(8, 0.5)))


def test_a_quantity_without_an_interval_stands_alone():
    table = pd.DataFrame({"x": [8.0, np.nan, 2.0], "x_low": [np.nan, np.nan, 1.0], "x_high": [np.nan, np.nan, 3.0]})
    assert interval_cells(table, "x", 1, 1).tolist() == ["8.0", "", "2.0 [1.0, 3.0]"]
