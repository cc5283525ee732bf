"""`make gpu` where there is no GPU, and what it does with a piece that fails, hangs or lacks something."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def table():
    spec = importlib.util.spec_from_file_location("gpu_table", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_without_a_gpu_nothing_is_measured(tmp_path):
    pytest.importorskip("torch")
    environment = {"PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, SCRIPT, "--out", tmp_path], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "there is no CUDA device here: nothing is measured\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_piece_that_fails_or_hangs_is_said_and_ends(table, tmp_path):
    assert table.piece("sampling", str(tmp_path / "no model"), tmp_path, 60) == [("sampling", "failed with status 1")]
    assert table.piece("training", "", tmp_path, 0) == [("training", "broken off after 0 s")]


CHILD = """
import time
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("the child ended")
"""
PARENT = """
import subprocess, sys
from pathlib import Path
child = subprocess.Popen([sys.executable, Path(sys.argv[0]).with_name("child.py")])
try:
    child.wait()
except KeyboardInterrupt:
    print("interrupted", child.wait(), flush=True)
"""


@pytest.mark.slow
def test_a_study_that_takes_longer_gets_ctrl_c_with_all_that_it_began(tmp_path):
    """In a session of its own, as `piece` begins it: Ctrl-C goes to the whole group."""
    for name, text in (("long", PARENT), ("child", CHILD), ("quick", "raise SystemExit(3)")):
        (tmp_path / f"{name}.py").write_text(text)
    lines = f"""
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("gpu_table", {str(SCRIPT)!r})
gpu = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gpu)
for name in ("quick", "long"):
    print(gpu.run_for([sys.executable, f"{tmp_path}/{{name}}.py"], Path(f"{tmp_path}/{{name}}.log"), 5))
"""
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, start_new_session=True, timeout=60)
    assert (done.stdout, done.stderr) == ("3\nNone\n", "")
    assert (tmp_path / "long.log").read_text().splitlines() == ["the child ended", "interrupted 0"]


def test_what_a_piece_lacks_is_named(table, tmp_path, monkeypatch):
    assert table.left_out("tests", "") == []
    for name in ("sampling", "training", "study"):
        assert table.left_out(name, str(tmp_path)) == [(name, "left out: ITSCALE_REAL_MODEL names no model folder")]
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(table, "hub_answers", lambda: False)
    monkeypatch.delenv("ITSCALE_GSM8K", raising=False)
    (left,) = table.left_out("study", str(tmp_path))
    assert left[1].startswith("left out: the hub cannot be reached, and ITSCALE_GSM8K")
    monkeypatch.setenv("ITSCALE_GSM8K", str(tmp_path))
    assert table.left_out("study", str(tmp_path)) == []
    monkeypatch.setitem(table.NEEDS, "memory", ("no_such_module", "trl"))
    assert table.left_out("memory", "") == [("memory", "left out: not installed: no_such_module")]


def test_every_piece_has_a_word_in_the_help_and_the_docs(table):
    pages = table.__doc__, (SCRIPT.parents[1] / "docs" / "gpu.md").read_text()
    assert all(f"`{name}`" in page for name in table.PIECES for page in pages)
