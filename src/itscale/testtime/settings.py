"""What a test-time training run is: one dataclass, validated where it is made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from itscale.data.records import Unit
from itscale.errors import UserError, refuse_below
from itscale.policies import make_policy
from itscale.policies.calibration import Calibration
from itscale.policies.protocol import Batch, Policy
from itscale.testtime.rewards import REWARDS

ALGORITHMS = ("grpo", "rloo", "ppo", "sft")
PRECISIONS = ("float32", "mixed")
OPTIMIZERS = ("adamw", "adamw_8bit")


def _ttrl() -> dict[str, Any]:
    return {"policy": "self_consistency", "n": 32}


@dataclass(frozen=True, slots=True)
class Lora:
    """Low-rank adapters (Hu et al. 2021): W + alpha / rank B A, with A and B trained, in the linear layers named `targets`.

    Without targets in all of them but the output layer; alpha is twice the rank where it is not said.
    """

    rank: int
    targets: tuple[str, ...] = ()
    alpha: float | None = None

    def __post_init__(self) -> None:
        refuse_below(1, self, "rank")
        if self.alpha is not None and self.alpha <= 0:
            raise UserError(f"lora.alpha of a test-time training run must be positive, not {self.alpha}.")

    @property
    def scale(self) -> float:
        """The alpha that is used."""
        return 2.0 * self.rank if self.alpha is None else self.alpha


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """One run of the loop.

    `vote` names the stopping rule and its settings, `group` the size of the training group with `retain: first` (with
    `all`, every vote trains). `reward` names what is paid (`itscale.testtime.rewards`); `reward_eps` is
    the error that a certified label may have. `updates` are optimiser steps per draw;
    `rows_per_pass` splits an update into forward passes of so many rows; where memory runs out, it halves itself. `kl` is the
    weight of the low-variance KL term, `clip` the range of the probability ratio. `gae_lambda`, `value_clip` and
    `critic_learning_rate` are PPO's.

    `precision: mixed` computes in bfloat16 (autocast) with float32 weights and moments. `gradient_checkpointing` computes
    activations twice in place of keeping them. `lora` trains adapters in place of all weights. `optimizer: adamw_8bit` keeps
    AdamW's moments in 8 bits (bitsandbytes). `weights_folder` is where weights pass from the trainer to the engine; memory
    (/dev/shm) where that has room, if it is not said.
    """

    algorithm: str = "grpo"
    vote: Mapping[str, Any] = field(default_factory=_ttrl)
    reward: str = "votes"
    reward_eps: float = 0.05
    retain: str = "first"
    group: int = 16
    prompts: int = 8
    steps: int = 40
    updates: int = 1
    learning_rate: float = 3e-5
    warmup: float = 0.03
    kl: float = 1e-3
    clip: float = 0.2
    rows_per_pass: int | None = None
    precision: str = "float32"
    gradient_checkpointing: bool = False
    lora: Lora | None = None
    optimizer: str = "adamw"
    weights_folder: str | None = None
    gae_lambda: float = 0.95
    value_clip: float = 0.2
    critic_learning_rate: float = 3e-4
    checkpoint_every: int = 5
    prefetch: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("algorithm", self.algorithm, ALGORITHMS),
            ("reward", self.reward, tuple(REWARDS)),
            ("retain", self.retain, ("first", "all")),
            ("precision", self.precision, PRECISIONS),
            ("optimizer", self.optimizer, OPTIMIZERS),
        ):
            if value not in known:
                raise UserError(f"{name} of a test-time training run is {value!r}: choose one of {', '.join(known)}.")
        for name in ("prompts", "updates", "checkpoint_every", "learning_rate"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} of a test-time training run must be positive, not {getattr(self, name)}.")
        if self.steps < 0:
            raise UserError(f"steps of a test-time training run must not be negative, but is {self.steps}.")
        if self.group < 2:
            raise UserError(f"group of a test-time training run is {self.group}: an advantage needs at least 2 rollouts.")

    def policy(self, known: Calibration) -> Policy:
        """The stopping rule, bound to what the calibration split says.

        Raises:
            UserError: the rule counts rounds, may stop before the training group is full, or never stops where that is rewarded.
        """
        name = self.vote.get("policy")
        if name is None:
            raise UserError("vote of a test-time training run has no 'policy': name the stopping rule.")
        policy = make_policy(name, **{k: v for k, v in self.vote.items() if k != "policy"}).bind(known)
        if policy.unit is not Unit.SAMPLE or policy.needs_scores or policy.needs_features:
            raise UserError(f"vote of a test-time training run is {name!r}, which does not count votes: choose one that does.")
        if self.reward == "certified" and first_look(policy) >= policy.limit:
            raise UserError(
                f"reward certified pays votes that stop before their limit, and {name!r} never does: nothing would be learnt. "
                "Choose a vote that stops (itscale policies), or another reward."
            )
        earliest = first_look(policy)
        if self.group > earliest:
            raise UserError(
                f"group is {self.group}, but the vote may stop at {earliest}: raise n_min to at least the group, or choose a "
                "rule that has n_min."
            )
        return policy


def first_look(policy: Policy) -> int:
    """How many samples a rule asks for before it has seen any: it cannot stop sooner."""
    nothing = Batch(np.zeros(1, np.int64), np.full((1, 0), -1), np.full((1, 0), np.nan), np.zeros((1, 0), np.int64))
    _, decision = policy.step(policy.init(1), nothing, nothing.n)
    return int(min(decision.want[0], policy.limit))
