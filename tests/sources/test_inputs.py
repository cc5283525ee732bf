"""What users bring: benchmarks from a folder, samples of their own, settings on the command line, and their mistakes."""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

import pandas as pd
import pytest

from itscale.cli import main
from itscale.data.records import Unit, read_pool, read_problems
from itscale.errors import UserError
from itscale.sources.datasets import DatasetSource, normalise, read_dataset
from itscale.sources.samples import import_samples


def itscale(*arguments: object, code: int = 0) -> str:
    """Run a command line in this process, see how it ends, and return what it prints, or what it says of a mistake."""
    out, said = io.StringIO(), io.StringIO()
    words = patch.object(sys, "argv", ["itscale", *map(str, arguments)])
    with words, redirect_stdout(out), redirect_stderr(said), pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code or 0) == code, said.getvalue()
    return said.getvalue() if code else out.getvalue()


@pytest.fixture
def folder(tmp_path):
    rows = {
        "problem": ["1 + 1 = ?", "2 + 2 = ?", "1 +  1 = ?", "3 + 3 = ?"],
        "solution": ["so\n#### 2", "so\n#### 4", "so\n#### 2", "#### no\n#### 6"],
        "subject": ["a", "b", "a", "c"],
    }
    (tmp_path / "bench").mkdir()
    pd.DataFrame(rows).to_parquet(tmp_path / "bench" / "test-00000-of-00001.parquet")
    return tmp_path / "bench"


def source(folder, **changes):
    options = {"question": "problem", "answer": "solution", "level": "subject", "answer_after": "####"}
    return DatasetSource(str(folder), **(options | changes))


def test_a_local_folder_becomes_problems_without_repetition(folder):
    problems = read_dataset(source(folder), "mini", frozenset({normalise("3 + 3 =  ?")}))
    assert [(p.problem_id, p.question, p.answer, p.level) for p in problems] == [
        ("mini-0000", "1 + 1 = ?", "2", "a"),
        ("mini-0001", "2 + 2 = ?", "4", "b"),
    ]


@pytest.mark.parametrize("name", ["main", ("algebra", "geometry")])
def test_plain_files_in_place_of_a_data_set_with_configurations_are_read_once(folder, name):
    assert read_dataset(source(folder, name=name), "mini") == read_dataset(source(folder), "mini")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": "gold"}, "no column 'gold'.*problem, solution, subject"),
        ({"answer_after": "@@"}, "row 0 .* has no answer"),
        ({"split": "train"}, "cannot be read"),
    ],
)
def test_a_benchmark_that_does_not_fit_says_where(folder, changes, message):
    with pytest.raises(UserError, match=message):
        read_dataset(source(folder, **changes), "mini")


def test_a_hub_benchmark_needs_a_pinned_revision():
    with pytest.raises(UserError, match="set revision"):
        read_dataset(DatasetSource("someone/something", revision="main"), "mini")


def test_benchmark_command_writes_problems(folder, tmp_path):
    out = tmp_path / "problems.parquet"
    options = {"path": str(folder), "question": "problem", "answer": "solution", "answer_after": "####"}
    itscale("dataset", "--source", json.dumps(options), "--label", "mini", "--out", out)
    assert [p.answer for p in read_problems(out)] == ["2", "4", "6"]


ROWS = [
    {"problem_id": 7, "question": "1+1", "gold": "2", "output": "\\boxed{2}", "completion_tokens": 3, "score_mean": 0.9},
    {"problem_id": 7, "question": "1+1", "gold": "2", "output": "\\boxed{2.0}", "completion_tokens": 4, "score_mean": None},
    {"problem_id": 8, "question": "2+2", "gold": "4", "output": "\\boxed{5}", "completion_tokens": 5, "score_mean": 0.1},
    {"problem_id": 8, "question": "2+2", "gold": "4", "output": "none", "completion_tokens": 6, "score_mean": 0.2},
]


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_imported_samples_become_a_pool(tmp_path, suffix):
    path = tmp_path / f"mine.{suffix}"
    pd.DataFrame(ROWS).to_parquet(path) if suffix == "parquet" else written(path, ROWS)
    itscale("import", path, "--column", "text=output", "--out", tmp_path / "pool")
    pool = read_pool(tmp_path / "pool" / "pool.parquet", Unit.SAMPLE)
    assert pool.problem_ids == ("7", "8")
    assert pool.correct.tolist() == [[True, True], [False, False]]
    assert pool.cluster.tolist() == [[0, 0], [0, -1]]
    assert pool.completion_tokens.tolist() == [[3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score_mean": 1.5}, "row 3 has a score_mean outside 0 to 1"),
        ({"score_mean": "high"}, "row 3 has a score_mean that is no number"),
        ({"completion_tokens": -1}, "row 3 has a completion_tokens that is no count"),
        ({"gold": None}, "row 3 has no gold"),
        ({"problem_id": 7}, "row 3 has another question"),
    ],
)
def test_a_bad_row_is_named(tmp_path, change, message):
    rows = [*ROWS[:2], {**ROWS[2], **change}, ROWS[3]]
    with pytest.raises(UserError, match=message):
        import_samples([written(tmp_path / "mine.jsonl", rows)], {"text": "output"})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{**row, "sample": 0} for row in ROWS], r"row 2 repeats a sample \(2 such"),
        ([], "holds no samples"),
    ],
)
def test_samples_that_come_twice_or_not_at_all_are_refused(tmp_path, rows, message):
    with pytest.raises(UserError, match=message):
        import_samples([written(tmp_path / "mine.jsonl", rows)], {"text": "output"})


def test_samples_may_be_numbered_and_unscored_and_hold_any_text(tmp_path):
    text = "first\u2028second\x0bthird\r\\boxed{2}"
    rows = [{**row, "sample": 1 - i % 2, "output": text} for i, row in enumerate(ROWS)]
    for row in rows:
        row.pop("score_mean")
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    found = import_samples([path], {"text": "output"})
    assert [p.answer for p in found.problems] == ["2", "4"]
    assert found.samples["text"].tolist() == [text] * 4
    assert found.samples["completion_tokens"].tolist() == [4, 3, 6, 5]
    assert found.scores["score_mean"].isna().all()


def test_a_torn_line_is_named(tmp_path):
    path = written(tmp_path / "mine.jsonl", ROWS)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(UserError, match="line 4 is not JSON"):
        import_samples([path], {"text": "output"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["step", "problems", "--seed", "0", "--out", "x", "--settings", '{"tets": 3}'], "unknown key 'tets'"),
        (["step", "problems", "--seed", "0", "--out", "x", "--settings", "{tets"], "--settings is not valid JSON"),
        (["figure", "accuracy", "--table", "x", "--benchmark", "b", "--out", "y"], "choose one of accuracy_n"),
        (["import", "missing.jsonl", "--out", "x"], "missing.jsonl does not exist"),
        (["grade", "--problems", "no.parquet", "--samples", "no.parquet", "--out", "x"], "run the rule that makes it first"),
    ],
)
def test_mistakes_on_the_command_line_get_one_sentence(arguments, message, tmp_path):
    said = itscale(*arguments, code=1)
    assert message in said and len(said.strip().splitlines()) == 1


@pytest.mark.slow
def test_every_command_explains_itself():
    overview = itscale("--help")
    for command in ("generate", "grade", "import", "calibrate", "replay", "report", "figure"):
        assert command in overview
        assert "--out" in itscale(command, "--help")
