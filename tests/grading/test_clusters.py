"""Clusters and verdicts of whole pools: order, gold answers, prefixes, cut-off samples."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_equality import ANSWERS, comparer  # noqa: F401

from itscale.data.records import Problem
from itscale.grading.clusters import clusters_of, grade_table
from itscale.grading.settings import Grading


def samples(texts: dict[str, list[str]], finish: str = "stop") -> pd.DataFrame:
    rows = [(p, 0, 0, i, t, finish) for p, members in texts.items() for i, t in enumerate(members)]
    return pd.DataFrame(rows, columns=["problem_id", "chain", "round", "sample", "text", "finish_reason"])


def test_a_pool_is_graded():
    boxes = [f"\\boxed{{{answer}}}" for answer in ("0.5", r"\frac12", "2", r"35\%", "0.35", "4/2")]
    grades = grade_table(samples({"p": [boxes[0], "no answer", *boxes[1:]]}), [Problem("p", "q", "0.35")])
    assert grades["cluster"].tolist() == [0, -1, 0, 1, 2, 3, 1]
    assert grades["verdict"].tolist() == ["wrong", "unanswered", "wrong", "wrong", "correct", "correct", "wrong"]


def test_a_sample_that_was_cut_off_has_no_answer_unless_it_is_to_be_read():
    table, problems = samples({"p": [r"\boxed{2}"]}, finish="length"), [Problem("p", "q", "2")]
    assert grade_table(table, problems)["verdict"].tolist() == ["unanswered"]
    assert grade_table(table, problems, Grading(read_cut_off=True))["verdict"].tolist() == ["correct"]


def partition(answers: list[str | None], clusters: list[int]) -> set[frozenset[str]]:
    return {frozenset(a for a, c in zip(answers, clusters, strict=True) if c == wanted) for wanted in set(clusters) - {-1}}


@settings(deadline=None, max_examples=50)
@given(st.data(), st.lists(st.sampled_from([*ANSWERS, None]), max_size=30), st.sampled_from(["", "What percent, in cm?"]))
def test_shuffled_samples_have_the_same_clusters(comparer, data, answers, question):  # noqa: F811
    clusters = clusters_of(question, answers, comparer)
    shuffled = data.draw(st.permutations(answers))
    assert partition(shuffled, clusters_of(question, shuffled, comparer)) == partition(answers, clusters)
    seen = [c for c in clusters if c >= 0]
    assert list(dict.fromkeys(seen)) == list(range(len(set(seen))))  # numbered by first appearance
    end = data.draw(st.integers(0, len(answers)))
    assert clusters_of(question, answers[:end], comparer) == clusters[:end]


@pytest.mark.slow
@settings(deadline=None, max_examples=8)
@given(st.data())
def test_shuffled_gold_answers_change_no_cluster(data):
    some = st.sampled_from(["1", "2", "1.0", "1/2", "0.5", "50\\%", "x", "(1,2)", "1, 2", "2, 1", "yes"])
    texts = {f"p{i}": [f"\\boxed{{{a}}}" for a in data.draw(st.lists(some, min_size=4, max_size=6))] for i in range(4)}
    golds = data.draw(st.lists(some, min_size=4, max_size=4))
    one, two = (
        grade_table(samples(texts), [Problem(f"p{i}", "q", gold) for i, gold in enumerate(order)])
        for order in (golds, data.draw(st.permutations(golds)))
    )
    assert np.array_equal(one["cluster"], two["cluster"]) and one["answer"].equals(two["answer"])
