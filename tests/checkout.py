"""A copy of the repository, so that a test finds nothing of earlier runs and leaves nothing behind."""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("Snakefile", "config", "docs", "envs", "examples", "profiles", "pyproject.toml", "src", "tests/slurm", "workflow")


def checkout(folder: Path) -> Path:
    """Copy what the workflow is made of into an empty folder, with the modules as Python has compiled them."""
    for part in PARTS:
        source, target = ROOT / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.egg-info", "*.pyc.*"))
        else:
            shutil.copy(source, target)
    return folder
