"""When two answers are equal: the pairs of docs/grading.md, real gold answers, and what makes it an equivalence."""

import json
import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itscale.data.records import Problem, Verdict
from itscale.grading.comparison import Comparer
from itscale.grading.numerals import read_number
from itscale.grading.readings import LONGEST, same
from itscale.grading.settings import Grading
from pools import RELEASED

PAGE = Path(__file__).resolve().parents[2] / "docs" / "grading.md"
PROMPTS = RELEASED / "prompts"
TRIALS = RELEASED.parent / "trials"


def rows_of(header: str) -> list[list[str]]:
    """The cells of a table of the page."""
    lines = PAGE.read_text().partition(header)[2].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        rows.append([cell.strip("`") if cell.startswith("`") else cell for cell in cells])
    return rows


PLAIN = [("", gold, answer, equal == "yes") for gold, answer, equal, _ in rows_of("| Gold | Answer | Equal | |")]
ASKED = [(q, gold, answer, equal == "yes") for q, gold, answer, equal in rows_of("| Question | Gold | Answer | Equal |")]
PAIRS = PLAIN + ASKED
ANSWERS = list(dict.fromkeys(text for _, gold, answer, _ in PLAIN for text in (gold, answer) if text != "10^{10^{10}}"))


@pytest.fixture(scope="module")
def comparer():
    with Comparer(Grading(time_limit=2.0)) as opened:
        opened.read(pair for q, gold, answer, _ in PAIRS for pair in ((q, gold), (q, answer)))
        yield opened


def equal(comparer: Comparer, gold: str, answer: str, question: str = "") -> bool:
    ((verdict,),) = comparer.verdicts([(Problem("p", question, gold), [answer])])
    return verdict is Verdict.CORRECT


def test_the_page_has_its_table():
    assert len(PLAIN) > 110 and len(ASKED) > 10 and {row[3] for row in PAIRS} == {True, False}


@pytest.mark.parametrize(("question", "gold", "answer", "right"), PAIRS)
def test_pairs_of_the_page(comparer, question, gold, answer, right):
    assert equal(comparer, gold, answer, question) == right
    assert equal(comparer, answer, gold, question) == right


@pytest.mark.slow
def test_equal_answers_are_right_for_the_same_gold_answers(comparer):
    """A cluster has one verdict, whatever the gold answer; and `same` is symmetric, and true of every answer and itself."""
    for question in ("", "What percent, in cm?", "Find the equation of the line in $m$ and $x$.", "Which? (A) 12 (B) 18 (C) x"):
        readings = comparer.read((question, answer) for answer in ANSWERS)
        for gold in readings:
            verdicts: dict = {}
            for reading in readings:
                verdicts.setdefault(reading.key, set()).add(same(gold.tree, reading.tree))
                assert same(gold.tree, reading.tree) == same(reading.tree, gold.tree)
            assert all(len(found) == 1 for found in verdicts.values()) and verdicts[gold.key] == {True}


def notations(value: Fraction) -> list[str]:
    n, d = value.numerator, value.denominator
    found = [f"{n}/{d}", rf"\frac{{{n}}}{{{d}}}", rf"$\dfrac{{{n}}}{{{d}}}$", rf"\text{{{n}/{d}}}", f"x = {n}/{d}"]
    if d == 1:
        found += [f"{n}", f"{n}.0", f"{n:,}", rf"\mathbf{{{n}}}", f"{n} apples", rf"{n}\text{{ units}}", f"{n}e0"]
        found += [rf"{n} \times 10^{{0}}"]
    elif n > d:
        found += [f"{n // d} {n % d}/{d}", rf"{n // d}\frac{{{n % d}}}{{{d}}}"]
    return found


@settings(deadline=None)
@given(st.fractions(min_value=-10_000, max_value=10_000, max_denominator=999))
def test_every_notation_of_a_rational_number_is_that_number(comparer, value):
    keys = {reading.tree.shown for reading in comparer.read(("", text) for text in notations(value))}
    assert keys == {value}


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12))
def test_decimal_numbers_are_read_exactly(value):
    found, rest = read_number(f"{value:f}")
    assert found == Fraction(value) and not rest
    assert read_number(f"{value:e}") == (Fraction(value), "")


@pytest.mark.skipif(not PROMPTS.exists(), reason=f"no prompts of the released data in {RELEASED} (ITSCALE_RELEASED)")
@pytest.mark.parametrize("file", ["aime24.json", "aime25.json", "amc23.json", "gsm8k_test.json", "math500_test.json"])
def test_every_real_gold_answer_equals_itself_in_every_notation(comparer, file):
    rows = json.loads((PROMPTS / file).read_text())
    problems = {}
    for i, row in enumerate(rows):
        gold = str(row["answer"]).rpartition("####")[2].strip() if file.startswith("gsm8k") else str(row["answer"])
        problems[gold] = Problem(str(i), row.get("problem") or row.get("question"), gold)
    asked = []
    for gold, problem in problems.items():
        forms = [gold, f"${gold}$", rf"\({gold}\)", rf"\boxed{{{gold}}}", f" {gold}. ", f"Answer: {gold}"]
        forms += [gold.replace("\\frac", "\\dfrac")]
        asked.append((problem, forms + (notations(Fraction(gold)) if re.fullmatch(r"-?\d+", gold) else [])))
    verdicts = comparer.verdicts(asked)
    wrong = [
        (problem.answer, form)
        for (problem, forms), found in zip(asked, verdicts, strict=True)
        for form, verdict in zip(forms, found, strict=True)
        if verdict is not Verdict.CORRECT
    ]
    assert not wrong


@pytest.mark.skipif(not TRIALS.exists(), reason=f"no trials in {TRIALS}")
@pytest.mark.parametrize(
    ("file", "right"),
    [
        ("mcq_all_right", True),
        ("gsm8k_styles_all_right", True),
        ("e_notation_all_right", True),
        ("unit_letters_all_right", True),
        ("subscripts_all_right", True),
        ("unit_letters_all_wrong", False),
    ],
)
def test_inputs_that_failed_before(comparer, file, right):
    rows = [json.loads(line) for line in (TRIALS / f"{file}.jsonl").read_text().splitlines()]
    asked = [(Problem("p", r["question"], r["gold"]), [comparer.grading.extract(r["text"])]) for r in rows]
    assert {found == [Verdict.CORRECT] for found in comparer.verdicts(asked)} == {right}


@pytest.mark.parametrize(
    ("compare", "gold", "answer", "right"),
    [
        ("exact", "0.5", "1/2", False),
        ("exact", "0.5", " 0.5 ", True),
        ("text", "The Cat", "cat.", True),
        ("text", "1/2", "0.5", False),
        ("choice", "B", "B because it is", True),
        ("choice", "B", "B or C", False),
        ("choice", "B", "(b)", True),
        ("math", "no", "on", True),  # a product
        ("math", "05/01/2021", "10/02/2021", True),  # a quotient
        ("auto", "05/01/2021", "10/02/2021", False),
    ],
)
def test_other_comparisons(compare, gold, answer, right):
    with Comparer(Grading(compare=compare)) as opened:
        assert equal(opened, gold, answer) == right


def test_a_long_answer_is_compared_as_text(comparer):
    long = "+".join(["1"] * LONGEST)
    assert equal(comparer, long, long) and not equal(comparer, str(LONGEST), long)


def test_several_gold_answers_each_count(comparer):
    problem = Problem("p", "Which prime factors has 6?", "2", also=("3",))
    assert comparer.verdicts([(problem, ["2", "3.0", "5", None])]) == [["correct", "correct", "wrong", "unanswered"]]


@given(st.text(max_size=60))
@settings(deadline=None, max_examples=300)
def test_any_text_has_a_reading(text):
    from itscale.grading.readings import Outliner, Question, expressions

    expressions(Outliner(Question(text)).outline(text))
