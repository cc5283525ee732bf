"""Settings of all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from checkout import checkout

# One thread each, as the rules have it; numpy and torch, which no test has imported yet, read it when they are imported.
os.environ["OMP_NUM_THREADS"] = "1"

# Settings of whoever runs the tests are not theirs: profiles of Snakemake, the job of a cluster that they run in, colours that
# a terminal or a service is asked for.
for name in list(os.environ):
    colours = ("GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS", "CLICOLOR_FORCE")
    if name.startswith(("SNAKEMAKE_", "SLURM_", "HF_", "OPENAI_")) or name in colours:
        del os.environ[name]

# Servers of the tests are here, whatever proxy is set.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

# A busy machine is slow now and then; time is measured in benchmarks/.
settings.register_profile("itscale", deadline=None)
settings.load_profile("itscale")


# What starts an engine, trains, runs the workflow, a cluster or a browser, or takes seconds (then with a mark of its own): `make
# check` leaves it out, `make test` does not.
SLOW = (
    "cli/test_solving.py",
    "drivers/test_live.py",
    "engines",
    "faults",
    "models/test_hub.py",
    "models/test_precision.py",
    "models/test_predictor.py",
    "models/test_selfasked.py",
    "models/test_verifier.py",
    "report/test_report.py",
    "repository/test_install.py",
    "slurm",
    "testtime",
    "toytask",
    "workflow",
)


# The longest modules, longest first: one that began last would be alone at the end.
FIRST = (
    "slurm",
    "workflow/test_workflow.py",
    "faults/test_kills.py",
    "engines/test_openai.py",
    "workflow",
    "cli/test_solving.py",
    "engines",
    "testtime",
    "faults",
    "sources/test_import_official.py",
)


def place_of(path: Path) -> str:
    return path.relative_to(Path(__file__).parent).as_posix()


def pytest_ignore_collect(collection_path, config):
    """Modules of which `make check` leaves out every test are not imported: they read torch, TRL and vLLM."""
    if "not slow" in config.option.markexpr and place_of(collection_path).startswith(SLOW):
        return True


def pytest_collection_modifyitems(items):
    rank = {}
    for item in items:
        place = place_of(item.path)
        if place.startswith(SLOW):
            item.add_marker(pytest.mark.slow)
        rank[item] = next((i for i, long in enumerate(FIRST) if place.startswith(long)), len(FIRST))
    items.sort(key=rank.__getitem__)


@pytest.fixture
def home(tmp_path):
    """A copy of the repository."""
    return checkout(tmp_path / "home")
