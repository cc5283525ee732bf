"""Grading: real gold answers, tricky pairs written by hand, hostile LaTeX, and blindness to gold."""

import json
import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itscale.data.records import Problem
from itscale.grading.answers import extract_answer
from itscale.grading.comparison import Comparer, _equal, cluster_answers, grade_table
from pools import RELEASED

PROMPTS = RELEASED / "prompts"
HOSTILE = "9^{9^{9^{9^{9}}}}"


@pytest.fixture(scope="module")
def comparer():
    with Comparer(5.0) as opened:
        yield opened


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{4}", "4"),
        (r"\boxed{1} no, \boxed{2}", "2"),
        (r"\boxed{\frac{1}{\sqrt{2}}} done", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{ \text{Monday} }", r"\text{Monday}"),
        (r"\boxed{3} and then \boxed{4", "3"),
        (r"\boxed{}", None),
        (r"\boxed{  }", None),
        ("the answer is 4", None),
        ("", None),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
    ],
)
def test_answer_is_in_the_last_whole_box(text, answer):
    assert extract_answer(text) == answer


@given(st.text(alphabet="ab{}\\ ", max_size=12))
def test_extraction_returns_balanced_braces(inner):
    found = extract_answer(f"x \\boxed{{{inner}}} y")
    assert found is None or found.count("{") == found.count("}")


# (gold, answer, same): what a person would say.
PAIRS = [
    (r"\frac{1}{2}", "0.5", True),
    (r"\frac12", r"\frac{1}{2}", True),
    (r"\dfrac{3}{4}", "3/4", True),
    ("1,000", "1000", True),
    ("5", "5.0", True),
    ("5", r"5\text{ cm}", True),
    ("70", r"70^\circ", True),
    (r"\sqrt{8}", r"2\sqrt{2}", True),
    ("(1,2)", "(1, 2)", True),
    ("[1,2)", "[1, 2)", True),
    ("[1,2)", "(1,2]", False),
    (r"(-\infty, 3]", r"(-\infty,3)", False),
    (r"\{1,2,3\}", r"\{3,2,1\}", True),
    (r"\text{Monday}", "Monday", True),
    (r"\text{east}", r"\text{seat}", False),
    (r"\text{(B)}", "B", True),
    ("x^2+2x+1", "(x+1)^2", True),
    ("x^2+1", "x^2-1", False),
    ("12", "-12", False),
    ("0.333", r"\frac{1}{2}", False),
    (r"2\pi", r"2 \pi", True),
    ("10", "1", False),
    (r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}", True),
    (r"\sqrt{\frac{1}{\sqrt{16}}}", "0.5", True),
    ("5", "", False),
    ("5", "{}", False),
    ("5", r"\frac{", False),
    (r"12\text{ inches}", "12", True),
    (r"\$18.50", "18.5", True),
    ("50\\%", "50", True),
    (r"\text{Even}", "odd", False),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}", True),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}", False),
]


@pytest.mark.parametrize(("gold", "answer", "same"), PAIRS)
def test_tricky_pairs(comparer, gold, answer, same):
    assert comparer.compare([(gold, answer)]) == [same]


def gold_answers(file: str) -> list[str]:
    rows = json.loads((PROMPTS / file).read_text())
    golds = [str(row["answer"]) for row in rows]
    return [g.rpartition("####")[2].strip() for g in golds] if file.startswith("gsm8k") else golds


@pytest.mark.skipif(not PROMPTS.exists(), reason=f"no prompts of the released data in {RELEASED} (ITSCALE_RELEASED)")
@pytest.mark.parametrize("file", ["aime24.json", "aime25.json", "amc23.json", "gsm8k_test.json", "math500_test.json"])
def test_every_real_gold_answer_equals_itself(comparer, file):
    golds = gold_answers(file)
    assert all(comparer.compare([(gold, gold) for gold in golds]))
    # Read by the library itself, rather than taken for equal as the same string.
    distinct = list(dict.fromkeys(golds))
    assert np.mean(_equal([(gold, gold) for gold in distinct])) > 0.98


def samples(texts: dict[str, list[str]]) -> pd.DataFrame:
    rows = [(p, 0, 0, i, t) for p, members in texts.items() for i, t in enumerate(members)]
    return pd.DataFrame(rows, columns=["problem_id", "chain", "round", "sample", "text"])


def test_hostile_latex_costs_a_verdict_and_not_the_job():
    texts = {"p": [f"\\boxed{{{HOSTILE}}}", "\\boxed{2}", "no answer", "\\boxed{3}"]}
    grades = grade_table(samples(texts), [Problem("p", "1+1", "2")], time_limit=2.0)
    assert grades["verdict"].tolist() == ["timeout", "correct", "unanswered", "wrong"]
    assert grades["cluster"].tolist() == [0, 1, -1, 2]


def test_hostile_answers_are_never_correct_and_never_fatal():
    hostile = ["(" * 3000 + ")" * 3000, "1" * 20_000, "10^{10^{10}}!", r"\frac{" * 500, "x^" * 2000]
    with Comparer(2.0) as strict:
        verdicts = strict.compare([*(("2", answer) for answer in hostile), ("2", "2.0")])
    assert True not in verdicts[:-1] and verdicts[-1] is True


def test_each_distinct_pair_is_compared_once(monkeypatch):
    with Comparer(5.0) as comparer:
        asked = []
        run = comparer._run
        monkeypatch.setattr(comparer, "_run", lambda pairs, limit: asked.extend(pairs) or run(pairs, limit))
        comparer.compare([("1/2", "0.5"), ("1/2", "0.5"), ("2", "2"), ("1/2", "0.5")])
        comparer.compare([("1/2", "0.5")])
    assert asked == [("1/2", "0.5")]


def test_clusters_of_a_prefix_never_change(comparer):
    answers = ["0.5", None, r"\frac12", "2", "4/2", "3", "0.50", "2.0", None, "x"]
    whole = cluster_answers([answers], comparer)[0]
    assert whole == [0, -1, 0, 1, 1, 2, 0, 1, -1, 3]
    for end in range(len(answers)):
        assert cluster_answers([answers[:end]], comparer)[0] == whole[:end]


def test_shuffled_gold_answers_change_no_cluster():
    rng = random.Random(0)
    texts = {f"p{i}": [f"\\boxed{{{rng.choice(['1', '2', '1.0', '1/2', '0.5'])}}}" for _ in range(6)] for i in range(4)}
    golds = ["1", "2", "0.5", "7"]
    tables = [
        grade_table(samples(texts), [Problem(f"p{i}", "q", gold) for i, gold in enumerate(order)])
        for order in (golds, golds[::-1])
    ]
    assert (tables[0]["cluster"] == tables[1]["cluster"]).all()
    assert (tables[0]["verdict"] != tables[1]["verdict"]).any()
    assert np.all(tables[0]["answer"] == tables[1]["answer"])
