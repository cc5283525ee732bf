"""Money: what a server's tokens cost, and that none are drawn that nobody asked for."""

import json

import numpy as np
import pytest
from test_quirks import Say, chunk, server, used  # noqa: F401 (a fixture)

from itscale.cli import app, solving
from itscale.data.ledger import Ledger, Price
from itscale.data.records import SAMPLES, Problem, Unit, read_json, read_table, write_problems
from itscale.drivers import generate as generating
from itscale.drivers.generate import Plan, generate_shard
from itscale.drivers.replay import replay
from itscale.engines import EngineSettings, open_engine, openai
from itscale.errors import UserError
from itscale.models.prompts import BOX
from itscale.policies import make_policy
from itscale.studies.compare import compare
from pools import random_pool


def questions(folder, count=6):
    path = folder / "q.jsonl"
    path.write_text("".join(json.dumps({"question": f"{i}+{i}", "answer": "7"}) + "\n" for i in range(count)))
    return path


def solve(server, folder, *more, rule=("vote_lead", "lead=3")):  # noqa: F811
    given = ["solve", "--model", server.url, "--policy", rule[0], "--set", rule[1], "--set", "n_max=16"]
    given += ["--problems", str(questions(folder)), "--out", str(folder / "a.jsonl"), *more]
    app(given, standalone_mode=False)
    rows = [json.loads(line) for line in (folder / "a.jsonl").read_text().splitlines()]
    return rows, read_json(folder / "a.json")


SEVEN = Say(
    events=[chunk("so \\boxed{7}", "stop"), {"choices": [], "usage": used(20, 10, prompt_tokens_details={"cached_tokens": 5})}]
)


def test_a_server_draws_no_sample_that_is_not_asked_for(server, tmp_path, capsys):  # noqa: F811
    server.answer = SEVEN
    rows, record = solve(server, tmp_path)
    assert len(server.asked) == 6 * 3 and record["tokens"]["prefetched"] == record["tokens"]["aborted"] == 0
    assert [row["answer"] for row in rows] == ["7"] * 6
    asked = len(server.asked)
    solve(server, tmp_path)
    assert len(server.asked) == asked and "which is done" in capsys.readouterr().out


@pytest.mark.parametrize(("given", "said"), [((), BOX), (("--instruction", ""), ""), (("--instruction", " Go."), " Go.")])
def test_the_box_is_asked_for_unless_it_is_not_wanted(server, tmp_path, given, said):  # noqa: F811
    server.answer = SEVEN
    solve(server, tmp_path, *given)
    # Requests go out together: which arrives first is open.
    asked = [{"role": "user", "content": f"{i}+{i}{said}"} for i in range(6)]
    assert sorted((body["messages"] for body in server.asked), key=str) == [[ask] for ask in asked for _ in range(3)]


def test_what_was_cut_off_is_counted_and_said_with_what_helps(server, tmp_path, capsys):  # noqa: F811
    cut = Say(events=[chunk("so \\boxed{7", "length"), {"choices": [], "usage": used(20, 10)}])
    answers = iter([cut])
    server.answer = lambda body: next(answers, SEVEN)
    solve(server, tmp_path)  # one of 19 is more than 5 %
    said = capsys.readouterr().out
    assert "1 of 19 samples have no answer, 1 were cut off: raise --max-tokens" in said


def test_a_promise_is_no_error_and_samples_without_answers_are(server, tmp_path, capsys):  # noqa: F811
    server.answer = SEVEN
    solve(server, tmp_path, rule=("vote_certified", "delta=0.05"))
    said = capsys.readouterr()
    assert said.out.count("of its own stops") == 1 and "of its own stops" not in said.err
    server.answer = Say(events=[chunk("seven", "stop")])
    given = ["--problems", str(questions(tmp_path, 1)), "--policy", "self_consistency", "--set", "n=4"]
    out = ["--out", str(tmp_path / "none.jsonl")]
    assert app(["solve", "--model", server.url, *given, *out], standalone_mode=False) == 1
    assert "samples have no answer" in capsys.readouterr().err


@pytest.mark.parametrize(("out", "message"), [("a.json", "the name that the record"), ("q.txt", "would overwrite .*q.json:")])
def test_a_record_overwrites_no_answers_and_no_questions(server, tmp_path, out, message):  # noqa: F811
    server.answer = SEVEN
    asked = tmp_path / "q.json"
    asked.write_text(json.dumps([{"question": "1+1", "answer": "2"}]))
    with pytest.raises(UserError, match=message):
        solve(server, tmp_path, "--problems", str(asked), "--out", str(tmp_path / out))
    assert json.loads(asked.read_text())[0]["answer"] == "2" and not server.asked


def test_a_run_that_was_killed_before_its_record_was_written_ends(server, tmp_path, monkeypatch):  # noqa: F811
    server.answer = SEVEN
    with monkeypatch.context() as killed:
        killed.setattr(solving, "write_record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(BaseException):  # noqa: B017
            solve(server, tmp_path)
    assert (tmp_path / "a.jsonl").exists() and not (tmp_path / "a.json").exists()
    asked = len(server.asked)
    rows, record = solve(server, tmp_path)
    assert len(server.asked) == asked and len(rows) == 6 and "run" in record


def test_prefetching_can_be_asked_for(server, tmp_path):  # noqa: F811
    server.answer = SEVEN
    solve(server, tmp_path, "--prefetch", "4")
    assert len(server.asked) > 6 * 3


def test_a_price_gives_dollars(server, tmp_path, capsys):  # noqa: F811
    server.answer = SEVEN
    price = {"prompt": 3.0, "cached": 0.3, "completion": 15.0}
    _, record = solve(server, tmp_path, "--engine", json.dumps({"price": price}))
    expected = 18 * (15 * 3.0 + 5 * 0.3 + 10 * 15.0) / 1e6
    assert record["dollars"] == pytest.approx(expected) and f"${expected:.4f}" in capsys.readouterr().out


def test_one_refused_question_is_one_bad_row(server, tmp_path, capsys):  # noqa: F811
    refused = Say({"error": {"message": "the prompt was flagged"}}, 400)
    left = [1, 1]

    def answer(body):
        return refused if body["messages"][0]["content"].startswith("2+2") and left and left.pop() else SEVEN

    server.answer = answer
    rows, record = solve(server, tmp_path)
    failures = [s for row in rows for s in row["samples"] if s["finish"] == "failed"]
    assert len(failures) == record["failed"] == 2 and len(server.asked) == 18 + 2
    assert all(s["failure"] == "the server refuses the request (status 400: the prompt was flagged)" for s in failures)
    assert [row["answer"] for row in rows] == ["7"] * 6
    assert "requests failed and count as unanswered: q0002: the server refuses" in capsys.readouterr().out


def test_a_question_that_is_always_refused_stops_nothing(server, tmp_path, capsys):  # noqa: F811
    refused = Say({"error": {"message": "the prompt was flagged"}}, 400)
    server.answer = lambda body: refused if body["messages"][0]["content"].startswith("2+2") else SEVEN
    rows, record = solve(server, tmp_path)
    assert [row["answer"] for row in rows].count("7") == 5 and record["failed"] == len(rows[2]["samples"])
    assert "requests failed and count as unanswered: q0002: the server refuses" in capsys.readouterr().out


def test_counts_that_are_estimates_are_said(server, tmp_path, capsys):  # noqa: F811
    server.answer = Say(events=[chunk("so \\boxed{7}", "stop")])
    rows, _ = solve(server, tmp_path)
    assert all(s["estimated"] for row in rows for s in row["samples"])
    assert "the tokens of 18 samples are estimates" in capsys.readouterr().out


def test_cached_tokens_cost_what_others_do_unless_they_have_a_price():
    ledger = Ledger(prompt=np.array([100]), cached_prompt=np.array([40]), completion=np.array([10]), aborted=np.array([2]))
    assert Price(2.0, None, 8.0).dollars(ledger).tolist() == pytest.approx([(100 * 2 + 12 * 8) / 1e6])
    assert Price(2.0, 0.5, 8.0).dollars(ledger).tolist() == pytest.approx([(60 * 2 + 40 * 0.5 + 12 * 8) / 1e6])
    with pytest.raises(UserError, match="prompt of Price is -1"):
        Price(-1.0)


def test_a_replay_has_a_column_of_dollars():
    pool, policy, price = random_pool(1), make_policy("vote_lead", lead=2, n_max=16), Price(1.0, 0.1, 4.0)
    main, *_ = compare([("votes", policy)], {Unit.SAMPLE: pool}, benchmark="b", orders=3, seed=0, price=price)
    ledger = replay(policy, pool, orders=3, seed=0).ledger
    assert main["dollars"][0] == pytest.approx(np.mean(price.dollars(ledger)))
    assert {"dollars_low", "dollars_high", "dollars_difference"} <= set(main.columns)


def test_a_pool_is_drawn_from_a_server_and_what_it_refused_is_written_down(server, tmp_path):  # noqa: F811
    def answer(body):
        return Say({"error": {"message": "Unsupported parameter: 'seed'", "param": "seed"}}, 400) if "seed" in body else SEVEN

    server.answer = answer
    write_problems(tmp_path / "problems.parquet", [Problem(f"p{i}", f"{i}+{i}", "7") for i in range(3)])
    for kind, plan in (("parallel", {"samples": 4}), ("chain", {"rounds": 3})):
        given = ["generate", "--plan", json.dumps({"kind": kind, **plan}), "--model", server.url]
        given += ["--problems", str(tmp_path / "problems.parquet"), "--out", str(tmp_path / f"{kind}.parquet")]
        app(given, standalone_mode=False)
        record, table = read_json(tmp_path / f"{kind}.json"), read_table(tmp_path / f"{kind}.parquet", SAMPLES)
        assert record["parameters"] == {"seed": None} and len(table) == 3 * (4 if kind == "parallel" else 3)
        assert set(table["text"]) == {"so \\boxed{7}"} and not table["tokens_estimated"].any()


def test_what_a_server_refused_is_said_of_samples_that_an_earlier_process_drew(server, tmp_path, monkeypatch):  # noqa: F811
    def answer(body):
        return Say({"error": {"message": "Unsupported parameter: 'seed'", "param": "seed"}}, 400) if "seed" in body else SEVEN

    server.answer = answer
    problems, out = [Problem(f"p{i}", f"{i}+{i}", "7") for i in range(3)], tmp_path / "s.parquet"

    def draw():
        with open_engine(EngineSettings(server.url)) as engine:
            generate_shard(problems, engine, Plan("parallel", samples=2), out, {})

    with monkeypatch.context() as killed:
        killed.setattr(generating, "write_blocks", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            draw()
    asked = len(server.asked)
    draw()
    assert len(server.asked) == asked and read_json(tmp_path / "s.json")["parameters"] == {"seed": None}


def test_tokens_of_a_stream_that_broke_off_are_paid_for_in_a_pool_too(server, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(openai, "_pause", lambda state: 0)
    server.models = Say({"data": [{"id": "m", "owned_by": "vllm"}]})  # which counts with every message
    broken = Say(events=[chunk("so ", usage=used(20, 3)), chunk("it ", usage=used(20, 4))], done=False)
    answers = iter([broken, broken])
    server.answer = lambda body: next(answers, SEVEN)
    with open_engine(EngineSettings(server.url)) as engine:
        generate_shard([Problem("p", "1+1", "7")], engine, Plan("parallel", samples=2), tmp_path / "s.parquet", {})
        counted = engine.usage()
    usage = read_json(tmp_path / "s.json")["usage"]
    assert usage["aborted"] == counted.aborted > 0 and usage["prompt"] == counted.prompt > 40
