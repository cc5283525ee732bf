"""Test-time training: rewards by hand, gradients against a plain reference, TRL's contract, a bandit, a run that is killed."""

import json
import math
import os
import random
import signal
import socket
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from stored import table_of
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, TrainerCallback
from typer.testing import CliRunner

from itscale.cli import app
from itscale.data.journal import Journal, scratch_folder
from itscale.data.ledger import Ledger
from itscale.data.records import GRADES, Problem, write_problems, write_table
from itscale.drivers.assess import Assessment
from itscale.drivers.driver import Sample, Solved
from itscale.engines import EngineSettings
from itscale.engines.protocol import Completion, Finish, Sampling
from itscale.engines.replaying import ReplayingEngine
from itscale.errors import UserError
from itscale.grading.comparison import Comparer
from itscale.models.checkpoints import restore_moments
from itscale.policies.calibration import Calibration
from itscale.policies.protocol import Reason
from itscale.testtime import checkpoints, report
from itscale.testtime.evaluation import EvaluationSettings, averages, evaluate
from itscale.testtime.ppo import Critic, advantages_and_returns, value_loss, whiten
from itscale.testtime.processes import ALONE, Processes
from itscale.testtime.rewards import Vote, question_weight, rewards, row_weights, step_figures, sureness
from itscale.testtime.rollouts import Rollouts, make_schedule, trl_rows
from itscale.testtime.settings import Lora, RunSettings
from itscale.testtime.train import Job, Run, _identity, _refuse_several, train
from itscale.theory.answertypes import answer_types, mode_posterior
from itscale.theory.voting import VoteModel, estimate_model
from itscale.toytask import language_model
from itscale.toytask import problems as arithmetic
from itscale.toytask.tokenizer import build_tokenizer
from pools import CUDA, KNOWN, random_pool
from processes import FORKS

# Rewards, by hand.

SPLIT = Vote(cluster=np.array([0, 1, -1, 1, 0, 1]), correct=np.array([True, False, False, False, True, False]), kept=4)


def group_advantages(reward: np.ndarray) -> np.ndarray:
    """GRPO: (r - mean) / (std + 1e-4) over the group's own size, std with n - 1 as in TRL."""
    return (reward - reward.mean()) / (reward.std(ddof=1) + 1e-4)


def leave_one_out_advantages(reward: np.ndarray) -> np.ndarray:
    """RLOO: r_i minus the mean of the others."""
    return reward - (reward.sum() - reward) / (len(reward) - 1)


def test_rewards_are_agreement_with_the_vote_of_all_rollouts():
    assert SPLIT.consensus == 1
    assert rewards(SPLIT, "votes").tolist() == [0, 1, 0, 1]
    assert rewards(SPLIT, "gold").tolist() == [1, 0, 0, 0]
    nobody = Vote(np.array([-1, -1]), np.array([False, False]), 2)
    assert nobody.consensus == -1 and rewards(nobody, "votes").tolist() == [0, 0]


def test_figures_of_a_step():
    sure = Vote(np.array([0, 0, 0, 1]), np.array([True, True, True, False]), 2)
    figures = step_figures([SPLIT, sure], [rewards(v, "votes") for v in (SPLIT, sure)], 6)
    assert figures["votes"] == [6, 4] and figures["rollouts"] == 10 and figures["trained"] == 6
    assert figures["label_accuracy"] == 0.5  # the first consensus is wrong, the second right
    assert figures["reward_accuracy"] == pytest.approx((1 / 4 + 1) / 2)  # of the first, only the unanswered one is right
    assert math.isnan(step_figures([SPLIT], [rewards(SPLIT, "entropy")], 6, source="entropy")["reward_accuracy"])
    told = step_figures([SPLIT, sure], [rewards(v, "gold") for v in (SPLIT, sure)], 6, source="gold")
    assert told["rewarded"] == told["rewarded_right"] == 2  # the first consensus is wrong, what gold pays is not
    unpaid = Vote(SPLIT.cluster, np.zeros(6, bool), 4)
    assert step_figures([unpaid], [rewards(unpaid, "gold")], 6, source="gold")["rewarded"] == 0
    assert figures["majority_ratio"] == pytest.approx((3 / 6 + 3 / 4) / 2)
    thirds = -(2 / 6 * math.log(2 / 6) + 3 / 6 * math.log(3 / 6) + 1 / 6 * math.log(1 / 6))
    quarters = -(3 / 4 * math.log(3 / 4) + 1 / 4 * math.log(1 / 4))
    assert figures["vote_entropy"] == pytest.approx((thirds + quarters) / 2)


def test_advantages_by_hand():
    assert group_advantages(np.array([1.0, 0, 0, 1])) == pytest.approx(np.array([0.5, -0.5, -0.5, 0.5]) / (1 / 3**0.5 + 1e-4))
    assert leave_one_out_advantages(np.array([1.0, 0, 0])) == pytest.approx([1, -0.5, -0.5])
    assert (group_advantages(np.ones(4)) == 0).all()


def test_generalised_advantages_by_hand():
    reward, mask = torch.tensor([1.0, 0.0]), torch.tensor([[1.0, 1, 1], [1, 0, 0]])
    values = torch.tensor([[0.5, 0.6, 0.8], [0.4, 9.0, 9.0]])
    advantage, returns = advantages_and_returns(reward, values, mask, 0.5)
    # deltas of the first row: 0.1, 0.2, 0.2; of the second: -0.4
    expected = torch.tensor([[0.1 + 0.5 * (0.2 + 0.5 * 0.2), 0.2 + 0.5 * 0.2, 0.2], [-0.4, 0, 0]])
    assert torch.allclose(advantage, expected)
    assert torch.allclose(returns, (expected + values) * mask)
    whole, _ = advantages_and_returns(reward, values, mask, 1.0)
    assert torch.allclose(whole[0], 1 - values[0])  # lambda 1: the reward minus the value


def test_value_loss_takes_the_worse_of_plain_and_clipped():
    values, old, returns = torch.tensor([[0.9, 0.0]]), torch.tensor([[0.5, 0.0]]), torch.tensor([[1.0, 1.0]])
    weight = torch.tensor([[1.0, 0.0]])
    assert float(value_loss(values, old, returns, weight, float(weight.sum()), 0.2)) == pytest.approx(
        0.5 * 0.3**2
    )  # clipped to 0.7
    spread = whiten(torch.tensor([[1.0, 3.0, 99.0]]), torch.tensor([[1.0, 1.0, 0.0]]))
    assert spread[0, :2].tolist() == pytest.approx([-1, 1], abs=1e-3)


def test_a_schedule_has_every_problem_as_often_and_none_twice_in_a_step():
    problems = [Problem(f"p{i}", f"q{i}", "0") for i in range(10)]
    schedule = make_schedule(problems, 9, 3, seed=1)
    assert all(len({p.problem_id for p in step}) == 3 for step in schedule)
    assert len({p.problem_id for step in schedule[:3] for p in step}) == 9
    assert schedule == make_schedule(problems, 9, 3, seed=1) != make_schedule(problems, 9, 3, seed=2)
    with pytest.raises(UserError, match="10 problems"):
        make_schedule(problems, 1, 11, seed=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": "dpo"}, "choose one of grpo"),
        ({"group": 40}, "may stop at 32"),
        ({"vote": {"policy": "best_of_n", "n": 32}}, "does not count votes"),
        ({"vote": {"n": 3}}, "no 'policy'"),
        ({"steps": -1}, "not be negative"),
        ({"vote": {"policy": "vote_lead", "lead": 2, "n_max": 32, "n_min": 8}}, "raise n_min"),
        ({"vote": {"policy": "asc", "n_max": 32}}, "may stop at 1: raise n_min"),
        ({"vote": {"policy": "esc", "n_max": 32, "window": 5}}, "may stop at 5"),
        ({"vote": {"policy": "dsc", "n_max": 32}}, "does not count votes"),
        ({"reward": "certified"}, "'self_consistency' never does: nothing would be learnt"),
        ({"reward": "certified", "vote": {"policy": "vote_lead", "lead": 2, "n_min": 32, "n_max": 32}}, "never does"),
    ],
)
def test_a_wrong_run_is_named(settings, message):
    with pytest.raises(UserError, match=message):
        RunSettings(**settings).policy(KNOWN)


@pytest.mark.parametrize(
    "vote",
    [
        {"policy": "self_consistency", "n": 16},
        {"policy": "esc", "n_max": 32, "window": 16},
        {"policy": "asc", "n_min": 16, "n_max": 32},
    ],
)
def test_a_vote_that_fills_the_group_before_it_looks_is_taken(vote):
    assert RunSettings(vote=vote, group=16).policy(KNOWN).limit >= 16


# Gradients of the real trainers against a plain reference.


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model of two layers with random weights, as a folder."""
    torch.manual_seed(0)
    tokenizer, folder = build_tokenizer(), tmp_path_factory.mktemp("small")
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "head_dim": 32}
    ids = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=1, tie_word_embeddings=True, **shape, **ids)
    language_model.save(folder, LlamaForCausalLM(config), tokenizer)
    return folder


ASKED = ("0+1", "21+1")  # of two lengths, so that one is padded


def by_hand(tokenizer, groups, retain):
    """Rollouts from lists of (text, cluster) by prompt."""
    solved, prompts, votes = [], [], []
    for number, group in enumerate(groups):
        samples = []
        for text, cluster in group:
            ids = (*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id)
            done = Completion(f"{number}", ids, text, Finish.STOP, 4, 0)
            samples.append(Sample(done, Assessment(text, cluster, float("nan"), float("nan"), 0)))
        problem = Problem(f"p{number}", ASKED[number], "0")
        solved.append(Solved(problem, 0, tuple(samples), 0, Reason.LEAD, 0, 0, Ledger()))
        prompts.append(tuple(tokenizer.encode(f"{ASKED[number]}=", add_special_tokens=False)))
        clusters = np.array([c for _, c in group])
        votes.append(Vote(clusters, clusters == 0, retain or len(group)))
    weights = row_weights([v.kept for v in votes])
    return Rollouts(
        tuple(solved), tuple(prompts), tuple(votes), tuple(rewards(v, "votes") for v in votes), tuple(weights), Ledger(), 0.0
    )


class Given:
    """A roller that hands out given rollouts."""

    def __init__(self, drawn, slots):
        self.drawn, self.slots, self.last, self.asked = drawn, slots, None, []
        self.schedule = [[row.problem for row in drawn.solved]] * 99

    def refresh(self, updates):
        pass

    def draw(self, step):
        self.asked.append(step)
        self.last = self.drawn
        return self.drawn


GROUPS = [
    [("3+4=7", 0), ("12", 1), ("3+4=8\n8", 0)],
    [("5", 0), ("1*2=2", 1), ("9-4", 1), ("77", 1), ("6+1", 2)],
]


def make_trainer(small, tmp_path, drawn, slots, **settings):
    """A run's real trainer around given rollouts, its model in double precision and away from the reference."""
    options = {"group": 2, "prompts": 2, "steps": 1, "kl": 0.1, **settings}
    options = RunSettings(**options, vote={"policy": "vote_lead", "lead": 2, "n_min": 2, "n_max": 5})
    job = Job(
        model=small,
        trained=[row.problem for row in drawn.solved],
        untouched=[],
        settings=options,
        evaluation=EvaluationSettings(),
        sampling=Sampling(max_tokens=12),
        engine=EngineSettings(str(small)),
        known=KNOWN,
        seed=0,
        name="test",
    )
    run = Run(job, tmp_path, Journal(tmp_path / "journal.jsonl", "x"), None, None, 0)
    run.roller = Given(drawn, slots)
    trainer = run._trainer(str(tmp_path / "scratch"), TrainerCallback())
    for model in (run.model, getattr(trainer, "ref_model", None), run.critic):
        if model is not None:
            model.double()
    torch.manual_seed(1)
    with torch.no_grad():
        for p in run.model.parameters():
            p += 0.05 * torch.randn_like(p)
    return run, trainer


def trainer_gradient(trainer, passes=1):
    """The gradient of one step, as the trainer makes it out of what the sampler asks for."""
    trainer.current_gradient_accumulation_steps = passes
    trainer.model.train()
    batches = next(iter(trainer.get_train_dataloader()))
    if type(trainer).__name__ == "VoteSFT":  # splits its step itself
        trainer.training_step(trainer.model, batches)
        passes = 0
    for _ in range(passes):
        loss = trainer.compute_loss(trainer.model, trainer._prepare_inputs(batches))
        if type(trainer).__name__ == "VoteRLOO":  # the loop divides
            loss = loss / passes
        loss.backward()
        trainer._step = getattr(trainer, "_step", 0) + 1
    return torch.cat([p.grad.ravel() for p in trainer.model.parameters()])


def log_probabilities(model, prompt, ids):
    logits = model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits, -1)[torch.arange(len(ids)), torch.tensor(ids)]


@torch.no_grad()
def divergence(model, reference, prompt, ids):
    """What RLOO takes off a rollout's reward: its log probability over that under the untrained model."""
    return float((log_probabilities(model, prompt, ids) - log_probabilities(reference, prompt, ids)).sum())


def reference_gradient(model, reference, drawn, kl, objective):
    """docs/optpo.md in plain loops: the mean over prompts of the mean over the prompt's rollouts."""
    model.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for p, prompt in enumerate(drawn.prompts):
        group = drawn.kept(p)
        reward = drawn.rewards[p]
        if objective == "rloo":
            reward = reward - [kl * divergence(model, reference, prompt, answer) for answer in group]
        advantage = {"grpo": group_advantages, "rloo": leave_one_out_advantages}.get(objective, lambda r: r)(reward)
        chosen = range(len(group)) if objective != "sft" else [i for i, r in enumerate(drawn.rewards[p]) if r > 0]
        for i in chosen:
            logp = log_probabilities(model, prompt, group[i])
            with torch.no_grad():
                other = log_probabilities(reference, prompt, group[i])
            if objective == "grpo":
                k3 = torch.exp(other - logp) - (other - logp) - 1
                ratio = torch.exp(logp - logp.detach())
                loss = (-ratio * advantage[i] + kl * k3).mean()
            elif objective == "rloo":
                loss = -torch.exp(logp.sum() - logp.sum().detach()) * advantage[i]
            else:
                loss = -logp.mean()
            total = total + loss / (len(chosen) * len(drawn.prompts))
    total.backward()
    return torch.cat([p.grad.ravel() for p in model.parameters()])


@pytest.mark.parametrize(("retain", "slots", "passes"), [(2, 2, 1), (None, 5, 1), (None, 5, 2)])
@pytest.mark.parametrize("objective", ["grpo", "rloo", "sft"])
def test_a_step_has_the_gradient_of_the_objective(small, tmp_path, objective, retain, slots, passes):
    drawn = by_hand(build_tokenizer(), GROUPS, retain)
    kl = 0.0 if objective == "sft" else 0.1
    per_pass = 2 * slots // passes
    _, trainer = make_trainer(small, tmp_path, drawn, slots, algorithm=objective, kl=kl, rows_per_pass=per_pass)
    got = trainer_gradient(trainer, passes)
    reference = AutoModelForCausalLM.from_pretrained(small).double()
    expected = reference_gradient(trainer.model, reference, drawn, kl, objective)
    assert expected.abs().max() > 1e-3
    assert (got - expected).abs().max() < 1e-6


def test_a_second_update_clips_what_has_moved_since_the_draw(small, tmp_path):
    drawn = by_hand(build_tokenizer(), GROUPS, None)
    _, trainer = make_trainer(small, tmp_path, drawn, 5, kl=0.0, updates=2)
    trainer.current_gradient_accumulation_steps = 1
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    before = AutoModelForCausalLM.from_pretrained(small).double()
    before.load_state_dict(trainer.model.state_dict())
    with torch.no_grad():
        for p in trainer.model.parameters():
            p += 0.05 * torch.randn_like(p)
    trainer.compute_loss(trainer.model, batch).backward()
    got = torch.cat([p.grad.ravel() for p in trainer.model.parameters()])
    trainer.model.zero_grad()
    total, outside = torch.zeros((), dtype=torch.float64), 0
    for p, prompt in enumerate(drawn.prompts):
        for ids, advantage in zip(drawn.kept(p), group_advantages(drawn.rewards[p]), strict=True):
            with torch.no_grad():
                old = log_probabilities(before, prompt, ids)
            ratio = torch.exp(log_probabilities(trainer.model, prompt, ids) - old)
            outside += int(((ratio - 1).abs() > 0.2).sum())
            loss = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
            total = total + loss / (len(drawn.kept(p)) * len(drawn.prompts))
    total.backward()
    expected = torch.cat([p.grad.ravel() for p in trainer.model.parameters()])
    assert outside > 5 and (got - expected).abs().max() < 1e-6


@pytest.mark.parametrize("passes", [1, 2])
def test_a_ppo_step_has_the_gradients_of_policy_and_critic(small, tmp_path, passes):
    drawn = by_hand(build_tokenizer(), GROUPS, None)
    run, trainer = make_trainer(small, tmp_path, drawn, 5, algorithm="ppo", kl=0.0, rows_per_pass=10 // passes)
    torch.nn.init.normal_(run.critic.head.weight)
    read = []
    watched = run.critic.register_forward_hook(lambda critic, given, values: read.append(len(values)))
    got = trainer_gradient(trainer, passes)
    watched.remove()
    assert max(read) == 10 // passes  # also where it only looks: a draw at once would not fit where its passes do
    learnt = torch.cat([p.grad.ravel() for p in run.critic.parameters()])
    run.critic.zero_grad()
    values, logps, weights = [], [], []
    for p, prompt in enumerate(drawn.prompts):
        for ids in drawn.kept(p):
            row = torch.tensor([[*prompt, *ids]])
            values.append(run.critic(row, torch.ones_like(row), len(ids))[0])
            logps.append((prompt, ids))
            weights.append(1 / (len(drawn.prompts) * len(drawn.kept(p)) * len(ids)))
    advantages, square = [], torch.zeros((), dtype=torch.float64)
    for value, reward, weight in zip(values, np.concatenate(drawn.rewards), weights, strict=True):
        known, running, row = value.detach().tolist(), 0.0, []
        for t in reversed(range(len(known))):
            after = known[t + 1] if t + 1 < len(known) else reward  # the reward comes with the last token
            running = after - known[t] + 0.95 * running
            row.insert(0, running)
        square = square + 0.5 * weight * ((value - (torch.tensor(row, dtype=torch.float64) + value.detach())) ** 2).sum()
        advantages.append(row)
    flat = np.concatenate(advantages)
    share = np.concatenate([np.full(len(row), weight) for row, weight in zip(advantages, weights, strict=True)])
    assert share.sum() == pytest.approx(1)
    mean = share @ flat
    spread = np.sqrt(share @ (flat - mean) ** 2) + 1e-4
    trainer.model.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for (prompt, ids), row, weight in zip(logps, advantages, weights, strict=True):
        white = torch.tensor((np.array(row) - mean) / spread)
        total = total - weight * (log_probabilities(trainer.model, prompt, ids) * white).sum()
    (total + square).backward()
    expected = torch.cat([p.grad.ravel() for p in trainer.model.parameters()])
    # TRL keeps the weights of rows in single precision.
    assert expected.abs().max() > 0.1 and (got - expected).abs().max() < 1e-5
    critic = torch.cat([p.grad.ravel() for p in run.critic.parameters()])
    assert critic.abs().max() > 0.1 and (learnt - critic).abs().max() < 1e-5


def test_training_tokens_are_those_that_updates_read():
    drawn = by_hand(build_tokenizer(), GROUPS, 2)
    lengths = [[len(prompt) + len(ids) for ids in drawn.kept(p)] for p, prompt in enumerate(drawn.prompts)]
    assert drawn.training_tokens == sum(map(sum, lengths))
    assert replace(drawn, reads=2).training_tokens == 2 * sum(map(sum, lengths))
    # Of the first two rollouts of either prompt: the first agrees with its vote, the second; only they are imitated.
    assert replace(drawn, agreeing=True).training_tokens == lengths[0][0] + lengths[1][1]
    gold = replace(drawn, rewards=tuple(rewards(v, "gold") for v in drawn.votes))
    assert gold.figures()["reward_accuracy"] == 1.0 and drawn.figures()["reward_accuracy"] < 1.0


def test_a_tracker_is_told_the_step_of_the_run_and_not_of_the_process(small, tmp_path):
    drawn = by_hand(build_tokenizer(), GROUPS, 2)
    _, trainer = make_trainer(small, tmp_path, drawn, 2)
    trainer.first_step, seen = 5, []

    class Tracker(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **_):
            seen.append(state.global_step)

    trainer.add_callback(Tracker())
    trainer.model.float()
    trainer.ref_model.float()
    trainer.train()
    assert seen[0] == 6 and trainer.state.global_step == 1


def test_trl_repeats_prompts_and_takes_rows_with_a_mask_and_no_reward(small, tmp_path):
    drawn = by_hand(build_tokenizer(), GROUPS, None)
    _, trainer = make_trainer(small, tmp_path, drawn, 5, kl=0.0)
    asked = []
    inner = trainer.rollout_func
    trainer.rollout_func = lambda prompts, who: asked.append((list(prompts), who)) or inner(prompts, who)
    trainer.current_gradient_accumulation_steps = 1
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    assert asked == [([ASKED[0]] * 5 + [ASKED[1]] * 5, trainer)]
    assert trainer.roller.asked == [0]
    # Two slots of the first prompt are unused: no mask, no advantage.
    rows = batch["completion_mask"] * batch["tool_mask"]
    assert ((rows.sum(1) > 0).sum(), (batch["advantages"][rows.sum(1) == 0] == 0).all()) == (8, True)
    assert float(rows.sum()) == pytest.approx(10 * 12)  # the weights sum to 1, times rows x max_completion_length


def test_rows_for_trl():
    drawn = by_hand(build_tokenizer(), GROUPS, None)
    rows = trl_rows(drawn, 5, stop_token=2, max_completion_length=12)
    assert [len(v) for v in rows.values()] == [10] * 4
    assert rows["vote_reward"] == [1, 0, 1, None, None, 0, 1, 1, 1, 0]
    assert rows["completion_ids"][3] == [2] and rows["env_mask"][3] == [0.0]
    first = drawn.solved[0]
    failed = replace(first.samples[1], completion=replace(first.samples[1].completion, token_ids=()))
    solved = (replace(first, samples=(first.samples[0], failed, *first.samples[2:])), *drawn.solved[1:])
    rows = trl_rows(replace(drawn, solved=solved), 5, stop_token=2, max_completion_length=12)
    assert rows["vote_reward"][:3] == [1, None, 1] and rows["completion_ids"][1] == [2] and rows["env_mask"][1] == [0.0]


# PPO on a bandit: one token, reward 1 for one of them.


def test_ppo_finds_the_best_arm_and_its_critic_the_reward(small, tmp_path):
    tokenizer = build_tokenizer()
    arm, prompt = tokenizer.convert_tokens_to_ids("7"), tuple(tokenizer.encode("0+1=", add_special_tokens=False))
    job_rollouts = by_hand(tokenizer, [[("7", 0)] * 32], 32)

    class Bandit(Given):
        def draw(self, step):
            with torch.no_grad():
                p = torch.softmax(self.model(input_ids=torch.tensor([prompt])).logits[0, -1], -1)
            arms = torch.multinomial(p, 32, replacement=True, generator=torch.Generator().manual_seed(step)).tolist()
            old = self.drawn.solved[0]
            samples = [
                replace(s, completion=replace(s.completion, token_ids=(a,))) for s, a in zip(old.samples, arms, strict=True)
            ]
            paid = np.array([float(a == arm) for a in arms])
            self.paid.append(paid.mean())
            self.last = replace(self.drawn, solved=(replace(old, samples=tuple(samples)),), prompts=(prompt,), rewards=(paid,))
            return self.last

    options = {"algorithm": "ppo", "prompts": 1, "group": 32, "steps": 60, "updates": 2, "kl": 0.0}
    options |= {"learning_rate": 3e-3, "critic_learning_rate": 1e-2}
    run_settings = RunSettings(**options, vote={"policy": "self_consistency", "n": 32})
    job = Job(
        small, [Problem("p0", "0+1", "0")], [], run_settings, EvaluationSettings(), Sampling(max_tokens=1), None, KNOWN, 0, "b"
    )
    run = Run(job, tmp_path, Journal(tmp_path / "journal.jsonl", "x"), None, None, 0)
    run.roller = Bandit(job_rollouts, 32)
    run.roller.model, run.roller.paid = run.model, []
    trainer = run._trainer(str(tmp_path / "scratch"), TrainerCallback())
    trainer.train()
    assert len(run.roller.paid) == 60
    assert run.roller.paid[0] < 0.3
    assert np.mean(run.roller.paid[-5:]) > 0.95
    ids = torch.tensor([[*prompt, arm]])
    assert float(run.critic(ids, torch.ones_like(ids), 1)) == pytest.approx(1, abs=0.15)


def test_a_critic_begins_at_zero_and_reads_before_the_token(small):
    critic = Critic(small)
    ids = torch.randint(7, 20, (2, 9), generator=torch.Generator().manual_seed(0))
    assert (critic(ids, torch.ones_like(ids), 4) == 0).all()
    torch.nn.init.normal_(critic.head.weight)
    changed = ids.clone()
    changed[:, -1] = 7 + (ids[:, -1] - 6) % 10  # the last token's own value does not see it
    assert torch.allclose(critic(ids, torch.ones_like(ids), 4), critic(changed, torch.ones_like(ids), 4))


def test_moments_survive_as_safetensors(small, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(small)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def step():
        optimizer.zero_grad()
        model(input_ids=torch.tensor([[4, 8, 9]]), labels=torch.tensor([[4, 8, 9]])).loss.backward()
        optimizer.step()

    step()
    folder = checkpoints.step_folder(tmp_path, 1)
    checkpoints.save_checkpoint(folder, model, build_tokenizer(), optimizer, None, {"step": 1})
    assert not [p for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".pkl")]
    step()
    expected = [p.detach().clone() for p in model.parameters()]
    checkpoints.load_weights(model, folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    restore_moments(optimizer, folder / checkpoints.MOMENTS)
    step()
    assert all(torch.equal(a, b) for a, b in zip(expected, model.parameters(), strict=True))
    (tmp_path / "step-000009.tmp").mkdir()
    assert checkpoints.newest(tmp_path) == {"step": 1}
    assert not list(tmp_path.glob("*.tmp"))


# Whole runs on a model that was trained a little.


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    shape = {"layers": 2, "hidden": 64, "heads": 2, "intermediate": 128, "steps": 250, "previous_share": 0.0}
    corpus = {"levels": {2: 1.0}, "operations": {"+": 1.0}, "slip_rate": 0.2}
    language_model.train(folder / "lm", 0, language_model.LanguageModelSettings(**shape, **corpus), set())
    drawn = arithmetic.draw_expressions(np.random.default_rng(0), {2: 1.0}, {"+": 1.0}, set())
    expressions = [next(drawn) for _ in range(8)]
    problems = [Problem(f"p{i}", e.question, str(arithmetic.answer(e))) for i, e in enumerate(expressions)]
    return folder, problems


VOTE = {"policy": "vote_posterior", "eps": 0.1, "p0": 0.5, "options": 4, "n_min": 4, "n_max": 8, "chunk": 2}


def job_of(toy, settings, problems=None):
    folder, known = toy
    problems = problems or known
    return Job(
        model=folder / "lm",
        trained=problems[:6],
        untouched=problems[6:],
        settings=RunSettings(
            **{"prompts": 3, "group": 4, "steps": 4, "vote": VOTE, "learning_rate": 1e-3, "checkpoint_every": 1, **settings}
        ),
        evaluation=EvaluationSettings(samples=4, every=2),
        sampling=Sampling(max_tokens=24),
        engine=EngineSettings(str(folder / "lm"), "transformers", 64),
        known=Calibration(votes=VoteModel(0.5, 4)),
        seed=3,
        name="run",
    )


def results(folder):
    """What two runs must share: figures but for the clock, evaluations, weights."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in rows]
    return steps, (folder / "evaluation.csv").read_text(), (folder / "last" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def ppo_run(toy, tmp_path_factory):
    out = tmp_path_factory.mktemp("ppo")
    train(job_of(toy, {"algorithm": "ppo", "updates": 2, "retain": "all"}), out)
    return out


@pytest.mark.parametrize("algorithm", ["grpo", "rloo", "sft"])
def test_every_algorithm_runs_the_loop(toy, tmp_path, algorithm):
    train(job_of(toy, {"algorithm": algorithm}), tmp_path)
    _check_run(tmp_path, updates=1)


@pytest.mark.parametrize("device", ["any", pytest.param("cuda", marks=CUDA)])
def test_the_loop_runs_on_vllm_with_new_weights_every_step(toy, tmp_path, device):
    pytest.importorskip("vllm")
    job = job_of(toy, {"algorithm": "grpo"})
    train(replace(job, engine=EngineSettings(job.engine.model, "vllm", 32)), tmp_path)
    _check_run(tmp_path, updates=1)
    assert results(tmp_path)[2] != (toy[0] / "lm" / "model.safetensors").read_bytes()


def test_a_ppo_run_leaves_what_it_should(ppo_run):
    _check_run(ppo_run, updates=2)


def _check_run(out, updates):
    steps, _, weights = results(out)
    assert [row["step"] for row in steps] == [1, 2, 3, 4]
    for row in steps:
        assert all(4 <= v <= 8 for v in row["votes"]) and len(row["votes"]) == 3
        assert row["rollouts"] == sum(row["votes"]) and row["completion_tokens"] >= row["rollouts"]
        assert 0 <= row["label_accuracy"] <= 1 and row["entropy"] > 0
    evaluations = pd.read_csv(out / "evaluation.csv")
    assert set(evaluations[evaluations["benchmark"] == "trained"]["step"]) == {0, 2, 4}
    record = json.loads((out / "run.json").read_text())
    assert set(evaluations[evaluations["benchmark"] == "untouched"]["step"]) == {0, 4, record["best"]}
    assert record["rollouts"] == sum(row["rollouts"] for row in steps)
    assert not (out / "partial").exists()
    assert not [p for p in out.rglob("*") if p.suffix in (".bin", ".pt", ".pth", ".pkl")]
    assert weights != (out / "best" / "model.safetensors").read_bytes() or record["best"] == 4


def test_gold_answers_change_no_weight(toy, ppo_run, tmp_path):
    problems = [replace(p, answer=str(i)) for i, p in enumerate(toy[1])]
    train(job_of(toy, {"algorithm": "ppo", "updates": 2, "retain": "all"}, problems), tmp_path)
    assert results(tmp_path)[2] == results(ppo_run)[2]


def test_no_training_is_an_evaluation(toy, tmp_path):
    _, problems = toy
    settings = RunSettings(steps=0)
    train(replace(job_of(toy, {}), settings=settings), tmp_path)
    evaluations = pd.read_csv(tmp_path / "evaluation.csv")
    assert evaluations["step"].eq(0).all() and len(evaluations) == len(problems)
    assert (tmp_path / "metrics.jsonl").read_text() == ""


@pytest.mark.parametrize(
    "settings",
    [{"algorithm": "ppo", "updates": 2, "retain": "all"}, {"algorithm": "grpo", "steps": 5, "checkpoint_every": 3}],
    ids=["ppo", "grpo, steps between checkpoints"],
)
def test_a_killed_run_ends_with_the_same_curve(toy, settings, tmp_path):
    one, two = killed_and_resumed(job_of(toy, settings), tmp_path)
    assert one[0] == two[0]
    assert one[1:] == two[1:]


def run_in_child(job, out, threads):
    torch.set_num_threads(threads)
    train(job, out)


def killed_and_resumed(job, folder, run=run_in_child, steps=(1, 3)):
    """Results of a run, and of the same run (`run` in a process of its own) killed after each of some steps."""
    whole, out = folder / "whole", folder / "killed"
    train(job, whole)
    journal, rng = out / "partial" / "journal.jsonl", random.Random(0)

    def start():
        process = FORKS.Process(target=run, args=(job, out, torch.get_num_threads()))
        process.start()
        return process

    for step in steps:
        process = start()
        while process.is_alive() and not (
            journal.exists() and f'"kind": "step", "step": {step}'.encode() in journal.read_bytes()
        ):
            time.sleep(0.005)
        time.sleep(rng.random() * 0.1)
        assert process.is_alive()
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL and not (out / "run.json").exists()
    process = start()
    process.join(timeout=300)
    assert process.exitcode == 0
    return results(whole), results(out)


def train_as(rank, count, port, job, out, threads):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    run_in_child(job, out, threads)


@pytest.mark.parametrize(
    "settings", [{"lora": Lora(rank=4), "rows_per_pass": 4}, {"algorithm": "rloo", "retain": "all"}], ids=str
)
def test_two_processes_have_the_curve_of_one(toy, tmp_path, settings):
    """Over gloo, as `accelerate launch` starts them; each question is drawn once, by the process whose share it is."""
    job = job_of(toy, {"prompts": 4, "steps": 2, **settings})
    train(job, tmp_path / "one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = (2, port, job, tmp_path / "two", torch.get_num_threads())
    started = [FORKS.Process(target=train_as, args=(rank, *arguments)) for rank in (0, 1)]
    for process in started:
        process.start()
    for process in started:
        process.join(timeout=300)
        assert process.exitcode == 0
    (one, evaluation, _), (two, again, _) = (results(tmp_path / name) for name in ("one", "two"))
    assert evaluation == again
    means_of_processes = {"entropy", "kl", "clip_ratio/region_mean"}  # TRL's own figures, of passes of different lengths
    for ours, theirs in zip(one, two, strict=True):
        assert ours["votes"] == theirs["votes"] and ours["completion_tokens"] == theirs["completion_tokens"]
        for name in {k for k, v in ours.items() if isinstance(v, float)} - means_of_processes:
            assert theirs[name] == pytest.approx(ours[name], rel=1e-3, abs=1e-6), name
    first, second = (AutoModelForCausalLM.from_pretrained(tmp_path / name / "last").state_dict() for name in ("one", "two"))
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)


@pytest.mark.parametrize(
    ("settings", "engine", "said"),
    [
        ({"algorithm": "ppo"}, "transformers", "trains in one process, not in 2: choose grpo or rloo"),
        ({"prompts": 3}, "transformers", "choose a multiple"),
        ({"prompts": 4}, "vllm", "take transformers for 2"),
    ],
)
def test_what_several_processes_do_not_do_is_said(toy, settings, engine, said):
    job = job_of(toy, settings)
    with pytest.raises(UserError, match=said):
        _refuse_several(replace(job, engine=replace(job.engine, name=engine)), Processes(0, 2))


def test_several_gpus_for_one_process_are_refused_with_both_ways_on(toy, tmp_path, monkeypatch):
    job = job_of(toy, {})
    _refuse_several(job, ALONE)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(UserError, match=r"4 GPUs are visible.*CUDA_VISIBLE_DEVICES=0.*--num_processes 4"):
        train(job, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_fewer_rows_a_pass_are_the_same_run(toy):
    """What the message advises where several processes ran out of memory."""
    one, two, other = (job_of(toy, settings) for settings in ({"rows_per_pass": 4}, {"rows_per_pass": 2}, {"group": 3}))
    assert _identity(one) == _identity(two) != _identity(other)


def test_a_second_run_waits_and_touches_nothing(toy, tmp_path):
    job = job_of(toy, {"algorithm": "grpo"})
    half = tmp_path / "partial" / "step-000002.tmp"
    with scratch_folder(tmp_path / "partial", _identity(job)):
        half.mkdir()  # a checkpoint that the first run is writing
        with pytest.raises(UserError, match="is being written by another process"):
            train(job, tmp_path)
        assert half.exists()


def test_the_command_trains(toy, tmp_path):
    folder, problems = toy
    pool = random_pool(3)
    table = table_of(pool).assign(seed=0, answer="", verdict="wrong", cluster=pool.cluster.ravel())
    write_table(folder / "grades.parquet", table, GRADES)
    write_problems(folder / "trained.parquet", problems[:6])
    write_problems(folder / "untouched.parquet", problems[6:])
    settings = {"prompts": 2, "group": 2, "steps": 1, "vote": {"policy": "vote_posterior", "eps": 0.1, "n_min": 2, "n_max": 4}}
    files = {"model": "lm", "problems": "trained.parquet", "untouched": "untouched.parquet", "calibration": "grades.parquet"}
    options = {"name": "run", "seed": "3", "out": str(tmp_path), **{k: str(folder / v) for k, v in files.items()}}
    options |= {"settings": json.dumps(settings), "evaluation": '{"samples": 2}', "sampling": '{"max_tokens": 16}'}
    options |= {"engine": '{"name": "transformers", "batch_size": 64}'}
    done = CliRunner().invoke(app, ["train-on-votes", *(word for k, v in options.items() for word in (f"--{k}", v))])
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["steps"] == 1 and f"options={estimate_model(pool.cluster).options}" in record["policy"]
    assert (
        CliRunner()
        .invoke(app, ["step", "training-tables", "--out", str(tmp_path / "tables"), "--baseline", "run", str(tmp_path)])
        .exit_code
        == 0
    )
    assert "| run" in (tmp_path / "tables" / "summary.md").read_text()


# Evaluation and tables.


def test_evaluation_is_what_the_pool_says():
    pool = random_pool(4, rows=10, size=8)
    problems = [Problem(pool.problem_ids[i], pool.problem_ids[i], "0") for i in pool.problem]
    table = table_of(pool)
    with Comparer() as comparer:
        found = evaluate(problems, ReplayingEngine(table, 16), comparer, EvaluationSettings(samples=8), 50, 0)
    right = pool.cluster == 0
    assert found["mean"] == pytest.approx(right.mean(axis=1).tolist())
    assert found["pass"] == right.any(axis=1).tolist()
    counts = [np.bincount(row[row >= 0], minlength=2) for row in pool.cluster]
    clear = [i for i, c in enumerate(counts) if (c == c.max()).sum() == 1]
    assert [found["majority"][i] for i in clear] == [float(counts[i].argmax() == 0) for i in clear]
    assert found["tokens"] == (pool.prompt_tokens - pool.cached_prompt_tokens + pool.completion_tokens).sum()
    assert averages(found)["pass"] == pytest.approx(right.any(axis=1).mean())


def test_the_learning_rate_with_the_best_end_is_chosen(tmp_path):
    for rate, end in ((1e-5, 0.5), (1e-4, 0.7), (1e-3, 0.1)):
        for seed in (1, 2):
            folder = tmp_path / f"{rate}-{seed}"
            folder.mkdir()
            record = {"name": f"rate_{rate}", "seed": seed, "steps": 2, "best": 2, "answering_tokens": 0}
            record |= {"evaluation": {"samples": 8, "temperature": 1.0}}
            settings = {"algorithm": "grpo", "learning_rate": rate, "vote": {"policy": "self_consistency", "n": 4}}
            settings |= {"group": 4, "retain": "first"}
            (folder / "run.json").write_text(json.dumps({**record, "settings": settings}))
            (folder / "metrics.jsonl").write_text("")
            rows = [
                f"{step},{b},p{i},{m},0,0" for b in ("trained", "untouched") for i in (0, 1) for step, m in ((0, 0.4), (2, end))
            ]
            (folder / "evaluation.csv").write_text("\n".join(["step,benchmark,problem_id,mean,majority,pass", *rows]))
    table = report.learning_rates(sorted(tmp_path.iterdir()), 1e-4).set_index("learning_rate")
    assert table["step 0"].tolist() == pytest.approx([0.4] * 3)
    assert table.index[table["chosen"]].tolist() == [1e-4] == table.index[table["used"]].tolist()


def test_tables_compare_runs_as_pairs():
    problems = [f"p{i}" for i in range(40)]
    rng = np.random.default_rng(0)

    def rows(run, seed, step, benchmark, mean):
        values = {"problem_id": problems, "mean": mean, "majority": mean > 0.5, "pass": mean > 0}
        return pd.DataFrame({"run": run, "seed": seed, "step": step, "benchmark": benchmark, **values})

    base = rng.random(40)
    frames = []
    for run, gain in (("ttrl", 0.1), ("optpo", 0.15)):
        for seed in (1, 2):
            for benchmark in ("trained", "untouched"):
                frames += [rows(run, seed, 0, benchmark, base), rows(run, seed, 4, benchmark, base + gain)]
    steps = pd.DataFrame(
        [
            {
                "run": run,
                "seed": seed,
                "step": s,
                "votes": [n, n],
                "rollouts": 2 * n,
                "prompt_tokens": 10 * n,
                "cached_prompt_tokens": 0,
            }
            | {
                "completion_tokens": 90 * n,
                "unused_tokens": 0,
                "training_tokens": 50,
                "label_accuracy": 0.5,
                "reward_accuracy": 0.5,
            }
            | {"vote_entropy": 1.0, "stopped": float(run == "optpo"), "rewarded": 1 + (run == "ttrl"), "rewarded_right": 1}
            for run, n in (("ttrl", 32), ("optpo", 16))
            for seed in (1, 2)
            for s in range(1, 5)
        ]
    )
    frames += [rows("untrained", seed, 0, benchmark, base) for seed in (1, 2) for benchmark in ("trained", "untouched")]
    lengths = {"ttrl": 4, "optpo": 4, "untrained": 0}  # what is not trained has no steps
    asked = {"algorithm": "grpo", "votes": 32, "trained": 16, "samples": 16, "temperature": 1.0, "answering_tokens": 6400}
    runs = pd.DataFrame([{"run": r, "seed": s, "steps": n, "best": n, **asked} for r, n in lengths.items() for s in (1, 2)])
    evaluations = pd.concat(frames, ignore_index=True)
    table = report.summary(steps, evaluations, runs, "ttrl").set_index("run")
    assert table.loc["optpo", "token_share"] == pytest.approx(0.5)
    assert table.loc["ttrl", ["rewarded_share", "rewarded_label_accuracy"]].tolist() == [1, 0.5]
    assert table.loc["optpo", ["rewarded_share", "rewarded_label_accuracy"]].tolist() == [0.5, 1]
    mean, low, high = table.loc["optpo", ["against_baseline", "against_baseline_low", "against_baseline_high"]]
    assert mean == pytest.approx(0.05) and 0.02 < low < mean < high < 0.08
    for harm in ("pass_against_baseline", "untouched_against_baseline"):  # every mean is positive, with either
        wanted = 0.05 if harm.startswith("untouched") else 0
        assert table.loc["optpo", harm] == pytest.approx(wanted)
    for gain in ("trained_last_gain", "untouched_best_gain"):  # without a step, last and best are the untrained model itself
        assert table.loc["untrained", [gain, f"{gain}_low", f"{gain}_high"]].tolist() == [0, 0, 0]
    assert table.loc["ttrl", "trained_last_gain"] == pytest.approx(0.1)
    more = np.mean(base + 0.15 > 0.5) - np.mean(base > 0.5)  # of votes that are right
    for benchmark in ("trained", "untouched"):
        assert table.loc["optpo", f"{benchmark}_last_majority_change"] == pytest.approx(more) != 0
    assert table.loc["optpo", "tokens"] == 4 * 16 * 100
    curves = report.curves(steps, evaluations)
    assert table.loc["untrained", ["against_baseline", "token_share"]].tolist() == pytest.approx([-0.1, 0])
    assert curves["run"].tolist() == ["ttrl", "ttrl", "optpo", "optpo", "untrained"]
    assert curves[curves["step"] == 4]["rollout_tokens"].tolist() == [12800, 6400]
    assert curves["gain"].tolist() == pytest.approx([0, 0.1, 0, 0.15, 0])
    text = report.markdown(table.reset_index())
    assert "| optpo" in text and "nan" not in text and "100 %, 100 %" in text
    compared = report.comparison(steps, evaluations, runs, "ttrl")
    assert compared[["run", "step"]].agg(" ".join, axis=1).tolist() == [
        "ttrl last", "ttrl best", "optpo last", "optpo best", "untrained no training",
    ]  # fmt: skip
    assert compared["token_share"].tolist() == [1, 1, 0.5, 0.5, 0.5]
    assert compared["gain"].tolist()[:4] == pytest.approx([0.1, 0.1, 0.15, 0.15]) and np.isnan(compared["gain"].iloc[4])
    majority = (base + 0.15 > 0.5).mean(), (base > 0.5).mean()
    assert compared[["majority", "majority_gain"]].iloc[2].tolist() == pytest.approx([majority[0], majority[0] - majority[1]])
    page = report.comparison_markdown(compared)
    assert (
        "no training, temperature 1, k = 16" in page and "32 votes, 16 trained; best step, k = 16" in page and "nan" not in page
    )


# Rewards that know what the vote does not.


@pytest.fixture(scope="module")
def types():
    """Questions that are easy (9 of 10 votes for one answer) or guessed (3 answers alike), as calibration votes."""
    return answer_types(np.array([[0] * 9 + [1]] * 5 + [[0, 1, 2] * 3 + [0]] * 5))


def test_a_posterior_splits_what_the_consensus_leaves_by_votes(types):
    vote = Vote(np.array([0, 0, 0, 0, 1, 1, 2, -1]), np.zeros(8, bool), 8)
    sure, paid = sureness(vote, types), rewards(vote, "posterior", types)
    assert sure == pytest.approx(float(mode_posterior(types, 4, 2, 1))) and 0 < sure < 1
    assert paid.tolist() == pytest.approx([sure] * 4 + [(1 - sure) * 2 / 3] * 2 + [(1 - sure) / 3, 0])
    assert sureness(Vote(np.array([-1, -1]), np.zeros(2, bool), 2), types) == 0


def test_entropy_pays_the_share_of_an_answer():
    assert rewards(SPLIT, "entropy").tolist() == pytest.approx([2 / 6, 3 / 6, 0, 3 / 6])


def test_snr_pays_what_a_rollout_adds():
    vote = Vote(np.array([0, 0, 0, 1]), np.zeros(4, bool), 4)
    whole = (3 - 1) ** 2 / (4 * 4) + (2 * 3 + 1 - 4) ** 2 / (4 * 3)
    leader = (2 - 1) ** 2 / (3 * 3) + (2 * 2 + 1 - 3) ** 2 / (3 * 2)
    rival = 3**2 / (3 * 3) + (2 * 3 - 3) ** 2 / (3 * 3)
    assert rewards(vote, "snr").tolist() == pytest.approx([4 * (whole - leader)] * 3 + [4 * (whole - rival)])


def test_what_a_vote_does_not_know_has_no_weight(types):
    clear = Vote(np.array([0] * 12), np.ones(12, bool), 12)
    close = Vote(np.array([0, 1] * 6), np.ones(12, bool), 12)
    assert question_weight(clear, "certified", types, 0.05) == 1
    assert question_weight(replace(clear, undecided=True), "certified", types, 0.05) == 0  # the rule was never sure
    assert question_weight(close, "certified", types, 0.05) == 0
    assert question_weight(close, "weighted", types, 0.05) == sureness(close, types) < 0.6
    assert question_weight(close, "votes", types, 0.05) == 1
    weights = row_weights([2, 4], [1.0, 0.0])
    assert [w.tolist() for w in weights] == [[0.25, 0.25], [0.0] * 4]
    figures = step_figures([clear, replace(close, correct=~close.correct)], [np.ones(12), np.ones(12)], 6, [1.0, 0.0])
    assert (figures["rewarded"], figures["rewarded_right"], figures["label_accuracy"]) == (1, 1, 0.5)


@pytest.mark.parametrize("algorithm", ["grpo", "rloo", "ppo", "sft"])
def test_questions_without_a_certified_label_teach_nothing(toy, tmp_path, algorithm):
    job = job_of(toy, {"algorithm": algorithm, "reward": "certified", "reward_eps": 1e-9, "steps": 2})
    guessed = answer_types(np.array([[0, 1, 2, 3] * 4] * 4))
    train(replace(job, known=replace(job.known, types=guessed)), tmp_path)
    assert {row["rewarded"] for row in results(tmp_path)[0]} == {0}
    before = AutoModelForCausalLM.from_pretrained(toy[0] / "lm").state_dict()
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "last").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("reward", ["certified", "weighted", "posterior", "entropy", "snr", "gold"])
def test_every_reward_trains(toy, tmp_path, types, reward):
    job = job_of(toy, {"reward": reward, "reward_eps": 0.4, "steps": 2})
    train(replace(job, known=replace(job.known, types=types)), tmp_path)
    assert [row["step"] for row in results(tmp_path)[0]] == [1, 2]
    if reward == "certified":
        with pytest.raises(UserError, match="how sure a vote is"):
            train(job, tmp_path / "without")
