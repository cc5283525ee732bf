"""envs/install.sh with a stand-in for the environment's python: when it installs, what it shows, what it remembers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Stands in for .venv/bin/python: writes down what pip is asked for, warns as pip does, and fails where it is told to.
PYTHON = """#!/usr/bin/env bash
[ "$1" = -c ] && exit 1
echo "$*" >>calls
echo "WARNING: Location '/nowhere' is ignored: it is either a non-existing path or lacks a specific scheme." >&2
[ -e broken ] && { echo "ERROR: no such package" >&2; exit 1; }
exit 0
"""


@pytest.fixture
def home(tmp_path):
    shutil.copytree(ROOT / "envs", tmp_path / "envs")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def install(home: Path, kind: str, code: int = 0) -> tuple[subprocess.CompletedProcess, int]:
    """The finished call, and how often it called pip."""
    calls = home / "calls"
    calls.unlink(missing_ok=True)
    clean = {k: v for k, v in os.environ.items() if k not in ("VENV", "PYTHON")}
    done = subprocess.run(["bash", "envs/install.sh", kind], cwd=home, env=clean, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done, len(calls.read_text().splitlines()) if calls.exists() else 0


def test_a_second_call_does_nothing_until_a_lock_changes(home):
    done, calls = install(home, "run")
    assert calls == 3 and "Ready after" in done.stdout and "pinned packages" in done.stdout
    done, calls = install(home, "run")
    assert calls == 0 and done.stdout == ""
    (home / "envs" / "cpu.lock").write_text("torch==9.9.9\n")
    assert install(home, "run")[1] == 3


def test_an_up_to_date_test_environment_serves_the_run_and_a_stale_one_does_not(home):
    install(home, "test")
    assert install(home, "run")[1] == 0
    for lock in ("cpu.lock", "cpu-test.lock"):
        (home / "envs" / lock).write_text("torch==9.9.9\n")
        assert install(home, "run")[1] == 3
        assert install(home, "test")[1] == 3


def test_a_run_environment_does_not_serve_the_tests(home):
    install(home, "run")
    assert install(home, "test")[1] == 3


def test_errors_are_shown_and_an_environment_that_failed_is_not_taken_for_ready(home):
    install(home, "run")
    (home / "envs" / "cpu.lock").write_text("torch==9.9.9\n")
    (home / "broken").touch()
    done, _ = install(home, "run", code=1)
    assert "ERROR: no such package" in done.stderr and "is ignored" not in done.stderr
    (home / "broken").unlink()
    assert install(home, "run")[1] == 3


def test_an_unknown_environment_is_refused(home):
    done, calls = install(home, "all", code=2)
    assert "use run or test" in done.stderr and calls == 0
