"""The loops of docs/your-loop.md, each run."""

import asyncio
from collections import Counter
from functools import partial

import numpy as np
import pytest
from test_quirks import Say, server  # noqa: F401 (a fixture)

from itscale.drivers.replay import replay
from itscale.toytask.shipped import WEIGHTS
from pages import example
from pools import random_pool

run = partial(example, "your-loop.md")


def test_any_loop(capsys):
    run("any loop")
    answer, drawn, reason = capsys.readouterr().out.strip().split(" ", 2)
    assert answer == "18" and int(drawn) == 8 - 1 and reason == "vote confident enough"


def test_the_openai_client(server):  # noqa: F811
    from openai import AsyncOpenAI

    texts = iter(["it is 4", "it is 5", "it is 4", "it is 4", *["so 4"] * 12])

    def answer(body):
        message = {"role": "assistant", "content": next(texts)}
        usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return Say({"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage})

    server.answer = answer
    client = AsyncOpenAI(base_url=server.url, api_key="none")
    stop = asyncio.run(run("with the OpenAI client")["solve"](client, "m", "2+2"))
    assert stop.answer == "4" and stop.drawn == len(server.asked) == 8 and stop.tokens == 24
    assert stop.reason == "window unanimous"


def test_the_reward_is_that_of_the_vote_where_it_stopped():
    consensus = run("a reward for GRPOTrainer(reward_funcs=consensus)")["consensus"]
    prompts = ["a"] * 6 + ["b"] * 4
    completions = ["x 1", "x 1", "x 2", "x 1", "x 1", "x 2", "2", "3", "", "3"]
    assert consensus(prompts, completions, extra=None) == [1, 1, 0, 1, 1, 0, 0, 1, 0, 1]


@pytest.mark.slow
def test_trl_trains_with_the_reward(tmp_path):
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    consensus, seen = run("a reward for GRPOTrainer(reward_funcs=consensus)")["consensus"], []

    def reward(prompts, completions, **kwargs):
        seen.append(consensus(prompts, completions, **kwargs))
        return seen[-1]

    folder = WEIGHTS / "language_model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    arguments = GRPOConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=4, num_generations=4, max_completion_length=16, max_steps=1,
        report_to=[], use_cpu=True, bf16=False, save_strategy="no",
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder),
        reward_funcs=reward,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["12+3", "4+5"]}),
        processing_class=tokenizer,
    )
    trainer.train()
    assert seen and all(len(each) == 4 and set(each) <= {0.0, 1.0} for each in seen)


@pytest.mark.slow
def test_vllm(monkeypatch):
    pytest.importorskip("vllm")
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm import LLM, SamplingParams

    from itscale.grading.answers import extract_answer

    settings = {"dtype": "float32", "enforce_eager": True, "kv_cache_memory_bytes": 256 << 20, "max_model_len": 256}
    llm = LLM(str(WEIGHTS / "language_model"), **settings)
    sampling = SamplingParams(temperature=1.0, max_tokens=64)
    stops = run("with vLLM")["solve_all"](llm, ["12+3*4", "7+5"], sampling, lambda text: extract_answer(text, "stop"))
    assert len(stops) == 2 and all(stop.done and 1 <= stop.drawn <= 8 for stop in stops)


def test_a_rule_of_ones_own():
    policy = run("your own rule")["policy"]
    pool = random_pool(4, rows=30, size=16)
    found = replay(policy, pool, orders=1)
    for row, clusters in enumerate(pool.cluster.tolist()):
        ends = (n for n in range(2, 17) if clusters[n - 1] >= 0 and clusters[n - 1] == clusters[n - 2])
        assert found.drawn[row] == next(ends, 16)
        votes = Counter(c for c in clusters[: found.drawn[row]] if c >= 0)
        assert pool.cluster[row, found.column[row]] in [c for c, n in votes.items() if n == max(votes.values())]
    assert np.unique(found.drawn).size > 2
