"""Real datasets through `datasets`, at a pinned revision or from a local folder, as problems."""

import hashlib
import random
from dataclasses import dataclass, replace
from typing import Any

from itscale.data.records import Problem
from itscale.errors import UserError
from itscale.grading.answers import extract_answer
from itscale.models.hub import hub_errors, pinned
from itscale.sources.gold import check_gold_list, gold_answers


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """Where a dataset lies and which of its columns hold what.

    `path` is a hub id (then `revision` is the 40 digits of a commit) or a local folder of Parquet, JSON or CSV files; `name`
    is one of its configurations, or several, which are read one after the other; plain files have none. `answer_after` keeps
    only what follows its last occurrence in the answer column (GSM8K: "####"), `answer_boxed` what stands in its last box
    (MATH). `choices` are the columns of the wrong options of a multiple-choice question: options are lettered in an order that
    the question's text decides, and the answer is the letter. `gold_list` says what a list of several answers is: any of them,
    or a tuple.
    `take` keeps that many questions, drawn by the hash of their text.
    """

    path: str
    split: str = "test"
    revision: str | None = None
    name: str | tuple[str, ...] | None = None
    question: str = "question"
    answer: str = "answer"
    level: str | None = None
    answer_after: str | None = None
    answer_boxed: bool = False
    choices: tuple[str, ...] = ()
    gold_list: str | None = None
    take: int | None = None

    def __post_init__(self) -> None:
        check_gold_list(self.gold_list)


def normalise(question: str) -> str:
    """A question in lower case with single spaces: two questions are the same where these agree."""
    return " ".join(question.casefold().split())


def refuse_overlap(splits: dict[str, list[Problem]]) -> None:
    """Refuse splits that share a question, by id or by normalised text.

    Raises:
        UserError: two splits share one; the message names both and the first shared question.
    """
    seen: dict[str, str] = {}
    for name, problems in splits.items():
        mine = {key: p for p in problems for key in (f"id {p.problem_id}", f"text {normalise(p.question)}")}
        shared = [key for key in mine if key in seen]
        if shared:
            what, where = mine[shared[0]].problem_id, seen[shared[0]]
            raise UserError(f"{name} and {where} share question {what} (the same {shared[0].split()[0]}): make them disjoint.")
        seen |= dict.fromkeys(mine, name)


def read_dataset(source: DatasetSource, label: str, exclude: frozenset[str] = frozenset()) -> list[Problem]:
    """The problems of a dataset in their order, numbered `label`-0000 and on.

    Questions that come twice, or whose normalised text is in `exclude`, are left out, so that splits stay disjoint.

    Raises:
        UserError: a hub id without a pinned revision, gated, or out of reach; a missing folder, split or column; a row without
            question or answer (the message names the row); no question left.
    """
    wanted = [c for c in (source.question, source.answer, source.level, *source.choices) if c is not None]
    found, seen = [], set(exclude)
    for number, row in enumerate(_rows(source, label, wanted)):
        question = _text(row[source.question])
        try:
            answer, *also = gold_answers(row[source.answer], source.gold_list) or ("",)
        except ValueError as error:
            raise UserError(f"dataset {label}: row {number} of {source.path} {error} (gold_list).") from None
        if source.answer_after is not None:
            answer = answer.rpartition(source.answer_after)[2].strip() if source.answer_after in answer else ""
        if source.answer_boxed:
            answer = extract_answer(answer, form="boxed") or ""
        if not question or not answer:
            what = "question" if not question else "answer"
            raise UserError(f"dataset {label}: row {number} of {source.path} has no {what}: correct or remove it.")
        if source.choices:
            question, answer = lettered(question, answer, [_text(row[column]) for column in source.choices])
        key = normalise(question)
        if key in seen:
            continue
        seen.add(key)
        found.append((question, answer, _text(row[source.level]) if source.level else "", tuple(also)))
    if source.take is not None:
        kept = {question for question, *_ in sorted(found, key=lambda row: _hash(row[0]))[: source.take]}
        found = [row for row in found if row[0] in kept]
    if not found:
        raise UserError(f"dataset {label}: {source.path} has no question that is not in another split: choose another split.")
    return [Problem(f"{label}-{i:04d}", *row) for i, row in enumerate(found)]


def lettered(question: str, right: str, wrong: list[str]) -> tuple[str, str]:
    """A question with its options below it, in an order that its text decides, and the letter of the right one."""
    options = [right, *wrong]
    order = list(range(len(options)))
    random.Random(_hash(question)).shuffle(order)
    lines = [f"({chr(65 + i)}) {options[j]}" for i, j in enumerate(order)]
    return "\n".join([question, *lines]), chr(65 + order.index(0))


def _rows(source: DatasetSource, label: str, wanted: list[str]) -> list[dict[str, Any]]:
    """The rows of every configuration, with the wanted columns."""
    from datasets import get_dataset_config_names, load_dataset

    what = f"dataset {label}"
    distant = pinned(what, source.path, source.revision)
    options = {"revision": source.revision} if distant else {}
    names = [source.name] if source.name is None or isinstance(source.name, str) else source.name
    rows: list[dict[str, Any]] = []
    for name in names:
        try:
            with hub_errors(what, f"datasets/{source.path}"):
                if name is not None and not distant and get_dataset_config_names(source.path) == ["default"]:
                    # Plain files in place of the hub's dataset: all of them, once.
                    return _rows(replace(source, name=None), label, wanted)
                table = load_dataset(source.path, name=name, split=source.split, **options)
        except (ValueError, FileNotFoundError) as error:
            reason = str(error).strip().splitlines()[0].rstrip(".")
            advice = "accept its terms on the hub and log in with `hf auth login`" if "gated" in reason else "correct its source"
            raise UserError(f"{what}: {source.path} cannot be read ({reason}): {advice}.") from None
        for column in wanted:
            if column not in table.column_names:
                raise UserError(f"{what}: {source.path} has no column {column!r}: it has {', '.join(table.column_names)}.")
        rows += table.select_columns(wanted).to_list()
    return rows


def _hash(question: str) -> str:
    return hashlib.sha256(normalise(question).encode()).hexdigest()


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()
