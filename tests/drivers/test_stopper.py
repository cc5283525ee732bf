"""A policy in somebody else's loop decides as it does in a replay; a rule for one question is a policy."""

import json
from dataclasses import replace

import numpy as np
import pytest
from test_policies import CASES, REASONS

from itscale.data.records import Unit
from itscale.drivers.replay import replay
from itscale.drivers.stopper import Stopper
from itscale.errors import UserError
from itscale.policies import make_policy
from itscale.policies.frozen import known_to_json
from itscale.policies.scalar import as_policy
from pools import KNOWN, random_pool


def feed(stop, pool, row):
    """Give a stopper the samples of a row until it is done; the answer is the column's own name, equal if the clusters are."""
    for column in range(pool.size):
        if stop.done:
            break
        assert stop.wanted >= 1
        cluster, score = int(pool.cluster[row, column]), pool.score[row, column]
        stop.add(None if cluster < 0 else (cluster, column), score=score, tokens=int(pool.completion_tokens[row, column]))


@pytest.mark.parametrize("case", range(len(CASES)), ids=[f"{i}-{name}" for i, (name, _) in enumerate(CASES)])
def test_it_decides_as_the_replay_does(case):
    name, settings = CASES[case]
    policy = make_policy(name, **settings).bind(KNOWN)
    pool = replace(random_pool(9, rows=12, size=16), unit=policy.unit)
    if getattr(policy, "replay_only", False):
        with pytest.raises(UserError, match="in replays only"):
            Stopper(policy)
        return
    found = replay(policy, pool, orders=1)
    for row in range(pool.rows):
        features = {name: pool.features[name][row] for name in policy.needs_features}
        stop = Stopper(policy, key=lambda answer: answer[0], features=features)
        feed(stop, pool, row)
        assert stop.done and stop.drawn == found.drawn[row] and stop.reason == str(REASONS[found.reason[row]])
        assert (-1 if stop.answer is None else stop.answer[1]) == found.column[row]
        assert stop.tokens == found.ledger.completion[row]


def test_the_loop_of_the_docstring():
    stop = Stopper("ASC", n_max=16)
    answers = iter(["4", "5", *["4"] * 14])
    while not stop.done:
        stop.add(answer=next(answers))
    assert stop.answer == "4" and stop.reason == "vote confident enough" and stop.confidence >= 0.95
    drawn = stop.drawn
    assert stop.add("5") and stop.drawn == drawn  # late answers are not counted


def test_what_it_is_sure_of():
    stop = Stopper("vote_lead", lead=3, n_max=8)
    assert stop.confidence is None and stop.answer is None and not stop.done
    stop.add("")
    assert stop.answer is None and stop.confidence is None
    stop.add("7")
    assert stop.answer == "7" and stop.confidence == pytest.approx(0.75)
    scored = Stopper("score_threshold", s_min=0.8, n_max=8)
    scored.add("a", score=0.5)
    assert scored.confidence == 0.5 and not scored.done
    assert scored.add("b", score=0.9) and scored.answer == "b"


def test_windows_are_waited_for():
    stop = Stopper("esc", window=4, n_max=8)
    assert stop.wanted == 4
    stop.add("1")
    assert stop.wanted == 3


def test_it_takes_the_rule_that_was_advised(tmp_path):
    methods = [
        {"method": name, "slug": slug, "policy": slug, "settings": {}, "hyperparameters": hyper}
        for name, slug, hyper in (
            ("OptScale^0 (ours)", "optscale", {"s_min": 0.8, "alpha": 0.9, "n_max": 8}),
            ("OptPO vote lead", "vote_lead", {"lead": 2, "n_max": 8}),
        )
    ]
    record = {"known": known_to_json(KNOWN), "advice": "OptScale^0 (ours)", "methods": methods}
    (tmp_path / "advice.json").write_text(json.dumps(record))
    for where in (tmp_path, tmp_path / "advice.json", record):
        assert Stopper.from_advice(where).policy == make_policy("optscale", s_min=0.8, alpha=0.9, n_max=8).bind(KNOWN)
    assert Stopper.from_advice(record, "vote_lead").policy == make_policy("vote_lead", lead=2, n_max=8)
    with pytest.raises(UserError, match="choose one of optscale, vote_lead"):
        Stopper.from_advice(record, "asc")
    with pytest.raises(UserError, match="say which with rule=, one of optscale, vote_lead"):
        Stopper.from_advice({key: value for key, value in record.items() if key != "advice"})
    with pytest.raises(UserError, match="this is no advice"):
        Stopper.from_advice({"a": 1})


def test_what_a_rule_lacks_is_said():
    with pytest.raises(UserError, match=r"use Stopper\.from_advice"):
        Stopper("vote_posterior", n_max=8).add("1")
    with pytest.raises(UserError, match="give score= with each answer"):
        Stopper("best_of_n", n=4).add("1")
    with pytest.raises(UserError, match="give it in features"):
        Stopper(make_policy("dsc", n_max=8).bind(KNOWN))
    with pytest.raises(UserError, match="there is no policy 'nonsense'"):
        Stopper("nonsense")


def three_ahead(answers, scores):
    """The lead rule, as somebody writes it for one question."""
    counts = sorted((answers.count(a) for a in set(answers) - {None}), reverse=True)
    return bool(counts) and counts[0] - (counts[1] if len(counts) > 1 else 0) >= 3


def test_a_rule_for_one_question_is_a_policy():
    pool = random_pool(5, rows=20, size=16)
    own, built_in = as_policy(three_ahead, 16), make_policy("vote_lead", lead=3, n_max=16)
    for orders in (1, 3):
        found, expected = (replay(policy, pool, orders=orders) for policy in (own, built_in))
        assert (found.drawn == expected.drawn).all() and (found.column == expected.column).all()
    assert {str(REASONS[code]) for code in replay(own, pool).reason} <= {"own rule met", "budget spent"}
    assert own.unit is Unit.SAMPLE and own.family == "self_consistency"


def test_its_scores_are_those_of_the_samples_seen():
    pool = random_pool(5, rows=20, size=16)
    own = as_policy(
        lambda answers, scores: any(s >= 0.75 and a is not None for a, s in zip(answers, scores, strict=True)),
        16,
        needs_scores=True,
    )
    found, expected = (replay(policy, pool, orders=2) for policy in (own, make_policy("score_threshold", s_min=0.75, n_max=16)))
    assert (found.drawn == expected.drawn).all() and (found.column == expected.column).all()
    blind = replay(as_policy(lambda answers, scores: np.isfinite(scores).any(), 16), pool, orders=1)
    assert (blind.drawn == 16).all()  # a rule that does not ask for scores is shown none
