"""Requests that fail: a row without an answer each, also on resume; too many of them end the job, which then sends them again."""

import json
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from stored import StoredScores, assert_same_decisions, bound, drive, stored_pool, table_of

from itscale.data.records import SAMPLES, Problem, Unit, read_json, read_table
from itscale.drivers.failures import Failures
from itscale.drivers.generate import Plan, carried, generate_shard
from itscale.drivers.live import solve
from itscale.drivers.replay import replay
from itscale.engines.protocol import Finish, Usage, failed
from itscale.engines.replaying import ReplayingEngine
from itscale.errors import UserError
from itscale.grading.comparison import Comparer
from itscale.models.prompts import PLAIN, PromptSettings
from itscale.policies import make_policy
from pools import random_pool


class Failing(ReplayingEngine):
    """Fails the requests of `bad`, keys as (problem, chain, round, sample); records what it was asked and what it served."""

    bad: ClassVar[frozenset] = frozenset()
    asked: ClassVar[list] = []
    served: ClassVar[list] = []

    def submit(self, requests):
        self.asked += [tuple(json.loads(r.request_id)) for r in requests]
        super().submit(requests)

    def poll(self):
        came = []
        for c in super().poll():
            if tuple(json.loads(c.request_id)) in self.bad:
                self._usage -= Usage(c.prompt_tokens, c.cached_prompt_tokens, c.completion_tokens)
                c = replace(failed(c, "the server said no"), lost=Usage(prompt=3))
                self._usage += c.lost
            else:
                self.served.append(tuple(json.loads(c.request_id)))
            came.append(c)
        return came


def failing(*bad):
    """The engine's class with a set of requests that fail."""
    return type("Failing", (Failing,), {"bad": frozenset(bad), "asked": [], "served": []})


def dying(engine, polls):
    """An engine's class whose process is killed after so many polls."""

    class Dying(engine):
        left = polls

        def poll(self):
            self.left -= 1
            if self.left < 0:
                raise RuntimeError("killed")
            return super().poll()

    return Dying


@pytest.fixture(scope="module")
def comparer():
    with Comparer() as opened:
        yield opened


def shard(tmp_path, pool, plan, engine):
    problems = [Problem(i, f"question {i}", "unknown") for i in pool.problem_ids]
    opened = engine(table_of(pool), 10)
    generate_shard(problems, opened, plan, tmp_path / "samples.parquet", {})
    return opened, read_table(tmp_path / "samples.parquet", SAMPLES), read_json(tmp_path / "samples.json")


def test_one_bad_request_is_one_bad_row(tmp_path, capsys):
    pool = random_pool(0, rows=6, size=8)
    bad = [("p1", 0, 0, 3), ("p4", 0, 0, 0)]
    _, table, manifest = shard(tmp_path, pool, Plan("parallel", samples=8), failing(*bad))
    rows = table[table["finish_reason"] == "failed"]
    assert list(rows[["problem_id", "sample"]].itertuples(index=False, name=None)) == [("p1", 3), ("p4", 0)]
    assert set(rows["failure"]) == {"the server said no"} and set(rows["text"]) == {""}
    assert table.loc[table["finish_reason"] != "failed", "failure"].isna().all()
    assert len(table) == 48 and manifest["failed"] == 2
    assert "2 of 48 requests failed and count as unanswered: p1: the server said no" in capsys.readouterr().err


def test_a_chain_goes_on_after_a_failed_round(tmp_path):
    pool = random_pool(0, rows=8, size=6, unit=Unit.ROUND)
    engine, table, _ = shard(tmp_path, pool, Plan("chain", rounds=6), failing(("p2", 0, 2, 0)))
    assert table[table["finish_reason"] == "failed"][["problem_id", "round"]].values.tolist() == [["p2", 2]]
    assert len(engine.asked) == len(set(engine.asked)) == 48


@pytest.mark.parametrize("unit", list(Unit))
def test_too_many_failures_stop_a_shard_and_are_sent_again(tmp_path, unit):
    chain = unit is Unit.ROUND
    pool = random_pool(0, rows=5, size=8, unit=unit)
    plan = Plan("chain", rounds=8) if chain else Plan("parallel", samples=8)
    whole = shard(tmp_path / "whole", pool, plan, failing())[1]
    bad = [("p0", 0, *((k, 0) if chain else (0, k))) for k in range(2, 8)]
    broken = failing(*bad)
    said = r"5 of \d+ requests failed, too many to go on: p0: the server said no\. .*the same command"
    with pytest.raises(UserError, match=said):
        shard(tmp_path, pool, plan, broken)
    engine, table, manifest = shard(tmp_path, pool, plan, failing())
    assert table["text"].tolist() == whole["text"].tolist() and manifest["failed"] == 0
    kept = {key for key in broken.served if not chain or key[0] != "p0" or key[2] < 2}
    assert len(kept) > 3 and not kept & set(engine.asked)
    assert {key for key in bad if key in broken.asked} <= set(engine.asked)


def test_a_failed_row_stays_as_it_is_when_a_killed_shard_goes_on(tmp_path):
    pool = random_pool(0, rows=6, size=8)
    plan, bad = Plan("parallel", samples=8), ("p0", 0, 0, 0)
    with pytest.raises(RuntimeError, match="killed"):
        shard(tmp_path, pool, plan, dying(failing(bad), 30))
    engine, table, _ = shard(tmp_path, pool, plan, failing())
    assert bad not in engine.asked
    assert table.set_index(["problem_id", "sample"]).loc[("p0", 0), "finish_reason"] == "failed"


def noted(found, *counts):
    """Take down so many failed and served requests of each question, the failed ones first."""
    for i, (bad, good) in enumerate(counts):
        for finish in [Finish.FAILED] * bad + [Finish.STOP] * good:
            found.note(f"q{i}", finish, "no" if finish is Finish.FAILED else None)
    return found


def test_a_server_that_serves_nobody_is_left_after_ten_questions():
    found = noted(Failures(1319, 64), *[(2, 0)] * 9)
    assert not found.too_many()
    found.note("q9", Finish.FAILED, "no")
    assert found.too_many()
    found.note("q10", Finish.STOP, None)
    assert not found.too_many()


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize(
    ("questions", "refused", "stops"), [(6, 1, False), (8, 1, False), (8, 2, True), (30, 3, False), (30, 4, True)]
)
def test_a_question_that_is_refused_for_good_counts_once(questions, refused, stops, planned):
    counts = [(64, 0)] * refused + [(0, 64)] * (questions - refused)
    for ended in (False, True):
        assert noted(Failures(questions, 64, planned=planned), *counts).too_many(ended=ended) is stops
    # Of an only question nothing is left.
    assert noted(Failures(1, 64, planned=planned), (64, 0)).too_many(ended=True)


def test_a_tenth_is_one_of_what_a_run_that_stops_early_has_sent():
    """29 of 149 requests, of a run that might have sent 640; one in four of the first is no share yet."""
    counts = [(3, 12)] * 9 + [(2, 12)]
    assert not noted(Failures(10, 64), *counts).too_many()
    assert noted(Failures(10, 64, planned=False), *counts).too_many()
    few = noted(Failures(10, 64, planned=False), (2, 6))
    assert not few.too_many() and few.too_many(ended=True)


def test_the_first_three_reasons_are_said():
    found = Failures(10, 1)
    for i, reason in enumerate(["a", "a", "b", "c", "d"]):
        found.note(f"q{i}", Finish.FAILED, reason)
    assert found.reasons() == "q0: a; q2: b; q3: c"


def test_a_shard_of_a_few_questions_ends_with_one_that_is_always_refused(tmp_path):
    pool = random_pool(0, rows=8, size=16)
    bad = [("p3", 0, 0, k) for k in range(16)]
    _, table, manifest = shard(tmp_path, pool, Plan("parallel", samples=16), failing(*bad))
    assert set(table.loc[table["finish_reason"] == "failed", "problem_id"]) == {"p3"} and manifest["failed"] == 16
    with pytest.raises(UserError, match="has to be left out"):
        shard(tmp_path / "two", pool, Plan("parallel", samples=16), failing(*bad, *[("p5", 0, 0, k) for k in range(16)]))


class Counting:
    """An engine whose tokens are characters, or (`server`) that does not say."""

    def __init__(self, server):
        self.server, self.prompts = server, PLAIN

    def encode(self, question, previous):
        text = f"{question}|{previous}" if previous is not None else question
        return text if self.server else tuple(map(ord, text))


@pytest.mark.parametrize(("server", "fits"), [(False, 200), (True, 800)])
def test_a_runaway_answer_is_not_carried(server, fits):
    engine = Counting(server)
    for length in (1, 150, fits):
        assert carried(engine, "q", "", "9" * length, "7") == "9" * length
    assert carried(engine, "q", "", "9" * (fits + 1), "7") == "7"
    assert carried(engine, "q", "", None, "7") == "7" and carried(engine, "q", "", None, None) is None


def test_the_published_prompt_carries_the_first_box_of_the_last_output():
    engine = Counting(False)
    engine.prompts = PromptSettings(form="published")
    assert carried(engine, "q", r"\boxed{4}, no, \boxed{5}", "5", "7") == "4"
    assert carried(engine, "q", "I give up.", None, "7") == ""
    assert carried(engine, "q", "The answer is 5.", "5", None) == ""
    assert carried(engine, "q", f"\\boxed{{{'9' * 201}}}", "9" * 201, "7") == ""


def test_budget_forcing_carries_all_that_was_said_and_of_a_thinking_model_its_thought():
    engine = Counting(False)
    engine.prompts = PromptSettings(form="forced", wait=" Wait,")
    assert carried(engine, "q", r"\boxed{4}", "4", None) == r"\boxed{4} Wait,"
    assert carried(engine, "q", " 5.", None, r"\boxed{4} Wait,") == r"\boxed{4} Wait, 5. Wait,"
    assert carried(engine, "q", r"<think>Let me see.</think>\boxed{4}", "4", None) == "<think>Let me see. Wait,"


def test_budget_forcing_asks_the_same_live_as_in_a_stored_chain(comparer, tmp_path):
    pool = random_pool(0, rows=2, size=4, unit=Unit.ROUND)
    problems = [Problem(i, f"question {i}", "unknown") for i in pool.problem_ids]
    asked = []
    for live in (False, True):
        prompts = set()

        class Seen(ReplayingEngine):
            def encode(self, question, previous, prompts=prompts):
                prompts.add((question, previous))
                return f"{question} {previous}"

        engine = Seen(table_of(pool), 4)
        engine.prompts = PromptSettings(form="forced", wait=" Wait,")
        if live:
            solve(problems, engine, make_policy("mr_thinking", rounds=4), comparer=comparer, allow_unanswered=True)
        else:
            generate_shard(problems, engine, Plan("chain", rounds=4), tmp_path / "samples.parquet", {})
        asked.append(prompts)
    assert asked[0] == asked[1] and len(asked[0]) == 8
    assert {previous.count(" Wait,") for _, previous in asked[0] if previous} == {1, 2, 3}


def test_a_chain_under_the_published_prompt_asks_with_an_empty_box_where_no_answer_came(tmp_path):
    pool = random_pool(0, rows=1, size=4, unit=Unit.ROUND)
    table = table_of(pool)
    table["text"] = [r"\boxed{3} or \boxed{4}", "I do not know.", r"\boxed{5}", r"\boxed{6}"]
    prompts = []

    class Published(ReplayingEngine):
        def encode(self, question, previous):
            prompts.append(previous)
            return f"{question} {previous}"

    engine = Published(table, 4)
    engine.prompts = PromptSettings(form="published")
    problems = [Problem(i, f"question {i}", "unknown") for i in pool.problem_ids]
    generate_shard(problems, engine, Plan("chain", rounds=4), tmp_path / "samples.parquet", {})
    assert prompts == [None, "3", "", "5"]


def test_a_runaway_answer_ends_no_chain(tmp_path):
    """The next prompt of a chain never holds it, so that the window cannot be exceeded by it."""
    pool = random_pool(0, rows=2, size=4, unit=Unit.ROUND)
    table = table_of(pool)
    table.loc[0, "text"] = f"\\boxed{{{'9' * 4080}}}"
    prompts = []

    class Seen(ReplayingEngine):
        def encode(self, question, previous):
            prompts.append(previous)
            return f"{question} {previous}"

    problems = [Problem(i, f"question {i}", "unknown") for i in pool.problem_ids]
    generate_shard(problems, Seen(table, 4), Plan("chain", rounds=4), tmp_path / "samples.parquet", {})
    assert read_table(tmp_path / "samples.parquet", SAMPLES)["text"][0] == table["text"][0]
    # Where the answer is measured it is seen once; no request carries it.
    asked = [p for p in prompts if p is not None and len(p) > 800]
    assert len(asked) == 1


@pytest.mark.parametrize("name", ["vote_lead", "optscale"])
def test_a_failed_request_is_an_unanswered_sample_of_a_live_run(name, comparer, tmp_path):
    options = {"lead": 3, "n_max": 16} if name == "vote_lead" else {"s_min": 0.8, "alpha": 0.9, "n_max": 16}
    policy, bad = bound(name, options), [("p1", 0, 0, 1), ("p5", 0, 0, 0)]
    pool = stored_pool(policy, 3)
    run, engine = drive(policy, pool, comparer, engine=failing(*bad), journal=tmp_path / "run.partial")
    for problem, _, _, k in bad:
        i = pool.problem_ids.index(problem)
        pool.cluster[i, k], pool.score[i, k], pool.completion_tokens[i, k] = -1, np.nan, 0
        assert run.rows[i].samples[k].completion.finish is Finish.FAILED and run.rows[i].samples[k].text == ""
    outcomes = replay(policy, pool, orders=1)
    assert [len(row.samples) for row in run.rows] == outcomes.drawn.tolist()
    assert [row.column for row in run.rows] == outcomes.column.tolist()
    ledger, usage = run.ledger, engine.usage()
    assert (ledger.prompt, ledger.completion + ledger.prefetched) == (usage.prompt, usage.completion)
    assert "2 of" in run.summary() and "the server said no" in run.summary()


@pytest.mark.parametrize("name", ["self_consistency", "mr_thinking"])
def test_a_live_run_with_too_many_failures_stops_and_ends_as_if_none_had_been(name, comparer, tmp_path):
    policy = make_policy(name, **{"n": 16} if name == "self_consistency" else {"rounds": 8})
    pool, journal = stored_pool(policy, 3), tmp_path / "run.partial"
    sequential = policy.unit is Unit.ROUND
    bad = {(p, 0, *((k, 0) if sequential else (0, k))) for p in pool.problem_ids for k in (1, 2, 4)}
    with pytest.raises(UserError, match=r"too many to go on: p\d+: the server said no"):
        drive(policy, pool, comparer, engine=failing(*bad), journal=journal)
    carried_on = []

    class Carrying(failing()):
        def encode(self, question, previous):
            carried_on.append(previous)
            return super().encode(question, previous)

    run, engine = drive(policy, pool, comparer, engine=Carrying, journal=journal)
    assert all(previous is None or previous.isdigit() for previous in carried_on)
    assert any(carried_on) == sequential
    assert_same_decisions(run, replay(policy, pool, orders=1))
    assert not run.failures and set(engine.asked) & bad
    assert run.ledger.completion + run.ledger.prefetched >= engine.usage().completion


def test_requests_that_failed_are_no_samples_without_an_answer(comparer, tmp_path):
    """Most of the first samples fail: the reason is said, and the resumed run is not refused for them."""
    policy = make_policy("self_consistency", n=16)
    pool, journal = stored_pool(policy, 3), tmp_path / "run.partial"
    bad = {(p, 0, 0, k) for p in pool.problem_ids for k in range(12)}
    with pytest.raises(UserError, match="too many to go on"):
        drive(policy, pool, comparer, engine=failing(*bad), journal=journal, allow_unanswered=False)
    run, _ = drive(policy, pool, comparer, journal=journal, allow_unanswered=False)
    assert_same_decisions(run, replay(policy, pool, orders=1))


def test_a_run_without_a_journal_says_that_nothing_was_kept(comparer):
    policy = make_policy("self_consistency", n=4)
    pool = stored_pool(policy, 3)
    bad = {(p, 0, 0, k) for p in pool.problem_ids for k in range(4)}
    with pytest.raises(UserError, match="Nothing was kept"):
        drive(policy, pool, comparer, engine=failing(*bad))


def test_texts_of_a_run_lie_in_its_journal_and_can_be_read_when_it_is_gone(comparer, tmp_path):
    policy = make_policy("self_consistency", n=4)
    pool, journal = stored_pool(policy, 3), tmp_path / "run.partial"
    run, _ = drive(policy, pool, comparer, journal=journal)
    journal.unlink()
    assert all(s.completion.text is None for row in run.rows for s in row.samples)
    assert [s.text.split("\n")[0] for s in run.rows[2].samples] == [f"row 2, column {k}" for k in range(4)]
    table = table_of(pool)
    problems = [Problem(i, f"question {i}", "unknown") for i in pool.problem_ids]
    again = solve(problems, ReplayingEngine(table, 10), policy, comparer=comparer, verifier=StoredScores(table))
    assert [s.text for row in run.rows for s in row.samples] == [s.text for row in again.rows for s in row.samples]


def test_a_shard_does_not_go_on_within_another_window(tmp_path):
    pool, plan = random_pool(0, rows=6, size=8), Plan("parallel", samples=8)
    with pytest.raises(RuntimeError, match="killed"):
        shard(tmp_path, pool, plan, dying(type("Wide", (failing(),), {"window": 512}), 20))
    with pytest.raises(
        UserError, match=r"window of 512 tokens, and the engine has one of 128 now: set engine\.max_model_len to 512"
    ):
        shard(tmp_path, pool, plan, type("Narrow", (failing(),), {"window": 128}))
    _, table, manifest = shard(tmp_path, pool, plan, type("Same", (failing(),), {"window": 512}))
    assert len(table) == 48 and manifest["window"] == 512


def test_the_bar_shows_tokens_while_they_are_drawn(comparer, tmp_path, capsys):
    class Drawing(failing()):
        def under_way(self):
            return 1_000_000

    pool = random_pool(0, rows=2, size=4)
    engine, *_ = shard(tmp_path, pool, Plan("parallel", samples=4), Drawing)
    assert f"tokens={1_000_000 + engine.usage().completion}" in capsys.readouterr().err
    policy = make_policy("self_consistency", n=4)
    stored = stored_pool(policy, 3)
    _, engine = drive(policy, stored, comparer, engine=Drawing, shown=True)
    assert f"tokens={1_000_000 + engine.usage().completion}" in capsys.readouterr().err
