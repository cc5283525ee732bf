"""The journal: rows are read one at a time, each can be read again from its place, and a torn end is dropped."""

import json

import pytest

from itscale.data.journal import Journal
from itscale.errors import UserError


def test_a_row_is_read_from_its_place_when_the_file_is_closed_and_gone(tmp_path):
    path = tmp_path / "x.partial"
    journal = Journal(path, "f")
    rows = [{"n": n, "text": "ä\ud83d" * n} for n in range(5)]
    places = journal.append(rows[:2]) + journal.append(rows[2:])
    journal.close()
    again = Journal(path, "f")
    assert list(again.rows()) == rows and [place.read() for place, _ in again.places()] == rows
    places += again.append([{"n": 5}])
    again.close()
    path.unlink()
    assert [place.read() for place in places] == [*rows, {"n": 5}]


@pytest.mark.parametrize("torn", [1, 100_000, 1 << 16, (1 << 16) + 1])
def test_a_torn_end_of_any_length_is_dropped(tmp_path, torn):
    path = tmp_path / "x.partial"
    journal = Journal(path, "f")
    journal.append([{"n": 1}])
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"' + b"x" * (torn - 1))
    again = Journal(path, "f")
    again.append([{"n": 2}])
    assert list(again.rows()) == [{"n": 1}, {"n": 2}] and path.read_bytes().startswith(whole)


def test_a_torn_header_is_begun_anew(tmp_path):
    path = tmp_path / "x.partial"
    path.write_bytes(b'{"fingerp')
    journal = Journal(path, "f")
    assert list(journal.rows()) == [] and json.loads(path.read_text()) == {"fingerprint": "f"}


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "x.partial"
    journal = Journal(path, "f")
    journal.append([{"n": 1}, {"n": 2}])
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1] + b'{"n":\n' + lines[2])
    rows = Journal(path, "f").rows()
    assert next(rows) == {"n": 1}
    with pytest.raises(UserError, match="line 3 is not a row of JSON"):
        next(rows)
