"""The processes that train together, one a GPU, as `accelerate launch` started them: each draws and learns from its share.

Every process has the whole model and an engine of its own. Gradients are averaged, and every process has as many questions of a
step, so that the mean over processes is the mean over questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among `count`; the first keeps the journal, the checkpoints and the results."""

    rank: int = 0
    count: int = 1

    @classmethod
    def started(cls) -> "Processes":
        """As the environment has it: one, unless a launcher (`accelerate launch`, `torchrun`) began several."""
        state = PartialState(cpu=not torch.cuda.is_available())
        return cls(state.process_index, state.num_processes)

    @property
    def first(self) -> bool:
        """Whether this one writes."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of `items`, in order: as many for each where their number allows."""
        return items[len(items) * self.rank // self.count : len(items) * (self.rank + 1) // self.count]

    def gather(self, item: T) -> list[T]:
        """Every process's item, in order of their ranks; each waits for all."""
        return gather_object([item]) if self.count > 1 else [item]


ALONE = Processes()
