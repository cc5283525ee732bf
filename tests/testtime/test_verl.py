"""Rewards by verl's documented signatures, against groups that were paid by hand."""

import inspect

import numpy as np
import pyarrow.parquet as pq
import pytest

from itscale.data.records import Problem
from itscale.errors import UserError
from itscale.models.prompts import PromptSettings
from itscale.testtime.verl import compute_score, compute_scores, write_problems

QUESTION = "What is half of 1?"


def batch(groups, *, split="train", golds=None):
    """The arguments by which verl's batch reward manager calls, of texts by prompt; numpy arrays of objects, as it has them."""
    texts = [text for group in groups for text in group]
    infos = [{"split": split, "index": p, "question": QUESTION} for p, group in enumerate(groups) for _ in group]
    golds = golds or [None] * len(groups)
    return {
        "data_sources": np.array(["own"] * len(texts), object),
        "solution_strs": texts,
        "ground_truths": [gold for gold, group in zip(golds, groups, strict=True) for _ in group],
        "extra_infos": np.array(infos, object),
    }


def box(answer):
    return f"so \\boxed{{{answer}}}"


def test_the_signatures_are_those_that_verl_documents():
    assert list(inspect.signature(compute_score).parameters)[:4] == ["data_source", "solution_str", "ground_truth", "extra_info"]
    assert list(inspect.signature(compute_scores).parameters)[:4] == list(batch([]))


def test_a_group_is_paid_by_its_vote_and_equal_answers_are_one():
    groups = [[box("1/2"), box("0.5"), box("2"), box("\\frac{1}{2}")], [box("7"), "I do not know.", box("8"), box("8")]]
    assert compute_scores(**batch(groups), group=4) == [1, 1, 0, 1, 0, 0, 1, 1]


def test_the_vote_ends_where_the_rule_stops():
    # A lead of 2 after two votes: what comes later is a majority of four, and was not asked.
    group = [box(1), box(1), box(2), box(2), box(2), box(2)]
    assert compute_scores(**batch([group]), group=6, rule="vote_lead", lead=2) == [1, 1, 0, 0, 0, 0]
    assert compute_scores(**batch([group]), group=6, rule="vote_lead", lead=6) == [0, 0, 1, 1, 1, 1]


def test_an_undecided_vote_can_be_left_unpaid():
    groups = [[box(1), box(1), box(2)], [box(1), box(2), box(1)]]
    settings = {"group": 3, "rule": "vote_lead", "lead": 2}
    assert compute_scores(**batch(groups), **settings) == [1, 1, 0, 1, 0, 1]
    assert compute_scores(**batch(groups), **settings, decided_only=True) == [1, 1, 0, 0, 0, 0]


def test_the_order_of_prompts_in_a_batch_does_not_matter():
    given = batch([[box(1), box(1), box(2)], [box(5), box(6), box(6)]])
    expected, order = np.array(compute_scores(**given, group=3)), [3, 0, 4, 1, 5, 2]
    mixed = {name: [values[i] for i in order] for name, values in given.items()}
    assert compute_scores(**mixed, group=3) == expected[order].tolist()


def test_one_response_alone_agrees_with_itself():
    assert compute_scores(**batch([[box(3)], ["nothing"]]), group=1) == [1, 0]
    assert compute_scores(**batch([[box(3)]]), group=1, decided_only=True) == [0]
    assert compute_scores(**batch([]), group=4) == []


def test_other_splits_are_paid_by_their_gold_answers():
    groups = [[box("0.5"), box(7), box(7), ""]]
    assert compute_scores(**batch(groups, split="test", golds=["1/2"]), group=9) == [1, 0, 0, 0]
    assert compute_scores(**batch(groups, split="test"), group=9) == [0, 0, 0, 0]
    assert compute_score("own", box("\\frac12"), "0.5", {"question": QUESTION}) == 1
    assert compute_score("own", box("4"), "5", {"also": np.array(["4", "6"])}) == 1
    assert [compute_score("own", text, gold) for text, gold in [("", "5"), (box(5), None), (box(5), "")]] == [0, 0, 0]


def test_hostile_answers_are_paid_nothing_and_end_nothing():
    hostile = ["\\boxed{" * 5000, box("9^{9^{9^{9}}}"), box("\x00\ud800"), box("__import__('os')"), "\\boxed{}", None]
    scores = compute_scores(**batch([[*hostile, *[box(4)] * 6]]), group=12, rule="vote_lead", lead=12)
    assert scores == [0] * 6 + [1] * 6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"group": 4}, "prompt 0 of own has 3 responses in this batch, not 4"),
        ({"extra_infos": [None] * 3}, "row 0 has no extra_info.index"),
        ({"extra_infos": [{"index": 1}] * 3}, "row 0 has no extra_info.index or extra_info.split"),
        ({"ground_truths": []}, "differ in length"),
        ({"rule": "majority_of_the_wise"}, "majority_of_the_wise"),
        ({"lead": 2}, "no setting 'lead'"),
    ],
)
def test_what_cannot_be_paid_is_said(change, said):
    with pytest.raises(UserError, match=said):
        compute_scores(**{**batch([[box(1)] * 3]), "group": 3, **change})


def test_the_file_has_the_documented_columns_and_its_rows_can_be_paid(tmp_path):
    problems = [Problem("a", QUESTION, "1/2", also=("0.50",)), Problem("b", "What is 2+2?", "4")]
    prompt = PromptSettings(instruction=" Box it.", system_prompt="Be brief.")
    write_problems(tmp_path / "train.parquet", problems, data_source="own", prompt=prompt)
    rows = pq.read_table(tmp_path / "train.parquet").to_pylist()
    assert list(rows[0]) == ["data_source", "prompt", "ability", "reward_model", "extra_info"]
    assert rows[1] == {
        "data_source": "own",
        "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2+2? Box it."}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "4"},
        "extra_info": {"split": "train", "index": 1, "question": "What is 2+2?", "also": []},
    }
    twice = [row for row in rows for _ in range(2)]
    paid = compute_scores(
        [row["data_source"] for row in twice],
        [box("0.5"), box("1/2"), box(4), "none"],
        [row["reward_model"]["ground_truth"] for row in twice],
        [row["extra_info"] for row in twice],
        group=2,
    )
    assert paid == [1, 1, 1, 0]
