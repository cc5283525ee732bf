"""What the faults strike: small models and files as the workflow makes them."""

import shutil
import subprocess
from pathlib import Path

import pytest
from commands import drawing

from itscale.data.records import Problem, write_problems
from processes import itscale
from standins import language_model, reward_model


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A folder with a language model, a reward model, problems and their samples."""
    folder = tmp_path_factory.mktemp("made")
    language_model(folder / "lm", "llama")
    reward_model(folder / "prm", published=False)
    write_problems(folder / "problems.parquet", [Problem(f"p{i}", f"{12 + i}+3*2", str(i)) for i in range(8)])
    done = itscale(folder, *drawing(folder, folder / "samples.parquet"))
    assert done.code == 0, done.said
    return folder


@pytest.fixture
def own(made, tmp_path) -> Path:
    """A copy of that folder to be damaged."""
    shutil.copytree(made, tmp_path / "own")
    return tmp_path / "own"


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    done = subprocess.run(command, capture_output=True, text=True) if shutil.which("mount") else None
    if done is None or done.returncode:
        pytest.skip(f"only root may mount a small disk ({done.stderr.strip() if done else 'no mount'})")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
