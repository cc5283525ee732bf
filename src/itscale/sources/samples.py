"""Anyone's scored samples, from JSONL or Parquet with named columns, as the tables of this project."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from itscale.data.records import SAMPLES, SCORES, Problem, manifest_path, read_problems, sort_by_key, well_formed
from itscale.errors import UserError
from itscale.sources.gold import check_gold_list, gold_answers

REQUIRED = ("problem_id", "question", "gold", "text", "completion_tokens")
OPTIONAL = ("sample", "score_mean", "score_last", "prompt_tokens", "cached_prompt_tokens", "verifier_tokens", "finish_reason")


def read_rows(path: Path, columns: dict[str, str], required: tuple[str, ...] = REQUIRED) -> pd.DataFrame:
    """Rows of a .jsonl or .parquet file, its columns renamed by `columns` (their name here -> their name there).

    Raises:
        UserError: another suffix, a line that is no JSON object, or a missing column; the message names line or column.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder: give one .jsonl or .parquet file.")
    if path.suffix == ".parquet":
        try:
            frame = pq.read_table(path).to_pandas()
        except pa.ArrowException as error:
            reason = str(error).strip().splitlines()[0].rstrip(".")
            raise UserError(f"{path} cannot be read as Parquet ({reason}): write or download it anew.") from None
    elif path.suffix == ".jsonl":
        rows = []
        # Not splitlines(): a text may hold other line separators, which JSON leaves as they are.
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 (byte {error.start}): convert it.") from None
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}, line {number} is not JSON ({error.msg}): correct or remove it.") from None
            if not isinstance(row, dict):
                raise UserError(f"{path}, line {number} is not a JSON object: correct or remove it.")
            rows.append(row)
        names = None if rows else [columns.get(name, name) for name in REQUIRED]
        frame = pd.DataFrame(rows, columns=names, dtype=object)  # a column of counts with a gap in it is not one of fractions
    else:
        raise UserError(f"{path} is neither .jsonl nor .parquet: convert it to one of the two.")
    unknown = sorted(set(columns) - {*REQUIRED, *OPTIONAL})
    if unknown:
        raise UserError(f"there is no column {unknown[0]!r} to import: choose among {', '.join(REQUIRED + OPTIONAL)}.")
    for ours, theirs in columns.items():
        if theirs not in frame.columns:
            raise UserError(f"{path} has no column {theirs!r} for {ours!r}: it has {', '.join(map(str, frame.columns))}.")
    frame = frame.rename(columns={theirs: ours for ours, theirs in columns.items()})
    for name in required:
        if name not in frame.columns:
            has = ", ".join(map(str, frame.columns))
            raise UserError(f"{path} has no column {name!r}: name yours with --columns (it has {has}).")
    return frame


def read_questions(path: Path | str, gold_list: str | None = None) -> list[Problem]:
    """Problems from a table of problems, or from .jsonl or .parquet rows with a `question`.

    Optional columns: `answer` (gold; empty if it is missing), `problem_id` (else the number of the row), `level`. `gold_list`
    says what a list of several gold answers is, as in `gold.gold_answers`.

    Raises:
        UserError: the file is missing or has another suffix, or a row has no question, or a list as gold and no `gold_list`.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist: give the file of your questions.")
    if manifest_path(path).exists() and path.suffix == ".parquet":
        return read_problems(path)
    frame = read_rows(path, {}, required=("question",))
    _refuse(path, frame["question"].isna() | (frame["question"].astype(str).str.strip() == ""), "has no question")
    ids = frame["problem_id"] if "problem_id" in frame.columns else pd.Series([f"q{i:04d}" for i in range(len(frame))])
    golds = _golds(path, frame["answer"], gold_list) if "answer" in frame.columns else [()] * len(frame)
    levels = frame["level"].fillna("") if "level" in frame.columns else [""] * len(frame)
    return [
        Problem(str(name), well_formed(str(question)), *(gold[:1] or ("",)), level=str(level), also=tuple(gold[1:]))
        for name, question, gold, level in zip(ids, frame["question"], golds, levels, strict=True)
    ]


def import_samples(
    path: Path, columns: dict[str, str], gold_list: str | None = None
) -> tuple[list[Problem], pd.DataFrame, pd.DataFrame]:
    """Problems, samples (schema SAMPLES) and scores (schema SCORES) of a file of scored samples, one row a sample.

    Samples without a number are numbered in the order of the file. Token counts that the file does not give are 0, a
    missing score is NaN; nothing is guessed. `gold_list` says what a list of several gold answers is: any of them, or a tuple.

    Raises:
        UserError: as `read_rows`; no rows; a row with a missing value, a score outside [0, 1], negative tokens, a question
            or gold answer that changes within a problem, or a sample that comes twice; a problem with another number of
            samples than the first. The message names the row or the problem.
    """
    frame = read_rows(path, columns)
    if not len(frame):
        raise UserError(f"{path} holds no samples: give a file with one row a sample.")
    for name in REQUIRED:
        _refuse(path, frame[name].isna(), f"has no {name}")
    golds = _golds(path, frame["gold"], gold_list)
    frame = frame.assign(problem_id=frame["problem_id"].astype(str), gold=list(map(json.dumps, golds)))
    _refuse(path, frame["gold"] == "[]", "has an empty gold")
    if "sample" not in frame.columns:
        frame["sample"] = frame.groupby("problem_id").cumcount()
    for name in ("prompt_tokens", "cached_prompt_tokens", "verifier_tokens"):
        frame[name] = frame.get(name, 0)
    for name in ("score_mean", "score_last"):
        frame[name] = frame[name] if name in frame.columns else float("nan")
        frame[name] = _numbers(path, frame[name], name)
        _refuse(path, (frame[name] < 0) | (frame[name] > 1), f"has a {name} outside 0 to 1")
    for name in ("sample", "completion_tokens", "prompt_tokens", "cached_prompt_tokens", "verifier_tokens"):
        frame[name] = _numbers(path, frame[name], name)
        _refuse(path, frame[name].isna() | (frame[name] < 0) | (frame[name] % 1 != 0), f"has a {name} that is no count")
    _refuse(path, frame.duplicated(["problem_id", "sample"]), "repeats a sample")
    for name in ("question", "gold"):
        first = frame.groupby("problem_id")[name].transform("first")
        _refuse(path, frame[name] != first, f"has another {name} than its problem's first row")
    sizes = frame.groupby("problem_id", sort=False)["sample"].agg(["size", "max"])
    uneven = sizes[(sizes["size"] != sizes["size"].iloc[0]) | (sizes["max"] != sizes["size"] - 1)]
    if len(uneven):
        name, (count, last) = uneven.index[0], uneven.iloc[0]
        raise UserError(
            f"{path}: problem {name} has {count} samples, the last of number {last}, and every problem must have "
            f"{sizes['size'].iloc[0]}, numbered from 0: remove the rest."
        )
    frame = frame.assign(chain=0, round=0, seed=-1, finish_reason=frame.get("finish_reason", "unknown"))
    heads = frame.drop_duplicates("problem_id")
    problems = [
        Problem(name, str(question), answer, also=tuple(also))
        for name, question, gold in heads[["problem_id", "question", "gold"]].itertuples(index=False)
        for answer, *also in [json.loads(gold)]
    ]
    frame = sort_by_key(frame)
    return problems, frame[[name for name in SAMPLES.names if name in frame.columns]], frame[SCORES.names]


def _golds(path: Path, values: pd.Series, gold_list: str | None) -> list[list[str]]:
    check_gold_list(gold_list)
    golds = []
    for row, value in enumerate(values, 1):
        try:
            golds.append(list(gold_answers(value, gold_list)))
        except ValueError as error:
            raise UserError(f"{path}: row {row} {error}.") from None
    return golds


def _numbers(path: Path, values: pd.Series, name: str) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce")
    _refuse(path, numbers.isna() & values.notna(), f"has a {name} that is no number")
    return numbers


def _refuse(path: Path, bad: pd.Series, what: str) -> None:
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise UserError(f"{path}: row {row + 1} {what} ({int(bad.sum())} such row(s)): correct or remove them.")
