"""The whole workflow through a real Slurm on this machine, with the profile that a cluster gets."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from itscale.records import SAMPLES, read_problems, read_table

ROOT = Path(__file__).resolve().parents[1]

CONFIG = ["config/config.yaml", "config/test.yaml", "tests/slurm/config.yaml"]
PARTS = ["Snakefile", "config", "envs", "profiles", "src", "tests/slurm", "workflow"]


def unavailable() -> str | None:
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "a test Slurm needs root"
    if shutil.which("apt-get") is None:
        return "a test Slurm needs Debian's packages (apt-get)"
    if Path("/etc/slurm/slurm.conf").exists():
        return "this machine has a Slurm of its own"
    return None


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if reason := unavailable():
        pytest.skip(reason)
    state = tmp_path_factory.mktemp("slurm")
    try:
        started = subprocess.run([ROOT / "tests/slurm/start.sh", state], capture_output=True, text=True, timeout=300)
        if "could not be installed" in started.stderr:
            pytest.skip("Slurm's packages could not be installed")
        assert started.returncode == 0, started.stderr
        yield state
    finally:
        subprocess.run([ROOT / "tests/slurm/stop.sh", state], check=False, timeout=60)


@pytest.fixture
def home(tmp_path):
    """A copy of the repository, so that nothing but the test uses its working folder."""
    for part in PARTS:
        source, target = ROOT / part, tmp_path / part
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    return tmp_path


def snakemake(home: Path, *targets: str) -> subprocess.CompletedProcess:
    """Run the workflow through the Slurm profile; its waits, which are made for real queues, are shortened."""
    command = [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm", "--configfile", *CONFIG]
    command += ["--latency-wait", "5", "--slurm-init-seconds-before-status-checks", "2"]
    command += ["--seconds-between-status-checks", "2", "--", *targets]
    # The jobs call `python`, so the environment's must be on the PATH that they inherit.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        command, cwd=home, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1500
    )


def finished_jobs() -> list[dict[str, str]]:
    """What the controller remembers of every job: its partition, its state, its GPUs, and (as comment) its rule."""
    shown = subprocess.run(["scontrol", "show", "job", "-o"], capture_output=True, text=True, check=True).stdout
    return [dict(part.partition("=")[::2] for part in line.split()) for line in shown.splitlines() if "JobId=" in line]


def test_the_workflow_runs_through_the_queue(cluster, home):
    run = snakemake(home, "results/slurm/tables/test/main.csv")
    assert run.returncode == 0, (run.stdout + run.stderr)[-4000:]

    jobs = finished_jobs()
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    partitions = {}
    for job in jobs:
        rule = job["Comment"].removeprefix("rule_").split("_wildcards")[0]
        partitions.setdefault(rule, set()).add(job["Partition"])
    assert partitions.pop("samples") == {"gpu"}
    assert set(partitions) >= {"problems", "language_model", "reward_model", "scores", "calibration", "replay"}
    assert set().union(*partitions.values()) == {"cpu"}

    results = home / "results" / "slurm"
    problems = [p.problem_id for p in read_problems(results / "problems" / "test.parquet")]
    samples = read_table(results / "pools" / "test" / "parallel" / "samples.parquet", SAMPLES)
    assert sorted(zip(samples["problem_id"], samples["sample"], strict=True)) == [
        (p, s) for p in sorted(problems) for s in range(8)
    ]
    assert pd.read_csv(results / "tables" / "test" / "main.csv")["method"].nunique() == 8
