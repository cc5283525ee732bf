"""Why jobs failed, from logs as SLURM 22.05 writes them."""

import os

import pytest

from itscale.dag.attempts import Failures, failures_in, folder_of, last_lines

MEMORY = [
    "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks have been OOM Killed.",
    "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=7.batch. Some of your processes may have been killed.",
    "srun: error: node12: task 0: Out Of Memory",
    "slurmstepd: error: StepId=7.0 exceeded memory limit (1154048 > 921600), being killed",
    "slurmstepd: error: Exceeded job memory limit",
    "MemoryError",
    "RuntimeError: [enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 9 bytes.",
]
TIME = "slurmstepd: error: *** JOB 7 ON node12 CANCELLED AT 2026-01-01T10:00:00 DUE TO TIME LIMIT ***"
OTHER = [
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    "slurmstepd: error: *** JOB 7 ON node12 CANCELLED AT 2026-01-01T10:00:00 ***",
    "itscale: no such file",
]


@pytest.mark.parametrize(
    ("line", "found"),
    [(line, Failures(memory=1)) for line in MEMORY] + [(TIME, Failures(time=1))] + [(line, Failures()) for line in OTHER],
)
def test_what_failed_is_told_apart(tmp_path, line, found):
    (tmp_path / "7.log").write_text(f"Building DAG of jobs...\n{line}\n{line}\n")
    assert failures_in(tmp_path, 0) == found


def test_each_failed_job_counts_once_and_earlier_runs_do_not(tmp_path):
    for number, line in enumerate([MEMORY[0], TIME, MEMORY[1], OTHER[2]]):
        (tmp_path / f"{number}.log").write_text(line)
        os.utime(tmp_path / f"{number}.log", (100 + number, 100 + number))
    assert failures_in(tmp_path, 0) == Failures(memory=2, time=1)
    assert failures_in(tmp_path, 101) == Failures(memory=1, time=1)
    assert failures_in(tmp_path / "refused", 0) == Failures()  # sbatch refused it: no log


def test_the_end_of_every_log_is_shown(tmp_path):
    folder = folder_of("samples", ["math500", "a/b", "0"], tmp_path)
    assert folder == tmp_path / "rule_samples" / "math500_a_b_0"
    folder.mkdir(parents=True)
    (folder / "8.log").write_text("\n".join(map(str, range(50))) + "\n\n")
    assert last_lines(tmp_path, 0, 2) == [(folder / "8.log", ["48", "49"])]
    assert last_lines(tmp_path, (folder / "8.log").stat().st_mtime + 1) == []


# A job's log as the Snakemake inside it writes it, shortened.
LOG = """\
Building DAG of jobs...
Using shell: /usr/bin/bash
Provided remote nodes: 1
Select jobs to execute...
[Thu Nov 26 19:56:48 2026]
rule silent:
    output: silent.txt
    jobid: 0
Shell command: : > silent.log; echo the cause >&2; false
the cause
slurmstepd: error: *** JOB 7 ON node12 CANCELLED AT 2026-01-01T10:00:00 DUE TO TIME LIMIT ***
[Thu Nov 26 19:56:49 2026]
Error in rule silent:
    log: silent.log (check log file(s) for error details)
        (command exited with non-zero exit code)
Exiting because a job execution failed. Look above for error messages
WorkflowError:
At least one job did not complete successfully.
"""


def test_what_snakemake_says_of_itself_is_left_out(tmp_path):
    log = folder_of("silent", [], tmp_path) / "7.log"
    log.parent.mkdir()
    log.write_text(LOG)
    ((path, lines),) = last_lines(tmp_path, 0)
    assert path == log and lines == ["the cause", TIME]
