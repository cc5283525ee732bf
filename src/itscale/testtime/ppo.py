"""PPO on votes: a learned critic on the same rollouts (TRL has no PPO trainer since 1.13).

The policy's clipped objective is TRL's GRPO loss, which takes an advantage per token; the critic, the generalised advantage
estimation (Schulman et al. 2016) and the value loss are here. The reward comes with the last token of a rollout.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, TrainerCallback

from itscale.testtime.trainers import VoteGRPO


class Critic(torch.nn.Module):
    """Expected reward before every completion token: a transformer of its own, begun from the policy's, a linear head at 0."""

    def __init__(self, model: Path, gradient_checkpointing: bool = False) -> None:
        super().__init__()
        self.body = AutoModel.from_pretrained(model, use_safetensors=True, dtype=torch.float32)
        if gradient_checkpointing:
            self.body.train()  # layers that are read for evaluation keep all their activations
            self.body.gradient_checkpointing_enable({"use_reentrant": False})
        self.head = torch.nn.Linear(self.body.config.hidden_size, 1)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, completion: int) -> torch.Tensor:
        """Values [B, T] of the last T = `completion` positions, each read before its token."""
        hidden = self.body(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        return self.head(hidden[:, -completion - 1 : -1])[..., 0].to(self.head.weight.dtype)


def advantages_and_returns(
    reward: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gae_lambda: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """GAE without discount. reward [B] is paid with the last token; values, mask [B, T], rows padded right.

    delta_t = r_t + V_{t+1} - V_t with V = 0 after the end; A_t = sum_l lambda^l delta_{t+l}; returns A + V; 0 outside the mask.
    """
    length = mask.sum(1).long()
    last = torch.nn.functional.one_hot((length - 1).clamp(min=0), mask.shape[1]) * (length > 0)[:, None]
    values = values * mask
    after = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    delta = (reward[:, None] * last + after - values) * mask
    advantage = torch.zeros_like(values)
    running = torch.zeros_like(reward)
    for t in reversed(range(mask.shape[1])):
        running = delta[:, t] + gae_lambda * running
        advantage[:, t] = running
    return advantage * mask, (advantage + values) * mask


def whiten(advantage: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean 0 and standard deviation 1 over tokens under weights (same shape, 0 outside)."""
    total = weight.sum().clamp(min=1e-12)
    mean = (advantage * weight).sum() / total
    variance = ((advantage - mean) ** 2 * weight).sum() / total
    return (advantage - mean) / (variance.sqrt() + 1e-4)


def value_loss(
    values: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, weight: torch.Tensor, total: float, clip: float
) -> torch.Tensor:
    """Half the square error, the larger of plain and clipped (`clip`: the most a value changes), summed by weight / total."""
    clipped = old + (values - old).clamp(-clip, clip)
    worst = torch.maximum((values - returns) ** 2, (clipped - returns) ** 2)
    return 0.5 * (worst * weight).sum() / total


class CriticGradient(TrainerCallback):
    """Clips and clears the critic's gradient, as the trainer does for the policy's."""

    def __init__(self, critic: Critic) -> None:
        self.critic = critic

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        torch.nn.utils.clip_grad_norm_(self.critic.parameters(), args.max_grad_norm)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.critic.zero_grad()


class VotePPO(VoteGRPO):
    """The critic trains in the same backward pass; its parameters are in the optimiser that the trainer is given."""

    critic: Critic
    gae_lambda: float
    value_clip: float

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        rewards = [r for group in self._padded_rewards() for r in group]
        mask = (output["completion_mask"] * (output["tool_mask"] > 0)).to(output["tool_mask"].dtype)
        with torch.no_grad():
            # As many rows at once as a pass of the update has: of a whole draw the activations would be the run's highest point.
            starts = range(0, len(output["prompt_ids"]), self.args.per_device_train_batch_size)
            values = torch.cat([self._values(self._rows_of(output, start)) for start in starts])
            reward = torch.tensor(rewards, dtype=values.dtype, device=values.device)
            advantage, returns = advantages_and_returns(reward, values, mask, self.gae_lambda)
        output["advantages"] = whiten(advantage, output["completion_mask"] * output["tool_mask"])
        return {**output, "returns": returns, "old_values": values}

    def _padded_rewards(self) -> list[list[float]]:
        drawn, slots = self.roller.last, self.roller.slots
        return [reward.tolist() + [0.0] * (slots - len(reward)) for reward in drawn.rewards]

    def _rows_of(self, batch: dict[str, Any], start: int) -> dict[str, torch.Tensor]:
        names = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
        return {name: batch[name][start : start + self.args.per_device_train_batch_size] for name in names}

    def _values(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        with self.accelerator.autocast():
            return self.critic(ids, mask, batch["completion_ids"].shape[1])

    def _compute_loss(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        policy = super()._compute_loss(model, inputs)
        weight = inputs["completion_mask"] * inputs["tool_mask"]
        # The weights of a draw sum to rows x max_completion_length; a pass may hold more or less of them than its share.
        total = len(weight) * self.max_completion_length
        value = value_loss(self._values(inputs), inputs["old_values"], inputs["returns"], weight, total, self.value_clip)
        self._metrics["train"]["value_loss"].append(value.item())
        return policy + value / self.current_gradient_accumulation_steps
