"""What a run says on the terminal: one line a job with the share of the work, errors, and nothing else."""

import logging

from snakemake.logging import ColorizingTextHandler
from snakemake_interface_logger_plugins.common import LogEvent

from itscale.dag.narration import Narrator, narrate, weight


def said(records, monkeypatch):
    logger = logging.Logger("snakemake")
    handler = ColorizingTextHandler()
    lines = []
    out = type("Out", (), {"write": lambda _, text: lines.append(text), "flush": lambda _: None})()
    monkeypatch.setattr(handler, "stream", out)
    logger.addHandler(handler)
    narrate(logger)
    for level, message, extra in records:
        logger.log(level, message, extra=extra)
    return "".join(lines)


def job(number, rule, message):
    extra = {"event": LogEvent.JOB_INFO, "jobid": number, "rule_name": rule, "rule_msg": message}
    return logging.INFO, "job", extra


def test_a_run_says_a_line_a_job_with_the_share_of_the_work_that_is_done(monkeypatch):
    stats = {"event": LogEvent.RUN_INFO, "stats": {"predictor": 1, "pool": 3, "all": 1, "total": 5}}
    text = said(
        [
            (logging.INFO, "Building DAG of jobs...", {"event": None}),
            (logging.INFO, "a table of jobs", stats),
            job(1, "pool", "Joining test"),
            (logging.INFO, "shell", {"event": LogEvent.SHELLCMD}),
            (logging.INFO, "done", {"event": LogEvent.JOB_FINISHED, "job_id": 1}),
            (logging.INFO, "1 of 5 steps", {"event": LogEvent.PROGRESS, "done": 1, "total": 5}),
            job(2, "predictor", "Training the predictor"),
            (logging.INFO, "done", {"event": LogEvent.JOB_FINISHED, "job_id": 2}),
            job(3, "pool", "Joining calibration"),
            (logging.ERROR, "no space left", {"event": None}),
        ],
        monkeypatch,
    )
    lines = text.splitlines()
    work = weight("predictor") + 3 * weight("pool")
    shares = [0, weight("pool") / work, (weight("pool") + weight("predictor")) / work]
    words = ["Joining test", "Training the predictor", "Joining calibration"]
    for line, share, message in zip(lines, shares, words, strict=False):
        assert line.split() == [f"{100 * share:.0f}", "%", "0:00", *message.split()]
    assert lines[3:] == ["no space left"]


def test_a_job_that_is_retried_is_counted_once():
    narrator = Narrator(clock=lambda: 0.0)
    logger = logging.Logger("x")
    for level, message, extra in [job(1, "pool", "Joining"), job(1, "pool", "Joining")]:
        assert narrator.filter(logger.makeRecord("x", level, "", 0, message, (), None, extra=extra))
    assert sum(narrator.running.values()) == weight("pool")
