"""What counts as an answer: every format on texts written by hand, thoughts, cut-off texts, and where most have none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itscale.errors import UserError
from itscale.grading.answers import FORMATS, extract_answer
from itscale.grading.settings import Grading
from itscale.grading.unanswered import unanswered_sentence


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{4}", "4"),
        (r"\boxed{1} no, \boxed{2}", "2"),
        (r"\boxed{\frac{1}{\sqrt{2}}} done", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{ \text{Monday} }", r"\text{Monday}"),
        (r"\boxed{3} and then \boxed{4", "3"),
        (r"\boxed{3 and \boxed{4}", "4"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\left\{1,2\right.} end", r"\left\{1,2\right."),
        (r"\boxed {5}", "5"),
        (r"\boxed 5.", "5"),
        (r"\boxed\frac{1}{2}", r"\frac{1}{2}"),
        (r"\fbox{5} and \framebox[2cm]{7}", "5, 7"),
        (r"\framebox{204} minutes", "204"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{5} then \boxed{} or \boxed{...}", "5"),
        (r"\boxed{5}. Write \boxed{\text{your answer}}.", "5"),
        (r"$x = \boxed{2}$ or $x = \boxed{3}$.", "2, 3"),
        (r"\boxed{2}, \boxed{3}, and \boxed{5}", "2, 3, 5"),
        (r"It is \boxed{2}. So it is \boxed{3}.", "3"),
        (r"\boxed{7}, that is \boxed{7}", "7"),
        (r"\boxed{}", None),
        (r"\boxed{  }", None),
        ("", None),
    ],
)
def test_boxes(text, answer):
    assert extract_answer(text, form="boxed") == answer


@given(st.text(alphabet="ab{}\\ ", max_size=12))
def test_a_box_holds_balanced_braces(inner):
    found = extract_answer(f"x \\boxed{{{inner}}} y", form="boxed") or ""
    plain = found.replace("\\\\", "").replace("\\{", "").replace("\\}", "")
    assert plain.count("{") == plain.count("}")


@pytest.mark.parametrize(
    ("form", "text", "answer"),
    [
        ("auto", "first 3\n#### 1,234", "1,234"),
        ("auto", "#### Step 3\nthen nothing", None),
        ("auto", r"the answer is 5, so \boxed{6}", "6"),
        ("auto", "Therefore, the answer is (D).", "(D)"),
        ("auto", "The answer is 3.5.", "3.5"),
        ("auto", "The final answer is $\\frac{1}{2}$.", "$\\frac{1}{2}$"),
        ("auto", "The answer is $42$ because 6*7 is.", "$42$"),
        ("auto", "**Final Answer:**\n42 dollars", "42 dollars"),
        ("auto", "### Final Answer\n\nThe final answer is: **B**", "B"),
        ("auto", "The correct option is B. 14 m/s", "B. 14 m/s"),
        ("auto", "The answer is St. Louis.", "St. Louis"),
        ("auto", "It leaves at noon. The answer is 3 p.m.", "3 p.m."),
        ("auto", "The answer is 4. No: the answer is 5.", "5"),
        ("auto", "The answer is not clear.", None),
        ("auto", "So she makes **$18**.", "$18"),
        ("auto", "text\n(B)", "B"),
        ("auto", "text\nB) 14", "B"),
        ("auto", "A dog is here", None),
        ("auto", "so it is 42", None),
        ("choice", "I take (C), not D.", "C"),
        ("last_number", "we get $1,234.50 and then -3/4", "-3/4"),
        ("last_number", "none", None),
        (r"regex:<a>(.*?)</a>", "<a>1</a> <a>2</a>", "2"),
        (r"regex:\d+", "1 and 22", "22"),
        ("json:answer", 'so {"work": {"answer": 1}, "answer": "7"} end', "7"),
        ("json:answer", '{"answer": [1, 2]}', "[1, 2]"),
        ("json:answer", '{"answer": 7', None),
    ],
)
def test_other_formats(form, text, answer):
    assert extract_answer(text, form=form) == answer


@pytest.mark.parametrize("form", ["box", "regex:", "regex:(", "json:", "auto:x", ""])
def test_an_unknown_format_is_refused(form):
    with pytest.raises(UserError, match="answer format"):
        Grading(answer=form)


@pytest.mark.parametrize(
    ("text", "finish", "answer", "read"),
    [
        (r"<think> \boxed{3} </think> \boxed{4}", "stop", "4", "4"),
        (r"\boxed{3} </think> so none", "stop", None, None),
        (r"<think> \boxed{3} </think>", "stop", "3", "3"),
        (r"<think> maybe \boxed{3}", "stop", None, "3"),
        (r"maybe \boxed{3}? Wait", "length", None, "3"),
        (r"<think> a </think> \boxed{4} <think> \boxed{5}", "stop", None, "5"),
    ],
)
def test_thoughts_and_texts_that_were_cut_off(text, finish, answer, read):
    assert extract_answer(text, finish) == answer
    assert extract_answer(text, finish, read_cut_off=True) == read


@given(st.text(max_size=300), st.sampled_from([*FORMATS[:-2], "json:a", r"regex:\w"]))
def test_any_text_can_be_read(text, form):
    found = extract_answer(text, form=form)
    assert found is None or found.strip()


def samples(*texts: str, finish: str = "stop", form: str = "auto") -> list[tuple[str, str, str | None]]:
    return [(text, finish, extract_answer(text, finish, form=form)) for text in texts]


def test_what_would_read_the_unanswered_is_said():
    assert unanswered_sentence(samples("it is 1", r"\boxed{2}"), Grading()) is None  # not more than half
    assert unanswered_sentence([], Grading()) is None
    said = unanswered_sentence(samples("so it is 1", "so it is 2", r"\boxed{2}"), Grading())
    assert said.startswith('2 of 3 samples have no answer in the format auto (one ends "so it is 1")')
    assert "--answer last_number reads 2 of them" in said and said.endswith("or go on with --allow-unanswered.")
    boxed = samples("#### 1", "#### 2", form="boxed")
    assert "--answer hash reads 2 of them" in unanswered_sentence(boxed, Grading(answer="boxed"))
    assert "raise their limit of tokens (max_tokens)" in unanswered_sentence(samples(r"\boxed{1}", finish="length"), Grading())
    assert "within a thought" in unanswered_sentence(samples(r"<think> \boxed{1}"), Grading())
    eaten = json.loads('"so \\boxed{1}"')  # JSON reads \b as a backspace
    assert "hold a backspace where \\boxed should be" in unanswered_sentence(samples(eaten), Grading())
    assert "regex:PATTERN" in unanswered_sentence(samples("no idea"), Grading())
    assert "texts are empty" in unanswered_sentence(samples("", " "), Grading())
