"""Frozen layers make the same of a question in every epoch: their states are computed once and given back.

Embeddings, masks and norms stay the model's own, and only the layers' `forward` is stood in for. That serves every encoder or
decoder of transformers whose layers give states alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class FrozenLayers:
    """The first layers of a backbone, in order, none of which is trained."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers = list(layers)
        self._tuples = False  # whether a layer returns its states in a tuple

    @property
    def parameters(self) -> int:
        return sum(p.numel() for layer in self.layers for p in layer.parameters())

    @torch.no_grad()
    def read(self, run: Callable[[], Any]) -> torch.Tensor | None:
        """The states [B, L, H] that the last of them gives while `run` runs the backbone; None where it gives more."""
        found = []

        def keep(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            self._tuples = isinstance(output, tuple)
            found.append(output if not self._tuples else output[0] if len(output) == 1 else None)

        handle = self.layers[-1].register_forward_hook(keep)
        try:
            run()
        finally:
            handle.remove()
        return found[0]

    @contextmanager
    def giving(self, states: torch.Tensor) -> Iterator[None]:
        """Within it a pass of the backbone finds these states [B, L, H], which `read` gave, in the place of the layers."""

        def first(*_: Any, **__: Any) -> Any:
            return (states,) if self._tuples else states

        def passed(hidden_states: torch.Tensor, *_: Any, **__: Any) -> Any:
            return (hidden_states,) if self._tuples else hidden_states

        for i, layer in enumerate(self.layers):
            layer.forward = passed if i else first  # the instance's own: the layer and its weights stay where they are
        try:
            yield
        finally:
            for layer in self.layers:
                del layer.forward
