"""What a killed job leaves behind: a `.partial` file of finished rows, which the next run continues."""

import hashlib
import json
from pathlib import Path
from typing import Any

from itscale.errors import UserError


def fingerprint(content: Any) -> str:
    """What a partial file belongs to: the hash of settings, problems and model as JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Journal:
    """Rows as JSON lines under a header that says what they belong to; a torn last line is dropped."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            self._recover(fingerprint)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab")
        if self._file.tell() == 0:
            self._file.write(json.dumps({"fingerprint": fingerprint}).encode() + b"\n")
            self._file.flush()

    def _recover(self, fingerprint: str) -> None:
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with open(self.path, "r+b") as file:
                file.truncate(len(whole))
        lines = whole.splitlines()
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                raise UserError(f"{self.path}, line {number} is not JSON: delete the file to begin anew.") from None
            if number > 1:
                self.rows.append(row)
            elif row != {"fingerprint": fingerprint}:
                raise UserError(f"{self.path} was begun with other settings, model or problems: delete it to begin anew.")

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Write rows through to the operating system."""
        self._file.write(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
        self._file.flush()

    def close(self) -> None:
        self._file.close()
