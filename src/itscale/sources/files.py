"""Rows of anyone's files: JSONL, JSON, CSV and Parquet, each gzipped too, with or without a byte order mark."""

import gzip
import io
import json
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from itscale.errors import UserError

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_CHUNK = 1 << 15  # rows of JSON that are held as objects before they become columns
_MARK = b"\xef\xbb\xbf"
_HINTS = {".eval": "`inspect log dump` makes JSON of it", ".zip": "unpack it, and give the files that are in it"}


def read_rows(path: Path) -> pd.DataFrame:
    """The rows of a file, columns of objects; a missing value is None, nested values are lists and dicts.

    A JSON file (or a `.txt` that holds JSON) is a list of objects, or an object that holds one. Texts of a CSV are texts, also
    where they look like numbers.

    Raises:
        UserError: the file is missing, a folder, of another kind, damaged, not UTF-8, or a row is no object; the message names
            the line or the row.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: give a file ({', '.join(SUFFIXES)}, each also as .gz).")
    if not path.exists():
        raise UserError(f"{path} does not exist: give a file that does.")
    packed = path.suffix == ".gz"
    suffix = Path(path.stem).suffix if packed else path.suffix
    hint = _HINTS.get(suffix, f"convert it to one of {', '.join(SUFFIXES)}")
    unread = UserError(f"{path} is of a kind that is not read: {hint}.")
    suffix = {".ndjson": ".jsonl"}.get(suffix, suffix)
    if suffix not in (*SUFFIXES, ".txt"):
        raise unread
    try:
        with gzip.open(path) if packed else open(path, "rb") as file:
            if suffix == ".txt":
                suffix = ".json"
                if file.peek(1)[:1] not in (b"{", b"["):
                    raise unread
            if suffix in (".json", ".jsonl"):
                return _json(path, file, whole=suffix == ".json")
            return {".parquet": _parquet, ".csv": _csv}[suffix](path, file)
    except (EOFError, gzip.BadGzipFile, gzip.zlib.error):
        raise UserError(f"{path} cannot be unpacked (it is cut off, or no gzip): write or download it anew.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}): convert it.") from None


def _parquet(path: Path, file: BinaryIO) -> pd.DataFrame:
    try:
        table = pq.read_table(file if path.suffix == ".parquet" else io.BytesIO(file.read()))
    except pa.ArrowException as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise UserError(f"{path} cannot be read as Parquet ({reason}): write or download it anew.") from None

    def values(column: pa.ChunkedArray) -> Any:
        if pa.types.is_nested(column.type):
            return pd.Series(column.to_pylist(), dtype=object)
        return column.to_pandas(integer_object_nulls=True).astype(object)

    return pd.DataFrame({name: values(table[name]) for name in table.column_names}, dtype=object)


def _csv(path: Path, file: BinaryIO) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows with more fields than the header has names
            frame = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except pd.errors.ParserWarning:
        raise UserError(
            f"{path} has rows with more fields than its header has names: put quotes around values that hold a comma."
        ) from None
    except pd.errors.ParserError as error:
        reason = str(error).strip().splitlines()[0].rstrip(".").removeprefix("Error tokenizing data. C error: ")
        raise UserError(f"{path} is no CSV table ({reason}): correct that line.") from None
    return frame.astype(object).where(frame != "", None)


def _json(path: Path, file: BinaryIO, whole: bool) -> pd.DataFrame:
    file.read(len(_MARK) if file.peek(len(_MARK)).startswith(_MARK) else 0)
    if whole or file.peek(1).lstrip().startswith(b"["):
        content = file.read()
        try:
            return _whole(path, json.loads(content.decode()))
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":  # lines by another name
                raise UserError(f"{path} is not JSON (line {error.lineno}: {error.msg}): write or download it anew.") from None
        except RecursionError:
            raise UserError(f"{path} is nested too deeply: write it anew.") from None
        file = io.BytesIO(content)
    rows, chunks = _lines(path, file), []
    while chunk := list(islice(rows, _CHUNK)):
        chunks.append(pd.DataFrame(chunk, dtype=object))
    return pd.concat(chunks, ignore_index=True) if chunks else pd.DataFrame()


def _lines(path: Path, file: BinaryIO) -> Iterator[dict[str, Any]]:
    # By bytes: a text may hold other line separators than this one, which JSON leaves as they are.
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode())
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number} is not JSON ({error.msg}): correct or remove it.") from None
        except RecursionError:
            raise UserError(f"{path}, line {number} is nested too deeply: correct or remove it.") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number} is not a JSON object: correct or remove it.")
        yield row


def _whole(path: Path, content: Any) -> pd.DataFrame:
    """The rows of a JSON file: a list, the one list of objects that an object holds, or a single object."""
    if isinstance(content, dict):
        lists = {k: v for k, v in content.items() if isinstance(v, list) and v and all(isinstance(row, dict) for row in v)}
        if len(lists) > 1 and "samples" not in lists:
            raise UserError(f"{path} holds several lists of objects ({', '.join(lists)}): write the samples as one list.")
        content = lists.get("samples") or next(iter(lists.values()), [content])
    if not isinstance(content, list):
        raise UserError(f"{path} holds no list of objects: write the samples as one.")
    for number, row in enumerate(content, 1):
        if not isinstance(row, dict):
            raise UserError(f"{path}, row {number} is not a JSON object: correct or remove it.")
    return pd.DataFrame(content, dtype=object)
