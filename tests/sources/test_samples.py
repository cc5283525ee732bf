"""Samples as other people and other tools keep them: each kind of file and column gives the pool that it says."""

import gzip
import hashlib
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from itscale.cli.options import app
from itscale.cli.pools import parse_columns
from itscale.data.records import POOL, Problem, Unit, read_any_pool, read_json, read_pool, read_table, write_table
from itscale.errors import UserError
from itscale.sources.datasets import normalise
from itscale.sources.samples import import_samples, part_of, read_questions
from itscale.sources.scores import mapped_scores

ROWS = [
    {"problem_id": name, "question": question, "gold": gold, "text": f"We get \\boxed{{{answer}}}", "completion_tokens": 10 + i}
    for name, question, gold, answers in (("a", "Half of 14?", "7", "778"), ("b", "Twice 6?", "12", ("12", "3", "12")))
    for i, answer in enumerate(answers)
]


def jsonl(path, rows, mark=""):
    path.write_text(mark + "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def texts(found):
    return [text.partition("{")[2].rstrip("}") for text in found.samples["text"]]


def pool_of(folder, *arguments, code=0):
    done = CliRunner().invoke(app, ["import", *map(str, arguments), "--out", str(folder / "pool")])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


# Files.


def written(path, rows):
    """The rows in a file of the kind that its name says."""
    name = path.name.removesuffix(".gz")
    plain = path.with_name(name)
    frame = pd.DataFrame(rows)
    match name.rpartition(".")[2]:
        case "jsonl":
            jsonl(plain, rows)
        case "json":
            plain.write_text(json.dumps(rows, indent=1))
        case "csv":
            frame.to_csv(plain, index=False)
        case "parquet":
            frame.to_parquet(plain)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
def test_every_kind_of_file_gives_the_same_samples(tmp_path, suffix, packed):
    found = import_samples([written(tmp_path / f"mine.{suffix}{packed}", ROWS)])
    assert found.problems == [Problem("a", "Half of 14?", "7"), Problem("b", "Twice 6?", "12")]
    assert texts(found) == ["7", "7", "8", "12", "3", "12"]
    assert found.samples["completion_tokens"].tolist() == [10, 11, 12] * 2
    assert not found.counted and found.answers is None and found.correct is None


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path, suffix):
    path = written(tmp_path / f"mine.{suffix}", ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(import_samples([path]).samples) == 6


def test_json_may_be_an_object_with_one_list_or_lines_by_another_name(tmp_path):
    (tmp_path / "one.json").write_text(json.dumps({"model": "m", "seeds": [1, 2], "rows": ROWS}))
    jsonl(tmp_path / "two.json", ROWS)
    (tmp_path / "three.jsonl").write_text(json.dumps(ROWS, indent=2))
    for name in ("one.json", "two.json", "three.jsonl"):
        assert texts(import_samples([tmp_path / name])) == ["7", "7", "8", "12", "3", "12"]


def test_lines_of_a_csv_may_hold_commas_quotes_and_newlines_and_numbers_stay_texts(tmp_path):
    rows = [{**ROWS[0], "gold": "007", "text": 'say "seven",\nthen \\boxed{007}'}]
    found = import_samples([written(tmp_path / "mine.csv", rows)])
    assert found.problems[0].answer == "007"
    assert found.samples["text"].tolist() == ['say "seven",\nthen \\boxed{007}']


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine.txt", b"x", "is of a kind that is not read: convert it"),
        ("mine.eval", b"x", "inspect log dump"),
        ("mine.jsonl.gz", b"not gzip", "cannot be unpacked"),
        ("mine.jsonl.gz", gzip.compress(b'{"question": "1"}\n' * 500, mtime=0)[:-20], "cannot be unpacked"),
        ("mine.parquet.gz", gzip.compress(b"PAR1", mtime=0), "cannot be read as Parquet"),
        ("mine.csv", b"a,b\n1,2\n1,2,3\n", "line 3"),
        ("mine.csv", b"question,gold,text\n1,2,so,3\n4,5,so,6\n", "more fields than its header"),
        ("mine.csv", b"", "holds no samples"),
        ("mine.csv", "a\nna\xefve\n".encode("latin-1"), "is not UTF-8"),
        ("mine.json", b'{"a": 1}', "has no column 'text'.*it has a"),
        ("mine.json", b'"a"', "holds no list of objects"),
        ("mine.json", b"[1]", "row 1 is not a JSON object"),
        ("mine.json", b'{"a": ', "is not JSON"),
        ("mine.json", b'{"a": [{}], "b": [{}]}', r"several lists of objects \(a, b\)"),
        ("mine.jsonl", b"{}\n[1]\n", "line 2 is not a JSON object"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as refused:
        import_samples([tmp_path / name])
    assert name in str(refused.value)


# Columns.


def test_a_named_column_wins_over_one_that_is_called_so(tmp_path):
    rows = [{**row, "text": "the prompt", "mine": row["text"]} for row in ROWS]
    found = import_samples([jsonl(tmp_path / "mine.jsonl", rows)], {"text": "mine"})
    assert texts(found) == ["7", "7", "8", "12", "3", "12"]
    assert "not read: text" in found.notes


def test_usual_names_and_nested_columns_are_found_and_said(tmp_path):
    rows = [
        {"meta": {"q": r["question"], "keys": [r["gold"]]}, "id": r["problem_id"], "response": r["text"], "num_tokens": 5}
        for r in ROWS
    ]
    found = import_samples([jsonl(tmp_path / "mine.jsonl", rows)], {"question": "meta.q", "gold": "meta.keys.0"})
    assert [p.answer for p in found.problems] == ["7", "12"]
    assert found.samples["completion_tokens"].tolist() == [5] * 6
    assert "text from response" in found.notes[0] and "problem_id from id" in found.notes[0]


def test_an_answer_beside_a_text_is_the_gold_answer_where_there_is_no_other(tmp_path):
    rows = [{"question": r["question"], "answer": r["gold"], "text": r["text"]} for r in ROWS]
    found = import_samples([jsonl(tmp_path / "mine.jsonl", rows)])
    assert [p.answer for p in found.problems] == ["7", "12"] and found.answers is None
    assert any("gold from answer" in note for note in found.notes)


def test_without_ids_rows_of_one_question_are_its_samples(tmp_path):
    rows = [{**row, "problem_id": None} for row in ROWS]
    found = import_samples([jsonl(tmp_path / "mine.jsonl", rows)])
    assert found.samples["problem_id"].tolist() == ["q0000"] * 3 + ["q0001"] * 3
    assert any("no ids" in note for note in found.notes)


def test_ids_of_rows_are_no_ids_of_questions(tmp_path):
    rows = [{"id": f"row{i}"} | {k: v for k, v in row.items() if k != "problem_id"} for i, row in enumerate(ROWS)]
    path = jsonl(tmp_path / "mine.jsonl", rows)
    assert len(import_samples([path]).problems) == 2
    assert len(import_samples([path], {"problem_id": "id"}).problems) == 6  # one is told otherwise
    assert len(import_samples([jsonl(path, [{**row, "gold": str(i)} for i, row in enumerate(rows)])]).problems) == 6


def test_without_token_counts_samples_are_counted_and_called_so(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "completion_tokens"} for row in ROWS]
    output = pool_of(tmp_path, jsonl(tmp_path / "mine.jsonl", rows))
    assert "samples are counted" in output
    assert read_pool(tmp_path / "pool" / "pool.parquet", Unit.SAMPLE).completion_tokens.tolist() == [[1, 1, 1]] * 2
    assert read_json(tmp_path / "pool" / "samples.json")["counted"] is True


@pytest.mark.parametrize(("counted", "unit"), [(True, " samples a question"), (False, " completion tokens a question")])
def test_advice_on_counted_samples_speaks_of_samples(tmp_path, counted, unit):
    rows = [{**row, "problem_id": f"{row['problem_id']}{i}"} for i in range(3) for row in ROWS]
    left_out = ("--column", "completion_tokens=") if counted else ()
    pool_of(tmp_path, jsonl(tmp_path / "mine.jsonl", rows), *left_out)
    done = CliRunner().invoke(app, ["advise", "--pool", str(tmp_path / "pool"), "--accuracy", "0.1"])
    assert unit in done.output


def test_what_can_be_counted_is_kept(tmp_path):
    extra = {"finish_reason": "max_tokens", "prompt_tokens": 3, "verifier_tokens": 4, "conf_min": 0.25, "logprob_mean": -0.5}
    found = import_samples([jsonl(tmp_path / "mine.jsonl", [{**row, **extra, "level": "easy"} for row in ROWS])])
    assert set(found.samples["finish_reason"]) == {"length"}
    assert set(found.samples["conf_min"]) == {0.25} and set(found.samples["logprob_mean"]) == {-0.5}
    assert set(found.samples["prompt_tokens"]) == {3} and set(found.scores["verifier_tokens"]) == {4}
    assert {p.level for p in found.problems} == {"easy"}


def test_a_column_can_be_left_out(tmp_path):
    rows = [{**row, "score_mean": 7.0} for row in ROWS]
    found = import_samples([jsonl(tmp_path / "mine.jsonl", rows)], {"score_mean": ""})
    assert found.scores["score_mean"].isna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": 5}, r"mine.jsonl: row 2 has a text that is none, 5 \(1 such row\(s\)\): name the column"),
        ({"gold": ""}, "row 2 has an empty gold"),
        ({"gold": ["1", "2"]}, "row 2 has a list of several answers as gold: say with --gold-list"),
        ({"gold": {"a": 1}}, "row 2 has a gold answer that is an object"),
        ({"gold": "8"}, "row 2 has another gold than its problem's first row"),
        ({"completion_tokens": 2.5}, "row 2 has a completion_tokens that is no count"),
        ({"completion_tokens": [3]}, "row 2 has a completion_tokens that is no number"),
        ({"problem_id": None}, "row 2 has no problem_id"),
        ({"score_mean": 2.0}, "row 2 has a score_mean outside 0 to 1 .*--score sigmoid.*--score rank"),
        ({"score_mean": "good"}, "row 2 has a score_mean that is no number"),
        ({"score_mean": ["good"]}, "row 2 has a score_mean that is no number"),
        ({"correct": "perhaps"}, "row 2 has a verdict"),
    ],
)
def test_a_row_that_cannot_be_is_named(tmp_path, change, message):
    whole = [{"score_mean": 0.5, "correct": True} | row for row in ROWS]
    whole[1] |= change
    with pytest.raises(UserError, match=message):
        import_samples([jsonl(tmp_path / "mine.jsonl", whole)])


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (("text",), "no column 'text': name yours with --column text=NAME .it has problem_id, question, gold"),
        (("gold",), "no column 'gold': name yours with --column gold=NAME, or that of verdicts with --column correct=NAME"),
        (("problem_id", "question"), "neither ids nor questions"),
    ],
)
def test_a_column_that_is_needed_is_asked_for(tmp_path, gone, message):
    rows = [{k: v for k, v in row.items() if k not in gone} for row in ROWS]
    with pytest.raises(UserError, match=message):
        import_samples([jsonl(tmp_path / "mine.jsonl", rows)])


def test_a_column_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="has no column 'out' for 'text': it has problem_id"):
        import_samples([jsonl(tmp_path / "mine.jsonl", ROWS)], {"text": "out"})
    with pytest.raises(UserError, match="no column 'txt' to import: choose among problem_id"):
        import_samples([jsonl(tmp_path / "mine.jsonl", ROWS)], {"txt": "text"})


def test_columns_on_the_command_line():
    assert parse_columns(["text=output", "gold=a=b", "score_mean="]) == {"text": "output", "gold": "a=b", "score_mean": ""}
    for wrong in (["text"], ["=x"], ["text=a", "text=b"]):
        with pytest.raises(UserError, match="--column"):
            parse_columns(wrong)


def test_half_a_surrogate_pair_does_not_stop_the_import(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(ROWS[0] | {"text": "\ud83d \\boxed{7}", "question": "\ud83d?", "problem_id": "\ud83d"}) + "\n")
    pool_of(tmp_path, path)
    assert read_pool(tmp_path / "pool" / "pool.parquet", Unit.SAMPLE).correct.tolist() == [[True]]


# Answers and verdicts of one's own.


def test_answers_take_the_place_of_texts_and_verdicts_of_gold_answers(tmp_path):
    rows = [
        {"problem_id": i // 3, "answer": answer, "correct": right}
        for i, (answer, right) in enumerate(
            [("f(x)", True), ("g", 0), ("f(x)", "true"), (None, False), ({"a": 1}, "C"), ("no", "I")]
        )
    ]
    output = pool_of(tmp_path, jsonl(tmp_path / "mine.jsonl", rows))
    pool = read_pool(tmp_path / "pool" / "pool.parquet", Unit.SAMPLE)
    assert pool.correct.tolist() == [[True, False, True], [False, True, False]]
    assert pool.cluster.tolist() == [[0, 1, 0], [-1, 0, 1]]
    assert "no questions" in output


def test_gold_answers_decide_and_differences_are_counted(tmp_path):
    rows = [{**row, "correct": True} for row in ROWS]
    output = pool_of(tmp_path, jsonl(tmp_path / "mine.jsonl", rows))
    assert "verdicts of the file differ on 2 samples" in output
    assert read_pool(tmp_path / "pool" / "pool.parquet", Unit.SAMPLE).correct.sum() == 4


def test_samples_without_text_have_no_answer(tmp_path):
    output = pool_of(tmp_path, jsonl(tmp_path / "mine.jsonl", [*ROWS[:2], {**ROWS[2], "text": None}, *ROWS[3:]]))
    assert "1 samples have no text" in output
    assert read_pool(tmp_path / "pool" / "pool.parquet", Unit.SAMPLE).cluster.tolist() == [[0, 0, -1], [0, 1, 0]]


def test_two_and_2_are_one_gold_and_a_list_of_one_is_its_element(tmp_path):
    golds = [7, "7", ["7"], 12.0, "12", [12]]
    rows = [{**row, "gold": gold} for row, gold in zip(ROWS, golds, strict=True)]
    assert [p.answer for p in import_samples([jsonl(tmp_path / "mine.jsonl", rows)]).problems] == ["7", "12"]


def test_several_gold_answers(tmp_path):
    path = jsonl(tmp_path / "mine.jsonl", [{**row, "gold": [row["gold"], "seven"]} for row in ROWS])
    assert [p.also for p in import_samples([path], gold_list="any").problems] == [("seven",)] * 2
    assert [p.answer for p in import_samples([path], gold_list="tuple").problems] == ["(7, seven)", "(12, seven)"]


# Scores.


def test_logits_become_probabilities_and_ranks_keep_the_order(tmp_path):
    logits = [4.0, -1.0, 0.0, 2.0, 2.0, None]
    path = jsonl(tmp_path / "mine.jsonl", [{**row, "score_mean": x} for row, x in zip(ROWS, logits, strict=True)])
    found = import_samples([path], score="sigmoid").scores["score_mean"].tolist()
    assert found[:5] == pytest.approx([1 / (1 + math.exp(-x)) for x in logits[:5]]) and math.isnan(found[5])
    found = import_samples([path], score="rank").scores["score_mean"].tolist()
    assert found[:5] == pytest.approx([0.9, 0.1, 0.3, 0.6, 0.6]) and math.isnan(found[5])
    for options in ({"score": "softmax"}, {"steps": "max"}):
        with pytest.raises(UserError, match="there is no --"):
            import_samples([path], **options)


@pytest.mark.parametrize(("steps", "wanted"), [("mean", 0.5), ("min", 0.2), ("last", 0.5), ("prod", 0.08)])
def test_scores_of_steps_become_one(tmp_path, steps, wanted):
    path = jsonl(tmp_path / "mine.jsonl", [{**row, "score_mean": [0.8, 0.2, 0.5]} for row in ROWS])
    found = import_samples([path], steps=steps).scores
    assert found["score_mean"].tolist() == pytest.approx([wanted] * 6)
    assert found["score_last"].tolist() == [0.5] * 6


@given(
    st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=4), min_size=1, max_size=6), st.sampled_from(["mean", "min", "prod"])
)
def test_steps_are_mapped_before_they_are_put_together(rows, steps):
    one, last = mapped_scores(pd.Series(rows), "sigmoid", steps)
    put = {"mean": lambda p: sum(p) / len(p), "min": min, "prod": math.prod}[steps]
    wanted = [[1 / (1 + math.exp(-x)) for x in row] for row in rows]
    assert one.tolist() == pytest.approx([put(p) for p in wanted])
    assert last.tolist() == pytest.approx([p[-1] for p in wanted])


# Rows of several samples.


def questions():
    return [
        {
            "question": "Half of 14?",
            "gold": "7",
            "outputs": ["\\boxed{7}", "\\boxed{8}"],
            "scores": [[0.25, 0.75], [0.5]],
            "tokens": [3, 4],
            "prompt_tokens": 9,
        },
        {
            "question": "Half of 14?",
            "gold": "7",
            "outputs": ["\\boxed{7}", "?"],
            "scores": [[], [1.0]],
            "tokens": [5, 6],
            "prompt_tokens": 8,
        },
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "json"])
def test_lists_are_unrolled_and_the_position_of_a_question_is_its_id(tmp_path, suffix):
    found = import_samples([written(tmp_path / f"mine.{suffix}", questions())])
    assert found.samples["problem_id"].tolist() == ["q0000"] * 2 + ["q0001"] * 2
    assert found.samples["completion_tokens"].tolist() == [3, 4, 5, 6]
    assert found.samples["prompt_tokens"].tolist() == [9, 9, 8, 8]
    assert np.array_equal(found.scores["score_mean"], [0.5, 0.5, np.nan, 1.0], equal_nan=True)
    assert np.array_equal(found.scores["score_last"], [0.75, 0.5, np.nan, 1.0], equal_nan=True)


def test_questions_of_lists_are_looked_up_by_their_text(tmp_path):
    """Twice as many answers as questions, in another order than theirs; gold answers with GSM8K's explanation."""
    rows = [{"question": "Twice 6?", "outputs": ["\\boxed{12}"] * 2}, {"question": "Half of 14?", "outputs": ["\\boxed{7}"] * 2}]
    asked = read_questions(
        jsonl(
            tmp_path / "q.jsonl",
            [{"question": "Half of 14?", "answer": "14 / 2\n#### 7"}, {"question": "Twice 6?", "answer": ["12"]}],
        )
    )
    assert [p.answer for p in asked] == ["7", "12"]
    found = import_samples([jsonl(tmp_path / "s.jsonl", rows)], problems=asked)
    answers = {p.question: p.answer for p in found.problems}
    assert answers == {"Half of 14?": "7", "Twice 6?": "12"}
    of = dict(zip(found.samples["problem_id"], texts(found), strict=True))
    assert {p.question: of[p.problem_id] for p in found.problems} == answers
    rows = [{**row, "problem_id": name} for row, name in zip(rows, ("q0000", "q0001"), strict=True)]
    with pytest.raises(UserError, match="the text of another"):
        import_samples([jsonl(tmp_path / "other.jsonl", rows)], problems=asked)


def test_a_part_is_of_a_split(tmp_path):
    with pytest.raises(UserError, match="--split is not given"):
        pool_of(tmp_path, jsonl(tmp_path / "mine.jsonl", ROWS), "--part", "calibration")


@pytest.mark.parametrize("tokens", [[3], 3, [3, 4, 5]])
def test_lists_of_other_lengths_are_refused(tmp_path, tokens):
    rows = [questions()[0], {**questions()[1], "tokens": tokens}]
    with pytest.raises(UserError, match=r"row 2 has 2 of text and .* of completion_tokens: .* --column completion_tokens="):
        import_samples([jsonl(tmp_path / "mine.jsonl", rows)])


def test_messages_are_texts_and_a_list_of_conversations_is_one_of_samples(tmp_path):
    def say(text):
        return [{"role": "user", "content": "Half of 14?"}, {"role": "assistant", "content": [{"type": "text", "text": text}]}]

    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Half of 14?"}]
    one = [{"question": asked, "gold": "7", "text": say(text)} for text in ("\\boxed{7}", "\\boxed{8}")]
    two = [{"question": asked, "gold": "7", "text": [say("\\boxed{7}"), say("\\boxed{8}")]}]
    three = [{"question": asked, "gold": "7", "text": [say("\\boxed{7}")[1], say("\\boxed{8}")[1]]}]
    for rows in (one, two, three):
        found = import_samples([jsonl(tmp_path / "mine.jsonl", rows)])
        assert found.problems == [Problem("q0000", "Half of 14?", "7")]
        assert texts(found) == ["7", "8"]


def test_questions_without_samples_are_dropped_and_said(tmp_path):
    rows = [questions()[0], {**questions()[1], "outputs": [], "scores": [], "tokens": []}]
    found = import_samples([jsonl(tmp_path / "mine.jsonl", rows)])
    assert len(found.problems) == 1 and "dropped 1 questions without samples" in found.notes


# Several files, rounds, and questions of different sizes.


def test_samples_of_several_files_are_put_under_each_other_and_numbered_on(tmp_path):
    one, two = ([{**row, "sample": i % 3} for i, row in enumerate(ROWS)] for _ in range(2))
    two[0]["text"] = "\\boxed{5}"
    paths = [jsonl(tmp_path / "one.jsonl", one), written(tmp_path / "two.csv", two)]
    found = import_samples(paths)
    assert found.samples["sample"].tolist() == list(range(6)) * 2
    assert texts(found) == ["7", "7", "8", "5", "7", "8"] + ["12", "3", "12"] * 2
    assert any("numbered on" in note for note in found.notes)
    assert texts(import_samples(paths[::-1]))[:6] == ["5", "7", "8", "7", "7", "8"]
    with pytest.raises(UserError, match="is given twice"):
        import_samples([paths[0], paths[0]])
    two[1]["gold"] = "9"
    with pytest.raises(UserError, match=r"two\.jsonl: row 2 has another gold"):
        import_samples([paths[0], jsonl(tmp_path / "two.jsonl", two)])


def chains(rounds=lambda question, chain: 2):
    return [
        {"problem_id": f"p{question}", "chain": chain, "round": r, "gold": "7", "text": f"\\boxed{{{question}{chain}{r}}}"}
        for question in range(2)
        for chain in range(2)
        for r in range(rounds(question, chain))
    ]


@pytest.mark.parametrize("without", [(), ("round",)])
def test_chains_and_their_rounds(tmp_path, without):
    rows = [{k: v for k, v in row.items() if k not in without} for row in chains()]
    rows = rows if without else rows[::-1]
    pool_of(tmp_path, jsonl(tmp_path / "mine.jsonl", rows))
    pool = read_any_pool(tmp_path / "pool")
    assert pool.unit is Unit.ROUND and pool.cluster.shape == (4, 2) and pool.problem.tolist() == [0, 0, 1, 1]
    table = read_table(tmp_path / "pool" / "pool.parquet", POOL)
    assert table["answer"].tolist() == ["000", "001", "010", "011", "100", "101", "110", "111"]


def test_rounds_of_samples_are_chains(tmp_path):
    rows = [{**row, "sample": row.pop("chain")} for row in chains()]
    found = import_samples([jsonl(tmp_path / "mine.jsonl", rows)])
    assert found.samples["chain"].tolist() == [0, 0, 1, 1] * 2 and set(found.samples["sample"]) == {0}
    with pytest.raises(UserError, match=r"row 9 repeats a round"):
        import_samples([jsonl(tmp_path / "mine.jsonl", [*rows, rows[0]])])


def test_chains_are_kept_whole_or_cut_to_the_same_length(tmp_path):
    rows = chains(lambda question, chain: 3 if (question, chain) != (1, 1) else 1)
    found = import_samples([jsonl(tmp_path / "mine.jsonl", rows)])
    assert found.samples.groupby(["problem_id", "chain"]).size().tolist() == [3, 3, 3]
    assert any(
        "chains have 1 to 3 rounds: the first 3" in note and "1 chains of fewer are dropped" in note for note in found.notes
    )


@pytest.mark.slow
@given(st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_questions_of_different_sizes_keep_all_that_they_have(tmp_path_factory, sizes):
    rows = [{"problem_id": f"p{i}", "gold": "1", "text": "\\boxed{1}"} for i, size in enumerate(sizes) for _ in range(size)]
    found = import_samples([jsonl(tmp_path_factory.mktemp("ragged") / "mine.jsonl", rows)])
    assert found.samples.groupby("problem_id").size().tolist() == sizes
    assert (len(set(sizes)) > 1) == any("gets what it has" in note for note in found.notes)


@pytest.mark.slow
@given(st.lists(st.integers(2, 6), min_size=1, max_size=6))
def test_of_chains_of_different_lengths_the_largest_rectangle_is_kept(tmp_path_factory, lengths):
    rows = [
        {"problem_id": f"p{i}", "gold": "1", "text": "\\boxed{1}", "chain": 0, "round": t}
        for i, length in enumerate(lengths)
        for t in range(length)
    ]
    found = import_samples([jsonl(tmp_path_factory.mktemp("ragged") / "mine.jsonl", rows)])
    assert found.samples.groupby("problem_id").size().nunique() == 1
    assert len(found.samples) == max(k * sum(length >= k for length in lengths) for k in range(1, 7))
    assert bool(len(rows) - len(found.samples)) == any("of each are kept" in note for note in found.notes)


def test_the_size_can_be_told(tmp_path):
    rows = [*ROWS, *[{**ROWS[0], "problem_id": "c"}] * 2]
    path = jsonl(tmp_path / "mine.jsonl", rows)
    assert import_samples([path], size=3).samples["problem_id"].tolist() == ["a"] * 3 + ["b"] * 3
    assert import_samples([path], size=1).samples["problem_id"].tolist() == ["a", "b", "c"]
    with pytest.raises(UserError, match="no question has 4 samples: give a --size of at most 3"):
        import_samples([path], size=4)


# Formats of other tools.


def lm_eval(questions=2):
    filters = ("strict-match", "flexible-extract")
    return [
        {
            "doc_id": i,
            "doc": {"question": f"{i} + {i}?", "answer": f"It is {2 * i}.\n#### {2 * i}"},
            "target": f"It is {2 * i}.\n#### {2 * i}",
            "arguments": {"gen_args_0": {"arg_0": "Q: ..."}},
            "resps": [[f"#### {2 * i}", f"#### {2 * i + 1}"]],
            "filtered_resps": ["[invalid]"],
            "filter": name,
        }
        for name in filters
        for i in range(questions)
    ]


def test_lm_eval_counts_a_sample_once_whatever_its_filters(tmp_path):
    found = import_samples([jsonl(tmp_path / "samples_mine.jsonl", lm_eval())])
    assert found.problems == [Problem("0", "0 + 0?", "0"), Problem("1", "1 + 1?", "2")]
    assert found.samples["text"].tolist() == ["#### 0", "#### 1", "#### 2", "#### 3"]
    assert any(note.startswith("format lm-eval (guessed") for note in found.notes)
    assert any("dropped 2 rows that are another filter" in note for note in found.notes)


def test_runs_of_lm_eval_in_one_file_are_samples(tmp_path):
    found = import_samples([jsonl(tmp_path / "samples_mine.jsonl", [*lm_eval(), *lm_eval()])])
    assert found.samples["text"].tolist() == ["#### 0", "#### 1"] * 2 + ["#### 2", "#### 3"] * 2


def test_log_likelihoods_of_lm_eval_are_no_samples(tmp_path):
    rows = [{**row, "resps": [[["-1.5", "False"]], [["-2.5", "False"]]]} for row in lm_eval()]
    with pytest.raises(UserError, match="holds log-likelihoods"):
        import_samples([jsonl(tmp_path / "mine.jsonl", rows)])


def test_search_and_learn(tmp_path):
    rows = [
        {
            "unique_id": f"test/{i}.json",
            "problem": f"{i} + 1?",
            "solution": "...",
            "answer": str(i + 1),
            "level": 3,
            "completions": [f"\\boxed{{{i + 1}}}", "\\boxed{0}"],
            "scores": [[0.1, 0.3], [0.5]],
            "completion_tokens": [4, 5],
            "agg_scores": [0.3, 0.5],
        }
        for i in range(2)
    ]
    found = import_samples([jsonl(tmp_path / "mine.jsonl", rows)])
    assert found.problems == [Problem("test/0.json", "0 + 1?", "1", "3"), Problem("test/1.json", "1 + 1?", "2", "3")]
    assert found.scores["score_mean"].tolist() == pytest.approx([0.2, 0.5] * 2)
    assert found.answers is None


def test_inspect_logs(tmp_path):
    def sample(i, epoch, text):
        said = {
            "choices": [{"message": {"role": "assistant", "content": text}, "stop_reason": "stop"}],
            "usage": {"output_tokens": 6},
        }
        return {
            "id": i,
            "epoch": epoch,
            "input": f"{i} + 1?",
            "target": str(i + 1),
            "output": said,
            "scores": {"match": {"value": "C"}},
        }

    log = {
        "version": 2,
        "samples": [sample(i, epoch, f"\\boxed{{{i + 1}}}") for epoch in (1, 2) for i in range(2)],
        "reductions": [{"scorer": "match"}],
    }
    (tmp_path / "log.json").write_text(json.dumps(log))
    found = import_samples([tmp_path / "log.json"])
    assert found.problems == [Problem("0", "0 + 1?", "1"), Problem("1", "1 + 1?", "2")]
    assert texts(found) == ["1", "1", "2", "2"] and set(found.samples["completion_tokens"]) == {6}


# An archive of FEval-TTC unpacked (its llm_interface.py, dataset_interface.py and api.py): a file of questions, and one a model.
FEVAL_QUESTIONS = {
    "data": [{"answer": "7", "question": "Half of 14?"}, {"answer": "12", "question": "Twice 6?"}],
    "datatype": "GSM8K",
    "system_prompt": None,
}


def feval_response(*answers):
    cots = [
        {
            "raw_text": f"So it is {answer}.",
            "answer": answer,
            "metadata": {"dollar_cost": 6e-06, "token_cost": 10.0 + i, "finish_reason": "stop" if answer else "max_tokens"},
        }
        for i, answer in enumerate(answers)
    ]
    return {"cots": cots, "request": {"raw_text": "Q", "dollar_cost": 1e-05, "token_cost": 70.0}, "num_cots": len(cots)}


@pytest.mark.parametrize("model", ["gpt-4o-mini", "Qwen/Qwen2.5-72B-Instruct"])
def test_feval_ttc_finds_the_questions_of_its_archive(tmp_path, model):
    path = tmp_path / f"LLM_{model}_dataset_GSM8K.txt"
    path.parent.mkdir(exist_ok=True)
    settings = {"name": model, "temperature": 0.7, "max_tokens": 2048}
    content = {"config": settings, "responses": [feval_response("7", "7", "8"), feval_response("12", None, "12")]}
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"dataset_GSM8K.txt, which has its questions, is not beside it.*--problems"):
        import_samples([path])
    (tmp_path / "dataset_GSM8K.txt").write_text(json.dumps(FEVAL_QUESTIONS, indent=2))
    said = pool_of(tmp_path, path)
    assert "format feval-ttc (guessed" in said and "questions and gold answers from dataset_GSM8K.txt" in said
    pool = read_any_pool(tmp_path / "pool")
    assert pool.correct.tolist() == [[True, True, False], [True, False, True]]
    assert pool.cluster[1].tolist() == [0, -1, 0] and pool.cut_off.sum() == 1
    assert pool.completion_tokens.tolist() == [[10, 11, 12]] * 2 and (pool.prompt_tokens == 70).all()
    (tmp_path / "dataset_GSM8K.txt").write_text(json.dumps(FEVAL_QUESTIONS | {"data": FEVAL_QUESTIONS["data"][:1]}))
    with pytest.raises(UserError, match="does not have the questions of the 2 rows"):
        import_samples([path])


def test_answers_of_solve_with_their_questions(tmp_path):
    def sample(text):
        return {"answer": "x", "score": 0.5, "finish": "stop", "completion_tokens": 7, "text": text}

    rows = [
        {
            "problem_id": f"q000{i}",
            "chain": 0,
            "question": f"{i} + 1?",
            "answer": "9",
            "reason": "lead",
            "chosen": 0,
            "tokens": {},
        }
        | {"samples": [sample(f"\\boxed{{{i + 1}}}"), sample("\\boxed{5}")]}
        for i in range(2)
    ]
    path = jsonl(tmp_path / "answers.jsonl", rows)
    asked = jsonl(tmp_path / "mine.jsonl", [{"question": f"{i} + 1?", "answer": i + 1} for i in range(2)])
    with pytest.raises(UserError, match="no column 'gold'"):
        import_samples([path])
    found = import_samples([path], problems=read_questions(asked))
    assert [p.answer for p in found.problems] == ["1", "2"]
    assert found.scores["score_mean"].tolist() == [0.5] * 4
    with pytest.raises(UserError, match="row 2 is of no question that --problems gives"):
        import_samples([path], problems=read_questions(asked)[:1])


def test_a_format_can_be_told(tmp_path):
    path = jsonl(tmp_path / "mine.jsonl", [{**row, "target": "3", "resps": "x", "doc": {}} for row in ROWS])
    assert texts(import_samples([path], form="columns")) == ["7", "7", "8", "12", "3", "12"]
    with pytest.raises(UserError, match="there is no format 'helm': choose auto, lm-eval"):
        import_samples([path], form="helm")


def test_the_tables_of_a_pool_are_samples_again(tmp_path):
    pool_of(tmp_path, jsonl(tmp_path / "mine.jsonl", [{**row, "score_mean": 0.5} for row in ROWS]))
    table = read_table(tmp_path / "pool" / "pool.parquet", POOL)
    write_table(tmp_path / "again.parquet", table, POOL)
    own = import_samples([tmp_path / "again.parquet"])
    assert own.correct.tolist() == (table["verdict"] == "correct").tolist()
    assert own.answers == [None if answer is None or answer != answer else answer for answer in table["answer"]]
    found = import_samples([tmp_path / "again.parquet"], problems=read_questions(tmp_path / "pool" / "problems.parquet"))
    assert found.samples["text"].tolist() == table["text"].tolist()
    assert set(found.scores["score_mean"]) == {0.5}


# The command.


def test_what_was_guessed_and_dropped_is_printed_and_kept(tmp_path):
    output = pool_of(tmp_path, jsonl(tmp_path / "mine.jsonl", [{**row, "remark": "x"} for row in ROWS[:-1]]))
    assert "- not read: remark\n" in output
    assert "questions have 2 to 3 samples: a rule that asks for more than a question has gets what it has" in output
    assert "not read: remark" in read_json(tmp_path / "pool" / "samples.json")["notes"]


def test_a_pool_without_answers_is_written_only_if_told(tmp_path):
    path = jsonl(tmp_path / "mine.jsonl", [{**row, "text": "I do not know"} for row in ROWS])
    with pytest.raises(UserError, match="6 of 6 samples have no answer"):
        pool_of(tmp_path, path)
    assert not (tmp_path / "pool").exists()
    pool_of(tmp_path, path, "--allow-unanswered")
    assert (read_pool(tmp_path / "pool" / "pool.parquet", Unit.SAMPLE).cluster == -1).all()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(["7", "\\boxed{7}", 0.5, 3]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "text", "0"]), inner, max_size=2)
    ),
    max_leaves=4,
)
NAMES = ["problem_id", "id", "question", "correct", "answer", "sample", "chain", "round", "scores", "score_last"]


@given(
    st.lists(
        st.fixed_dictionaries(
            {"text": VALUES | st.just("\\boxed{7}"), "gold": VALUES | st.just("7")},
            optional={name: VALUES for name in [*NAMES, "completion_tokens", "finish_reason", "conf_min", "level"]},
        ),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from(["jsonl", "json"]),
)
def test_whatever_a_file_holds_becomes_samples_or_one_sentence(tmp_path_factory, rows, suffix):
    path = tmp_path_factory.mktemp("any") / f"mine.{suffix}"
    path.write_text(json.dumps(rows) if suffix == "json" else "".join(json.dumps(row) + "\n" for row in rows))
    try:
        found = import_samples([path])
    except UserError as error:
        assert str(path) in str(error) or "--size" in str(error)
        return
    assert set(found.samples["problem_id"]) == {p.problem_id for p in found.problems}
    assert all(isinstance(text, str) for text in found.samples["text"])
    assert not found.samples.duplicated(["problem_id", "chain", "round", "sample"]).any()
    assert found.scores["score_mean"].dropna().between(0, 1).all()


def test_a_pool_is_split_by_the_text_of_its_questions_whatever_else_it_holds(tmp_path):
    def rows(names, **more):
        return [
            {"problem_id": f"{n}{i}", "question": f"Question {i}?", "gold": "1", "text": "\\boxed{1}"} | more
            for n in names
            for i in range(60)
        ]

    samples = import_samples([jsonl(tmp_path / "samples.jsonl", rows("a"))])
    chains = import_samples([jsonl(tmp_path / "chains.jsonl", rows("b", chain=0, round=0))])
    asked = {}
    for part in ("calibration", "test"):
        first, second = (part_of(found, 0.4, part) for found in (samples, chains))
        asked[part] = {p.question for p in first.problems}
        assert asked[part] == {p.question for p in second.problems}
        assert set(first.samples["problem_id"]) == set(first.scores["problem_id"]) == {p.problem_id for p in first.problems}
    assert not asked["calibration"] & asked["test"] and len(asked["calibration"] | asked["test"]) == 60
    assert 12 <= len(asked["calibration"]) <= 36  # 24 are expected, with a standard deviation of 3.8
    # Questions that `take` of a dataset chose, those of the lowest hash of their text, fall on both sides too.
    taken = sorted(samples.problems, key=lambda p: hashlib.sha256(normalise(p.question).encode()).digest())[:30]
    assert 3 <= len({p.question for p in taken} & asked["calibration"]) <= 22
    with pytest.raises(UserError, match="none of the 60 questions falls into the calibration part"):
        part_of(samples, 1e-9, "calibration")
