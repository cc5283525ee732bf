"""Linear layers in bfloat16 whose weights lie as the processor multiplies them.

PyTorch lays a layer's weights out anew (AMX takes them in tiles) for every product. While few rows are decoded that is a third of
a product's time, so they are laid out once here.
"""

import torch
from torch import nn


class PackedLinear(nn.Module):
    """A linear layer for inference on a CPU; it takes over weights of another, and keeps none that could be trained."""

    def __init__(self, layer: nn.Linear, rows: int) -> None:
        """`rows` are decoded together, more or less."""
        super().__init__()
        self._rows = rows
        self.take(layer)

    def take(self, layer: nn.Linear) -> None:
        """Compute what another layer of the same shape computes."""
        self.weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), self._rows)
        self.bias = None if layer.bias is None else layer.bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] to [..., out]."""
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


def pack(model: nn.Module, rows: int) -> None:
    """Pack a model's linear layers, where it is in bfloat16 on a CPU that multiplies bfloat16; others stay as they are."""
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and layer.weight.dtype == torch.bfloat16 and layer.weight.device.type == "cpu":
                setattr(parent, name, PackedLinear(layer, rows))


@torch.no_grad()
def take_weights(model: nn.Module, other: nn.Module) -> None:
    """Load the weights of another model of the same shape, into packed layers too."""
    packed = {name for name, layer in model.named_modules() if isinstance(layer, PackedLinear)}
    for name in packed:
        model.get_submodule(name).take(other.get_submodule(name))
    kept = {key: value for key, value in other.state_dict().items() if key.rpartition(".")[0] not in packed}
    missing, unexpected = model.load_state_dict(kept, strict=False)
    if missing or unexpected:
        raise ValueError(f"the models differ in {[*missing, *unexpected]}")
