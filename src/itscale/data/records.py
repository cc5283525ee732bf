"""Problems, tables and pools: what the workflow keeps on disk, and the dense arrays that policies read.

Every table is Parquet with a fixed schema and a JSON manifest beside it (`pool.parquet`, `pool.json`). The manifest is
written last and holds the data's SHA-256: its existence means that the table is complete, and a table that no longer
agrees with it is refused. Texts are long: they are written and read in blocks of rows, and only where they are asked for.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from itscale.errors import UserError

# The finish reason of a completion that reached its limit of tokens.
CUT_OFF = "length"
KEY = ("problem_id", "chain", "round", "sample")
_KEY_FIELDS = [("problem_id", pa.string()), ("chain", pa.int32()), ("round", pa.int32()), ("sample", pa.int32())]

KEYS = pa.schema(_KEY_FIELDS)
# How sure the model was (itscale.models.confidence); empty unless `sampling.confidence` asked for it.
CONFIDENCE = ("logprob_mean", "conf_mean", "conf_tail", "conf_low10", "conf_min")

PROBLEMS = pa.schema(
    [*((name, pa.string()) for name in ("problem_id", "question", "answer", "level")), ("also", pa.list_(pa.string()))]
)
SAMPLES = pa.schema(
    [
        *_KEY_FIELDS,
        ("seed", pa.int64()),
        ("text", pa.string()),
        ("finish_reason", pa.string()),
        ("failure", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("cached_prompt_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
        *((name, pa.float64()) for name in CONFIDENCE),
        ("tokens_estimated", pa.bool_()),
    ]
)
SCORES = pa.schema([*_KEY_FIELDS, ("score_mean", pa.float64()), ("score_last", pa.float64()), ("verifier_tokens", pa.int32())])
GRADES = pa.schema([*_KEY_FIELDS, ("answer", pa.string()), ("cluster", pa.int32()), ("verdict", pa.string())])
FEATURES = ("score_mean", "score_sd", "p0", "a", "b")
PREDICTIONS = pa.schema(
    [("problem_id", pa.string()), ("predictor_tokens", pa.int32()), *((name, pa.float64()) for name in FEATURES)]
)
POOL = pa.unify_schemas([SAMPLES, GRADES, SCORES])
# Columns that a table may lack; they are empty then.
OPTIONAL = frozenset({"failure", "finish_reason", "tokens_estimated", "also", *CONFIDENCE})
# What the arrays of a pool are made of.
_DENSE = (
    *KEY,
    "finish_reason",
    "cluster",
    "verdict",
    "score_mean",
    "completion_tokens",
    "prompt_tokens",
    "cached_prompt_tokens",
    "verifier_tokens",
)
# Rows that are written and read at once: texts of 10,000 tokens are 10 MB then.
BLOCK = 256


class Verdict(StrEnum):
    """What the grader says of one sample."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNANSWERED = "unanswered"
    TIMEOUT = "timeout"


class Unit(StrEnum):
    """What a policy counts: parallel samples of a problem, or sequential rounds of a chain."""

    SAMPLE = "sample"
    ROUND = "round"


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with its gold answer; `level` is a free label (difficulty, subject), `also` are further accepted answers."""

    problem_id: str
    question: str
    answer: str
    level: str = ""
    also: tuple[str, ...] = ()


def manifest_path(path: Path) -> Path:
    """The manifest that belongs to a table: the same name with the suffix `.json`."""
    return Path(path).with_suffix(".json")


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to fill, which becomes `path` at the end: that is either wholly there or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = error.filename or str(path)  # a write does not say where
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that it is either wholly there or not at all."""
    with atomic_file(path) as file:
        file.write(data)


def well_formed(text: str) -> str:
    """The text with halves of surrogate pairs joined, and a half without its other written as an escape (`\\ud83d`).

    JSON can say such halves, UTF-8 (and so Parquet, tokenizers and servers) cannot.
    """
    if text.isascii():
        return text
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return joined.encode("utf-8", "backslashreplace").decode("utf-8")


def refuse_full_folder(path: Path) -> None:
    """Refuse to write a folder where one with something in it is.

    Raises:
        UserError: there is one; it is not for us to delete.
    """
    if Path(path).is_dir() and any(Path(path).iterdir()):
        raise UserError(f"{path} exists and is not empty: choose another folder, or move it away.")


@contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `path` at the end: that is either whole or not there."""
    path = Path(path)
    refuse_full_folder(path)
    temporary = path.with_name(path.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        os.replace(temporary, path)
    except Exception:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys in their given order."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run the rule that makes it first.") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON (line {error.lineno}: {error.msg}): restore it, or make it anew.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text, let alone JSON: restore it, or make it anew.") from None


def write_table(path: Path, table: pd.DataFrame | pa.Table, schema: pa.Schema, meta: dict[str, Any] | None = None) -> None:
    """Write a table as Parquet, then its manifest: `meta`, the row count and the data's SHA-256."""
    write_blocks(path, [table], schema, lambda: meta or {})


def write_blocks(
    path: Path, blocks: Iterable[pd.DataFrame | pa.Table], schema: pa.Schema, meta: Callable[[], dict[str, Any]] = dict
) -> None:
    """`write_table` for a table that comes in blocks of rows, of which one at a time is held; `meta` is asked after the last."""
    rows = 0
    with atomic_file(path) as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for block in blocks:
                table = _conform(block, schema)
                writer.write_table(table, row_group_size=BLOCK)
                rows += table.num_rows
        manifest_path(path).unlink(missing_ok=True)
    write_json(manifest_path(path), {**meta(), "rows": rows, "sha256": _sha256(path)})


def _conform(block: pd.DataFrame | pa.Table, schema: pa.Schema) -> pa.Table:
    """The block with exactly the columns of a schema, its texts such as UTF-8 can hold."""
    if isinstance(block, pd.DataFrame):
        absent = {name: None for name in schema.names if name in OPTIONAL and name not in block.columns}
        block = block.assign(**absent)
        try:
            block = pa.Table.from_pandas(block, schema=schema, preserve_index=False)
        except UnicodeEncodeError:
            texts = {
                name: [well_formed(value) if isinstance(value, str) else value for value in block[name]]
                for name in schema.names
                if pa.types.is_string(schema.field(name).type)
            }
            block = pa.Table.from_pandas(block.assign(**texts), schema=schema, preserve_index=False)
    return block.select(schema.names).cast(schema)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_table(path: Path, schema: pa.Schema) -> pd.DataFrame:
    """Read the columns of a schema from a table that `write_table` wrote; the others are not touched.

    Raises:
        UserError: the table or its manifest is missing, the data was changed since, or columns are missing.
    """
    return _present(_open_table(path, schema).read(_stored(path, schema), use_threads=False), schema)


def read_blocks(path: Path, schema: pa.Schema) -> Iterator[pd.DataFrame]:
    """`read_table` in blocks of rows, of which one at a time is held."""
    file, columns = _open_table(path, schema), _stored(path, schema)
    for group in range(file.num_row_groups):  # as `write_blocks` made them; a stream of batches would hold the whole file
        table = file.read_row_group(group, columns, use_threads=False)
        for start in range(0, table.num_rows, BLOCK):
            yield _present(table.slice(start, BLOCK), schema)


def _open_table(path: Path, schema: pa.Schema) -> pq.ParquetFile:
    if Path(path).suffix == ".json":
        raise UserError(f"{path} is no table: give the .parquet file.")
    manifest = read_json(manifest_path(path))
    if not isinstance(manifest, dict) or not isinstance(manifest.get("sha256"), str):
        raise UserError(f"{manifest_path(path)} is no manifest (it has no sha256): restore it, or make it anew.")
    if not Path(path).exists():
        raise UserError(f"{path} does not exist: run the rule that makes it first.")
    if _sha256(path) != manifest["sha256"]:
        raise UserError(f"{path} is not the file that its manifest describes (SHA-256 differs): restore both, or make them anew.")
    file = pq.ParquetFile(path)
    missing = [name for name in schema.names if name not in {*file.schema_arrow.names, *OPTIONAL}]
    if missing:
        raise UserError(
            f"{path} is another table than the one wanted here: it has the columns {', '.join(file.schema_arrow.names)}, and "
            f"lacks {', '.join(missing)}. Give the file that has them."
        )
    return file


def _stored(path: Path, schema: pa.Schema) -> list[str]:
    """The schema's columns that a table has."""
    found = set(pq.read_schema(path).names)
    return [name for name in schema.names if name in found]


def _present(table: pa.Table, schema: pa.Schema) -> pd.DataFrame:
    frame = table.to_pandas(split_blocks=True, self_destruct=True, use_threads=False)
    absent = {
        name: np.nan if pa.types.is_floating(schema.field(name).type) else None
        for name in schema.names
        if name not in frame.columns
    }
    return frame.assign(**absent)[schema.names]


def write_problems(path: Path, problems: list[Problem], meta: dict[str, Any] | None = None) -> None:
    """Write problems in their order."""
    write_table(path, pd.DataFrame([asdict(p) for p in problems], columns=PROBLEMS.names), PROBLEMS, meta)


def read_problems(path: Path) -> list[Problem]:
    """Read problems in their order.

    Raises:
        UserError: as `read_table`; no problem, or two of one id.
    """
    rows = read_table(path, PROBLEMS).itertuples(index=False, name=None)
    problems = [Problem(*texts, also=() if also is None else tuple(map(str, also))) for *texts, also in rows]
    if not problems:
        raise UserError(f"{path} holds no problem: make the table anew with at least one.")
    refuse_twins(str(path), [p.problem_id for p in problems])
    return problems


def refuse_twins(where: str, ids: list[str]) -> None:
    """Refuse an id that comes twice.

    Raises:
        UserError: the first such id.
    """
    if len(set(ids)) < len(ids):
        twin = next(i for i, count in Counter(ids).items() if count > 1)
        raise UserError(f"{where}: problem {twin!r} comes twice: give every problem an id of its own.")


def refuse_strangers(where: str, samples: pd.DataFrame, problems: list[Problem]) -> None:
    """Refuse samples of problems that are not given.

    Raises:
        UserError: a sample belongs to no problem given.
    """
    strangers = set(samples["problem_id"]) - {p.problem_id for p in problems}
    if strangers:
        raise UserError(
            f"{where} name the problem {min(strangers)}, which is not among the problems: give the split they were drawn from."
        )


def sort_by_key(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows in submission order: by problem, chain, round, sample."""
    return frame.sort_values(list(KEY), kind="stable", ignore_index=True)


def first_key(frame: pd.DataFrame) -> tuple[Any, ...]:
    """The first row's (problem_id, chain, round, sample), for messages."""
    return next(frame[list(KEY)].itertuples(index=False, name=None))


def join_by_key(left: pd.DataFrame, right: pd.DataFrame, what: str) -> pd.DataFrame:
    """Join two tables of the same samples one to one.

    Raises:
        UserError: a sample is missing on one side or comes twice; the message names the first.
    """
    for frame in (left, right):
        twice = frame.duplicated(list(KEY))
        if twice.any():
            raise UserError(f"{what}: sample {first_key(frame[twice])} comes twice.")
    joined = left.merge(right, on=list(KEY), how="outer", indicator=True)
    alone = joined[joined["_merge"] != "both"]
    if len(alone):
        raise UserError(f"{what}: {len(alone)} sample(s) are on one side only, the first is {first_key(alone)}.")
    return sort_by_key(joined.drop(columns="_merge"))


@dataclass(frozen=True, slots=True)
class Pool:
    """Dense arrays of a pool: R rows and K columns in submission order.

    Parallel samples: a row is a problem, a column a sample. Sequential chains: a row is a (problem, chain), a column a
    round. `cluster` is -1 for no answer, `score` NaN for no verifier score; clusters are comparable within a row only.
    """

    unit: Unit
    problem: np.ndarray  # [R] int, index into problem_ids
    problem_ids: tuple[str, ...]
    cluster: np.ndarray  # [R, K] int
    correct: np.ndarray  # [R, K] bool
    score: np.ndarray  # [R, K] float, mean step probability
    completion_tokens: np.ndarray  # [R, K] int
    prompt_tokens: np.ndarray  # [R, K] int
    cached_prompt_tokens: np.ndarray  # [R, K] int
    verifier_tokens: np.ndarray  # [R, K] int
    features: Mapping[str, np.ndarray] = field(default_factory=dict)  # name -> [R], predicted from the question alone
    predictor_tokens: np.ndarray | int = 0  # [R] int, what the predictor read of the row's question
    cut_off: np.ndarray | None = None  # [R, K] bool, completions that reached their limit of tokens; None where none did
    counts: np.ndarray | None = None  # [R] int, samples that a row has, in its first columns; None where every row has K

    @property
    def have(self) -> np.ndarray:
        """Samples (or rounds) of each row, [R]."""
        return np.full(self.rows, self.size) if self.counts is None else self.counts

    @property
    def there(self) -> np.ndarray:
        """Whether a column holds a sample, [R, K]; what holds none has no answer, no score and no tokens."""
        return np.arange(self.size) < self.have[:, None]

    @property
    def rows(self) -> int:
        return self.cluster.shape[0]

    @property
    def size(self) -> int:
        return self.cluster.shape[1]

    @property
    def scored(self) -> bool:
        """Whether any sample has a score."""
        return not np.isnan(self.score).all()

    def first(self, size: int) -> "Pool":
        """The first samples of rows of which each has at least so many."""
        tables = {f.name: value[:, :size] for f in fields(self) if np.ndim(value := getattr(self, f.name)) == 2}
        return replace(self, **tables, counts=None)

    def subset(self, rows: np.ndarray) -> "Pool":
        """Some of the rows (indices or a mask), of the same problems."""
        arrays = {f.name: getattr(self, f.name)[rows] for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)}
        return replace(self, **arrays, features={name: values[rows] for name, values in self.features.items()})


def fewer(pool: Pool) -> str:
    """What rules that ask for more than some questions have are told; empty where all have the same number."""
    if pool.counts is None:
        return ""
    few = int((pool.counts < pool.size).sum())
    return (
        f"{few} of {pool.rows} questions have fewer than {pool.size} {pool.unit}s ({pool.counts.min()} at least): a rule that "
        "asks for more gets what they have"
    )


def _in_rows(frame: pd.DataFrame, unit: Unit) -> tuple[pd.DataFrame, np.ndarray]:
    """The table in submission order, and the samples of each row, [R]; chains must all have the same number of rounds."""
    if not len(frame):
        raise UserError("the pool holds no samples: draw some for its questions first.")
    frame = sort_by_key(frame)
    column = "sample" if unit is Unit.SAMPLE else "round"
    sizes = frame.groupby(["problem_id", "chain"], sort=False).size()
    k = int(sizes.max())
    uneven = sizes[sizes != k]
    if len(uneven) and unit is Unit.ROUND:
        raise UserError(
            f"problem {uneven.index[0][0]}, chain {uneven.index[0][1]} has {uneven.iloc[0]} {column}s where others have {k}."
        )
    counts = sizes.to_numpy()
    if (frame[column].to_numpy() != _columns(counts)).any():
        raise UserError(f"the {column}s of a pool must be numbered from 0 on in every row.")
    return frame, counts


def _columns(counts: np.ndarray) -> np.ndarray:
    """0, 1, ... of each row, one after the other."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _dense(values: np.ndarray, counts: np.ndarray, nothing: Any) -> np.ndarray:
    """Values of rows of so many samples as an array [R, K], with `nothing` behind those that have fewer."""
    width = int(counts.max())
    if (counts == width).all():
        return values.reshape(-1, width)
    found = np.full((len(counts), width), nothing, values.dtype)
    found[np.repeat(np.arange(len(counts)), counts), _columns(counts)] = values
    return found


def make_pool(frame: pd.DataFrame, unit: Unit) -> Pool:
    """Dense arrays from a pool table (schema POOL; its texts and answers may be missing).

    Raises:
        UserError: no rows, or not all with the same number of rounds; the message names one.
    """
    frame, counts = _in_rows(frame, unit)
    first = np.cumsum(counts) - counts
    ids, index = np.unique(frame["problem_id"].to_numpy()[first].astype(str), return_inverse=True)

    finish = frame.get("finish_reason", pd.Series("", frame.index))

    def dense(name: str, dtype: type, nothing: Any = 0) -> np.ndarray:
        return _dense(frame[name].to_numpy(dtype), counts, nothing)

    return Pool(
        unit=unit,
        problem=index,
        problem_ids=tuple(ids.tolist()),
        cluster=dense("cluster", np.int64, -1),
        correct=_dense((frame["verdict"] == Verdict.CORRECT).to_numpy(), counts, False),
        score=dense("score_mean", float, np.nan),
        completion_tokens=dense("completion_tokens", np.int64),
        prompt_tokens=dense("prompt_tokens", np.int64),
        cached_prompt_tokens=dense("cached_prompt_tokens", np.int64),
        verifier_tokens=dense("verifier_tokens", np.int64),
        cut_off=_dense((finish == CUT_OFF).to_numpy(), counts, False),
        counts=None if (counts == counts[0]).all() else counts,
    )


def read_pool(path: Path, unit: Unit, scores: Path | None = None, *, confidence: str | None = None) -> Pool:
    """Read a pool table as dense arrays; its texts and answers stay on disk.

    `scores`: another verifier's scores of the same samples (schema SCORES), which take the place of the pool's own.
    `confidence`: one of the columns CONFIDENCE, which does; it costs no verifier tokens.

    Raises:
        UserError: as `read_table`, `make_pool` and, of the scores, `join_by_key`; or there is no such confidence.
    """
    if confidence is not None:
        columns = [name for name in _DENSE if name not in ("score_mean", "verifier_tokens")]
        table = read_table(path, pa.schema([POOL.field(name) for name in [*columns, confidence]]))
        if table[confidence].isna().all():
            raise UserError(f"{path} holds no {confidence}: draw its samples with `sampling.confidence: true`.")
        return make_pool(table.rename(columns={confidence: "score_mean"}).assign(verifier_tokens=0), unit)
    own = [name for name in _DENSE if scores is None or name not in SCORES.names or name in KEY]
    table = read_table(path, pa.schema([POOL.field(name) for name in own]))
    if scores is not None:
        table = join_by_key(table, read_table(scores, SCORES), str(scores))
    return make_pool(table, unit)


def read_any_pool(path: Path) -> Pool:
    """Read a pool table, or that of a folder, as dense arrays: of chains where there is more than one round, else of samples."""
    path = path / "pool.parquet" if path.is_dir() else path
    frame = read_table(path, pa.schema([POOL.field(name) for name in _DENSE]))
    return make_pool(frame, Unit.ROUND if len(frame) and frame["round"].max() > 0 else Unit.SAMPLE)


def counted_unit(path: Path) -> str:
    """What the completion tokens of a pool (or of that of a folder) count: samples, where it was imported without tokens."""
    return "samples" if _drawing(path).get("counted") else "completion tokens"


def model_of(path: Path) -> str:
    """The model that a pool (or that of a folder) was drawn with, as its manifest names it; empty where it names none."""
    model = _drawing(path).get("model")
    return " ".join(model.split()) if isinstance(model, str) else ""


def _drawing(path: Path) -> dict[str, Any]:
    """What a pool's manifest says of how its samples were drawn."""
    manifest = read_json(manifest_path(path / "pool.parquet" if path.is_dir() else path))
    drawn = manifest.get("samples")
    return drawn if isinstance(drawn, dict) else {}


def read_votes(path: Path) -> np.ndarray:
    """The answers' clusters of parallel samples [problem, sample] from their grades (schema GRADES), -1 for none.

    Raises:
        UserError: as `read_table` and `make_pool`.
    """
    frame, counts = _in_rows(read_table(path, pa.schema([*_KEY_FIELDS, GRADES.field("cluster")])), Unit.SAMPLE)
    return _dense(frame["cluster"].to_numpy(np.int64), counts, -1)


def read_confidence(path: Path, column: str) -> pd.DataFrame:
    """The key and one of the CONFIDENCE columns of a table of samples, in its order.

    Raises:
        UserError: as `read_table`; there is no such column, or it is empty.
    """
    if column not in CONFIDENCE:
        raise UserError(f"there is no confidence {column!r}: choose among {', '.join(CONFIDENCE)}.")
    table = read_table(path, pa.schema([*_KEY_FIELDS, SAMPLES.field(column)]))
    if table[column].isna().all():
        raise UserError(f"{path} holds no {column}: draw with sampling: {{confidence: true}}, or import the column.")
    return table


def read_correct(path: Path) -> np.ndarray:
    """Whether each sample is correct [samples], from its grades (schema GRADES) in submission order."""
    return (read_table(path, pa.schema([*_KEY_FIELDS, GRADES.field("verdict")]))["verdict"] == Verdict.CORRECT).to_numpy()


def with_predictions(pool: Pool, predictions: pd.DataFrame) -> Pool:
    """The pool with each row's predicted features (a table of schema PREDICTIONS; all-NaN features are left out).

    Raises:
        UserError: a question of the pool has no prediction, or two.
    """
    features, tokens = features_of(list(pool.problem_ids), predictions)
    features = {name: values[pool.problem] for name, values in features.items()}
    return replace(pool, features=features, predictor_tokens=tokens[pool.problem])


def features_of(problem_ids: list[str], predictions: pd.DataFrame) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Predicted features [P] by name (all-NaN ones are left out) and the predictor's tokens [P] of some problems.

    Raises:
        UserError: a problem has no prediction, or two.
    """
    table = predictions.set_index("problem_id")
    if not table.index.is_unique:
        raise UserError(f"the predictions name problem {table.index[table.index.duplicated()][0]} twice.")
    missing = sorted(set(problem_ids) - set(table.index))
    if missing:
        raise UserError(f"the predictions lack problem {missing[0]}: predict for these problems anew.")
    rows = table.loc[problem_ids]
    features = {name: rows[name].to_numpy(float) for name in FEATURES if rows[name].notna().any()}
    return features, rows["predictor_tokens"].to_numpy(np.int64)
