"""Hyperparameters by what a rule promises: the cheapest setting whose measured error keeps the promise."""

import numpy as np
import pytest
from typer.testing import CliRunner

from itscale.cli import app
from itscale.cli.solving import promise_of
from itscale.data.records import Pool, Unit
from itscale.policies import POLICIES, make_policy
from itscale.policies.calibration import known_of_votes
from itscale.studies.advice import Advisor, Question
from itscale.studies.calibrate import calibrate
from itscale.studies.criterion import Criterion, Verdict, keep_promise
from itscale.studies.methods import Method, read_methods
from itscale.studies.promise import HeldOut

NO_LOSS = np.zeros((4, 50))


def test_the_cheapest_setting_that_keeps_its_promise_is_chosen():
    cost = np.array([2.0, 3.0, 5.0, 9.0])
    found = keep_promise(np.array([0.2, 0.05, 0.04, 0.01]), cost, 0.05, NO_LOSS)
    assert (found.index, found.verdict) == (1, Verdict.KEPT)
    broken = keep_promise(np.array([0.3, 0.2, 0.1, 0.2]), cost, 0.05, NO_LOSS)
    assert (broken.index, broken.verdict) == (2, Verdict.BROKEN)
    never = keep_promise(np.array([0.3, 0.2, 0.1, np.nan]), cost, 0.05, NO_LOSS)
    assert (never.index, never.verdict) == (3, Verdict.KEPT)


@pytest.fixture(scope="module")
def pool():
    """Easy and hard questions, of which one p0 for all knows nothing."""
    rng = np.random.default_rng(0)
    shares = [[0.95, 0.03, 0.02], [0.5, 0.3, 0.2], [0.4, 0.35, 0.25]]
    cluster = np.array([rng.choice(3, 64, p=shares[i % 3]) for i in range(90)])
    zero = np.zeros(cluster.shape, int)
    ids = tuple(f"q{i}" for i in range(len(cluster)))
    return Pool(Unit.SAMPLE, np.arange(90), ids, cluster, cluster == 0, zero * np.nan, zero + 1, zero, zero, zero)


def test_optpos_posterior_is_told_to_promise_less(pool):
    known, grid = known_of_votes(pool.cluster), [0.2, 0.1, 0.05, 0.01, 0.001, 0.0001]
    methods = read_methods({"vote_posterior": {"settings": {"n_max": 64}, "grid": {"eps": grid}}})
    record = calibrate(methods, {Unit.SAMPLE: pool}, known, orders=4, seed=0, criterion=Criterion.PROMISE)[0]
    held_out = HeldOut(pool, 4, 0)
    errors = [held_out.error(make_policy("vote_posterior", n_max=64, eps=e), known).mean for e in grid]
    assert errors[grid.index(0.05)] > 0.05  # what it says of itself does not hold here
    expected = next((e for e, error in zip(grid, errors, strict=True) if error <= 0.05), None)
    assert record["verdict"] == (Verdict.KEPT if expected else Verdict.BROKEN)
    assert record["hyperparameters"]["eps"] == (expected or grid[int(np.argmin(errors))])


def test_advice_says_what_rules_that_promise_made_of_it_here(pool):
    methods = [Method(POLICIES[slug].name, slug, {"eps": 0.05}) for slug in ("vote_posterior", "vote_bayes")]
    advisor = Advisor({Unit.SAMPLE: pool}, [*methods, Method("ASC", "asc")], orders=2)
    advice = advisor.answer(Question(same_as=make_policy("self_consistency", n=64)))
    found = {rule: (promise, error) for rule, promise, error in advisor.promises(advice.answers)}
    assert set(found) == {"vote_posterior", "vote_bayes"} and found["vote_posterior"][0] == 0.05
    row = advice.answers.set_index("rule").loc["vote_bayes"]
    expected = HeldOut(pool, 2, advisor.seed).error(make_policy("vote_bayes", **row["settings"]), advisor.known[-1])
    assert found["vote_bayes"][1] == expected


def test_a_measured_error_is_that_of_samples_and_questions_that_the_vote_has_not_seen():
    """By hand: leads of 2 of three questions, in the one order; what the rule knows of votes comes from the other questions."""
    cluster = np.array([[0, 0, 1, 1, 1, 1], [0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]])
    zero = np.zeros(cluster.shape, int)
    few = Pool(Unit.SAMPLE, np.arange(3), ("a", "b", "c"), cluster, cluster == 0, zero * np.nan, zero + 1, zero, zero, zero)
    held_out = HeldOut(few, 1, 0)
    rule = make_policy("vote_lead", lead=2, n_max=6)
    # a stops at 0 after two votes and errs: the other half says 1. b never leads by 2 within three votes. c stops and is right.
    assert held_out.error(rule, known_of_votes(cluster)).mean == pytest.approx(1 / 2)
    assert np.isnan(held_out.error(make_policy("vote_lead", lead=4, n_max=6), known_of_votes(cluster)).mean)


def test_what_a_rule_knows_of_votes_is_of_other_questions(pool, monkeypatch):
    seen = []
    held_out, policy = HeldOut(pool, 2, 0), make_policy("vote_bayes", eps=0.05, n_max=64)
    original = type(policy).bind
    monkeypatch.setattr(type(policy), "bind", lambda self, known: seen.append(known) or original(self, known))
    held_out.error(policy, known_of_votes(pool.cluster))
    expected = [known_of_votes(pool.cluster[half::2]) for half in (1, 0)]
    assert [known.votes for known in seen] == [known.votes for known in expected]


def test_a_run_and_the_listing_say_what_was_measured_of_a_promise():
    for slug, rule in POLICIES.items():
        policy = make_policy(slug)
        said = promise_of(slug, policy)
        assert bool(said) == bool(rule.measured) and rule.measured in said
        assert not rule.measured or "should miss the model's most frequent answer" in said
    assert POLICIES["vote_posterior"].measured in " ".join(CliRunner().invoke(app, ["policies", "vote_posterior"]).output.split())
