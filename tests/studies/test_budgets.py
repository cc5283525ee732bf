"""Every rule at one budget: what is searched on the calibration pools spends it there, and is frozen."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itscale.data.records import POOL, Unit, write_table
from itscale.drivers.replay import replay
from itscale.policies import POLICIES, make_policy
from itscale.studies import budgets
from itscale.studies.calibrate import known_from_pools
from pools import random_pool
from studies.test_confidence_scores import run
from studies.test_verifiers import COMPARE, frame

POOLS = {Unit.SAMPLE: random_pool(1, 40, 16), Unit.ROUND: random_pool(2, 80, 8, Unit.ROUND, 2)}


@given(st.lists(st.floats(0, 10), min_size=2, max_size=40), st.floats(0.1, 12))
def test_the_search_is_that_of_every_setting_one_by_one(steps, budget):
    spends = np.cumsum(steps)
    last = len(spends) - 1
    below, above = (
        round(share * last) for share in budgets.search(lambda share: spends[round(share * last)], budget, len(spends))
    )
    fitting = np.flatnonzero(spends <= 1.01 * budget)
    assert below == (fitting[-1] if len(fitting) else 0)
    assert above == min(below + 1, last)


def test_every_rule_has_a_dial_or_a_reason_to_have_none():
    assert set(budgets.DIALS) | set(budgets.WITHOUT) == set(POLICIES) and not set(budgets.DIALS) & set(budgets.WITHOUT)
    for slug, dial in budgets.DIALS.items():
        assert hasattr(make_policy(slug), dial.setting)


@pytest.fixture(scope="module")
def priced():
    known = known_from_pools(POOLS, strata=3, strength=10.0)
    return budgets.price_rules(POOLS, known, orders=4, seed=0, answers=(2, 4))


def test_what_was_searched_spends_the_budget_where_it_was_searched(priced):
    one = POOLS[Unit.SAMPLE].completion_tokens.mean()
    assert {each.rule.slug for each in priced} == set(budgets.DIALS)
    for each in priced:
        assert each.budget == pytest.approx(each.answers * one)
        outcomes = replay(each.policy, POOLS[each.policy.unit], orders=4, seed=0)
        assert each.calibrated == pytest.approx(outcomes.ledger.completion.mean())
        assert getattr(each.policy, each.setting) == each.value
        name, least = each.rule.slug, getattr(each.policy, "n_min", 1)
        if each.answers > least and not name.startswith("optscale_paper"):
            assert each.calibrated <= 1.011 * each.budget, name
        if each.policy.unit is Unit.SAMPLE and not getattr(each.policy, "limit_shapes", False):  # jumps have a lower limit
            assert each.calibrated > 0.7 * each.budget, name


def test_the_table_says_what_was_spent_on_other_questions_and_what_votes_reach_for_as_much(priced, tmp_path):
    others = {Unit.SAMPLE: random_pool(3, 30, 16), Unit.ROUND: random_pool(4, 60, 8, Unit.ROUND, 2)}
    table = budgets.at_budget(priced, others, benchmark="b", orders=4, seed=1).set_index(["slug", "answers"])
    lead, votes = table.loc[("vote_lead", 4)], table.loc[("self_consistency", 4)]
    policy = next(each.policy for each in priced if each.rule.slug == "vote_lead" and each.answers == 4)
    outcomes = replay(policy, others[Unit.SAMPLE], orders=4, seed=1)
    assert lead["completion_tokens"] == pytest.approx(outcomes.ledger.completion.mean())
    assert lead["accuracy"] == pytest.approx(outcomes.correct.mean())
    assert lead["unanswered"] == pytest.approx(outcomes.unanswered.mean())
    assert votes["samples_drawn"] == 4 and votes["difference"] == 0
    # Differences are of replays in the same orders; what has a closed form shows that, however many orders there are.
    of_four = replay(make_policy("self_consistency", n=4), others[Unit.SAMPLE], orders=4, seed=1)
    assert lead["difference"] == pytest.approx(lead["accuracy"] - of_four.correct.mean())
    more = budgets.at_budget(priced, others, benchmark="b", orders=8, seed=2).set_index(["slug", "answers"])
    for slug in ("self_consistency", "best_of_n"):
        assert table.loc[(slug, 4), "accuracy"] == pytest.approx(more.loc[(slug, 4), "accuracy"], abs=1e-12)
    assert votes["accuracy"] == pytest.approx(of_four.correct.mean(), abs=0.05)
    text = budgets.budget_markdown(table.reset_index())
    assert "## b: 4 answers" in text and "| OptPO vote lead" in text and not re.search(r"\bnan\b", text)


def test_the_command_turns_the_dials_of_another_verifier_for_rules_that_read_scores(tmp_path):
    for name, seed in (("calibration", 1), ("test", 5)):
        write_table(tmp_path / name / "pool.parquet", frame(random_pool(seed, 20, 8)), POOL)
    before, after, out = tmp_path / "calibration/pool.parquet", tmp_path / "test/pool.parquet", tmp_path / "at_budget.csv"
    methods = json.dumps({"self_consistency": {"sweep": {"n": [8]}}, "best_of_n": {"sweep": {"n": [8]}}})
    calibration = tmp_path / "calibration.json"
    compare = json.dumps(COMPARE)
    run("calibrate", "--parallel", before, "--methods", methods, "--compare", compare, "--seed", 0, "--out", calibration)
    options = ["--calibration", calibration, "--calibration-parallel", before, "--parallel", after]
    run("step", "at-budget", "--benchmark", "b", *options, "--answers", 2, "--orders", 2, "--seed", 0, "--out", out)
    table = pd.read_csv(out)
    assert set(table["answers"]) == {2} and {"asc", "score_threshold"} <= set(table["slug"])
    assert out.with_suffix(".md").read_text().startswith("# One budget, every rule")
