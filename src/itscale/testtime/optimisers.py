"""What steps the weights that are trained: AdamW, its moments in 32 bits or in 8."""

import importlib.util
from collections.abc import Iterable
from typing import Any

import torch

from itscale.errors import UserError


def make_optimizer(name: str, groups: list[dict[str, Any]], models: Iterable[torch.nn.Module]) -> torch.optim.Optimizer:
    """AdamW without weight decay over parameter groups of some models.

    `adamw_8bit` keeps the moments of matrices in blocks of 8 bits (Dettmers et al. 2022), but for embeddings, whose moments
    stay in 32, as the paper has it and the Hugging Face trainer does.

    Raises:
        UserError: bitsandbytes is not installed.
    """
    if name == "adamw":
        return torch.optim.AdamW(groups, weight_decay=0.0)
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"optimizer of a test-time training run is {name}, and bitsandbytes is not installed: pip install "
            "'bitsandbytes>=0.49', or take adamw."
        )
    import bitsandbytes

    # One list for the whole process: what an earlier run put there is not meant.
    overrides = bitsandbytes.optim.GlobalOptimManager.get_instance()
    overrides.initialize()
    for module in (part for model in models for part in model.modules() if isinstance(part, torch.nn.Embedding)):
        overrides.register_module_override(module, "weight", {"optim_bits": 32})
    return bitsandbytes.optim.AdamW8bit(groups, weight_decay=0.0)
