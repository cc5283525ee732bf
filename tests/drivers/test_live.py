"""The live driver on stored samples and on real engines: a replay's decisions, every token counted, nothing used after a stop."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from stored import REASONS, assert_same_decisions, bound, drive, stored_pool, table_of
from test_policies import CASES

from itscale.data.records import SAMPLES, Pool, Problem, read_table
from itscale.drivers.assess import OwnScore
from itscale.drivers.generate import Plan, generate_shard
from itscale.drivers.live import Run, solve
from itscale.drivers.replay import replay
from itscale.engines import EngineSettings, open_engine
from itscale.engines.protocol import Sampling, Usage
from itscale.engines.replaying import ReplayingEngine
from itscale.errors import UserError
from itscale.grading.comparison import Comparer
from itscale.models.verifier import Scores
from itscale.policies import make_policy
from itscale.policies.calibration import ScoreMap
from itscale.policies.protocol import Reason, join, take
from itscale.theory.voting import empty_tally, vote
from itscale.toytask import language_model
from pools import ON_EVERY_DEVICE


@pytest.fixture(scope="module")
def comparer():
    with Comparer() as opened:
        yield opened


@pytest.mark.parametrize("keep", [False, True])
def test_token_ids_are_held_only_where_they_are_asked_for(model, comparer, tmp_path, keep):
    problems, policy = [Problem("a", "1+1", "2")], make_policy("self_consistency", n=3)
    with open_engine(EngineSettings(str(model), "transformers", batch_size=4)) as engine:
        options = {"sampling": Sampling(max_tokens=8), "comparer": comparer, "keep_ids": keep, "allow_unanswered": True}
        run = solve(problems, engine, policy, journal=tmp_path / "run.partial", **options)
    assert [bool(len(s.completion.token_ids)) for s in run.rows[0].samples] == [keep] * 3
    assert ('"token_ids": []' in (tmp_path / "run.partial").read_text()) is not keep


LIVE = [(name, options) for name, options in CASES if not getattr(bound(name, options), "replay_only", False)]


@pytest.mark.parametrize("prefetch", [0, 5])
@pytest.mark.parametrize("arrival", ["length", "submission", "reverse", "random"])
@pytest.mark.parametrize(("name", "options"), LIVE)
def test_decisions_are_those_of_a_replay_whatever_arrives_first(name, options, arrival, prefetch, comparer):
    policy = bound(name, options)
    pool = stored_pool(policy)
    run, engine = drive(policy, pool, comparer, arrival=arrival, prefetch=prefetch)
    outcomes = replay(policy, pool, orders=1)
    assert_same_decisions(run, outcomes)
    ledger, usage = run.ledger, engine.usage()
    assert ledger.completion == outcomes.ledger.completion.sum()
    assert ledger.predictor == np.sum(outcomes.ledger.predictor)
    assert (ledger.prompt, ledger.cached_prompt) == (usage.prompt, usage.cached_prompt)
    assert ledger.completion + ledger.prefetched == usage.completion
    assert ledger.aborted == usage.aborted
    assert ledger.verifier >= outcomes.ledger.verifier.sum()
    if prefetch == 0:
        assert (ledger.prefetched, ledger.aborted) == (0, 0)
        assert ledger.verifier == outcomes.ledger.verifier.sum()
        assert ledger.total == np.sum(outcomes.ledger.total)
    else:
        assert all(row.prefetched + row.aborted <= prefetch for row in run.rows)


@pytest.mark.parametrize(("name", "options"), [case for case in LIVE if bound(*case).needs_scores])
def test_scores_of_the_models_own_confidence_stop_a_rule_as_they_do_in_a_replay(name, options, comparer):
    own = OwnScore("conf_tail", ScoreMap(np.array([0.0, 0.4, 1.0]), np.array([0.05, 0.6, 0.95])))
    policy = bound(name, options)
    pool = replace(stored_pool(policy), verifier_tokens=np.zeros_like(stored_pool(policy).verifier_tokens))
    run, _ = drive(policy, pool, comparer, arrival="random", prefetch=3, confidence=own)
    outcomes = replay(policy, replace(pool, score=own.score_map.of(pool.score)), orders=1)
    assert_same_decisions(run, outcomes)
    assert run.ledger.verifier == 0 and run.ledger.completion == outcomes.ledger.completion.sum()


def test_a_confidence_as_it_stands_is_refused_where_a_rule_takes_scores_for_probabilities(comparer):
    pool = stored_pool(bound("optscale", {"s_min": 0.8, "alpha": 0.9, "n_max": 16}))
    engine = ReplayingEngine(table_of(pool), 4)
    for name, column, said in (
        ("optscale", "conf_mean", "numbers from 0 to 1, which conf_mean as it stands is not"),
        ("asc_conf", "logprob_mean", "weights of 0 or more, which logprob_mean as it stands is not"),
    ):
        with pytest.raises(UserError, match=said):
            solve([], engine, bound(name, dict(LIVE)[name]), comparer=comparer, confidence=OwnScore(column))
    with pytest.raises(UserError, match="there is no confidence 'conf'"):
        OwnScore("conf")


QUESTIONS = ["12+3", "45-6*2", "7*8+1-4", "99+9", "3+4+5", "50-20"]
PROBLEMS = [Problem(f"p{i}", question, "unknown") for i, question in enumerate(QUESTIONS)]
SHAPE = {"layers": 1, "hidden": 64, "heads": 2, "intermediate": 128, "steps": 100, "batch_size": 16, "learning_rate": 6e-3}
# Just enough to box an answer that is not always another one.
TOY = language_model.LanguageModelSettings(**SHAPE, previous_share=0.1, levels={1: 1.0, 2: 1.0})
SAMPLING = Sampling(temperature=0.5, max_tokens=40)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "lm"
    language_model.train(folder, 0, TOY, set())
    return folder


@pytest.fixture(scope="module", params=ON_EVERY_DEVICE)
def engine(request, model):
    if request.param == "vllm":
        pytest.importorskip("vllm")
    with open_engine(EngineSettings(str(model), request.param, batch_size=8)) as opened:
        yield opened


def assert_counted(run: Run, usage: Usage) -> None:
    ledger = run.ledger
    assert (ledger.prompt, ledger.cached_prompt) == (usage.prompt, usage.cached_prompt)
    assert (ledger.completion + ledger.prefetched, ledger.aborted) == (usage.completion, usage.aborted)
    for row in run.rows:
        assert row.ledger.completion == sum(s.completion.completion_tokens for s in row.samples)


def test_votes_on_a_real_engine_end_where_the_rule_says(engine, comparer):
    before = engine.usage()
    policy = make_policy("vote_lead", lead=2, n_max=12)
    run = solve(PROBLEMS, engine, policy, sampling=replace(SAMPLING, temperature=0.2), seed=3, comparer=comparer)
    assert_counted(run, engine.usage() - before)
    assert engine.outstanding == 0
    for row in run.rows:
        numbers = [json.loads(s.completion.request_id)[3] for s in row.samples]
        assert numbers == list(range(len(row.samples)))
        votes = [s.assessment.cluster for s in row.samples]
        leads = []
        for n in range(1, len(votes) + 1):
            counts = [*sorted(Counter(v for v in votes[:n] if v >= 0).values(), reverse=True), 0, 0]
            leads.append(counts[0] - counts[1])
        assert all(lead < 2 for lead in leads[:-1])
        assert leads[-1] == 2 if row.reason is Reason.LEAD else len(votes) == 12
    assert sum(row.prefetched + row.aborted for row in run.rows) > 0


def test_chains_on_a_real_engine_see_the_last_answer(engine, comparer):
    before = engine.usage()
    run = solve(PROBLEMS, engine, make_policy("mr_thinking", rounds=3), sampling=SAMPLING, chains=2, comparer=comparer)
    assert_counted(run, engine.usage() - before)
    assert len(run.rows) == 12
    for row in run.rows:
        previous = None
        for sample in row.samples:
            assert sample.completion.prompt_tokens == len(engine.encode(row.problem.question, previous))
            previous = sample.assessment.answer or previous


class ByLength:
    """A verifier that needs no model: the more digits, the better."""

    def score(self, questions, texts):
        share = np.array([sum(c.isdigit() for c in text) / max(1, len(text)) for text in texts])
        return Scores(share, share, np.full(len(texts), 7))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("optscale", {"s_min": 0.6, "alpha": 0.9, "n_max": 12}),
        ("markovscale_gate", {"rounds": 3}),
        ("markovscale_filter", {"rounds": 3}),
        ("vote_posterior", {"eps": 0.1, "n_min": 2, "n_max": 12}),
    ],
)
def test_every_method_stops_a_real_engine_as_its_samples_say(engine, comparer, name, options):
    policy = bound(name, options)
    before = engine.usage()
    run = solve(PROBLEMS, engine, policy, sampling=SAMPLING, seed=4, verifier=ByLength(), comparer=comparer, prefetch=2)
    assert_counted(run, engine.usage() - before)
    assert engine.outstanding == 0
    assert_as_its_samples_say(run, policy)


def assert_as_its_samples_say(run: Run, policy) -> None:
    # What was not drawn stays a hole, which a replay of the same rule must never reach.
    shape = (len(run.rows), policy.limit)
    cluster, score, tokens = np.full(shape, -1), np.full(shape, np.nan), np.zeros(shape, int)
    for i, row in enumerate(run.rows):
        for k, sample in enumerate(row.samples):
            cluster[i, k], score[i, k] = sample.assessment.cluster, sample.assessment.score
            tokens[i, k] = sample.completion.completion_tokens
    ids = tuple(row.problem.problem_id for row in run.rows)
    pool = Pool(policy.unit, np.arange(len(ids)), ids, cluster, cluster == 0, score, tokens, tokens, tokens, tokens)
    outcomes = replay(policy, pool, orders=1)
    assert [len(row.samples) for row in run.rows] == outcomes.drawn.tolist()
    assert [row.column for row in run.rows] == outcomes.column.tolist()
    assert [row.reason for row in run.rows] == [REASONS[code] for code in outcomes.reason]


OWN_SCORED = {
    "cisc": {"n": 6, "temperature": 0.1},
    "deepconf": {"n": 6, "keep": 0.5},
    "asc_conf": {"n_max": 8, "share": 0.7},
    "score_threshold": {"s_min": 0.7, "n_max": 8},
    "optscale": {"s_min": 0.6, "alpha": 0.9, "n_max": 8},
    "pandora": {"cost": 0.02, "n_max": 8},
    "markovscale_filter": {"rounds": 3},
}


@pytest.mark.parametrize("name", OWN_SCORED)
def test_the_log_probabilities_of_a_real_engine_stop_a_rule_as_its_samples_say(engine, comparer, name):
    policy, before = bound(name, OWN_SCORED[name]), engine.usage()
    own = OwnScore("logprob_mean", ScoreMap(np.array([-1.0, -0.3, 0.0]), np.array([0.1, 0.6, 0.9])))
    run = solve(PROBLEMS, engine, policy, sampling=SAMPLING, seed=6, confidence=own, comparer=comparer, prefetch=2)
    assert_counted(run, engine.usage() - before)
    samples = [sample for row in run.rows for sample in row.samples]
    mean = np.array([sample.completion.confidence.logprob_mean for sample in samples])
    assert np.array([sample.assessment.score for sample in samples]) == pytest.approx(own.score_map.of(mean))
    assert len(set(mean)) > 3 and run.ledger.verifier == 0
    assert_as_its_samples_say(run, policy)


def test_live_samples_are_those_of_a_pool_drawn_with_the_same_seed(model, comparer, tmp_path):
    with open_engine(EngineSettings(str(model), "transformers", batch_size=8)) as engine:
        plan = Plan("parallel", samples=6, sampling=SAMPLING, seed=5)
        generate_shard(PROBLEMS, engine, plan, tmp_path / "samples.parquet", {})
        policy = make_policy("self_consistency", n=6)
        run = solve(PROBLEMS, engine, policy, sampling=plan.sampling, seed=5, comparer=comparer)
    drawn = read_table(tmp_path / "samples.parquet", SAMPLES)
    assert [s.text for row in run.rows for s in row.samples] == drawn["text"].tolist()


class Killed(Exception):
    pass


class DyingEngine(ReplayingEngine):
    """Dies after some polls."""

    polls = 30

    def poll(self):
        self.polls -= 1
        if self.polls < 0:
            raise Killed
        return super().poll()


@pytest.mark.parametrize("name", ["vote_lead", "optscale", "markovscale_gate"])
def test_a_killed_run_resumes_to_the_same_decisions_and_draws_nothing_twice(name, comparer, tmp_path):
    policy = bound(name, dict(CASES)[name] if name != "optscale" else {"s_min": 0.8, "alpha": 0.9, "n_max": 16})
    pool, journal = stored_pool(policy, 3), tmp_path / "run.partial"
    with pytest.raises(Killed):
        drive(policy, pool, comparer, journal=journal, engine=DyingEngine)
    lines = journal.read_text().splitlines()
    before = {json.loads(json.loads(line)["completion"]["request_id"]).__repr__() for line in lines if '"completion": {' in line}
    assert len(before) == 30
    journal.write_bytes(journal.read_bytes()[:-7])  # the last line torn in the middle
    run, engine = drive(policy, pool, comparer, journal=journal)
    assert_same_decisions(run, replay(policy, pool, orders=1))
    journal.unlink()  # the caller's to remove
    drawn = [s.completion.request_id for row in run.rows for s in row.samples]
    assert len(drawn) == len(set(drawn))
    assert engine.usage().completion <= run.ledger.completion + run.ledger.prefetched


def test_another_run_does_not_continue_from_the_journal(comparer, tmp_path):
    policy = bound("vote_lead", {"lead": 3, "n_max": 16})
    pool, journal = stored_pool(policy, 3), tmp_path / "run.partial"
    with pytest.raises(Killed):
        drive(policy, pool, comparer, journal=journal, engine=DyingEngine)
    with pytest.raises(UserError, match="other settings"):
        drive(bound("vote_lead", {"lead": 4, "n_max": 16}), pool, comparer, journal=journal)


def test_what_cannot_run_live_says_so(comparer):
    pool = stored_pool(bound("score_threshold", {"s_min": 0.5, "n_max": 4}))
    engine = ReplayingEngine(table_of(pool), 4)
    problem = Problem("p0", "?", "")
    with pytest.raises(UserError, match="give a verifier"):
        solve([problem], engine, make_policy("best_of_n", n=2))
    with pytest.raises(UserError, match="comes twice"):
        solve([problem, problem], engine, make_policy("self_consistency", n=2))

    class Oracle(type(make_policy("self_consistency", n=2))):
        replay_only = True

    with pytest.raises(UserError, match="only in replays"):
        solve([problem], engine, Oracle(n=2))


def test_states_of_different_width_join():
    few, many = vote(empty_tally(2), np.array([0, 1])), vote(empty_tally(1), np.array([4]))
    joined = join([few, many])
    assert joined.counts.shape[0] == 3 and joined.counts.shape[1] >= 5
    assert joined.counts.sum(axis=1).tolist() == [1, 1, 1]
    assert joined.leader.tolist() == [0, 1, 4]
    again = take(joined, np.array([2]))
    assert vote(again, np.array([4])).first.tolist() == [2]
