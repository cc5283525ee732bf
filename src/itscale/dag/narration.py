"""What a run says on the terminal: one plain line a job, with the share of the work that is done, and how far long jobs are.

How far a job is stands in its log, where its progress bar writes a line every 15 seconds. Snakemake's log file keeps all that
Snakemake says by itself, and so does the terminal with --verbose or in a dry run.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from snakemake.logging import ColorizingTextHandler, DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent

from itscale.progress import share_done

# Processor seconds of a job of a default run, about, by rule: what a share of the work is reckoned with. Others count as 2.
SECONDS: Mapping[str, float] = {
    "samples": 29,
    "scores": 23,
    "other_scores": 30,
    "grades": 1,
    "pool": 1,
    "predictor": 12,
    "predictor_quality": 10,
    "predictions": 8,
    "calibration": 13,
    "replay": 10,
    "optscale_study": 56,
    "optscale_theory": 3,
    "vote_guarantees": 3,
    "vote_study": 3,
    "markovscale_analysis": 10,
    "train_on_votes": 141,
    "try_learning_rate": 141,
    "live_run": 130,
    "page": 12,
    "figures": 5,
}
_OTHERS = 2.0
# What the SLURM plug-in says where no account is given, and the cluster takes the user's own.
_NOISE = ("No SLURM account given", "No account was given", "Guessed SLURM account", "Unable to guess SLURM account")
# Running jobs are looked at every so many seconds. A line is said when a job has come on by a tenth, or after ten minutes; more
# than four jobs at once share one line.
_LOOK, _STEP, _PATIENCE, _SINGLY = 15.0, 0.1, 600.0, 4
_KEPT = ("Nothing to be done", "Nothing to unlock", "Unlocking", "Terminating", "Will exit")


def weight(rule: str) -> float:
    """The expected seconds of a job of a rule."""
    return SECONDS.get("figures" if rule.startswith("figures_") else rule, _OTHERS)


@dataclass(slots=True)
class Job:
    """A job that runs: its message, its expected seconds, its logs, when it began, and the share of it that was last told."""

    message: str
    seconds: float
    logs: tuple[Path, ...] = ()
    begun: float = 0.0
    share: float = 0.0

    def look(self) -> float:
        """The share of the job that is done, by the newest of its logs that it has written itself."""
        own = [log for log in self.logs if log.exists() and log.stat().st_mtime >= self.begun]
        return max((share for log in own if (share := share_done(log)) is not None), default=0.0)


class Narrator(logging.Filter):
    """Lets through one line a job, warnings and errors; counts the work that is done.

    Args:
        clock: seconds, for what is told.
        now: seconds since the epoch, as files are dated.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time) -> None:
        super().__init__()
        self.clock, self.now, self.begun = clock, now, clock()
        self.total, self.done, self.running = 0.0, 0.0, dict[int, Job]()
        self.told = self.begun

    def filter(self, record: logging.LogRecord) -> bool:
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            jobs = {rule: count for rule, count in record.stats.items() if rule not in ("total", "all")}
            self.total = sum(weight(rule) * count for rule, count in jobs.items())
        elif event == LogEvent.JOB_FINISHED:
            if job := self.running.pop(record.job_id, None):
                self.done += job.seconds
        elif event == LogEvent.JOB_INFO and record.rule_msg:
            logs = tuple(Path(name) for name in getattr(record, "log", None) or ())
            self.running[record.jobid] = Job(record.rule_msg, weight(record.rule_name), logs, self.now())
            return True
        if event in (LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR) or record.levelno >= logging.WARNING:
            if event == LogEvent.JOB_ERROR:
                self.running.pop(getattr(record, "jobid", None), None)
            return not record.getMessage().startswith(_NOISE)
        return event is None and record.getMessage().startswith(_KEPT)

    def line(self, message: str) -> str:
        """A job's line: the share of the work done, the time since the start, and what begins or runs."""
        done = self.done + sum(job.share * job.seconds for job in tuple(self.running.values()))
        share = min(done / self.total, 0.99) if self.total else 0.0
        minutes, seconds = divmod(int(self.clock() - self.begun), 60)
        return f"{100 * share:3.0f} % {minutes:3d}:{seconds:02d}  {message}"

    def under_way(self) -> list[str]:
        """How far the jobs are that have come on since they were last told: a message each, or one for many."""
        jobs = tuple(self.running.values())
        shares = [max(job.look(), job.share) for job in jobs]
        late = self.clock() - self.told >= _PATIENCE
        moved = [(job, new) for job, new in zip(jobs, shares, strict=True) if new - job.share >= (0.01 if late else _STEP)]
        if len(jobs) > _SINGLY:
            before, work = sum(job.share * job.seconds for job in jobs), sum(job.seconds for job in jobs)
            mean = sum(new * job.seconds for job, new in zip(jobs, shares, strict=True)) / work
            if not moved or (mean - before / work < _STEP and not late):
                return []
            moved = list(zip(jobs, shares, strict=True))
            messages = [f"{len(jobs)} jobs run: {100 * mean:.0f} % of their work"]
        else:
            messages = [f"{job.message}: {100 * new:.0f} %" for job, new in moved]
        for job, new in moved:
            job.share = new
        if messages:
            self.told = self.clock()
        return messages


class Line(DefaultFormatter):
    """A job's message as its line; errors as Snakemake has them."""

    def __init__(self, narrator: Narrator) -> None:
        super().__init__(show_failed_logs=True)
        self.narrator = narrator

    def format(self, record: logging.LogRecord) -> str:
        if getattr(record, "event", None) == LogEvent.JOB_INFO:
            return self.narrator.line(record.rule_msg)
        return super().format(record)


def _watch(narrator: Narrator, handler: logging.Handler) -> None:
    while True:
        time.sleep(_LOOK)
        for message in narrator.under_way():
            record = logging.LogRecord("snakemake", logging.INFO, "", 0, message, (), None)
            record.event, record.rule_msg = LogEvent.JOB_INFO, message
            handler.emit(record)


def narrate(logger: logging.Logger) -> None:
    """Have Snakemake's terminal handler say one line a job and how far long jobs are; its log file stays as it is."""
    for handler in logger.handlers:
        if isinstance(handler, ColorizingTextHandler):
            narrator = Narrator()
            handler.filters[:] = [narrator]
            handler.setFormatter(Line(narrator))
            handler.nocolor, handler.last_msg_was_job_info = True, True
            threading.Thread(target=_watch, args=(narrator, handler), name="narrator", daemon=True).start()
