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


def test_what_a_piece_lacks_is_named(table, tmp_path, monkeypatch):
    assert table.left_out("tests", "") == []
    for name in ("sampling", "training", "study"):
        assert table.left_out(name, str(tmp_path)) == [(name, "left out: ITSCALE_REAL_MODEL names no model folder")]
    (tmp_path / "config.json").write_text("{}")
    assert table.left_out("study", str(tmp_path)) == []
    monkeypatch.setitem(table.NEEDS, "memory", ("no_such_module", "trl"))
    assert table.left_out("memory", "") == [("memory", "left out: not installed: no_such_module")]


def test_every_piece_has_a_word_in_the_help_and_the_docs(table):
    pages = table.__doc__, (SCRIPT.parents[1] / "docs" / "gpu.md").read_text()
    assert all(f"`{name}`" in page for name in table.PIECES for page in pages)
