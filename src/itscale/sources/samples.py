"""Anyone's samples as the tables of this project: whatever columns a file has, one row a sample or one row a question."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from itscale.data.records import (
    CONFIDENCE,
    CUT_OFF,
    SAMPLES,
    SCORES,
    Problem,
    manifest_path,
    read_problems,
    sort_by_key,
    well_formed,
)
from itscale.errors import UserError
from itscale.sources.datasets import normalise
from itscale.sources.files import read_rows
from itscale.sources.formats import COLUMNS, FORMATS, find_format, message_text, pick
from itscale.sources.gold import check_gold_list, gold_answers
from itscale.sources.scores import check_map, mapped_scores

_TOKENS = ("prompt_tokens", "cached_prompt_tokens", "verifier_tokens")
# Columns of one question; of the others a list has a value for each sample.
_OF_QUESTION = ("problem_id", "question", "level", "gold")
# Of these one value may stand for all samples of a row.
_SHARED = ("prompt_tokens", "cached_prompt_tokens", "finish_reason", "chain", "round")
_CUT_OFF = ("length", "max_tokens", "max_length", "model_length", "token_limit")
_TRUE = ("true", "1", "1.0", "correct", "c", "yes", "right")
# The last two are verdicts of a pool that this project wrote.
_FALSE = ("false", "0", "0.0", "incorrect", "wrong", "i", "no", "unanswered", "timeout")
# Where a row came from, for messages.
_FILE, _ROW = "file", "row"


@dataclass(frozen=True, slots=True)
class Imported:
    """Problems, samples (schema SAMPLES) and scores (schema SCORES) in submission order, and what was guessed and dropped.

    `answers` are the samples' own where the file gives them (None: no answer), `correct` its own verdicts; both else None.
    Where it gives no token counts, samples are `counted`: each has one completion token.
    """

    problems: list[Problem]
    samples: pd.DataFrame
    scores: pd.DataFrame
    answers: list[str | None] | None
    correct: np.ndarray | None
    counted: bool
    notes: tuple[str, ...]


def read_questions(path: Path | str, gold_list: str | None = None) -> list[Problem]:
    """Problems from a table of problems, or from rows with a `question` (any file that `files.read_rows` reads).

    Optional columns: `answer` (gold; empty if it is missing), `problem_id` (else the number of the row), `level`. `gold_list`
    says what a list of several gold answers is, as in `gold.gold_answers`.

    Raises:
        UserError: the file is missing or of another kind, or a row has no question, or a list as gold and no `gold_list`.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist: give the file of your questions.")
    if manifest_path(path).exists() and path.suffix == ".parquet":
        return read_problems(path)
    frame = read_rows(path)
    if "question" not in frame.columns:
        raise UserError(f"{path} has no column 'question': name one so (it has {', '.join(map(str, frame.columns))}).")
    frame = _placed(frame, path)
    _refuse(frame, frame["question"].isna() | (frame["question"].astype(str).str.strip() == ""), "has no question")
    ids = frame["problem_id"] if "problem_id" in frame.columns else pd.Series([f"q{i:04d}" for i in range(len(frame))])
    golds = _golds(frame, "answer", gold_list) if "answer" in frame.columns else [()] * len(frame)
    levels = frame["level"].fillna("") if "level" in frame.columns else [""] * len(frame)
    return [
        Problem(str(name), well_formed(str(question)), *(gold[:1] or ("",)), level=str(level), also=tuple(gold[1:]))
        for name, question, gold, level in zip(ids, frame["question"], golds, levels, strict=True)
    ]


def import_samples(
    paths: Sequence[Path],
    columns: dict[str, str] | None = None,
    *,
    form: str = "auto",
    problems: Sequence[Problem] = (),
    gold_list: str | None = None,
    score: str = "identity",
    steps: str = "mean",
    size: int | None = None,
) -> Imported:
    """The samples of files of one kind.

    Args:
        paths: files, which are put under each other.
        columns: our names to yours, which win over what the format says; an empty name leaves a column out.
        form: one of `formats.FORMATS`, or `auto`.
        problems: questions and gold answers that the files lack, found by id or else by question.
        gold_list: what a list of several gold answers is: any of them, or a tuple.
        score: how scores become probabilities (`scores.MAPS`); `steps`: how several of one sample become one (`scores.STEPS`).
        size: samples of each question (or rounds of each chain) to keep, questions of fewer left out; else all samples, and of
            chains so many rounds that most are kept.

    Raises:
        UserError: a file or a format that cannot be read; no texts or answers, no gold answers or verdicts; a row with an
            impossible value, or a question or gold answer that changes within a problem, or a sample that comes twice. The
            message names the file and the row.
    """
    check_gold_list(gold_list)
    check_map(score, steps)
    given, notes = columns or {}, []
    if unknown := [name for name in given if name not in COLUMNS]:
        raise UserError(f"there is no column {unknown[0]!r} to import: choose among {', '.join(COLUMNS)}.")
    names = list(map(str, paths))
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"{min(twice)} is given twice: give every file once.")
    parts = [_part(Path(path), given, form, len(paths), bool(problems), notes) for path in paths]
    frame = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    frame[_FILE] = pd.Categorical(frame[_FILE], categories=names)
    del parts
    if not len(frame):
        raise UserError(f"{paths[0]} holds no samples: give a file of samples, one row a sample or one a question.")
    if problems:
        frame = _with_problems(frame, problems)
    frame = _identified(frame, notes)
    frame, golds = _settled(frame, "any" if problems else gold_list, notes)
    frame["text"], answers = _texts(frame, notes), _answers(frame)
    correct = _verdicts(frame)
    frame, counted = _counts(frame, notes)
    frame = _scored(frame, score, steps, notes)
    frame = _numbered(frame, notes)
    if answers is not None:
        frame["answer"] = answers
    if correct is not None:
        frame["correct"] = correct
    frame = sort_by_key(_sized(frame, size, notes))
    heads = frame.drop_duplicates("problem_id")
    levels = heads["level"] if "level" in heads.columns else [""] * len(heads)
    found = [
        Problem(name, question, gold, level="" if level is None or level != level else str(level), also=tuple(also))
        for name, question, level in zip(heads["problem_id"], heads["question"], levels, strict=True)
        for gold, *also in [golds.get(name, ("",))]
    ]
    return Imported(
        problems=found,
        samples=frame[[name for name in SAMPLES.names if name in frame.columns]],
        scores=frame[SCORES.names],
        answers=None if answers is None else frame["answer"].tolist(),
        correct=None if correct is None else frame["correct"].to_numpy(bool),
        counted=counted,
        notes=tuple(dict.fromkeys(notes)),
    )


def part_of(found: Imported, share: float, part: str) -> Imported:
    """One part of the questions, split by the hash of their text (of their id, where they have none): the same in every pool.

    `calibration` are about `share` of them, `test` the others.

    Raises:
        UserError: another part, or one without questions.
    """
    if part not in ("calibration", "test"):
        raise UserError(f"there is no part {part!r}: choose calibration or test.")
    kept = {p.problem_id for p in found.problems if (_place(p) < share) == (part == "calibration")}
    if not kept:
        raise UserError(
            f"none of the {len(found.problems)} questions falls into the {part} part of a split at {share:g}: name two pools."
        )
    mine = found.samples["problem_id"].isin(kept).to_numpy()
    note = f"split by the hash of the question: {len(kept)} of {len(found.problems)} questions are the {part} part"
    return Imported(
        problems=[p for p in found.problems if p.problem_id in kept],
        samples=found.samples[mine].reset_index(drop=True),
        scores=found.scores[mine].reset_index(drop=True),
        answers=None if found.answers is None else [a for a, own in zip(found.answers, mine, strict=True) if own],
        correct=None if found.correct is None else found.correct[mine],
        counted=found.counted,
        notes=(*found.notes, note),
    )


def _place(problem: Problem) -> float:
    """Where a question lies from 0 to 1: by another hash than datasets' `take`, whose choice would else lie on one side."""
    digest = hashlib.sha256(f"split {normalise(problem.question or problem.problem_id)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _placed(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The rows with the file and the number that messages name them by."""
    return frame.assign(**{_FILE: pd.Categorical([str(path)]).repeat(len(frame)), _ROW: np.arange(1, len(frame) + 1)})


def _part(path: Path, given: dict[str, str], form: str, files: int, helped: bool, notes: list[str]) -> pd.DataFrame:
    """The rows of one file, a row a sample, its columns called as ours."""
    rows = read_rows(path)
    if not len(rows):
        return _placed(rows, path)
    name = find_format(form, rows.columns)
    chosen, places = FORMATS[name], {ours: theirs for ours, theirs in given.items() if theirs}
    if chosen.never and "text" not in given and pick(rows, chosen.never[0]) is not None:
        raise UserError(f"{path} {chosen.never[1]}.")
    picked: dict[str, pd.Series] = {}
    for ours, theirs in places.items():
        picked[ours] = rows[theirs] if theirs in rows.columns else pick(rows, theirs)
        if picked[ours] is None:
            raise UserError(f"{path} has no column {theirs!r} for {ours!r}: it has {_has(rows)}.")
    for ours, options in chosen.places.items():
        for place in options if ours not in given else ():
            if place not in places.values() and (found := pick(rows, place)) is not None:
                places[ours], picked[ours] = place, found
                break
    if chosen.questions and not {"gold", "correct"} & set(places) and not helped:
        picked |= _beside(path, *chosen.questions, len(rows), notes)
        places |= {"question": "question", "gold": "gold"}
    if "text" in places and not {"gold", "correct"} & set(places) and "answer" not in given and _one_each(picked, "answer"):
        places["gold"], picked["gold"] = places.pop("answer"), picked.pop("answer")  # as datasets call it
    if not {"text", "answer"} & set(places):
        raise UserError(f"{path} has no column 'text': name yours with --column text=NAME (it has {_has(rows)}).")
    if not {"gold", "correct"} & set(places) and not helped:
        raise UserError(
            f"{path} has no column 'gold': name yours with --column gold=NAME, or that of verdicts with --column correct=NAME "
            f"(it has {_has(rows)})."
        )
    if "problem_id" not in given and places.get("problem_id", "problem_id") != "problem_id" and _of_rows(picked):
        notes.append(f"every row has its own {places.pop('problem_id')}: rows of one question are its samples")
        del picked["problem_id"]
    told = ", ".join(f"{ours} from {place}" for ours, place in places.items() if ours != place)
    if name != "columns" or told:
        guessed = " (guessed, else give --format)" if form == "auto" and name != "columns" else ""
        notes.append(f"format {name}{guessed}" + (f": {told}" if told else ""))
    tops = {top for place in places.values() for top in (place, place.split(".")[0])}
    if left := [str(name) for name in rows.columns if name not in tops and rows[name].notna().any()]:
        notes.append(f"not read: {', '.join(left)}")
    frame = _placed(pd.DataFrame(picked), path)
    if chosen.once and set(chosen.once) <= set(rows.columns):
        key, view = (rows[name].astype(str) for name in chosen.once)
        again = (view != view.groupby(key, sort=False).transform("first")).to_numpy()
        if again.any():
            notes.append(f"dropped {int(again.sum())} rows that are another {chosen.once[1]} of the same samples")
            frame = frame[~again].reset_index(drop=True)
    return _unrolled(frame, files, notes, by_text=helped and "question" in frame.columns)


def _beside(path: Path, pattern: str, name: str, rows: int, notes: list[str]) -> dict[str, pd.Series]:
    """The questions and gold answers of a file's rows, which lie in another one of its folder, or of one above."""
    called = re.fullmatch(pattern, path.name)
    wanted = called.expand(name) if called else "the file of its questions"
    found = next((folder / wanted for folder in path.resolve().parents[:2] if called and (folder / wanted).exists()), None)
    if found is None:
        raise UserError(f"{path}: {wanted}, which has its questions, is not beside it: put it there, or give it with --problems.")
    asked = read_rows(found)
    if len(asked) != rows or not {"question", "answer"} <= set(asked.columns):
        raise UserError(f"{found} does not have the questions of the {rows} rows of {path}: give those of the same archive.")
    notes.append(f"questions and gold answers from {wanted}, in its order")
    return {"question": asked["question"], "gold": asked["answer"]}


def _one_each(picked: dict[str, pd.Series], name: str) -> bool:
    """Is there such a column, with one value for each question?"""
    asked = picked.get("problem_id", picked.get("question"))
    if name not in picked or asked is None:
        return False
    asked = asked.astype(str)
    return len(set(zip(asked, picked[name].astype(str), strict=True))) == asked.nunique()


def _of_rows(picked: dict[str, pd.Series]) -> bool:
    """Are the ids those of rows, of which several have one question and one gold answer?"""
    if "question" not in picked or any(isinstance(value, list) for value in picked.get("text", ())):
        return False
    rows, asked = len(picked["question"]), {name: picked[name] for name in ("question", "gold") if name in picked}
    distinct = picked["question"].astype(str).nunique() < rows == picked["problem_id"].astype(str).nunique()
    return distinct and ("gold" not in picked or _one_each(asked, "gold"))


def _has(rows: pd.DataFrame) -> str:
    return ", ".join(map(str, rows.columns))


def _unrolled(frame: pd.DataFrame, files: int, notes: list[str], by_text: bool) -> pd.DataFrame:
    """One row a sample, where a row may hold a list of them; `by_text`: questions are looked up, and get their ids then."""
    lead = "text" if "text" in frame.columns else "answer"
    values = [_samples_of(value) for value in frame[lead]]
    frame = frame.assign(**{lead: pd.Series(values, dtype=object)})
    if not any(isinstance(value, list) for value in values):
        return frame
    lists = [value if isinstance(value, list) else [value] for value in values]
    sizes = np.array([len(value) for value in lists])
    if (sizes == 0).any():
        notes.append(f"dropped {int((sizes == 0).sum())} questions without samples")
    if "problem_id" not in frame.columns and files == 1 and not by_text:
        frame = frame.assign(problem_id=[f"q{i:04d}" for i in range(len(frame))])
        notes.append("no ids: the position of a question is its id")
    whole = frame.loc[frame.index.repeat(sizes), [c for c in frame.columns if c in (*_OF_QUESTION, _FILE, _ROW)]]
    whole = whole.reset_index(drop=True)
    for name in frame.columns.difference(whole.columns, sort=False):
        each = lists if name == lead else _spread(frame, name, sizes, lead)
        whole[name] = pd.Series(list(chain.from_iterable(each)), dtype=object)
    return whole


def _samples_of(value: Any) -> Any:
    """A text (or answer), or the list of those of several samples."""
    if not isinstance(value, list | dict):
        return value
    if isinstance(value, list):
        while len(value) == 1 and isinstance(value[0], list):  # lists of one request
            value = value[0]
        roles = [part.get("role") for part in value if isinstance(part, dict)]
        if not roles or len(roles) < len(value) or (len(value) > 1 and set(roles) == {"assistant"}):
            return [message_text(part) for part in value]
    return message_text(value)


def _spread(frame: pd.DataFrame, name: str, sizes: np.ndarray, lead: str) -> list[list[Any]]:
    """A column's values of each sample, for rows of `sizes` samples."""
    found = []
    for i, (value, size) in enumerate(zip(frame[name], sizes.tolist(), strict=True)):
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list) and size > 1:
            value = value[0]
        if isinstance(value, list) and len(value) == size:
            found.append(value)
        elif not isinstance(value, list) and (size == 1 or name in _SHARED or value is None or value != value):
            found.append([value] * size)
        else:
            count = len(value) if isinstance(value, list) else "one"
            raise UserError(
                f"{_where(frame, i)} has {size} of {lead} and {count} of {name}: correct it, or leave the column out with "
                f"--column {name}=."
            )
    return found


def _with_problems(frame: pd.DataFrame, problems: Sequence[Problem]) -> pd.DataFrame:
    """The rows with the questions and gold answers of some problems."""
    by_id, by_question = {p.problem_id: p for p in problems}, {p.question: p for p in problems}
    ids = frame.get("problem_id", pd.Series(None, frame.index)).astype(str)
    found = [by_id.get(name) for name in ids]
    if "question" in frame.columns:
        asked = [by_question.get(question) for question in frame["question"]]
        other = [None not in (one, two) and one is not two for one, two in zip(found, asked, strict=True)]
        _refuse(frame, pd.Series(other, frame.index), "has the id of one question of --problems and the text of another")
        found = [one or two for one, two in zip(found, asked, strict=True)]
    _refuse(frame, pd.Series([one is None for one in found], frame.index), "is of no question that --problems gives")
    return frame.assign(
        problem_id=[p.problem_id for p in found],
        question=[p.question for p in found],
        gold=pd.Series([[p.answer, *p.also] for p in found], frame.index, dtype=object),
    )


def _identified(frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The rows with a problem's id each: the file's own, or the position of the question."""
    if "question" in frame.columns:
        texts: dict[Any, str] = {}
        frame["question"] = [
            texts.setdefault(q, well_formed(q)) if isinstance(q, str) else _question(q) for q in frame["question"]
        ]
        _refuse(frame, frame["question"].isna(), "has no question")
    if "problem_id" in frame.columns:
        _refuse(frame, frame["problem_id"].isna(), "has no problem_id")
        frame["problem_id"] = [well_formed(str(name)) for name in frame["problem_id"]]
    elif "question" in frame.columns:
        notes.append("no ids: the position of a question is its id")
        codes, names = pd.factorize(frame["question"])
        frame["problem_id"] = np.array([f"q{i:04d}" for i in range(len(names))], dtype=object)[codes]
    else:
        raise UserError(
            f"{frame[_FILE].iloc[0]} has neither ids nor questions: name a column with --column problem_id=NAME or question=NAME."
        )
    if "question" not in frame.columns:
        notes.append("no questions: units and choices are compared without them")
        frame["question"] = ""
    return frame


def _question(value: Any) -> str | None:
    value = message_text(value, "user")
    return None if value is None or value != value else well_formed(value if isinstance(value, str) else str(value))


def _settled(frame: pd.DataFrame, gold_list: str | None, notes: list[str]) -> tuple[pd.DataFrame, dict[str, tuple[str, ...]]]:
    """The rows, and the gold answers by problem; a question or a gold answer that changes within one is refused."""
    golds: dict[str, tuple[str, ...]] = {}
    if "gold" in frame.columns:
        marked = sum(isinstance(value, str) and "####" in value for value in frame["gold"])
        if marked:
            notes.append("of gold answers what follows #### is taken")
        _refuse(frame, frame["gold"].isna(), "has no gold")
        found = _golds(frame, "gold", gold_list)
        _refuse(frame, pd.Series([not gold for gold in found], frame.index), "has an empty gold")
        frame["gold"] = ["\0".join(gold) for gold in found]
    first = frame.groupby("problem_id", sort=False)
    for name in ("question", "gold"):
        if name in frame.columns:
            _refuse(frame, frame[name] != first[name].transform("first"), f"has another {name} than its problem's first row")
    if "gold" in frame.columns:
        golds = {name: tuple(gold.split("\0")) for name, gold in first["gold"].first().items()}
    return frame.drop(columns="gold", errors="ignore"), golds


def _golds(frame: pd.DataFrame, name: str, gold_list: str | None) -> list[tuple[str, ...]]:
    check_gold_list(gold_list)
    golds, known = [], {}
    for i, value in enumerate(frame[name]):
        key = (type(value), value) if isinstance(value, str | int | float) else None
        if key is None or key not in known:
            whole = int(value) if isinstance(value, float) and value.is_integer() else value
            try:
                texts = (text.rpartition("####")[2].strip() for text in gold_answers(whole, gold_list))  # GSM8K explains itself
                known[key] = tuple(well_formed(text) for text in texts if text)
            except ValueError as error:
                raise UserError(f"{_where(frame, i)} {error}.") from None
        golds.append(known[key])
    return golds


def _texts(frame: pd.DataFrame, notes: list[str]) -> list[str]:
    if "text" not in frame.columns:
        return [""] * len(frame)
    texts = frame["text"].tolist()
    if set(map(type, texts)) == {str}:
        return texts
    bad = pd.Series([not (isinstance(t, str) or t is None or t != t) for t in texts], frame.index)
    if bad.any():
        shown = json.dumps(texts[int(bad.to_numpy().argmax())], default=str)[:40]
        _refuse(frame, bad, f"has a text that is none, {shown}", "name the column of the texts with --column text=NAME")
    empty = sum(not isinstance(text, str) for text in texts)
    notes.append(f"{empty} samples have no text, and so no answer")
    return [text if isinstance(text, str) else "" for text in texts]


def _answers(frame: pd.DataFrame) -> list[str | None] | None:
    """The samples' own answers, None where the file has none."""
    if "answer" not in frame.columns:
        return None

    def text(value: Any) -> str | None:
        if value is None or value != value:
            return None
        value = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
        return well_formed(value).strip() or None

    return [text(value) for value in frame["answer"]]


def _verdicts(frame: pd.DataFrame) -> np.ndarray | None:
    """The file's own verdicts, None where it has none."""
    if "correct" not in frame.columns:
        return None
    words = frame["correct"].map(lambda value: str(value).strip().lower())
    _refuse(frame, ~words.isin([*_TRUE, *_FALSE]), "has a verdict `correct` that is neither true nor false")
    return words.isin(_TRUE).to_numpy()


def _counts(frame: pd.DataFrame, notes: list[str]) -> tuple[pd.DataFrame, bool]:
    """The rows with token counts, and whether samples stand in for them."""
    counted = "completion_tokens" not in frame.columns
    if counted:
        notes.append("no token counts: samples are counted, each as one completion token")
        frame["completion_tokens"] = 1
    for name in _TOKENS:
        if name not in frame.columns:
            frame[name] = 0
    for name in ("completion_tokens", *_TOKENS):
        frame[name] = _whole_numbers(frame, name)
    for name in CONFIDENCE:
        if name in frame.columns:
            frame[name] = _numbers(frame, name)
    reasons = frame.get("finish_reason", pd.Series("unknown", frame.index)).fillna("unknown").astype(str)
    return frame.assign(finish_reason=reasons.where(~reasons.str.lower().isin(_CUT_OFF), CUT_OFF), seed=-1), counted


def _scored(frame: pd.DataFrame, score: str, steps: str, notes: list[str]) -> pd.DataFrame:
    found: dict[str, pd.Series] = {}
    for name in ("score_mean", "score_last"):
        if name not in frame.columns:
            continue
        try:
            found[name], last = mapped_scores(frame[name], score, steps)
        except ValueError as error:
            raise UserError(
                f"{_where(frame, int(error.args[0]))} has a {name} that is no number: correct or remove it."
            ) from None
        if last is not None:
            notes.append(f"scores of steps: {name} is their {steps} (--steps says another)")
            if name == "score_mean" and "score_last" not in frame.columns:
                found["score_last"] = last
                break
    for name, values in found.items():
        outside = (values < 0) | (values > 1)
        if outside.any():
            value = values[outside].iloc[0]
            advice = "if they are logits give --score sigmoid, if only their order counts --score rank"
            _refuse(frame, outside, f"has a {name} outside 0 to 1 ({value:g})", advice)
    if found and score != "identity":
        notes.append(f"scores are mapped to 0 to 1 by --score {score}")
    if not found or all(values.isna().all() for values in found.values()):
        notes.append("no scores: rules that read them cannot be run")
    nothing = pd.Series(np.nan, frame.index)
    return frame.assign(**{name: found.get(name, nothing) for name in ("score_mean", "score_last")})


def _numbered(frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The rows with the numbers of chain, round and sample; those of the file where it has some, else their order."""
    for name in ("chain", "round", "sample"):
        if name in frame.columns:
            frame[name] = _whole_numbers(frame, name)
    rounds = "round" in frame.columns and frame["round"].nunique() > 1
    chains = rounds or ("chain" in frame.columns and "round" not in frame.columns and frame["chain"].nunique() > 1)
    own = [name for name in (("chain", "sample") if chains else ("sample",)) if name in frame.columns]
    place = "round" if chains else "sample"
    if chains and not rounds:
        notes.append("no rounds: those of a chain are numbered in the order of the file")
    several = frame[_FILE].nunique() > 1
    order = ["problem_id", *own] if not chains else ["problem_id", *own, *(["round"] if rounds else [])]
    if own or rounds:
        if (chains and rounds) or not chains:
            twice = frame.duplicated([*order, _FILE])
            _refuse(frame, twice, f"repeats a {place}")
            if several and frame.duplicated(order).any():
                notes.append(f"{place}s of several files are numbered on")
    if chains:
        each = ["problem_id", *([_FILE] if several else []), *own]
        groups = frame.groupby(each, observed=True).ngroup()
        number = groups.groupby(frame["problem_id"], sort=False).rank("dense").astype(int) - 1
        frame = frame.assign(chain=number, sample=0)
    else:
        frame = frame.assign(chain=0, round=0)
    keys = ["problem_id", "chain"]
    ordered = frame.sort_values([*keys, _FILE, place], kind="stable") if place in own or rounds else frame
    numbers = ordered.groupby(keys, sort=False).cumcount().sort_index()
    if (place in own or rounds) and not several and (numbers != frame[place]).any():
        notes.append(f"{place}s are numbered anew from 0")
    return frame.assign(**{place: numbers})


def _sized(frame: pd.DataFrame, size: int | None, notes: list[str]) -> pd.DataFrame:
    """All samples of every question, or with a `size` the first so many of those that have them.

    Chains are whole: of those that differ in their rounds, so many rounds of each are kept that most rounds are.
    """
    place = "round" if frame["round"].max() > 0 else "sample"
    row = "chains" if place == "round" else "questions"
    groups = frame.groupby(["problem_id", "chain"], sort=False)
    sizes = groups.size()
    counts = np.sort(sizes.to_numpy())
    if size is None and place == "sample":
        if counts[0] < counts[-1]:
            notes.append(
                f"questions have {counts[0]} to {counts[-1]} samples: a rule that asks for more than a question has gets what it "
                "has (--size K keeps K of each that has them)"
            )
        return frame
    kept = counts * np.arange(len(counts), 0, -1)  # samples kept with the size of each as the size of all
    k = size or int(counts[kept.argmax()])
    if k > counts[-1]:
        raise UserError(f"no question has {k} {place}s: give a --size of at most {counts[-1]}.")
    if counts[0] == counts[-1] == k:
        return frame
    keep = (groups[place].transform("size") >= k) & (frame[place] < k)
    left = int((sizes < k).sum())
    notes.append(
        f"{row} have {counts[0]} to {counts[-1]} {place}s: the first {k} of each are kept (--size says another number), "
        f"{left} {row} of fewer are dropped, {int((~keep).sum())} samples in all"
    )
    return frame[keep].reset_index(drop=True)


def _whole_numbers(frame: pd.DataFrame, name: str) -> pd.Series:
    numbers = _numbers(frame, name)
    _refuse(frame, numbers.isna() | (numbers < 0) | (numbers % 1 != 0) | (numbers >= 2**31), f"has a {name} that is no count")
    return numbers.astype(np.int64)


def _numbers(frame: pd.DataFrame, name: str) -> pd.Series:
    try:
        numbers = pd.to_numeric(frame[name], errors="coerce").astype(float)
    except TypeError:  # lists among them
        numbers = pd.to_numeric(frame[name].map(lambda v: v if np.isscalar(v) else None), errors="coerce").astype(float)
    _refuse(frame, numbers.isna() & frame[name].notna(), f"has a {name} that is no number")
    return numbers


def _where(frame: pd.DataFrame, position: int) -> str:
    return f"{frame[_FILE].iloc[position]}: row {frame[_ROW].iloc[position]}"


def _refuse(frame: pd.DataFrame, bad: pd.Series, what: str, advice: str = "correct or remove them") -> None:
    if bad.any():
        raise UserError(f"{_where(frame, int(bad.to_numpy().argmax()))} {what} ({int(bad.sum())} such row(s)): {advice}.")
