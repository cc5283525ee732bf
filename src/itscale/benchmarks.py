"""Real benchmarks through `datasets`, at a pinned revision or from a local folder, as problems."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itscale.errors import UserError
from itscale.records import Problem

_REVISION = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class BenchmarkSource:
    """Where a benchmark lies and which of its columns hold what.

    `path` is a hub id (then `revision` is the 40 digits of a commit) or a local folder of Parquet, JSON or CSV files.
    `answer_after` keeps only what follows its last occurrence in the answer column (GSM8K: "####").
    """

    path: str
    split: str = "test"
    revision: str | None = None
    name: str | None = None
    question: str = "question"
    answer: str = "answer"
    level: str | None = None
    answer_after: str | None = None


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


def load_benchmark(source: BenchmarkSource, label: str, exclude: frozenset[str] = frozenset()) -> list[Problem]:
    """The problems of a benchmark in their order, numbered `label`-0000 and on.

    Questions that come twice, or whose normalised text is in `exclude`, are left out, so that splits stay disjoint.

    Raises:
        UserError: a hub id without a pinned revision, a missing folder, split or column, or a row without question or
            answer; the message names the row.
    """
    from datasets import load_dataset

    local = Path(source.path).is_dir()
    if not local and not _REVISION.fullmatch(source.revision or ""):
        raise UserError(
            f"benchmark {label}: {source.path!r} is no local folder, and a data set of the hub needs the 40 digits of a "
            "commit as its revision: set revision."
        )
    options: dict[str, Any] = {"split": source.split, "name": source.name}
    if not local:
        options["revision"] = source.revision
    try:
        rows = load_dataset(source.path, **options)
    except (ValueError, FileNotFoundError) as error:
        raise UserError(f"benchmark {label}: {source.path} cannot be read ({str(error).splitlines()[0]}).") from None
    wanted = [c for c in (source.question, source.answer, source.level) if c is not None]
    for column in wanted:
        if column not in rows.column_names:
            raise UserError(f"benchmark {label}: {source.path} has no column {column!r}: it has {', '.join(rows.column_names)}.")
    problems, seen = [], set(exclude)
    for number, row in enumerate(rows):
        question, answer = _text(row[source.question]), _text(row[source.answer])
        if source.answer_after is not None:
            answer = answer.rpartition(source.answer_after)[2].strip() if source.answer_after in answer else ""
        if not question or not answer:
            what = "question" if not question else "answer"
            raise UserError(f"benchmark {label}: row {number} of {source.path} has no {what}: correct or remove it.")
        key = normalise(question)
        if key in seen:
            continue
        seen.add(key)
        level = _text(row[source.level]) if source.level else ""
        problems.append(Problem(f"{label}-{len(problems):04d}", question, answer, level))
    return problems


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()
