"""What a training run leaves to go on from, without pickle: tensors as safetensors, the rest as JSON."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import Trainer

from itscale.data.records import read_json, write_json

_MOMENTS, _SCHEDULE, _NUMBERS = "optimizer.safetensors", "scheduler.json", "numbers.safetensors"


def moments(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's state as named tensors: `{parameter's number}.{name}`, in the order of its parameter groups."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{k}": torch.as_tensor(v).clone().contiguous() for i, values in state.items() for k, v in _flat(values)}


def _flat(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """A parameter's state by name, without the second layer in which bitsandbytes hides some of it from FSDP."""
    for name, value in values.items():
        yield from value.items() if isinstance(value, dict) else [(name, value)]


def restore_moments(optimizer: torch.optim.Optimizer, path: Path) -> None:
    """The reverse of `moments`, into an optimiser over the same parameters."""
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in load_file(path).items():
        number, name = key.split(".", 1)
        # Only 8-bit AdamW counts steps by whole numbers, and it wants Python's.
        state.setdefault(int(number), {})[name] = int(tensor) if tensor.dtype == torch.int64 else tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


class PlainTrainer(Trainer):
    """The Hugging Face trainer on one device, whose checkpoints hold no pickle."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        (Path(output_dir or self.args.output_dir) / "training_args.bin").unlink()

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        save_file(moments(self.optimizer), Path(output_dir) / _MOMENTS)
        write_json(Path(output_dir) / _SCHEDULE, self.lr_scheduler.state_dict())

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        restore_moments(self.optimizer, Path(checkpoint) / _MOMENTS)
        schedule = read_json(Path(checkpoint) / _SCHEDULE)
        self.lr_scheduler.load_state_dict(schedule)
        for group, rate in zip(self.optimizer.param_groups, schedule["_last_lr"], strict=True):
            group["lr"] = rate

    def _save_rng_state(self, output_dir: str) -> None:
        version, words, gauss = random.getstate()
        _, keys, position, has_gauss, cached = np.random.get_state()
        numbers = {
            "torch": torch.get_rng_state(),
            "python": torch.tensor([version, *words]),
            "numpy": torch.from_numpy(keys.astype(np.int64)),
            "rest": torch.tensor([np.nan if gauss is None else gauss, position, has_gauss, cached], dtype=torch.float64),
        }
        if torch.cuda.is_available():
            numbers["cuda"] = torch.cuda.get_rng_state()
        save_file(numbers, Path(output_dir) / _NUMBERS)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        numbers = load_file(Path(checkpoint) / _NUMBERS)
        gauss, position, has_gauss, cached = numbers["rest"].tolist()
        version, *words = numbers["python"].tolist()
        random.setstate((version, tuple(words), None if np.isnan(gauss) else gauss))
        np.random.set_state(("MT19937", numbers["numpy"].numpy().astype(np.uint32), int(position), int(has_gauss), cached))
        torch.set_rng_state(numbers["torch"])
        if "cuda" in numbers and torch.cuda.is_available():
            torch.cuda.set_rng_state(numbers["cuda"])
