"""The whole workflow through a real Slurm on this machine, with the profile that a cluster gets, and what goes wrong on one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from itscale.data.records import SAMPLES, read_problems, read_table

ROOT = Path(__file__).resolve().parents[2]

CONFIG = ["config/config.yaml", "config/test.yaml", "tests/slurm/config.yaml"]


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


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", *options]


# The profile's waits, which are made for real queues, are shortened.
QUEUE = ["--workflow-profile", "profiles/slurm", "--latency-wait", "5", "--slurm-init-seconds-before-status-checks", "2"]
QUEUE += ["--seconds-between-status-checks", "2"]
LOCAL = ["--workflow-profile", "profiles/default", "--cores", "1"]
# The jobs call `python`, so the environment's must be on the PATH that they inherit.
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def snakemake(home: Path, where: list[str], *rest: str) -> subprocess.CompletedProcess:
    """Run the workflow of a copy to its end."""
    return subprocess.run(
        command(*where, *rest), cwd=home, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1500
    )


def known_jobs() -> list[dict[str, str]]:
    """What the controller remembers of every job: its partition, its state, its GPUs, and (as comment) its rule."""
    shown = subprocess.run(["scontrol", "show", "job", "-o"], capture_output=True, text=True, check=True).stdout
    return [dict(part.partition("=")[::2] for part in line.split()) for line in shown.splitlines() if "JobId=" in line]


def rule_of(job: dict[str, str]) -> str:
    return job["Comment"].removeprefix("rule_").split("_wildcards")[0]


def wait_for(run: subprocess.Popen, rule: str) -> dict[str, str]:
    """The first running job of a rule."""
    while run.poll() is None:
        for job in known_jobs():
            if rule_of(job) == rule and job["JobState"] == "RUNNING":
                return job
        time.sleep(0.3)
    raise AssertionError(f"the workflow ended before a job of {rule} ran")


def wait_for_save(cluster: Path) -> None:
    """Until the controller has written down every job that it knows: what it was told in the seconds since, a kill loses."""
    for _ in range(300):
        known, since = {job["JobId"] for job in known_jobs()}, time.time()
        while (cluster / "ctld" / "job_state").stat().st_mtime < since and time.time() < since + 10:
            time.sleep(0.02)
        if (cluster / "ctld" / "job_state").stat().st_mtime >= since and {job["JobId"] for job in known_jobs()} == known:
            return
    raise AssertionError("the controller never saved its jobs")


def keys(path: Path) -> list[tuple[str, int]]:
    samples = read_table(path, SAMPLES)
    return sorted(zip(samples["problem_id"], samples["sample"], strict=True))


HUNGRY = """
configfile: "config/config.yaml"
include: "workflow/rules/common.smk"
rule hungry:
    output: "hungry.txt"
    resources: mem_mb=more(900), runtime=5, gpu=0
    shell: "python -c 'import time; block = bytes(1 << 8) * (1100 << 12); time.sleep(8)' && echo {resources.mem_mb} > {output}"
"""


def test_a_job_over_its_memory_comes_back_with_more(cluster, home):
    (home / "hungry.smk").write_text(HUNGRY)
    run = snakemake(home, QUEUE, "--snakefile", "hungry.smk", "--", "hungry.txt")
    assert run.returncode == 0, (run.stdout + run.stderr)[-4000:]
    assert (home / "hungry.txt").read_text().strip() == "1800"
    mine = [job for job in known_jobs() if rule_of(job) == "hungry"]
    assert len(mine) == 2 and {job["JobState"] for job in mine} >= {"COMPLETED"}


def test_the_queue_loses_nothing_when_a_job_is_cancelled_and_the_controller_killed(cluster, home, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "snakemake.log"
    table = "results/slurm/tables/test/main.csv"
    with log.open("w") as out:
        run = subprocess.Popen(
            command(*QUEUE, "--configfile", *CONFIG, "--", table),
            cwd=home, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
        cancelled = wait_for(run, "samples")["JobId"]
        subprocess.run(["scancel", cancelled], check=True)
        wait_for(run, "scores")
        wait_for_save(cluster)
        os.kill(int((cluster / "slurmctld.pid").read_text()), signal.SIGKILL)
        time.sleep(3)
        subprocess.run(["slurmctld"], check=True, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"})
        assert run.wait(timeout=900) == 0, log.read_text()[-4000:]

    jobs = known_jobs()
    states = {job["JobId"]: job["JobState"] for job in jobs if rule_of(job) != "hungry"}
    assert states.pop(cancelled) == "CANCELLED" and set(states.values()) == {"COMPLETED"}
    partitions = {}
    for job in (job for job in jobs if rule_of(job) != "hungry"):
        partitions.setdefault(rule_of(job), set()).add(job["Partition"])
    assert partitions.pop("samples") == {"gpu"}
    assert set(partitions) >= {"problems", "toy_models", "scores", "other_scores", "calibration", "replay"}
    assert set().union(*partitions.values()) == {"cpu"}

    results = home / "results" / "slurm"
    problems = [p.problem_id for p in read_problems(results / "problems" / "test.parquet")]
    pool = Path("pools/test/parallel/samples.parquet")
    assert keys(results / pool) == [(p, s) for p in sorted(problems) for s in range(8)]
    drawn, compared = keys(results / pool), pd.read_csv(home / table)
    assert compared["method"].nunique() == 8

    # Without the queue: equal pools give equal tables, and a pool drawn anew has the same samples in it.
    again = snakemake(home, LOCAL, "--configfile", *CONFIG, "--forcerun", "calibration", "replay", "--", table)
    assert again.returncode == 0, again.stderr[-4000:]
    pd.testing.assert_frame_equal(pd.read_csv(home / table), compared)
    again = snakemake(home, LOCAL, "--configfile", *CONFIG, "--forcerun", "samples", "--", str("results/slurm" / pool))
    assert again.returncode == 0, again.stderr[-4000:]
    assert keys(results / pool) == drawn
