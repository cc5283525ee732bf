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
from pathlib import Path
from typing import Any

from itscale.errors import UserError


def fingerprint(content: Any) -> str:
    """What a partial file belongs to: the hash of settings, problems and model as JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Journal:
    """Rows as JSON lines under a header that says what they belong to; a torn last line is dropped.

    Raises:
        UserError: another process is writing it, it belongs to something else, or it holds a line that is no row.
    """

    def __init__(self, path: Path, fingerprint: str, whole: Path | None = None) -> None:
        """`whole` is what a user deletes to begin anew, where it is more than this file."""
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self._whole = whole or path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab", buffering=0)
        try:
            self._lock()
            if not self._recover(fingerprint):
                self._write(json.dumps({"fingerprint": fingerprint}).encode() + b"\n")
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

    def _recover(self, fingerprint: str) -> bool:
        """Read the rows; False where there is not even a header."""
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(self.path, len(whole))
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise UserError(f"{self.path}, line {number} is not a row of JSON: delete {self._whole} to begin anew.")
            if number > 1:
                self.rows.append(row)
            elif row != {"fingerprint": fingerprint}:
                raise UserError(f"{self._whole} was begun with other settings, model or problems: delete it to begin anew.")
        return bool(whole)

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Write rows through to the operating system."""
        self._write(b"".join(json.dumps(row).encode() + b"\n" for row in rows))

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[self._file.write(data) :]
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
