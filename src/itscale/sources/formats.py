"""Where the files of other tools hold what a pool needs: one table of columns a format, and values picked out of nested ones."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from itscale.errors import UserError


@dataclass(frozen=True, slots=True)
class Format:
    """What a tool writes: the columns that tell it, and for each of ours the places where it may stand, the first one first.

    A place is a column, or a path into a nested one (`doc.question`, `resps.0`, `samples.*.text`: of each). Of the rows of one
    `once[0]` those count that have the first one's `once[1]`. A file with something at the place `never` is refused, for the
    reason beside it. Questions and gold answers that lie in another file are row by row in the one that `questions` names: a
    pattern of the file's name, and what that makes of it, in its folder or one above.
    """

    about: str
    told_by: frozenset[str]
    places: dict[str, tuple[str, ...]]
    once: tuple[str, str] | None = None
    never: tuple[str, str] | None = None
    questions: tuple[str, str] | None = None


# What people call the columns; ours first. `answer` is the gold answer of a dataset, or else the sample's own.
_USUAL = {
    "problem_id": ("problem_id", "question_id", "unique_id", "id", "doc_id", "task_id"),
    "question": ("question", "problem", "query", "prompt", "input"),
    "level": ("level",),
    "gold": ("gold", "gold_answer", "target", "reference", "ground_truth", "reference_answer", "expected"),
    "correct": ("correct", "is_correct", "verdict"),
    "text": ("text", "completion", "completions", "output", "outputs", "response", "responses", "generation", "generations"),
    "answer": ("answer", "extracted_answer"),
    "sample": ("sample",),
    "chain": ("chain",),
    "round": ("round",),
    "finish_reason": ("finish_reason", "finish", "stop_reason"),
    "completion_tokens": ("completion_tokens", "output_tokens", "num_tokens", "tokens"),
    "prompt_tokens": ("prompt_tokens",),
    "cached_prompt_tokens": ("cached_prompt_tokens",),
    "verifier_tokens": ("verifier_tokens",),
    "score_mean": ("score_mean", "score", "scores", "reward", "rewards"),
    "score_last": ("score_last",),
    **{name: (name,) for name in ("logprob_mean", "conf_mean", "conf_tail", "conf_low10", "conf_min")},
}
COLUMNS = tuple(_USUAL)

FORMATS = {
    "lm-eval": Format(
        "lm-evaluation-harness, --log_samples",
        frozenset({"doc", "resps"}),
        {
            "problem_id": ("doc_id",),
            "question": ("doc.question", "doc.problem", "doc.query", "doc.input", "arguments.gen_args_0.arg_0", "arguments.0.0"),
            "gold": ("target",),
            "text": ("resps.0",),
        },
        once=("doc_id", "filter"),
        never=("resps.0.0.0", "holds log-likelihoods of choices, not samples: give the log of a task that generates"),
    ),
    "search-and-learn": Format(
        "search-and-learn, best-of-N and others",
        frozenset({"problem", "completions"}),
        {
            "problem_id": ("unique_id", "problem_id", "id"),
            "question": ("problem",),
            "level": ("level",),
            "gold": ("answer",),
            "text": ("completions",),
            "score_mean": ("scores",),
            "completion_tokens": ("completion_tokens",),
        },
    ),
    "inspect": Format(
        "Inspect, a log as JSON (`inspect log dump`)",
        frozenset({"id", "epoch", "output", "target"}),
        {
            "problem_id": ("id",),
            "question": ("input",),
            "gold": ("target",),
            "text": ("output.choices.0.message.content", "output.completion"),
            "finish_reason": ("output.choices.0.stop_reason",),
            "completion_tokens": ("output.usage.output_tokens",),
            "prompt_tokens": ("output.usage.input_tokens",),
        },
    ),
    "feval-ttc": Format(
        "FEval-TTC, a model's file of its unpacked archive (LLM_MODEL_dataset_NAME.txt)",
        frozenset({"cots", "request"}),
        {
            "text": ("cots.*.raw_text",),
            "answer": ("cots.*.answer",),
            "finish_reason": ("cots.*.metadata.finish_reason",),
            "completion_tokens": ("cots.*.metadata.token_cost",),
            "prompt_tokens": ("request.token_cost",),
        },
        questions=(r".*_(dataset_.+\.txt)(\.gz)?", r"\1"),
    ),
    "solve": Format(
        "answers of `itscale solve`; give the questions with --problems",
        frozenset({"samples", "chosen", "reason"}),
        {
            "problem_id": ("problem_id",),
            "question": ("question",),
            "chain": ("chain",),
            "text": ("samples.*.text",),
            "finish_reason": ("samples.*.finish",),
            "completion_tokens": ("samples.*.completion_tokens",),
            "score_mean": ("samples.*.score",),
        },
    ),
    "columns": Format("columns of our names, or of usual ones", frozenset(), _USUAL),
}


def find_format(name: str, columns: Iterable[str]) -> str:
    """The name of the format: the one asked for, or with `auto` the first that the columns tell.

    Raises:
        UserError: there is no such format.
    """
    if name == "auto":
        return next(known for known, form in FORMATS.items() if form.told_by <= set(columns))
    if name not in FORMATS:
        raise UserError(f"there is no format {name!r}: choose auto, {', '.join(FORMATS)}.")
    return name


def pick(frame: pd.DataFrame, place: str) -> pd.Series | None:
    """The values at a place, None where no row has one. A column whose own name is the place comes before a path."""
    if place in frame.columns:
        found = frame[place]
    else:
        column, *path = place.split(".")
        if not path or column not in frame.columns:
            return None
        found = pd.Series([_inside(value, path) for value in frame[column]], index=frame.index, dtype=object)
    return found if found.notna().any() else None


def _inside(value: Any, path: list[str]) -> Any:
    for depth, step in enumerate(path):
        if step == "*":
            return [_inside(item, path[depth + 1 :]) for item in value] if isinstance(value, list) else None
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def message_text(value: Any, role: str = "assistant") -> Any:
    """The text of a chat message, of a list of its parts, or of the last one of a role in a conversation; else the value."""
    if isinstance(value, dict) and isinstance(value.get("content", value.get("text")), str | list):
        return message_text(value.get("content", value.get("text")), role)
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        if any("role" in part for part in value):
            said = [part for part in value if part.get("role") == role] or value
            return message_text(said[-1], role)
        parts = [part["text"] for part in value if isinstance(part.get("text"), str)]
        return "".join(parts) if parts else value
    return value
