"""What a run says on the terminal: one line a job with the share of the work, errors, and nothing else."""

import logging
import os

from snakemake.logging import ColorizingTextHandler
from snakemake_interface_logger_plugins.common import LogEvent

from itscale.dag.narration import Narrator, narrate, weight
from itscale.progress import progress, share_done


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


def job(number, rule, message, log=()):
    extra = {"event": LogEvent.JOB_INFO, "jobid": number, "rule_name": rule, "rule_msg": message, "log": list(log)}
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
    assert [job.seconds for job in narrator.running.values()] == [weight("pool")]


def hear(narrator, *records):
    for level, message, extra in records:
        narrator.filter(logging.Logger("x").makeRecord("x", level, "", 0, message, (), None, extra=extra))


def write_bar(path, done, monkeypatch):
    """What a bar writes into a log when so many of 10 are done."""
    with path.open("a") as log:
        monkeypatch.setattr("sys.stderr", log)
        with progress(description="solving", unit="problem", total=10) as bar:
            bar.update(done)


def test_a_long_job_says_how_far_it_is_when_it_has_come_on(tmp_path, monkeypatch):
    log, old = tmp_path / "samples.log", tmp_path / "old.log"
    clock = iter(range(0, 10_000, 1))
    narrator = Narrator(clock=lambda: float(next(clock)), now=lambda: 1000.0)
    write_bar(old, 9, monkeypatch)
    os.utime(old, (900, 900))  # of an earlier attempt
    stats = {"event": LogEvent.RUN_INFO, "stats": {"samples": 2, "total": 2}}
    hear(narrator, (logging.INFO, "", stats), job(1, "samples", "Drawing test", [log]), job(2, "samples", "Drawing more", [old]))
    assert narrator.under_way() == []
    log.write_text("a line that holds 80% of nothing\n")
    assert share_done(log) is None and narrator.under_way() == []
    write_bar(log, 4, monkeypatch)
    assert narrator.under_way() == ["Drawing test: 40 %"]
    assert narrator.line("next").split()[:2] == ["20", "%"]  # 40 % of one of two equal jobs
    assert narrator.under_way() == []  # nothing new
    hear(narrator, (logging.INFO, "", {"event": LogEvent.JOB_FINISHED, "job_id": 1}))
    assert narrator.line("next").split()[:2] == ["50", "%"]


def test_many_jobs_share_a_line(tmp_path, monkeypatch):
    narrator = Narrator(clock=lambda: 0.0, now=lambda: 0.0)
    logs = [tmp_path / f"{k}.log" for k in range(6)]
    hear(narrator, *(job(k, "samples", f"Drawing {k}", [log]) for k, log in enumerate(logs)))
    for k, log in enumerate(logs):
        write_bar(log, k, monkeypatch)
    assert narrator.under_way() == ["6 jobs run: 25 % of their work"]
    assert narrator.under_way() == []
