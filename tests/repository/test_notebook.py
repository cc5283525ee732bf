"""The notebook is run, cell by cell, as a reader would: Python in one namespace, lines that begin with ! in a shell."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_quickstart_runs_from_top_to_bottom(tmp_path, monkeypatch, capfd):
    notebook = nbformat.read(ROOT / "examples" / "quickstart.ipynb", as_version=4)
    nbformat.validate(notebook)
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    names = {"__name__": "__main__"}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        assert not cell.outputs  # it is committed without outputs, which would be of another run
        if cell.source.startswith("!"):
            subprocess.run(cell.source[1:], shell=True, check=True, env=environment, timeout=300)
        else:
            exec(compile(cell.source, "quickstart.ipynb", "exec"), names)
    said = capfd.readouterr().out
    assert "40 problems, 640 samples" in said and "itscale solve" in said
    assert names["stop"].answer == "42" and names["stop"].drawn < 16
    assert (tmp_path / "frontier.png").stat().st_size > 5000 and (tmp_path / "advice" / "advice.json").exists()
