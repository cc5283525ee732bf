"""Every limit from one replay, against a replay under each."""

from dataclasses import replace

import numpy as np
import pytest
from test_policies import CASES

from itscale.data.records import Unit
from itscale.drivers import prefixes
from itscale.drivers.limits import Limits, limit_setting, with_limit
from itscale.drivers.replay import replay
from itscale.policies import POLICIES, make_policy
from itscale.studies.grids import GRIDS
from pools import KNOWN, random_pool


@pytest.mark.parametrize("case", range(len(CASES)), ids=[f"{i}-{name}" for i, (name, _) in enumerate(CASES)])
def test_one_replay_tells_of_every_limit_what_a_replay_under_it_tells(case):
    name, settings = CASES[case]
    policy = make_policy(name, **settings).bind(KNOWN)
    rounds = policy.unit is Unit.ROUND
    pool = replace(random_pool(7, rows=12, size=16, chains=3 if rounds else 1), unit=policy.unit)
    pool = replace(pool, cut_off=np.random.default_rng(0).random(pool.cluster.shape) < 0.1)
    start = getattr(policy, "n_min", 1)
    limits = np.array([8, 16]) if getattr(policy, "variant", "") == "paper" else np.arange(start, policy.limit + 1)
    found = Limits(pool, orders=5, seed=3).of([policy], limits)
    for i, limit in enumerate(limits):
        direct = replay(with_limit(policy, int(limit)), pool, orders=5, seed=3)
        size = np.bincount(direct.problem)
        for name, values in {
            "accuracy": direct.correct,
            "drawn": direct.drawn,
            "completion": direct.ledger.completion,
            "prompt": direct.ledger.prompt,
            "cached_prompt": direct.ledger.cached_prompt,
            "unanswered": direct.unanswered,
            "cut_off": direct.cut_off,
        }.items():
            assert getattr(found, name)[i] == pytest.approx(np.bincount(direct.problem, values) / size), (name, limit)


@pytest.mark.parametrize("slug", [slug for slug in POLICIES if getattr(make_policy(slug), "reads_sums", False)])
def test_all_prefixes_at_once_draw_what_is_drawn_step_by_step(slug, monkeypatch):
    """Pools that are too large for the sums of all prefixes are replayed. Rows stop early and late, beyond the first looks."""
    pool, fold, limits = random_pool(5, rows=30, size=40), np.arange(30) % 3, np.array([3, 17, 40])
    for end in (0, -1):
        settings = {name: values[end] for name, values in GRIDS.get(slug, {}).items()}
        policy = make_policy(slug, **{**settings, limit_setting(POLICIES[slug].policy): 40}).bind(KNOWN)
        found = []
        for most in (prefixes.MOST, 0):
            monkeypatch.setattr(prefixes, "MOST", most)
            found.append(Limits(pool, orders=4, seed=2, fold=fold).of([policy] * 3, limits))
        assert (found[0].drawn == found[1].drawn).all() and (found[0].accuracy == found[1].accuracy).all()
        monkeypatch.undo()


@pytest.mark.parametrize("slug", [slug for slug in GRIDS if POLICIES[slug].policy.unit is Unit.SAMPLE])
def test_settings_of_one_rule_do_not_answer_for_each_other(slug):
    """What a rule selects is kept for the next one; not where a setting has a say in it."""
    pool = random_pool(11, rows=12, size=8)
    every = Limits(pool, orders=3, seed=1)
    for settings in ({name: values[end] for name, values in GRIDS[slug].items()} for end in (0, -1)):
        policy = make_policy(slug, **{limit_setting(POLICIES[slug].policy): 8}, **settings).bind(KNOWN)
        found, direct = every.of([policy], np.array([8])), replay(policy, pool, orders=3, seed=1)
        assert found.accuracy[0] == pytest.approx(np.bincount(direct.problem, direct.correct) / 3)


def test_each_fold_has_the_rule_that_is_bound_without_it():
    pool = random_pool(8, rows=10, size=16)
    policy = make_policy("vote_lead", lead=3, n_max=16)
    bound = [replace(policy, lead=lead) for lead in (1, 4)]
    fold = np.arange(10) % 2
    found = Limits(pool, orders=4, seed=0, fold=fold).of(bound, np.array([16]))
    for k, each in enumerate(bound):
        direct = Limits(pool, orders=4, seed=0).of([each], np.array([16]))
        assert (found.drawn[0, fold == k] == direct.drawn[0, fold == k]).all()
        assert (found.accuracy[0, fold == k] == direct.accuracy[0, fold == k]).all()
