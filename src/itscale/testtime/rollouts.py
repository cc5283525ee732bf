"""Votes as rollouts: drawn by the live driver from our engines, and handed to TRL. All contact with its `rollout_func` is here.

TRL (1.16) marks `rollout_func` experimental; what is relied on, and tested against the real trainer:
- `rollout_func(prompts, trainer)` gets every prompt `num_generations` times in a row, and returns a row for each:
  `prompt_ids`, `completion_ids`, `logprobs` (None is allowed without vLLM) and further lists, which reach the reward functions.
- `env_mask` multiplies the mask of the loss. With `loss_type="dr_grpo"` the loss is the masked sum over tokens divided by
  rows x max_completion_length, so a mask of real numbers gives each row any weight: here 1 / (P t_p length), the mean over P
  prompts of the mean over a prompt's t_p rollouts of the token mean (docs/optpo.md), KL term included.
- A row whose reward is None is left out of its group's mean and standard deviation: an unused slot is one stop token with
  mask 0 and no reward.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from itscale.data.ledger import Ledger
from itscale.data.records import Problem
from itscale.drivers.driver import Solved, right_samples
from itscale.drivers.generate import request_seed
from itscale.drivers.live import solve
from itscale.engines.protocol import Finish, ReloadingEngine, Sampling
from itscale.errors import UserError
from itscale.grading.comparison import Comparer
from itscale.policies.protocol import Policy, Reason
from itscale.testtime.processes import ALONE, Processes
from itscale.testtime.rewards import Vote, question_weight, rewards, row_weights, step_figures
from itscale.theory.answertypes import AnswerTypes


@dataclass(frozen=True, slots=True)
class Rollouts:
    """A step's votes, by prompt: what was drawn, what is trained on with which reward and weight, and what it cost."""

    solved: tuple[Solved, ...]
    prompts: tuple[tuple[int, ...], ...]
    votes: tuple[Vote, ...]
    rewards: tuple[np.ndarray, ...]  # by prompt, [kept]
    weights: tuple[np.ndarray, ...]  # by prompt, [kept]; all of them sum to 1 where every question counts fully
    ledger: Ledger
    seconds: float
    group: int = 16  # rollouts of a prompt that the entropy is taken over
    reads: int = 1  # optimiser steps that read the draw
    agreeing: bool = False  # whether they read rewarded rollouts alone
    reward: str = "votes"  # what was paid

    @classmethod
    def merged(cls, parts: Sequence["Rollouts"]) -> "Rollouts":
        """The step of all processes, from each one's part; a question of theirs weighs as one of all."""
        names = ("solved", "prompts", "votes", "rewards")
        joined = {name: tuple(row for part in parts for row in getattr(part, name)) for name in names}
        weights = tuple(weight / len(parts) for part in parts for weight in part.weights)
        ledger = sum((part.ledger for part in parts), Ledger())
        return replace(parts[0], **joined, weights=weights, ledger=ledger, seconds=max(part.seconds for part in parts))

    def kept(self, prompt: int) -> list[list[int]]:
        """Token ids of a prompt's training group."""
        samples = self.solved[prompt].samples[: self.votes[prompt].kept]
        return [list(sample.completion.token_ids) for sample in samples]

    @property
    def training_tokens(self) -> int:
        """Prompt and completion tokens that the policy is trained on, once for each optimiser step that reads them."""
        once = sum(
            len(ids) + len(prompt)
            for p, prompt in enumerate(self.prompts)
            for ids, reward in zip(self.kept(p), self.rewards[p], strict=True)
            if reward > 0 or not self.agreeing
        )
        return self.reads * once

    def figures(self) -> dict[str, Any]:
        """What is logged of the step, JSON-ready."""
        stopped = [not vote.undecided for vote in self.votes]
        return {
            **step_figures(self.votes, self.rewards, self.group, [float(w.sum()) for w in self.weights], self.reward),
            "stopped": float(np.mean(stopped)),
            "cut_off": float(np.mean([s.completion.finish is Finish.LENGTH for row in self.solved for s in row.samples])),
            "prompt_tokens": int(self.ledger.prompt),
            "cached_prompt_tokens": int(self.ledger.cached_prompt),
            "completion_tokens": int(self.ledger.completion),
            "unused_tokens": int(self.ledger.prefetched + self.ledger.aborted),
            "training_tokens": self.training_tokens,
            "seconds_sampling": self.seconds,
        }


def assess_votes(solved: Sequence[Solved], comparer: Comparer, kept: int | None) -> list[Vote]:
    """Votes of live rows; each sample is compared with the gold answers (for analysis, or gold rewards)."""
    votes = []
    for row, right in zip(solved, right_samples(solved, comparer), strict=True):
        cluster = np.array([sample.assessment.cluster for sample in row.samples], int)
        undecided = row.reason in (Reason.LIMIT, Reason.FIXED)
        votes.append(Vote(cluster, np.array(right, bool), min(kept or len(cluster), len(cluster)), undecided))
    return votes


class Roller:
    """Draws the votes of one step after another from an engine whose weights follow the trained model."""

    def __init__(
        self,
        engine: ReloadingEngine,
        policy: Policy,
        comparer: Comparer,
        schedule: Sequence[Sequence[Problem]],
        *,
        sampling: Sampling,
        seed: int,
        group: int,
        retain: str = "first",
        reward: str = "votes",
        types: AnswerTypes | None = None,
        eps: float = 0.05,
        reads: int = 1,
        agreeing: bool = False,
        prefetch: int = 0,
        hand_over: Callable[[], None],
        processes: Processes = ALONE,
    ) -> None:
        """`schedule`: the problems of every step, of which each of several processes draws its share.

        The first `group` rollouts train, or all (`retain`). `types` and `eps` are what rewards read of the calibration. `reads`
        and `agreeing` say how the trainer reads the rollouts, for the tokens' count. `hand_over` gives the engine the model's
        present weights.
        """
        self.engine, self.policy, self.comparer, self.schedule = engine, policy, comparer, schedule
        self.sampling, self.seed, self.reward, self.prefetch = sampling, seed, reward, prefetch
        self._kept, self._group, self._hand_over = (group if retain == "first" else None), group, hand_over
        self._reads, self._agreeing, self._types, self._eps = reads, agreeing, types, eps
        self._processes, self._loaded = processes, None
        self.last: Rollouts | None = None
        self.seconds_reload = 0.0

    @property
    def slots(self) -> int:
        """Rows of a prompt in a training batch."""
        return self._kept or self.policy.limit

    def refresh(self, updates: int) -> None:
        """Give the engine the model's weights after so many updates."""
        if self._loaded == updates:
            return
        began = time.perf_counter()
        self._hand_over()
        self._loaded = updates
        self.seconds_reload += time.perf_counter() - began

    def draw(self, step: int) -> Rollouts:
        """The votes of a step (from 0); the engine has the weights already. `last` has those of all processes."""
        problems = self._processes.share(self.schedule[step])
        began = time.perf_counter()
        run = solve(
            list(problems),
            self.engine,
            self.policy,
            sampling=self.sampling,
            seed=request_seed(self.seed, ("votes", 0, step, 0)),
            prefetch=self.prefetch,
            comparer=self.comparer,
            keep_ids=True,
            allow_unanswered=True,
            background=False,
            shown=False,
        )
        seconds = time.perf_counter() - began
        votes = assess_votes(run.rows, self.comparer, self._kept)
        counted = [question_weight(vote, self.reward, self._types, self._eps) for vote in votes]
        drawn = Rollouts(
            solved=run.rows,
            prompts=tuple(tuple(self.engine.encode(p.question, None)) for p in problems),
            votes=tuple(votes),
            rewards=tuple(rewards(vote, self.reward, self._types) for vote in votes),
            weights=tuple(row_weights([vote.kept for vote in votes], counted)),
            ledger=run.ledger,
            seconds=seconds,
            group=self._group,
            reads=self._reads,
            agreeing=self._agreeing,
            reward=self.reward,
        )
        self.last = Rollouts.merged(self._processes.gather(drawn))
        return drawn


def trl_rows(drawn: Rollouts, slots: int, stop_token: int, max_completion_length: int) -> dict[str, list]:
    """A step as the rows that TRL's `rollout_func` returns, `slots` a prompt."""
    rows: dict[str, list] = {"prompt_ids": [], "completion_ids": [], "env_mask": [], "vote_reward": []}
    total = slots * len(drawn.prompts) * max_completion_length
    for p, prompt in enumerate(drawn.prompts):
        kept = drawn.kept(p)
        unused = slots - len(kept)
        rows["prompt_ids"] += [list(prompt)] * slots
        # A request that failed has no tokens: it is a slot that is not used.
        rows["completion_ids"] += [ids or [stop_token] for ids in kept] + [[stop_token]] * unused
        weights = zip(kept, drawn.weights[p].tolist(), strict=True)
        masks = [[weight * total / len(ids)] * len(ids) if ids else [0.0] for ids, weight in weights]
        rows["env_mask"] += masks + [[0.0]] * unused
        rewarded = zip(kept, drawn.rewards[p].tolist(), strict=True)
        rows["vote_reward"] += [reward if ids else None for ids, reward in rewarded] + [None] * unused
    return rows


def rollout_func(roller: Roller, first_step: int, updates: int) -> Callable[[list[Any], Any], dict[str, Any]]:
    """TRL's `rollout_func` for a trainer that starts at `first_step` and makes `updates` optimiser steps with each draw."""

    def draw(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        done = trainer.state.global_step
        roller.refresh(first_step * updates + done)
        drawn = roller.draw(first_step + done // updates)
        asked = [prompts[i] for i in range(0, len(prompts), roller.slots)]
        expected = [row.problem.question for row in drawn.solved]
        if asked != expected:
            raise RuntimeError(f"TRL asked for {asked[:3]}..., the schedule has {expected[:3]}...")
        rows = trl_rows(drawn, roller.slots, trainer.processing_class.eos_token_id, trainer.max_completion_length)
        return {**rows, "logprobs": None}

    return draw


def vote_reward(completions: list[Any], vote_reward: list[float | None], **_: Any) -> list[float | None]:
    """The reward function that TRL is given: what the vote said, None for an unused slot."""
    return vote_reward


def make_schedule(problems: Sequence[Problem], steps: int, per_step: int, seed: int) -> list[list[Problem]]:
    """The problems of each step: seeded permutations one after another, the rest of each left out, so none twice in a step.

    Raises:
        UserError: a step wants more problems than there are.
    """
    if per_step > len(problems):
        raise UserError(f"testtime.prompts is {per_step}, the benchmark has {len(problems)} problems: choose at most as many.")
    order: list[Problem] = []
    rng = np.random.default_rng(seed)
    whole = len(problems) // per_step * per_step
    while len(order) < steps * per_step:
        order += [problems[i] for i in rng.permutation(len(problems))[:whole]]
    return [order[s * per_step : (s + 1) * per_step] for s in range(steps)]
