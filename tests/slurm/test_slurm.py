"""A comparison through a real Slurm on this machine, with the profile that a cluster gets, and what goes wrong on one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

from checkout import checkout
from itscale.data.records import SAMPLES, read_problems, read_table

ROOT = Path(__file__).resolve().parents[2]

CONFIG = ["config/config.yaml", "config/test.yaml", "tests/slurm/config.yaml"]


def unavailable() -> str | None:
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "a test Slurm needs root"
    if shutil.which("apt-get") is None:
        return "a test Slurm needs Debian's packages (apt-get)"
    conf = Path("/etc/slurm/slurm.conf")
    if conf.is_symlink() and left_behind(conf.readlink()):
        # A killed run's links would keep every later run from starting.
        subprocess.run([ROOT / "tests/slurm/stop.sh", conf.readlink().parent], check=False, timeout=60, stderr=subprocess.DEVNULL)
    if conf.exists() or conf.is_symlink():
        return "this machine has a Slurm of its own"
    return None


def left_behind(conf: Path) -> bool:
    """Whether start.sh wrote this configuration (or it is gone), and nothing that it started runs, itself included."""
    if conf.exists() and f"SlurmctldPidFile={conf.parent}/slurmctld.pid" not in conf.read_text():
        return False
    return not any(Path(f"/proc/{file.read_text().strip() or 0}").exists() for file in conf.parent.glob("*.pid"))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A copy of the repository, with the partitions that the test's cluster has; its path has what breaks an unquoted word."""
    folder = checkout(tmp_path_factory.mktemp("home") / "über all" / "it scale")
    limits = "{max_runtime: 10080, max_mem_mb: 16000}", "{max_runtime: 1440, max_mem_mb: 5000, max_gpu: 2, max_tasks: 0}"
    (folder / "profiles/slurm/partitions.yaml").write_text(f"partitions:\n  cpu: {limits[0]}\n  gpu: {limits[1]}\n")
    return folder


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
    return [sys.executable, str(ROOT / "tests/slurm/often.py"), *options]


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


SMALL = """
include: "Snakefile"
rule short:
    output: "short/{name}.txt"
    resources: mem_mb=more(600), runtime=longer(5), gpu=0
    shell: "sleep {wildcards.name}; touch {output:q}"
rule hungry:
    output: "hungry.txt"
    resources: mem_mb=more(900), runtime=longer(5), gpu=0
    shell: "python -c 'import time; block = bytes(1 << 8) * (1100 << 12); time.sleep(8)' && touch {output:q}"
rule pair:
    output: "pair.txt"
    resources: mem_mb=more(600), runtime=longer(5), **on_gpus(2)
    shell: "echo $CUDA_VISIBLE_DEVICES > {output:q}"
rule roomy:
    output: "roomy.txt"
    resources: mem_mb=more(5000), runtime=longer(1440), gpu=0
    shell: "touch {output:q}"
rule late:
    output: "late.txt"
    resources: mem_mb=more(600), runtime=longer(5), gpu=0
    shell: "echo an attempt >> late.begun; test $(wc -l < late.begun) = 2 && touch {output:q} || sleep 300"
rule cut:
    output: "cut.txt"
    resources: mem_mb=more(600), **in_pieces(lambda wildcards: 4000), **on_gpus(1)
    shell: "echo an attempt >> cut.begun; test $(wc -l < cut.begun) = 3 && touch {output:q} || sleep 300"
rule silent:
    output: "silent.txt"
    log: "silent.log"
    resources: mem_mb=more(600), runtime=longer(5), gpu=0
    shell: ": > {log:q}; echo the cause >&2; false"
"""


def small(home: Path, *rest: str) -> list[str]:
    """The command of a run of small jobs beside the workflow's own rules, with its checks."""
    (home / "small.smk").write_text(SMALL)
    return command(*QUEUE, "--snakefile", "small.smk", *rest)


def done(home: Path, *rest: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        small(home, *rest), cwd=home, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
    )


def started(home: Path, log: Path, *rest: str) -> subprocess.Popen:
    """The same, begun and not waited for."""
    with log.open("w") as out:
        return subprocess.Popen(small(home, *rest), cwd=home, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=out, stderr=out)


def end_its_time(job: dict[str, str]) -> None:
    """Let the time limit of a running job pass now, for SLURM to cancel it."""
    subprocess.run(["scontrol", "update", f"JobId={job['JobId']}", "EndTime=now"], check=True)


def wait_until(run: subprocess.Popen, true: Callable[[], bool], what: str) -> None:
    while run.poll() is None:
        if true():
            return
        time.sleep(0.3)
    raise AssertionError(f"the workflow ended before {what}")


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def since(before: set[str]) -> dict[str, list[dict[str, str]]]:
    """The jobs that came after those that were known before, by their rule, in their order."""
    jobs = {}
    for job in known_jobs():
        if job["JobId"] not in before:
            jobs.setdefault(rule_of(job), []).append(job)
    return jobs


def queued() -> list[str]:
    return subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture
def account(home):
    """Name an account in the profile."""
    profile = home / "profiles/slurm/config.yaml"
    shipped = profile.read_text()
    yield lambda name: profile.write_text(shipped.replace('# slurm_account: "your_account"', f'slurm_account: "{name}"'))
    profile.write_text(shipped)


def test_what_cannot_run_is_refused_before_anything_is_queued(cluster, home, account):
    account("cii")
    refused = done(home, "--set-resources", "short:runtime=20000", "pair:gpu_model=h100", "--", "short/1.txt", "pair.txt")
    said = refused.stdout + refused.stderr
    assert refused.returncode != 0 and "Traceback" not in said
    assert "slurm_account is 'cii', and the accounts that you have are ci, few" in said
    assert "asks for GPUs of type 'h100', and partition gpu has a100" in said
    assert "short asks for 20000 minutes, and cpu, the largest partition without GPUs" in said and "allows 10080" in said
    account("ci")
    refused = done(home, "--retries", "1", "--set-resources", "short:slurm_partition=scavenge", "--", "short/1.txt", "cut.txt")
    said = refused.stdout + refused.stderr
    assert refused.returncode != 0 and "partition scavenge cancels jobs that others preempt" in said
    assert "cut needs about 4000 minutes" in said and "as 3 jobs after each other; say `--retries 3`" in said
    assert queued() == []


def test_ctrl_c_leaves_nothing_in_the_queue(cluster, home, tmp_path):
    with (tmp_path / "log").open("w") as out:
        targets = [f"short/{280 + i}.txt" for i in range(20)]
        run = subprocess.Popen(small(home, "--", *targets), cwd=home, env=ENVIRONMENT, stdout=out, stderr=subprocess.STDOUT)
        while len(queued()) < 3 and run.poll() is None:
            time.sleep(0.05)
        # An interruption that arrives while Python runs a finaliser is lost: whoever sees nothing happen presses again.
        for patience in (90, 210):
            run.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                run.wait(timeout=patience)
                break
    said = (tmp_path / "log").read_text()
    assert run.returncode != 0 and "Traceback" not in said, said[-4000:]
    time.sleep(3)
    assert queued() == [], said[-4000:]


def test_limits_are_kept_and_a_retry_raises_what_was_too_little(cluster, home, account, tmp_path):
    account("few")  # which may have four jobs in the queue
    before = {job["JobId"] for job in known_jobs()}
    targets = ["late.txt", "cut.txt", "hungry.txt", "pair.txt", "roomy.txt", "short/1.txt"]
    of_a_kind = ("pair:gpu_model=a100", "pair:constraint=nvlink", "cut:gpu=0", "cut:gres=gpu:1")
    run = started(home, tmp_path / "log", "--set-resources", *of_a_kind, "--", *targets)
    for rule, attempts in (("late", 1), ("cut", 1), ("cut", 2)):
        wait_until(run, lambda r=rule, n=attempts: lines_of(home / f"{r}.begun") == n, f"attempt {attempts} of {rule} began")
        end_its_time(wait_for(run, rule))
    assert run.wait(timeout=600) == 0, (tmp_path / "log").read_text()[-4000:]
    said = (tmp_path / "log").read_text()
    assert "no more are in the queue at a time" in said and "sbatch failed" not in said
    assert (home / "pair.txt").read_text().strip() == "0,1"
    jobs = since(before)
    (pair,), memory, over_time, pieces = (jobs.pop(rule) for rule in ("pair", "hungry", "late", "cut"))
    assert (pair["Partition"], pair["NodeList"], pair["NumNodes"], pair["NumCPUs"]) == ("gpu", "gpu2", "1", "4")
    assert {job["TresPerNode"] for job in pieces} == {"gres:gpu:1"}
    # Limits of the partition with GPUs are tighter: roomy fills it better than the other.
    assert {job["Partition"] for made in jobs.values() for job in made} == {"cpu"}
    assert [(job["MinMemoryNode"], job["TimeLimit"]) for job in memory] == [("900M", "00:05:00"), ("1800M", "00:05:00")]
    assert [job["JobState"] for job in over_time] == ["TIMEOUT", "COMPLETED"]
    assert [job["MinMemoryNode"] for job in over_time] == ["600M", "600M"] and over_time[1]["TimeLimit"] == "00:10:00"
    # It needs 4,000 minutes; a job of the partition has 1,440, also the one that comes after a time-out.
    assert [job["JobState"] for job in pieces] == ["TIMEOUT", "TIMEOUT", "COMPLETED"]
    assert {job["Partition"] for job in pieces} == {"gpu"} and pieces[2]["TimeLimit"] == "1-00:00:00"
    assert {rule: len(made) for rule, made in jobs.items()} == {"short": 1, "roomy": 1}


def test_a_controller_that_forgets_is_refused_and_asked_another_way(cluster, home, tmp_path):
    remembers = (cluster / "slurm.conf").read_text()
    (cluster / "slurm.conf").write_text(remembers.replace("MinJobAge=3600", "MinJobAge=5"))
    subprocess.run(["scontrol", "reconfigure"], check=True)
    try:
        refused = done(home, "--", "short/0.txt")
        assert refused.returncode != 0 and "forgets a finished job after 5 s (MinJobAge)" in refused.stdout + refused.stderr
        assert queued() == []
        run = done(home, "--slurm-status-command", "sacct", "--", "short/0.txt", "short/1.txt")
        assert run.returncode == 0, (run.stdout + run.stderr)[-4000:]
    finally:
        (cluster / "slurm.conf").write_text(remembers)
        subprocess.run(["scontrol", "reconfigure"], check=True)


def test_the_cause_of_a_failure_is_on_the_screen(cluster, home):
    run = done(home, "--retries", "0", "--", "silent.txt")
    said = run.stdout + run.stderr
    assert run.returncode != 0 and "The end of " in said and "the cause" in said.splitlines(), said[-4000:]


def test_the_queue_loses_nothing_when_a_job_is_cancelled_and_the_controller_killed(cluster, home, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "snakemake.log"
    table = "results/slurm/tables/test/main.csv"
    before = {job["JobId"] for job in known_jobs()}
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

    jobs = [job for job in known_jobs() if job["JobId"] not in before]
    states = {job["JobId"]: job["JobState"] for job in jobs}
    assert states.pop(cancelled) == "CANCELLED" and set(states.values()) == {"COMPLETED"}
    partitions = {}
    for job in jobs:
        partitions.setdefault(rule_of(job), set()).add(job["Partition"])
    assert partitions.pop("samples") == {"gpu"}
    assert set(partitions) >= {"scores", "other_scores", "calibration", "replay"}
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
