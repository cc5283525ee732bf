"""GRPO, RLOO and SFT on votes: TRL's trainers, fed by a `Roller`. PPO is in `ppo`.

Each makes a step out of the rows of one draw, weighted so that a prompt counts once however long its vote was.
"""

from typing import Any

import torch
from trl import GRPOTrainer, RLOOTrainer, SFTTrainer

from itscale.testtime.rollouts import Roller, trl_rows


class Figures:
    """Adds the figures of the votes to what a trainer logs of a step, for the metrics file and for any tracker."""

    roller: Roller
    first_step: int = 0
    updates: int = 1

    def log(self, logs: dict[str, Any], *arguments: Any, **options: Any) -> None:
        if "loss" in logs and self.roller.last is not None:
            figures = self.roller.last.figures()
            logs.update({name: value for name, value in figures.items() if not isinstance(value, list)})
        # A run that goes on is a new trainer, which counts from 0: trackers are told the run's own update.
        begun = self.first_step * self.updates
        self.state.global_step += begun
        super().log(logs, *arguments, **options)
        self.state.global_step -= begun


class VoteGRPO(Figures, GRPOTrainer):
    """GRPO through TRL's `rollout_func`; the weights travel in its mask."""


class VoteRLOO(Figures, RLOOTrainer):
    """RLOO: TRL's sequence-level objective; it knows no `rollout_func`, so rows enter where it would generate.

    Rows are weighted through their advantage; the KL term is in TRL's reward, so it is weighted alike.
    """

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        done = self.state.global_step
        self.roller.refresh(self.first_step * self.updates + done)
        drawn = self.roller.draw(self.first_step + done // self.updates)
        slots = self.roller.slots
        self._rows = trl_rows(drawn, slots, self._tokenizer.eos_token_id, 1)
        inputs = [{**row, "vote_reward": reward} for row, reward in zip(inputs, self._rows["vote_reward"], strict=True)]
        output = super()._generate_and_score_completions(inputs)
        # mask 1/length times weight times rows; the mean over rows then is the weighted sum
        weight = torch.tensor([sum(mask) for mask in self._rows["env_mask"]], device=output["advantages"].device)
        output["advantages"] = output["advantages"] * weight
        used = (weight > 0).long()
        output["completion_mask"] = output["completion_mask"] * used[:, None]
        output["old_logps"] = output["old_logps"] * used
        return output

    def _generate(self, prompts: list[Any]) -> tuple[list[list[int]], list[list[int]], list[str]]:
        completions = self._tokenizer.batch_decode(self._rows["completion_ids"], skip_special_tokens=True)
        return self._rows["prompt_ids"], self._rows["completion_ids"], completions


class VoteSFT(Figures, SFTTrainer):
    """Negative log likelihood of the rollouts that agree with the consensus, weighted by prompt as the others are.

    A prompt's mean is over its agreeing rollouts; a prompt without any teaches nothing. How many agree is known only once they
    are drawn, so a step is split into passes of `rows_per_pass` here, and not by the loop.
    """

    rows_per_pass: int | None = None
    _batch: dict[str, torch.Tensor] | None = None

    def _prepare_inputs(self, inputs: Any) -> dict[str, torch.Tensor]:
        done = self.state.global_step
        if self._batch is None or done % self.updates == 0:
            self.roller.refresh(self.first_step * self.updates + done)
            drawn = self.roller.draw(self.first_step + done // self.updates)
            self._batch = agreeing_batch(drawn, self.processing_class.pad_token_id)
        return super()._prepare_inputs(dict(self._batch))

    def training_step(self, model: Any, inputs: Any, *arguments: Any, **options: Any) -> torch.Tensor:
        model.train()
        inputs = self._prepare_inputs(inputs)
        total, entropy, known = torch.zeros((), device=inputs["weight"].device), 0.0, 0
        per_pass = self.rows_per_pass or len(inputs["weight"])
        for start in range(0, len(inputs["weight"]), per_pass):
            loss, spread, tokens = likelihood_loss(model, {k: v[start : start + per_pass] for k, v in inputs.items()})
            self.accelerator.backward(loss)
            total, entropy, known = total + loss.detach(), entropy + spread, known + tokens
        self._metrics["train"]["entropy"].append(entropy / max(known, 1))
        return total


def likelihood_loss(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, float, int]:
    """Weighted sum over rows of the token mean of -log p; the entropy of the predictions, summed over as many tokens."""
    labels, weight = batch["labels"], batch["weight"]
    # TRL's output layer makes no logits of all tokens at once; what is not known has a log-probability of 0.
    found = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels, fused_lm_head=True)
    known = labels[:, 1:] != -100
    loss = (-found.log_probs.sum(1) / known.sum(1).clamp(min=1) * weight).sum()
    return loss, float((found.entropy.detach() * known).sum()), int(known.sum())


def agreeing_batch(drawn: Any, pad: int) -> dict[str, torch.Tensor]:
    """Prompt and completion of every kept rollout with a reward, padded right.

    `weight` shares a prompt's weight among them by their rewards: 1 / (P x how many agree) for a plain vote.
    """
    rows, weights = [], []
    for p, prompt in enumerate(drawn.prompts):
        paid = drawn.rewards[p].clip(min=0)
        rows += [(list(prompt), ids) for ids, reward in zip(drawn.kept(p), paid, strict=True) if reward > 0]
        weights += (drawn.weights[p].sum() * paid[paid > 0] / max(paid.sum(), 1e-12)).tolist()
    if not rows:  # nothing was agreed on: a batch that teaches nothing
        rows, weights = [(list(drawn.prompts[0]), drawn.kept(0)[0])], [0.0]
    width = max(len(prompt) + len(ids) for prompt, ids in rows)

    def padded(values: list[list[int]], fill: int) -> torch.Tensor:
        return torch.tensor([row + [fill] * (width - len(row)) for row in values])

    return {
        "input_ids": padded([prompt + ids for prompt, ids in rows], pad),
        "attention_mask": padded([[1] * (len(prompt) + len(ids)) for prompt, ids in rows], 0),
        "labels": padded([[-100] * len(prompt) + ids for prompt, ids in rows], -100),
        "weight": torch.tensor(weights),
    }
