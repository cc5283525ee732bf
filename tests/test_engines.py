"""One contract for every engine, on a real if tiny model; and a generation job that is killed for real."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from itscale.engines import EngineSettings, open_engine
from itscale.engines.protocol import Finish, Request, Sampling
from itscale.records import SAMPLES, Problem, read_table, write_problems
from itscale.tinyworld import language_model

QUESTIONS = ["12+3", "45-6*2", "7*8+1-4", "99+9"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "lm"
    language_model.train(folder, 0, language_model.LanguageModelSettings(steps=30), set())
    return folder


GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(
    scope="module",
    params=["transformers", "vllm", pytest.param("auto", marks=[pytest.mark.gpu, GPU])],
)
def engine(request, model):
    if request.param == "vllm":
        pytest.importorskip("vllm")
    with open_engine(EngineSettings(model=str(model), name=request.param, batch_size=16)) as opened:
        yield opened


def requests(engine, tag, sampling, seed=0, copies=1):
    return [
        Request(f"{tag}-{i}-{c}", engine.encode(question, None), sampling, seed + 100 * i + c)
        for i, question in enumerate(QUESTIONS)
        for c in range(copies)
    ]


def draw(engine, asked):
    engine.submit(asked)
    done = {}
    while engine.outstanding:
        for completion in engine.poll():
            assert completion.request_id not in done
            done[completion.request_id] = completion
    assert set(done) == {r.request_id for r in asked}
    return [done[r.request_id] for r in asked]


def test_samples_are_valid_and_usage_is_what_came_back(engine):
    before = engine.usage()
    asked = requests(engine, "valid", Sampling(max_tokens=20), copies=5)
    done = draw(engine, asked)
    for request, completion in zip(asked, done, strict=True):
        assert 1 <= len(completion.token_ids) <= 20
        assert completion.prompt_tokens == len(request.prompt_ids)
        if completion.finish is Finish.LENGTH:
            assert len(completion.token_ids) == 20
        assert "<eos>" not in completion.text
    after = engine.usage()
    assert after.completion - before.completion == sum(len(c.token_ids) for c in done)
    assert after.prompt - before.prompt == sum(len(r.prompt_ids) for r in asked)


def test_a_seed_decides_a_sample(engine):
    sampling = Sampling(max_tokens=16)
    one, two, other = (draw(engine, requests(engine, tag, sampling, seed)) for tag, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert [c.token_ids for c in one] == [c.token_ids for c in two]
    assert [c.token_ids for c in one] != [c.token_ids for c in other]


def test_a_stop_token_ends_a_sample_and_is_counted(engine):
    done = draw(engine, requests(engine, "stop", Sampling(max_tokens=90), seed=5, copies=8))
    stopped = [c for c in done if c.finish is Finish.STOP]
    assert stopped
    ends = {c.token_ids[-1] for c in stopped}
    assert len(ends) == 1
    assert all(c.token_ids.count(next(iter(ends))) == 1 for c in stopped)


def test_aborted_requests_never_come_back(engine):
    asked = requests(engine, "abort", Sampling(max_tokens=60), seed=7, copies=8)
    engine.submit(asked)
    gone = {r.request_id for r in asked[::2]}
    engine.abort(list(gone))
    came = set()
    while engine.outstanding:
        came |= {c.request_id for c in engine.poll()}
    assert came == {r.request_id for r in asked} - gone


def test_greedy_output_is_the_same_on_both_engines(model):
    pytest.importorskip("vllm")
    outputs = []
    for name in ("transformers", "vllm"):
        with open_engine(EngineSettings(model=str(model), name=name, batch_size=8)) as engine:
            outputs.append([c.token_ids for c in draw(engine, requests(engine, "g", Sampling(temperature=0.0, max_tokens=24)))])
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize(
    "plan",
    [{"kind": "parallel", "samples": 12}, {"kind": "chain", "chains": 3, "rounds": 4}],
    ids=["parallel", "chain"],
)
def test_a_killed_job_resumes_to_the_same_samples(model, tmp_path, plan):
    problems = [Problem(f"p{i}", question, "0") for i, question in enumerate(QUESTIONS)]
    write_problems(tmp_path / "problems.parquet", problems)
    plan = {**plan, "shards": 1, "seed": 3, "sampling": {"max_tokens": 40}}

    def start(out):
        command = [sys.executable, "-m", "itscale", "generate", "--plan", json.dumps(plan), "--model", str(model)]
        command += ["--engine", '{"name": "transformers", "batch_size": 2}']
        command += ["--problems", str(tmp_path / "problems.parquet"), "--out", str(out)]
        return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)

    whole, resumed = tmp_path / "whole.parquet", tmp_path / "resumed.parquet"
    assert start(whole).wait(timeout=200) == 0
    partial = tmp_path / "resumed.parquet.partial"
    rng, kills = random.Random(0), 0
    for lines in (3, 8, 20):
        job = start(resumed)
        while job.poll() is None and not (partial.exists() and partial.read_bytes().count(b"\n") >= lines):
            time.sleep(0.005)
        time.sleep(rng.random() * 0.05)
        if job.poll() is None:
            os.kill(job.pid, signal.SIGKILL)
            kills += 1
        job.wait()
        if job.returncode == 0:
            break
        assert not resumed.exists()
    assert kills >= 1
    if not resumed.exists():
        assert start(resumed).wait(timeout=200) == 0
    first, second = read_table(whole, SAMPLES), read_table(resumed, SAMPLES)
    key = ["problem_id", "chain", "round", "sample"]
    assert not second.duplicated(key).any()
    assert first[key].equals(second[key])
    assert first["text"].tolist() == second["text"].tolist()
    assert not partial.exists()
