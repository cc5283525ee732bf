"""The weights that are trained: read in a stated precision, whole or by LoRA, and written for an engine."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForCausalLM

from itscale.data.journal import fingerprint
from itscale.errors import UserError
from itscale.models.precision import precision
from itscale.testtime.settings import RunSettings

_ADAPTER = "default"  # peft's name for the only one
_RAM = Path("/dev/shm")


def read_model(folder: Path, settings: RunSettings) -> Any:
    """The model to train, in float32; with LoRA and `precision: mixed` the frozen weights in bfloat16, the adapter in float32.

    Raises:
        UserError: no layer of the model has a name of `lora.targets`.
    """
    frozen = settings.lora is not None and settings.precision == "mixed"
    dtype = torch.bfloat16 if frozen else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, dtype=dtype)
    if settings.lora is None:
        return model
    targets = settings.lora.targets
    chosen = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora.rank,
        lora_alpha=settings.lora.scale,
        target_modules=list(targets) if targets else "all-linear",
    )
    try:
        return get_peft_model(model, chosen)
    except ValueError:
        raise UserError(
            f"lora.targets of a test-time training run are {', '.join(targets)}, and the model has no such layers: name some of "
            "its linear layers (q_proj, v_proj, ...), or leave targets out for all of them."
        ) from None


def base_of(model: Any) -> Any:
    """The model itself, without what LoRA puts around it."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def adapter(model: Any) -> dict[str, torch.Tensor]:
    """What LoRA trains, by name."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad and "lora_" in name}


def whole_weights(model: Any, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    """Every weight under the name that it has without LoRA: W + B A alpha / rank, summed in float32, the model left as it is.

    In `dtype`, or as they are trained; what shares its memory (tied embeddings) shares it still.
    """
    base = base_of(model)
    merged: dict[str, torch.Tensor] = {}
    for name, module in base.named_modules():
        if isinstance(module, LoraLayer):
            weight = module.base_layer.weight
            change = module.get_delta_weight(_ADAPTER).float()
            merged[f"{name}.base_layer.weight"] = (weight.detach().float() + change).to(weight.dtype)
    cast: dict[tuple[int, torch.Size], torch.Tensor] = {}
    found = {}
    for name, tensor in base.state_dict().items():
        if any(part.startswith("lora_") for part in name.split(".")):
            continue
        tensor = merged.get(name, tensor).detach()
        key = tensor.data_ptr(), tensor.shape
        if key not in cast:
            cast[key] = tensor if dtype is None else tensor.to(dtype)
        found[name.replace(".base_layer.", ".")] = cast[key]
    return found


def write_model(model: Any, folder: Path, dtype: torch.dtype | None = None) -> None:
    """An ordinary model folder, LoRA merged."""
    base_of(model).save_pretrained(folder, state_dict=whole_weights(model, dtype))


def engine_dtype(folder: Path, asked: str) -> torch.dtype:
    """The precision in which an engine asked for `asked` holds the model of a folder."""
    name = precision(folder, asked)
    return getattr(AutoConfig.from_pretrained(folder), "dtype", None) or torch.float32 if name == "auto" else getattr(torch, name)


@cache
def _say_once(sentence: str) -> None:
    tqdm.write(sentence, file=sys.stderr)  # above the bar of the steps


@contextmanager
def passing_folder(chosen: str | None, need: int, run: Path) -> Iterator[Path]:
    """A folder for `need` bytes of weights on their way to an engine: below `chosen`, or in memory (/dev/shm), or temporary.

    It is named after the folder of the run, so that what a killed run left in memory goes when the run is taken up again.

    Raises:
        UserError: `chosen` does not exist, or has too little room.
    """
    if chosen is not None and not Path(chosen).is_dir():
        raise UserError(f"weights_folder of a test-time training run is {chosen}, which is no folder: make it, or leave it out.")
    roomy = _RAM.is_dir() and shutil.disk_usage(_RAM).free > 1.1 * need
    if chosen is None and _RAM.is_dir() and not roomy:
        _say_once(
            f"{_RAM} has less room than the weights take ({need / 1e9:.1f} GB): they go to the engine through "
            f"{tempfile.gettempdir()}, a disk's speed; weights_folder names another place."
        )
    place = chosen or (str(_RAM) if roomy else None)
    if chosen is not None and shutil.disk_usage(chosen).free < need:
        raise UserError(
            f"weights_folder of a test-time training run is {chosen}, which has less room than the weights take "
            f"({need / 1e9:.1f} GB): enlarge it, or leave it out."
        )
    folder = Path(place or tempfile.gettempdir(), f"itscale-{fingerprint(str(run.resolve()))[:16]}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
