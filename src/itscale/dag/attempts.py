"""Why a job's earlier attempts failed, from what SLURM wrote into their logs: a retry raises what was too little, and that alone.

The executor keeps the log of every job that failed (`.snakemake/slurm_logs/rule_NAME/WILDCARDS/JOBID.log`) and none of a job that
`sbatch` refused, so that a refusal raises nothing.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LOGS = Path(".snakemake/slurm_logs")
# slurmstepd of a cluster with control groups, srun, slurmstepd of one that samples memory, Python, torch on a CPU.
_MEMORY = re.compile(r"oom[-_]kill|Out Of Memory|exceeded (job )?memory limit|MemoryError|can't allocate memory", re.IGNORECASE)
_GPU_MEMORY = re.compile(
    r"CUDA.*out of memory|OutOfMemoryError", re.IGNORECASE
)  # the job's own affair: more host memory is no help
_TIME = re.compile(r"DUE TO TIME LIMIT", re.IGNORECASE)

# What the Snakemake inside a job says of itself, which is no cause.
_SNAKEMAKE = re.compile(
    r"    |  \w[\w ()]*: |\[\w{3} \w{3} |={3,}$|(local)?rule \w+:|WorkflowError:$|"
    r"(SNAKEMAKE|Using |Building DAG|Provided |Rules claiming|Select jobs|Execute \d|Conda env|Singularity|host:|Shell command:|"
    r"Error in rule|Logfile |Shutting down|Exiting because|Storing output|Elapsed time|Complete log|At least one job|Config file|"
    r"Assuming )"
)


@dataclass(frozen=True, slots=True)
class Failures:
    """How often a job failed for want of memory and of time."""

    memory: int = 0
    time: int = 0


def folder_of(rule: str, wildcards: Iterable[str], logs: Path = LOGS) -> Path:
    """Where the executor puts the logs of a rule's job with these wildcards."""
    return logs / f"rule_{rule}" / "_".join(wildcards).replace("/", "_")


def failures_in(folder: Path, since: float) -> Failures:
    """What the logs of one job say that were written since a time (seconds of the epoch)."""
    memory = time = 0
    for log in sorted(folder.glob("*.log")):
        if log.stat().st_mtime < since:
            continue
        text = "\n".join(line for line in log.read_text(errors="replace").splitlines() if not _GPU_MEMORY.search(line))
        memory += _MEMORY.search(text) is not None
        time += _TIME.search(text) is not None
    return Failures(memory, time)


def last_lines(folder: Path, since: float, lines: int = 12) -> list[tuple[Path, list[str]]]:
    """What commands and SLURM said last in every log below a folder that was written since a time, the latest last.

    Logs of jobs that succeeded are removed by the executor: these are of the jobs that failed.
    """
    found = [path for path in folder.glob("rule_*/**/*.log") if path.stat().st_mtime >= since]
    found.sort(key=lambda path: path.stat().st_mtime)
    return [(path, said[-lines:]) for path in found if (said := _said(path))]


def _said(path: Path) -> list[str]:
    """The lines of a log that are not Snakemake's."""
    return [line for line in path.read_text(errors="replace").splitlines() if line.strip() and not _SNAKEMAKE.match(line)]
