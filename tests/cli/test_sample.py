"""`itscale sample`: from questions to a pool and to advice, on a server and on a model of the disk."""

import json

import pytest
from test_quirks import Say, chunk, server, used  # noqa: F401 (a fixture)

from itscale.cli import app, sampling
from itscale.data.records import POOL, SAMPLES, Unit, read_json, read_pool, read_table
from itscale.errors import UserError
from itscale.models import hub
from itscale.toytask.shipped import WEIGHTS


def questions(folder, count=6, **more):
    path = folder / "q.jsonl"
    rows = [{"question": f"{i}+{i}", "answer": str(2 * i), **more} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sample(*arguments):
    app(["sample", *map(str, arguments)], standalone_mode=False)


def adder(body):
    """A server that adds, and errs with every third seed."""
    left, right = body["messages"][0]["content"].split("\n")[0].split("+")
    wrong = body["seed"] % 3 == 0
    text = f"\\boxed{{{int(left) + int(right) + wrong}}}"
    return Say(events=[chunk(text, "stop"), {"choices": [], "usage": used(20, 10)}])


def test_a_server_becomes_a_pool_and_an_advice(server, tmp_path, capsys):  # noqa: F811
    server.answer = adder
    given = ("--model", server.url, "--problems", questions(tmp_path), "-n", 6, "--out", tmp_path / "mine")
    sample(*given)
    pool = read_pool(tmp_path / "mine" / "pool.parquet", Unit.SAMPLE)
    assert pool.cluster.shape == (6, 6) and len(server.asked) == 36
    table = read_table(tmp_path / "mine" / "pool.parquet", POOL)
    assert ((table["verdict"] == "correct") == (table["seed"] % 3 != 0)).all()
    assert table["score_mean"].isna().all() and (table["completion_tokens"] == 10).all()
    assert f"next: itscale advise --pool {tmp_path / 'mine'}" in capsys.readouterr().out
    app(["advise", "--pool", str(tmp_path / "mine")], standalone_mode=False)
    assert "next: itscale solve --policy" in capsys.readouterr().out
    sample(*given)  # again: nothing is drawn anew
    assert len(server.asked) == 36
    with pytest.raises(UserError, match="holds the samples of another run"):
        sample(*given, "--seed", 1)


def test_what_was_drawn_is_overwritten_by_no_import_and_no_slimmer_pool(server, tmp_path):  # noqa: F811
    server.answer = adder
    mine, other = tmp_path / "mine", tmp_path / "other.jsonl"
    sample("--model", server.url, "--problems", questions(tmp_path), "-n", 2, "--out", mine)
    before = (mine / "pool.parquet").read_bytes()
    other.write_text(json.dumps({"problem_id": "a", "gold": "4", "text": "\\boxed{4}"}) + "\n")
    with pytest.raises(UserError, match="samples that were drawn"):
        app(["import", str(other), "--out", str(mine)], standalone_mode=False)
    with pytest.raises(UserError, match="whose texts would be lost"):
        app(["slim", "--pool", str(mine), "--out", str(mine)], standalone_mode=False)
    with pytest.raises(UserError, match="the table's manifest takes"):
        app(["pool", "--samples", "s", "--grades", "g", "--out", str(tmp_path / "pool.json")], standalone_mode=False)
    with pytest.raises(UserError, match="--revision is a model's of the hub"):
        sample("--model", server.url, "--problems", questions(tmp_path), "--revision", "a" * 40, "--out", mine)
    assert (mine / "pool.parquet").read_bytes() == before


def test_completions_that_are_cut_off_come_with_the_remedy(server, tmp_path, capsys):  # noqa: F811
    def answer(body):
        ended = "stop" if body["seed"] % 2 else "length"
        return Say(events=[chunk("\\boxed{4}", ended), {"choices": [], "usage": used(20, 10)}])

    server.answer = answer
    sample("--model", server.url, "--problems", questions(tmp_path), "-n", 6, "--out", tmp_path / "cut", "--allow-unanswered")
    cut = (read_table(tmp_path / "cut" / "samples.parquet", SAMPLES)["seed"] % 2 == 0).sum()
    assert cut and f"{cut} of 36 samples were cut off: raise --max-tokens" in capsys.readouterr().out


def test_rounds_are_chains_and_each_sees_the_last_answer(server, tmp_path):  # noqa: F811
    server.answer = lambda body: adder({**body, "messages": [{"content": body["messages"][0]["content"].split("\n")[0]}]})
    sample("--model", server.url, "--problems", questions(tmp_path), "-n", 2, "--rounds", 3, "--out", tmp_path / "chains")
    pool = read_pool(tmp_path / "chains" / "pool.parquet", Unit.ROUND)
    assert pool.cluster.shape == (12, 3)
    assert sum("previous answer is" in json.dumps(body) for body in server.asked) == 24


def test_a_model_of_the_disk_is_scored_by_a_verifier(tmp_path):
    given = ("--model", WEIGHTS / "language_model", "--verifier", WEIGHTS / "reward_model", "-n", 4, "--max-tokens", 40)
    sample(*given, "--problems", questions(tmp_path), "--out", tmp_path / "toy", "--allow-unanswered")
    table = read_table(tmp_path / "toy" / "pool.parquet", POOL)
    assert len(table) == 24 and table["score_mean"].between(0, 1).any()


def test_a_model_of_the_hub_is_kept_at_its_revision(tmp_path, monkeypatch):
    """The hub itself is not asked here: its two answers stand in."""
    asked, linked = [], []
    monkeypatch.setattr(hub, "newest_revision", lambda path, what: asked.append(path) or "a" * 40)
    monkeypatch.setattr(hub, "fetch_model", lambda source, what, out: linked.append(source))
    assert sampling.resolved("owner/name", None, tmp_path) == "a" * 40
    assert read_json(tmp_path / "model.json") == {"model": "owner/name", "revision": "a" * 40}
    monkeypatch.setattr(hub, "newest_revision", lambda path, what: "b" * 40)
    assert sampling.resolved("owner/name", None, tmp_path) == "a" * 40  # the same command goes on with the same weights
    assert {(source.path, source.revision) for source in linked} == {("owner/name", "a" * 40)} and asked == ["owner/name"]
    with pytest.raises(UserError, match="holds samples of owner/name"):
        sampling.resolved("owner/other", None, tmp_path)


@pytest.mark.parametrize(
    ("model", "more", "said"),
    [("nowhere", {}, "is no folder: give one, a hub id"), ("http://127.0.0.1:9/v1", {"answer": ""}, "has no gold answer")],
)
def test_what_cannot_be_sampled_is_said_before_anything_is_drawn(model, more, said, tmp_path):
    with pytest.raises(UserError, match=said):
        sample("--model", model, "--problems", questions(tmp_path, **more), "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pool_without_its_texts_says_the_same(server, tmp_path):  # noqa: F811
    server.answer = adder
    sample("--model", server.url, "--problems", questions(tmp_path), "-n", 6, "--out", tmp_path / "mine")
    app(["slim", "--pool", str(tmp_path / "mine"), "--out", str(tmp_path / "slim")], standalone_mode=False)
    whole, slim = (read_pool(tmp_path / name / "pool.parquet", Unit.SAMPLE) for name in ("mine", "slim"))
    assert (whole.cluster == slim.cluster).all() and (whole.correct == slim.correct).all()
    assert (whole.completion_tokens == slim.completion_tokens).all()
    with pytest.raises(UserError, match="lacks"):
        read_table(tmp_path / "slim" / "pool.parquet", SAMPLES)
