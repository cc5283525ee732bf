"""Checkpoints of a training run without pickle: weights, optimiser moments and critic as safetensors, the rest as JSON.

A checkpoint is a folder that is renamed into place, so it is whole or not there. All randomness of a run derives from its seed
and the step, so nothing else is needed to go on exactly.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itscale.data.records import read_json, write_folder, write_json

if TYPE_CHECKING:
    import torch

# An engine takes every safetensors file beside the weights for more of them: what only training needs lies apart.
TRAINING, STATE = "training", "state.json"
MOMENTS, CRITIC = f"{TRAINING}/optimizer.safetensors", f"{TRAINING}/critic.safetensors"
ADAPTER = f"{TRAINING}/adapter.safetensors"


def save_checkpoint(
    folder: Path,
    model: Any,
    tokenizer: Any,
    optimizer: "torch.optim.Optimizer",
    critic: "torch.nn.Module | None",
    state: dict[str, Any],
) -> None:
    """Write model (LoRA merged, and its adapter alone), tokenizer, optimiser, critic and `state` (JSON values) as one folder."""
    from safetensors.torch import save_file

    from itscale.models.checkpoints import moments
    from itscale.testtime.weights import adapter, write_model

    with write_folder(folder) as fresh:
        write_model(model, fresh)
        tokenizer.save_pretrained(fresh)
        (fresh / TRAINING).mkdir()
        save_file(moments(optimizer), fresh / MOMENTS)
        if learnt := adapter(model):
            save_file({name: tensor.contiguous() for name, tensor in learnt.items()}, fresh / ADAPTER)
        if critic is not None:
            save_file({name: tensor.contiguous() for name, tensor in critic.state_dict().items()}, fresh / CRITIC)
        write_json(fresh / STATE, state)


def step_folder(folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps lies."""
    return folder / f"step-{step:06d}"


def newest(folder: Path) -> dict[str, Any] | None:
    """The state of the latest checkpoint in a run's folder; None without one. What a kill left half written is removed."""
    for rest in folder.glob("step-*.tmp"):
        shutil.rmtree(rest, ignore_errors=True)
    found = sorted(folder.glob("step-*"))
    return read_json(found[-1] / STATE) if found else None


def keep_only(folder: Path, steps: set[int]) -> None:
    """Remove every checkpoint but those after some steps."""
    keep = {step_folder(folder, step) for step in steps}
    for path in folder.glob("step-*"):
        if path not in keep:
            shutil.rmtree(path, ignore_errors=True)


def load_weights(model: Any, folder: Path) -> None:
    """Copy a checkpoint's weights into a model of the same shape; of one with LoRA, the adapter's."""
    if (folder / ADAPTER).exists():
        from safetensors.torch import load_file

        model.load_state_dict(load_file(folder / ADAPTER), strict=False)
        return
    saved = type(model).from_pretrained(folder, use_safetensors=True)
    model.load_state_dict(saved.state_dict())
