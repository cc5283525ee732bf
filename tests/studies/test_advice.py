"""Advice against a search by hand over single replays; and what the command says, on every kind of pool."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from stored import table_of

from itscale.cli.advising import example, fixed_rule, headline, question
from itscale.cli.options import parse_settings
from itscale.data.ledger import Price
from itscale.data.records import POOL, Pool, Unit, read_json, write_table
from itscale.drivers.replay import per_problem, replay
from itscale.errors import UserError
from itscale.policies import POLICIES, make_policy
from itscale.studies import grids
from itscale.studies.advice import Advisor, Question, every_rule, named_policy
from itscale.studies.criterion import Criterion, Verdict, choose
from itscale.studies.methods import Method
from itscale.theory.intervals import SHARE, paired_difference
from pools import random_pool

METHODS = [
    Method("SC", "self_consistency"),
    Method("votes", "vote_lead", grid={"lead": [1, 2, 3]}),
    Method("ASC", "asc", grid={"threshold": [0.8, 0.95]}),
]


def by_hand(pool, orders=3, seed=0):
    """(accuracy, tokens) [P] of every setting of METHODS under every limit, each from a replay of its own."""
    found = {}
    for method in METHODS:
        for values in [{}] if not method.grid else [{k: v} for k, vs in method.grid.items() for v in vs]:
            for limit in range(1, 17):
                name = "n" if method.policy == "self_consistency" else "n_max"
                policy = make_policy(method.policy, **{name: limit, **method.settings, **values})
                got = replay(policy, pool, orders=orders, seed=seed)
                problems = len(pool.problem_ids)
                pair = [per_problem(v, got, problems) for v in (got.correct, got.ledger.completion)]
                found[method.name, json.dumps({**values, **method.settings, name: policy.limit}, sort_keys=True)] = pair
    return found


def setting(row):
    return row["method"], json.dumps(row["settings"], sort_keys=True)


def test_the_advice_is_what_a_search_by_hand_finds():
    rng = np.random.default_rng(0)
    pool = random_pool(3, rows=300, size=16)
    easy = rng.random((300, 16)) < 0.8  # most samples agree, so that early stops lose nothing
    pool = replace(pool, cluster=np.where(easy, 0, pool.cluster), correct=easy)
    measured = by_hand(pool)
    base = measured["SC", '{"n": 16}'][0].copy()
    near = {key for key, (right, _) in measured.items() if paired_difference(right, base, SHARE).low >= -0.01}
    best = min(near, key=lambda key: measured[key][1].mean())
    advice = Advisor({Unit.SAMPLE: pool}, METHODS, orders=3).answer(Question())
    row = advice.answers.iloc[0]
    assert setting(row) == best and row["verdict"] == ""
    assert row["accuracy"] == pytest.approx(measured[best][0].mean(), abs=1e-6)
    assert row["cost"] == pytest.approx(measured[best][1].mean(), rel=1e-5)
    assert row["saving"] == pytest.approx(1 - measured[best][1].mean() / measured["SC", '{"n": 16}'][1].mean(), abs=1e-5)
    assert row["saving_low"] < row["saving"] < row["saving_high"]
    for name, rows in advice.answers.groupby("method"):
        each = [key for key in near if key[0] == name]
        assert rows["cost"].iloc[0] == pytest.approx(min(measured[key][1].mean() for key in each), rel=1e-5)
    # No setting has as much for less than one of the frontier.
    for _, point in advice.frontier.iterrows():
        beaten = [
            k
            for k, (right, spent) in measured.items()
            if spent.mean() < point["cost"] - 1e-3 and right.mean() > point["accuracy"]
        ]
        assert not beaten


def test_a_wanted_accuracy_and_a_budget():
    pool = random_pool(3, rows=40, size=16)
    measured = by_hand(pool)
    advisor = Advisor({Unit.SAMPLE: pool}, METHODS, orders=3)
    levels = sorted(right.mean() for right, _ in measured.values())
    wanted = levels[-3]
    row = advisor.answer(Question(accuracy=wanted - 1e-6)).answers.iloc[0]
    best = min((k for k in measured if measured[k][0].mean() >= wanted - 1e-6), key=lambda k: measured[k][1].mean())
    assert row["cost"] == pytest.approx(measured[best][1].mean(), rel=1e-5) and row["verdict"] == ""
    row = advisor.answer(Question(accuracy=1.0)).answers.iloc[0]
    assert row["accuracy"] == pytest.approx(levels[-1], abs=1e-6) and row["verdict"] == "does not reach it"
    row = advisor.answer(Question(budget=100.0)).answers.iloc[0]
    inside = [right.mean() for right, spent in measured.values() if spent.mean() <= 100]
    assert row["cost"] <= 100 and row["accuracy"] == pytest.approx(max(inside), abs=1e-6)
    row = advisor.answer(Question(budget=1.0)).answers.iloc[0]
    assert row["verdict"] == "beyond the budget"


def test_a_choice_is_not_measured_on_the_questions_that_made_it():
    """Coins: every setting is right half of the time; the best of many looks good where it was chosen, which is no promise."""
    rng = np.random.default_rng(0)
    pool = random_pool(4, rows=60, size=16)
    cluster = np.arange(16)[None].repeat(60, 0)  # every sample an answer of its own: best-of-N picks by a random score
    pool = replace(pool, cluster=cluster, correct=rng.random((60, 16)) < 0.5, score=rng.random((60, 16)))
    methods = [Method("threshold", "score_threshold", grid={"s_min": [0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95]})]
    advice = Advisor({Unit.SAMPLE: pool}, methods, folds=2, orders=1).answer(Question(accuracy=1.0))
    table = advice.answers.iloc[0]
    assert table["accuracy"] > 0.55  # of 112 coins the luckiest
    assert advice.difference.mean < table["difference"] - 0.02


def test_dollars_decide_where_there_is_a_price():
    pool = random_pool(3, rows=40, size=16)
    price = Price(prompt=2.0, completion=10.0)
    row = Advisor({Unit.SAMPLE: pool}, METHODS, price=price).answer(Question()).baseline
    spent = 2 * (pool.prompt_tokens).sum(axis=1) + 10 * pool.completion_tokens.sum(axis=1)
    assert row["cost"] == pytest.approx(spent.mean() / 1e6)


def test_few_questions_say_what_they_can_tell_and_take_what_was_fixed_beforehand():
    pool = random_pool(3, rows=12, size=16)
    methods = [method for method in every_rule() if "optscale" not in method.slug]
    advice = Advisor({Unit.SAMPLE: pool}, methods, orders=2).answer(Question())
    few = advice.answers[advice.answers["verdict"] == str(Verdict.TOO_FEW)]
    assert len(few) and advice.choice.excluded > 0.01
    for _, row in few.iterrows():
        assert grids.fixed_beforehand(row["rule"]).items() <= row["settings"].items()


@pytest.mark.slow
def test_every_rule_is_tried_or_named_and_runs_as_advised():
    """Samples with scores and chains of the same questions: what is advised is a policy that `solve` takes."""
    parallel = random_pool(5, rows=12, size=8)
    chain = replace(random_pool(6, rows=24, size=3, chains=2), unit=Unit.ROUND, problem_ids=parallel.problem_ids)
    methods = [replace(method, grid={name: values[:1] for name, values in method.grid.items()}) for method in every_rule()]
    advisor = Advisor({Unit.SAMPLE: parallel, Unit.ROUND: chain}, methods, folds=2, orders=2)
    advice = advisor.answer(Question())
    assert set(advice.answers["rule"]) | set(advice.left_out) == set(POLICIES)
    assert not set(advice.answers["rule"]) & set(advice.left_out)
    record = json.loads(json.dumps(advice.record))
    for _, row in advice.answers.iterrows():
        assert (
            named_policy(row["rule"], row["settings"], record).limit
            == POLICIES[row["rule"]].policy(**POLICIES[row["rule"]].settings, **{k: v for k, v in row["settings"].items()}).limit
        )
        if not advisor.needs_known(row):
            named_policy(row["rule"], row["settings"], None)


def test_what_is_fixed_beforehand_is_in_the_grid():
    for slug, grid in grids.GRIDS.items():
        fixed = grids.fixed_beforehand(slug)
        for each in (grid, grids.COARSE.get(slug, grid)):
            assert all(fixed[name] in values for name, values in each.items()), slug
        assert all(values == sorted(values) or values == sorted(values, reverse=True) for values in grid.values()), slug


@pytest.mark.parametrize(
    ("same_as", "accuracy", "budget", "said"),
    [
        (None, 0.5, 10.0, "ask one at a time"),
        (None, 1.5, None, "give a share between 0 and 1"),
        (None, None, -1.0, "give a number above 0"),
        ("16", None, None, "give RULE:N"),
        ("self_consistency:x", None, None, "give RULE:N"),
        ("nonsense:16", None, None, "there is no policy 'nonsense'"),
    ],
)
def test_questions_that_cannot_be_asked(same_as, accuracy, budget, said):
    with pytest.raises(UserError, match=re.escape(said)):
        question(same_as, accuracy, budget)


def test_a_baseline_by_its_name_and_number():
    assert fixed_rule("best-of-N:8") == make_policy("best_of_n", n=8)
    pool = random_pool(3, rows=12, size=16)
    with pytest.raises(UserError, match="has 16"):
        Advisor({Unit.SAMPLE: pool}, METHODS).answer(Question(same_as=fixed_rule("self_consistency:17")))
    with pytest.raises(UserError, match="counts rounds"):
        Advisor({Unit.SAMPLE: pool}, METHODS).answer(Question(same_as=fixed_rule("mr_thinking:4")))
    asked = Advisor({Unit.SAMPLE: pool}, METHODS).answer(Question(same_as=fixed_rule("optscale_paper:16")))
    assert asked.baseline["rule"] == "optscale_paper"


def test_the_choice_is_the_cheapest_whose_interval_excludes_the_loss():
    rng = np.random.default_rng(1)
    difference = np.stack([rng.choice([-0.1, 0, 0.1], 2000, p=p) for p in ([0.3, 0.7, 0], [0.05, 0.9, 0.05], [0, 1, 0])])
    cost = np.array([1.0, 2.0, 3.0])
    assert choose(difference, cost).index == 1 and choose(difference, cost).verdict is Verdict.AS_GOOD
    few = choose(difference[:, :40], cost, fixed=2)
    assert few.index == 2 and few.verdict is Verdict.TOO_FEW and few.excluded > 0.01
    assert choose(difference[:, :40], cost, Criterion.POINT).index == 1
    worse = choose(difference[:1] - 0.05, cost[:1])
    assert worse.verdict is Verdict.WORSE


def run(*arguments, cwd=None):
    command = [sys.executable, "-m", "itscale", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=200, cwd=cwd, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def write_pool(pool, path):
    table = table_of(pool).assign(seed=0, answer="1", cluster=pool.cluster.ravel())
    write_table(path, table.assign(verdict=np.where(pool.correct.ravel(), "correct", "wrong")), POOL)


@pytest.mark.slow
def test_the_command_says_what_to_type_and_writes_what_that_needs(tmp_path):
    pool = random_pool(2, rows=30, size=8)
    write_pool(pool, tmp_path / "pool" / "pool.parquet")
    done = run("advise", "--pool", tmp_path / "pool", "--out", tmp_path / "advice", "--orders", 2)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("next: ")]
    words = shlex.split(line.removeprefix("next: "))
    options = list(pairwise(words))
    policy = dict(options)["--policy"]
    settings = parse_settings([value for name, value in options if name == "--set"])
    record = read_json(tmp_path / "advice" / "advice.json")
    advised = pd.read_csv(tmp_path / "advice" / "answers.csv").iloc[0]
    assert policy == advised["rule"] and settings == json.loads(advised["settings"])
    assert named_policy(policy, settings, record).limit <= 8
    assert (tmp_path / "advice" / "advice.png").stat().st_size > 10000


def test_a_sure_answer_has_its_sentence(tmp_path):
    """2,000 questions of eight votes that nearly all agree: ASC stops early and loses nothing, which the intervals can tell."""
    rng = np.random.default_rng(0)
    cluster = np.where(rng.random((2000, 8)) < 0.98, 0, 1)
    ids = tuple(f"q{i}" for i in range(2000))
    zero = np.zeros(cluster.shape, int)
    tokens = rng.integers(5, 15, cluster.shape)
    pool = Pool(Unit.SAMPLE, np.arange(2000), ids, cluster, cluster == 0, zero * np.nan, tokens, zero, zero, zero)
    advisor = Advisor({Unit.SAMPLE: pool}, [Method("ASC", "asc"), Method("SC", "self_consistency")], orders=1)
    asked = Question(same_as=make_policy("self_consistency", n=8))
    advice = advisor.answer(asked)
    (sentence,) = headline(asked, advice, "completion tokens")
    best = advice.answers.iloc[0]
    saved = f"{100 * best['saving']:.0f} [{100 * best['saving_low']:.0f}, {100 * best['saving_high']:.0f}]"
    assert best["rule"] == "asc" and best["saving"] > 0.3
    assert sentence.startswith("ASC (") and f"saves {saved} % of the completion tokens here, at " in sentence
    assert headline(Question(accuracy=0.5), advice, "completion tokens") == []
    unsure = replace(advice, answers=advice.answers.assign(verdict=str(Verdict.TOO_FEW)))
    assert headline(asked, unsure, "completion tokens") == []


def test_what_is_no_pool_is_said(tmp_path):
    done = run("advise", "--pool", tmp_path)
    assert done.returncode == 1 and "holds no pool" in done.stderr and "Traceback" not in done.stderr


def test_the_configuration_has_these_grids():
    methods = yaml.safe_load((Path(__file__).parents[2] / "config" / "config.yaml").read_text())["methods"]
    assert {slug: methods[slug].get("grid") for slug in grids.GRIDS} == grids.GRIDS


@pytest.mark.slow
def test_the_example_answers_without_what_takes_long_to_import():
    code = (
        "import sys; from itscale.cli import app; app(['advise'], standalone_mode=False);"
        "assert not {'torch', 'matplotlib', 'transformers', 'sklearn', 'scipy.stats', 'scipy.interpolate'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "next: itscale solve --policy" in done.stdout and "chosen on four fifths" in done.stdout
    assert "100 questions, 32 samples each" in done.stdout and "asc                threshold=0.95 n_max=32 " in done.stdout


def test_the_example_holds_numbers_only_and_is_small():
    folder = example()
    assert sum(file.stat().st_size for file in folder.parent.rglob("*") if file.is_file()) <= 600_000
    for table in folder.parent.rglob("*.parquet"):
        columns = set(pq.read_schema(table).names)
        assert {"problem_id", "answer", "verdict", "completion_tokens"} <= columns and not {"text", "question", "seed"} & columns


def test_pools_of_two_samples_are_enough_for_some_rules_and_the_others_are_named():
    advice = Advisor({Unit.SAMPLE: random_pool(3, rows=12, size=2)}, orders=2).answer(Question())
    assert {"asc", "self_consistency", "best_of_n"} <= set(advice.answers["rule"])
    assert advice.left_out["optscale_paper"] == advice.left_out["asc_conf"] == "needs more samples a question"
