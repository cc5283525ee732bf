"""The Slurm profile against a real Slurm: two rules, one of them on a (pretended) GPU."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

WORKFLOW = """
rule second:
    input: "first.txt"
    output: "second.txt"
    resources: gpu=1
    shell: "echo $SLURM_JOB_PARTITION gpus=$CUDA_VISIBLE_DEVICES after $(cat {input}) > {output}"

rule first:
    output: "first.txt"
    resources: gpu=0
    shell: "echo $SLURM_JOB_PARTITION > {output}"
"""


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


def test_profile_sends_jobs_to_the_partitions_that_they_need(cluster, tmp_path):
    (tmp_path / "Snakefile").write_text(WORKFLOW)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    snakemake = [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm", "--latency-wait", "5"]
    run = subprocess.run(
        [*snakemake, "--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert (tmp_path / "second.txt").read_text().strip() == "gpu gpus=0 after cpu"
