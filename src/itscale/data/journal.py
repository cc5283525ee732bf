"""What a killed job leaves behind, and how the next one goes on: a `.partial` file of finished rows, or a folder of checkpoints.

Whoever is at work holds a lock on the file, so that a job that outlived its Snakemake and the job that is to replace it do not
write at once. The lock goes with the process.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from itscale.errors import UserError


def fingerprint(content: Any) -> str:
    """What a partial file belongs to: the hash of settings, problems and model as JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class _Reader:
    """A file open for reading as long as anybody refers to it, whatever becomes of its name."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row lies: it can be read from there later, so that nobody need hold it, also when the file was removed."""

    reader: _Reader
    start: int
    length: int

    def read(self) -> dict[str, Any]:
        return json.loads(os.pread(self.reader.number, self.length, self.start))


class Journal:
    """Rows as JSON lines under a header that says what they belong to; a torn last line is dropped.

    Raises:
        UserError: another process is writing it, it belongs to something else, or (while it is read) it holds a line that is no
            row.
    """

    def __init__(self, path: Path, fingerprint: str, whole: Path | None = None) -> None:
        """`whole` is what a user moves away to begin anew, where it is more than this file."""
        self.path = path
        self._whole = whole or path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab", buffering=0)
        try:
            self._lock()
            self._reader = _Reader(path)
            self._end = self._drop_torn_line()
            if self._end == 0:
                self._write(json.dumps({"fingerprint": fingerprint}).encode() + b"\n")
            elif self._first_row() != {"fingerprint": fingerprint}:
                raise UserError(
                    f"{self._whole} was begun with other settings, model or problems: go on with those, or move it away to begin "
                    "anew."
                )
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{self._whole} is being written by another process: wait for it, or end it and run the same command again."
            ) from None
        except OSError as error:  # a file system without locks
            print(
                f"{self._whole} cannot be locked ({error.strerror}): see to it yourself that no two jobs write it.",
                file=sys.stderr,
            )

    def _drop_torn_line(self) -> int:
        """Cut off what stands behind the last line's end; the length that is left."""
        length = end = os.path.getsize(self.path)
        while end > 0:
            start = max(0, end - (1 << 16))
            newline = os.pread(self._reader.number, end - start, start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < length:
            os.truncate(self.path, end)
        return end

    def _first_row(self) -> dict[str, Any]:
        return next(self._lines())[1]

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows that are there, one at a time."""
        return (row for _, row in self.places())

    def places(self) -> Iterator[tuple[Place, dict[str, Any]]]:
        """Each row with its place."""
        lines = self._lines()
        next(lines)
        return lines

    def _lines(self) -> Iterator[tuple[Place, dict[str, Any]]]:
        start = 0
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                except ValueError:
                    row = None
                if not isinstance(row, dict):
                    raise UserError(
                        f"{self.path}, line {number} is not a row of JSON: restore it, or move {self._whole} away to begin anew."
                    )
                yield Place(self._reader, start, len(line)), row
                start += len(line)

    def append(self, rows: list[dict[str, Any]]) -> list[Place]:
        """Write rows through to the operating system; where each of them lies."""
        lines = [json.dumps(row).encode() + b"\n" for row in rows]
        starts = list(accumulate(map(len, lines), initial=self._end))
        self._write(b"".join(lines))
        return [Place(self._reader, start, len(line)) for start, line in zip(starts, lines, strict=False)]

    def _write(self, data: bytes) -> None:
        try:
            while data:
                written = self._file.write(data)
                self._end += written
                data = data[written:]
        except OSError as error:
            error.filename = str(self.path)  # a write does not say where
            raise

    def close(self) -> None:
        self._file.close()


@contextmanager
def scratch_folder(folder: Path, fingerprint: str) -> Iterator[Path]:
    """A folder for the checkpoints of one job, which finds them again after a kill; removed when the job is done.

    Raises:
        UserError: another process is at work in it, or it belongs to something else.
    """
    journal = Journal(folder / "begun.jsonl", fingerprint, folder)
    try:
        yield folder
    finally:
        journal.close()
    shutil.rmtree(folder)


def last_checkpoint(folder: Path) -> str | None:
    """The Hugging Face trainer's latest whole checkpoint in a folder; what a kill left half written is removed."""
    whole: list[tuple[int, Path]] = []
    for path in folder.glob("checkpoint-*"):
        try:
            whole.append((json.loads((path / "trainer_state.json").read_text())["global_step"], path))  # written last
        except (FileNotFoundError, ValueError):
            shutil.rmtree(path)
    return str(max(whole)[1]) if whole else None
