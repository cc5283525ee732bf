"""Small files that strangers might bring, kept beside the repository: each gives what its README asks."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from itscale.cli.options import app
from itscale.data.records import POOL, read_any_pool, read_table
from itscale.errors import UserError

TRIALS = Path(__file__).resolve().parents[3] / "shared" / "trials"
pytestmark = pytest.mark.skipif(not TRIALS.is_dir(), reason=f"{TRIALS} is not there")


def imported(folder, name, *options):
    """What `itscale import` prints, and the pool's table."""
    done = CliRunner().invoke(app, ["import", str(TRIALS / name), "--out", str(folder / "pool"), *options])
    if done.exception is not None:
        raise done.exception
    return done.output, read_table(folder / "pool" / "pool.parquet", POOL)


@pytest.mark.parametrize("name", ["mcq", "gsm8k_styles", "e_notation", "unit_letters", "subscripts"])
def test_every_way_to_say_the_right_answer_is_right_and_one_cluster(tmp_path, name):
    _, table = imported(tmp_path, f"{name}_all_right.jsonl")
    assert set(table["verdict"]) == {"correct"}
    assert (table.groupby("problem_id")["cluster"].nunique() == 1).all()


def test_what_differs_is_wrong(tmp_path):
    _, table = imported(tmp_path, "unit_letters_all_wrong.jsonl")
    assert set(table["verdict"]) == {"wrong"}


@pytest.mark.parametrize(("name", "right"), [("nobox_gsm8k.jsonl", 1.0), ("nobox_phrase.jsonl", 1.0)])
def test_answers_without_a_box_are_read(tmp_path, name, right):
    _, table = imported(tmp_path, name)
    assert (table["verdict"] == "correct").mean() == right


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("backspace_boxed.jsonl", r"hold a backspace where \\boxed should be"),
        ("logit_scores.jsonl", "row 1 has a score_mean outside 0 to 1 .*--score sigmoid"),
        ("text_number.jsonl", "row 1 has a text that is none, 7 .*--column text=NAME"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        imported(tmp_path, name)
    assert not (tmp_path / "pool").exists()


@pytest.mark.parametrize("option", ["sigmoid", "rank"])
def test_logits_are_read_where_that_is_said(tmp_path, option):
    _, table = imported(tmp_path, "logit_scores.jsonl", "--score", option)
    assert table["score_mean"].between(0, 1).all()
    order = table.groupby("problem_id")["score_mean"].apply(list)
    assert all(a > b > c for a, b, c in order)


# Four questions of three samples, of which the first two are right.
@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("lm_eval_samples_gsm8k.jsonl", (), "dropped 4 rows that are another filter"),
        ("search_and_learn.jsonl", (), "format search-and-learn (guessed"),
        ("text_list.jsonl", (), ""),
        ("bom.jsonl", (), ""),
        ("ok.csv", (), ""),
        ("ok.jsonl.gz", (), ""),
        ("swap.jsonl", ("--column", "text=output"), "not read: text"),
        ("swap.jsonl", ("--column", "text=output", "--column", "gold=answer"), "not read: text"),
        ("no_id.jsonl", (), "the position of a question is its id"),
        ("no_tokens.jsonl", (), "samples are counted"),
        ("list_gold.jsonl", (), ""),
        ("mixed_gold.jsonl", (), ""),
        ("int_gold.jsonl", (), ""),
        ("dup_question.jsonl", (), ""),
    ],
)
def test_the_pool_that_they_all_hold(tmp_path, name, options, said):
    output, _ = imported(tmp_path, name, *options)
    pool = read_any_pool(tmp_path / "pool")
    assert pool.correct.tolist() == [[True, True, False]] * 4
    assert pool.cluster.tolist() == [[0, 0, 1]] * 4
    assert said in output


def test_all_of_a_ragged_pool_is_kept_unless_a_size_is_asked_for(tmp_path):
    output, table = imported(tmp_path, "ragged.jsonl")
    assert sorted(set(table.groupby("problem_id").size())) == [2, 3]
    assert "questions have 2 to 3 samples: a rule that asks for more than a question has gets what it has" in output
    output, table = imported(tmp_path, "ragged.jsonl", "--size", "2")
    assert set(table.groupby("problem_id").size()) == {2} and "the first 2 of each are kept" in output


def test_answers_that_hang_delay_nobody(tmp_path):
    _, table = imported(tmp_path, "hostile.jsonl", "--time-limit", "1")
    assert table["verdict"].isin(["correct", "wrong", "timeout", "unanswered"]).all()
    assert (table["verdict"] == "timeout").sum() < len(table) / 2
