"""The examples of docs/training.md, each run."""

import json
from functools import partial

import pyarrow.parquet as pq
import pytest

from itscale.toytask.shipped import WEIGHTS
from pages import example

run = partial(example, "training.md")


def test_verl_gets_problems_and_a_reward(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "questions.jsonl").write_text(json.dumps({"problem_id": "a", "question": "1+1?", "answer": "2"}) + "\n")
    run("problems for verl")
    (row,) = pq.read_table("train.parquet").to_pylist()
    texts = ["\\boxed{2}", "\\boxed{3}", "\\boxed{2.0}", *["\\boxed{2}"] * 5]
    rows = [row] * 8
    scores = run("vote_reward.py")["compute_score"](
        data_sources=[row["data_source"] for row in rows],
        solution_strs=texts,
        ground_truths=[row["reward_model"]["ground_truth"] for row in rows],
        extra_infos=[row["extra_info"] for row in rows],
    )
    assert scores == [1, 0, 1, 1, 1, 1, 1, 1]
    assert row["prompt"][0]["content"].startswith("1+1?") and "\\boxed{}" in row["prompt"][0]["content"]


@pytest.mark.slow
def test_trl_trains_on_groups_of_the_votes_size(tmp_path):
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    names = run("GRPOTrainer(rollout_func=vote, reward_funcs=agrees)")
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / "language_model")
    # Answers by hand: one group stops after three votes, the other goes on to its limit.
    script = {"12+3": ["5", "5", "5"], "4+5": ["9", "8", "9", "8", "9", "7"]}
    spelt = {tuple(tokenizer(prompt)["input_ids"]): list(texts) for prompt, texts in script.items()}

    def scripted(trainer, prompt, n):
        texts = [spelt[tuple(prompt)].pop(0) for _ in range(n)]
        return [[*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for text in texts]

    seen = []

    def vote(prompts, trainer):
        free = names["draw"](trainer, tokenizer("12+3")["input_ids"], 3)
        assert len(free) == 3 and all(1 <= len(row) <= 16 and tokenizer.eos_token_id not in row[:-1] for row in free)
        names["vote"].__globals__["draw"] = scripted
        seen.append(names["vote"](prompts, trainer))
        return seen[-1]

    arguments = GRPOConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=12, num_generations=6, max_completion_length=16, max_steps=1,
        report_to=[], use_cpu=True, bf16=False, save_strategy="no", learning_rate=1e-3, beta=0.0,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(WEIGHTS / "language_model")
    before = torch.cat([weights.detach().flatten().clone() for weights in model.parameters()])
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=names["agrees"],
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": list(script)}),
        processing_class=tokenizer,
        rollout_func=vote,
    )
    trainer.train()
    (rows,) = seen
    paid = {tuple(rows["prompt_ids"][start]): rows["agrees"][start : start + 6] for start in (0, 6)}
    by_prompt = {prompt: paid[tuple(tokenizer(prompt)["input_ids"])] for prompt in script}
    assert by_prompt == {"12+3": [1, 1, 1, None, None, None], "4+5": [1, 0, 1, 0, 1, 0]}
    assert [sum(mask) > 0 for mask in rows["env_mask"]] == [reward is not None for reward in rows["agrees"]]
    after = torch.cat([weights.detach().flatten() for weights in trainer.model.parameters()])
    assert torch.isfinite(after).all() and not torch.equal(before, after)
