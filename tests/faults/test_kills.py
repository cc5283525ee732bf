"""SIGKILL at random moments, and two jobs at once: what is finished is never lost, and nothing half-written looks finished."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from cases import KILLS
from commands import drawing, scoring, training
from safetensors.numpy import load_file

from itscale.data.records import SAMPLES, SCORES, read_problems, read_table
from processes import Job, itscale

ROOT = Path(__file__).resolve().parents[2]


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def reached(partial: Path) -> int:
    """The step of the latest checkpoint."""
    return max((int(path.parent.name.split("-")[1]) for path in partial.glob("checkpoint-*/trainer_state.json")), default=0)


def test_scoring_goes_on(made, tmp_path):
    whole, out = tmp_path / "whole.parquet", tmp_path / "scores.parquet"
    assert itscale(tmp_path, *scoring(made, whole)).code == 0
    rng, partial, kept = random.Random(7), Path(f"{out}.partial"), 0
    for _ in range(2):
        wanted = kept + rng.randint(8, 40)
        job = Job(tmp_path, *scoring(made, out))
        assert job.kill_when(lambda wanted=wanted: lines(partial) > wanted, rng.random() * 0.02)
        assert not out.exists()
        kept = lines(partial)
        assert kept > 1
    done = itscale(tmp_path, *scoring(made, out))
    assert done.code == 0 and not partial.exists(), done.said
    texts = len(read_table(made / "samples.parquet", SAMPLES).drop_duplicates(["problem_id", "text"]))  # scored once each
    assert f"{kept - 1}/{texts}" in done.said  # the bar begins where it was
    one, two = read_table(whole, SCORES), read_table(out, SCORES)
    pd.testing.assert_frame_equal(one, two, rtol=1e-5)


@pytest.mark.parametrize("model", ["language model", "reward model"])
def test_training_ends_with_the_same_weights(model, made, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "model"
    command = training(model, made, out)
    done = itscale(tmp_path, *training(model, made, whole))
    assert done.code == 0, done.said
    rng, partial, at = random.Random(5), Path(f"{out}.partial"), 0
    for _ in range(2):
        at += 4 * rng.randint(1, 4)  # a checkpoint every fourth step
        job = Job(tmp_path, *command)
        assert job.kill_when(lambda at=at: reached(partial) >= at, rng.random() * 0.05)
        assert not out.exists() and list(partial.glob("checkpoint-*"))
    # A checkpoint that the kill left half written is no checkpoint.
    (partial / "checkpoint-36").mkdir(exist_ok=True)
    (partial / "checkpoint-36" / "trainer_state.json").write_text('{"global_')
    done = itscale(tmp_path, *command)
    assert done.code == 0 and not partial.exists(), done.said
    one, two = load_file(whole / "model.safetensors"), load_file(out / "model.safetensors")
    assert one.keys() == two.keys() and all((one[name] == two[name]).all() for name in one)
    assert sorted(p.name for p in whole.iterdir()) == sorted(p.name for p in out.iterdir())
    again = itscale(tmp_path, *command)
    assert again.code == 1 and "exists and is not empty: choose another folder, or move it away." in again.said


def test_a_job_that_outlived_its_snakemake_is_waited_for(made, tmp_path):
    out = tmp_path / "samples.parquet"
    arguments = drawing(made, out)
    first = Job(tmp_path, *arguments)
    while lines(Path(f"{out}.partial")) < 2:
        time.sleep(0.002)
    first.pause(True)
    second = itscale(tmp_path, *arguments)
    first.pause(False)
    assert second.code == 1 and KILLS["two at once"].matches(second.said), second.said
    assert first.end().code == 0
    table = read_table(out, SAMPLES)
    assert len(table) == 8 * 24 and not table.duplicated(["problem_id", "sample"]).any()


@pytest.fixture
def smaller(home) -> Path:
    """A copy of the repository, in which a pool takes a while."""
    overlay = {"engine": {"batch_size": 4}, "pools": {"test": {"parallel": {"samples": 16, "shards": 1}}}}
    (home / "small.yaml").write_text(yaml.safe_dump(overlay))
    return home


def snakemake(home: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "snakemake", "--configfile", "config/config.yaml", "config/test.yaml", "small.yaml"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.Popen(
        [*command, "--cores", "1", *arguments],
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_snakemake_goes_on(smaller):
    home = smaller
    results = home / "results" / "test"
    problems, table = results / "problems" / "test.parquet", results / "pools" / "test" / "parallel" / "samples" / "0.parquet"
    target = str(table.relative_to(home))
    rng = random.Random(11)
    run = snakemake(home, target)
    wanted, partial = rng.randint(15, 60), Path(f"{table}.partial")
    while run.poll() is None and lines(partial) < wanted:
        time.sleep(0.005)
    time.sleep(rng.random() * 0.1)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL and not table.exists()
    assert len(read_problems(problems)) == 16 and (results / "models" / "reward_model" / "model.safetensors").exists()
    finished, kept = problems.stat().st_mtime_ns, lines(partial)
    assert kept >= wanted
    said, _ = (run := snakemake(home, target)).communicate(timeout=300)
    assert run.returncode == 1 and KILLS["Snakemake"].matches(said), said
    said, _ = (run := snakemake(home, "--unlock")).communicate(timeout=300)
    assert run.returncode == 0, said
    said, _ = (run := snakemake(home, target)).communicate(timeout=300)
    assert run.returncode == 0 and len(read_table(table, SAMPLES)) == 16 * 16, said
    assert problems.stat().st_mtime_ns == finished and not partial.exists()
    # The bar of the second run begins where the first was killed.
    begun = re.search(r"(\d+)/256", (results / "logs" / "samples" / "test_parallel_0.log").read_text())
    assert begun is not None and int(begun[1]) >= wanted - 1
