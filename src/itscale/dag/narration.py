"""What a run says on the terminal: one plain line a job, with the share of the work that is done.

Snakemake's log file keeps all that Snakemake says by itself, and so does the terminal with --verbose or in a dry run.
"""

import logging
import time
from collections.abc import Callable, Mapping

from snakemake.logging import ColorizingTextHandler, DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent

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
_KEPT = ("Nothing to be done", "Nothing to unlock", "Unlocking", "Terminating", "Will exit")


def weight(rule: str) -> float:
    """The expected seconds of a job of a rule."""
    return SECONDS.get("figures" if rule.startswith("figures_") else rule, _OTHERS)


class Narrator(logging.Filter):
    """Lets through one line a job, warnings and errors; counts the work that is done."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.clock, self.begun = clock, clock()
        self.total, self.done, self.running = 0.0, 0.0, dict[int, float]()

    def filter(self, record: logging.LogRecord) -> bool:
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            jobs = {rule: count for rule, count in record.stats.items() if rule not in ("total", "all")}
            self.total = sum(weight(rule) * count for rule, count in jobs.items())
        elif event == LogEvent.JOB_FINISHED:
            self.done += self.running.pop(record.job_id, 0.0)
        elif event == LogEvent.JOB_INFO and record.rule_msg:
            if record.jobid not in self.running:
                self.running[record.jobid] = weight(record.rule_name)
            return True
        if event in (LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR) or record.levelno >= logging.WARNING:
            return not record.getMessage().startswith(_NOISE)
        return event is None and record.getMessage().startswith(_KEPT)

    def line(self, message: str) -> str:
        """A job's line: the share of the work done, the time since the start, and what begins."""
        share = min(self.done / self.total, 0.99) if self.total else 0.0
        minutes, seconds = divmod(int(self.clock() - self.begun), 60)
        return f"{100 * share:3.0f} % {minutes:3d}:{seconds:02d}  {message}"


class Line(DefaultFormatter):
    """A job's message as its line; errors as Snakemake has them."""

    def __init__(self, narrator: Narrator) -> None:
        super().__init__(show_failed_logs=True)
        self.narrator = narrator

    def format(self, record: logging.LogRecord) -> str:
        if getattr(record, "event", None) == LogEvent.JOB_INFO:
            return self.narrator.line(record.rule_msg)
        return super().format(record)


def narrate(logger: logging.Logger) -> None:
    """Have Snakemake's terminal handler say one line a job; its log file stays as it is."""
    for handler in logger.handlers:
        if isinstance(handler, ColorizingTextHandler):
            narrator = Narrator()
            handler.filters[:] = [narrator]
            handler.setFormatter(Line(narrator))
            handler.nocolor, handler.last_msg_was_job_info = True, True
