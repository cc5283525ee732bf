"""One token ledger: every token is counted once, by its purpose, from what the engines measured."""

from dataclasses import dataclass, fields

import numpy as np

from itscale.errors import refuse_below


@dataclass(frozen=True, slots=True)
class Ledger:
    """Tokens by purpose; each field is a number or an array of the same shape.

    `prompt` counts the prompt of every request, `cached_prompt` the part of it that a prefix cache served; `completion` are
    completion tokens that a decision rests on, `prefetched` those of completions that finished and were not needed,
    `aborted` those of requests that were cut short.
    """

    prompt: np.ndarray | int = 0
    cached_prompt: np.ndarray | int = 0
    completion: np.ndarray | int = 0
    prefetched: np.ndarray | int = 0
    aborted: np.ndarray | int = 0
    verifier: np.ndarray | int = 0
    predictor: np.ndarray | int = 0
    training: np.ndarray | int = 0

    @property
    def total(self) -> np.ndarray | int:
        """Tokens that were computed: everything but the prompt tokens that came out of a cache."""
        return self.prompt - self.cached_prompt + self.drawn + self.verifier + self.predictor + self.training

    @property
    def drawn(self) -> np.ndarray | int:
        """Completion tokens that were drawn, needed or not."""
        return self.completion + self.prefetched + self.aborted

    def __add__(self, other: "Ledger") -> "Ledger":
        return Ledger(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def __sub__(self, other: "Ledger") -> "Ledger":
        return Ledger(**{f.name: getattr(self, f.name) - getattr(other, f.name) for f in fields(self)})


@dataclass(frozen=True, slots=True)
class Price:
    """What tokens cost, in dollars per million: of prompts, of the part of them that came out of a cache, of completions."""

    prompt: float = 0.0
    cached: float | None = None
    completion: float = 0.0

    def __post_init__(self) -> None:
        refuse_below(0, self, "prompt", "completion")

    def dollars(self, ledger: Ledger) -> np.ndarray | float:
        """What a ledger's tokens of the generator cost; without a price of their own, cached ones cost what others do."""
        cached = self.prompt if self.cached is None else self.cached
        prompts = (ledger.prompt - ledger.cached_prompt) * self.prompt + ledger.cached_prompt * cached
        return (prompts + ledger.drawn * self.completion) / 1e6
