"""Keys and values of the rows that are decoded together, in place: rows come and go, and every step adds one column.

Rows end at the same column, so that any model's own masks hold (left padding, sliding windows included), and begin where their
prompt does. Nothing is copied from step to step, and grouped queries read their shared keys where they lie: copying them for
every head of a group takes more time than the attention itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from itscale.errors import UserError

_NAME = "itscale_grouped"
_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}
_ROOM = 64  # columns at least between two moves of the whole cache
# A processor waits for memory while it decodes: rows are read in parts, each as far back as its longest row begins.
_PART = 8
_WIDE = 256  # columns; narrower keys are read as fast at once

_attend = torch.nn.functional.scaled_dot_product_attention


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' own attention, but one token's queries [B, H, 1, D] that share keys [B, G, L, D] go in as H / G positions."""
    batch, heads, length, width = query.shape
    groups = key.shape[1]
    if length > 1 or heads == groups or options.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    shared = query.reshape(batch, groups, heads // groups, width)
    if attention_mask is None or attention_mask.dtype != torch.bool or not _read_in_parts(key):
        out = _attend(shared, key, value, attn_mask=attention_mask, scale=scaling)
    else:
        begins = attention_mask[:, 0, 0].int().argmax(1)
        out = shared.new_empty(*shared.shape[:3], value.shape[-1])
        for start in range(0, batch, _PART):
            rows = slice(start, start + _PART)
            used = slice(int(begins[rows].min()), None)
            mask = attention_mask[rows, ..., used]
            out[rows] = _attend(shared[rows], key[rows, :, used], value[rows, :, used], attn_mask=mask, scale=scaling)
    return out.reshape(batch, 1, heads, value.shape[-1]), None


def _read_in_parts(keys: torch.Tensor) -> bool:
    """Whether keys [B, G, L, D] are read so."""
    return keys.device.type == "cpu" and keys.shape[2] >= _WIDE


def refuse_other_memory(config: PreTrainedConfig) -> None:
    """Refuse models whose layers remember other things than keys and values, which rows cannot share as here.

    Raises:
        UserError: there is such a layer.
    """
    if kinds := sorted(set(getattr(config.get_text_config(), "layer_types", None) or ()) - _ATTENTION):
        raise UserError(f"the model has layers of {kinds[0]}, which the transformers engine cannot batch: take engine.name vllm.")


def use_grouped_attention(model: PreTrainedModel) -> None:
    """Let a model that would take transformers' `sdpa` take `grouped_attention`; others stay as they are."""
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(_NAME, grouped_attention)
        AttentionMaskInterface.register(_NAME, sdpa_mask)
        model.set_attn_implementation(_NAME)


class _Layer(CacheLayerMixin):
    """One layer's part of `RowCache`, which says what of the buffers is in use."""

    def __init__(self, owner: "RowCache", keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.owner, self.keys, self.values, self.is_initialized = owner, keys, values, True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """The buffers are there from the beginning."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        own = self.owner
        self.keys[: own.rows, :, own.end] = key_states[:, :, 0]
        self.values[: own.rows, :, own.end] = value_states[:, :, 0]
        used = slice(own.begin, own.end + 1)
        return self.keys[: own.rows, :, used], self.values[: own.rows, :, used]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return self.owner.end - self.owner.begin

    def get_max_length(self) -> int:
        return -1


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A prompt's keys and values [G, L, D] by layer, and the logits [V] of what follows it."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    logits: torch.Tensor


@torch.inference_mode()
def prefill(model: PreTrainedModel, prompts: Sequence[Sequence[int]], pad: int) -> list[Prefilled]:
    """What a model makes of some prompts, padded on the left, in one pass."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=model.device)
    lengths = torch.tensor([len(p) for p in prompts], device=model.device)
    mask = torch.arange(width, device=model.device) >= (width - lengths)[:, None]
    found = DynamicCache()  # whole even where the model has a sliding window: a row's window moves on
    position = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(
        input_ids=ids, attention_mask=mask.long(), position_ids=position, past_key_values=found, use_cache=True, logits_to_keep=1
    ).logits[:, -1]
    return [
        Prefilled(
            [layer.keys[i, :, width - len(prompt) :].clone() for layer in found.layers],
            [layer.values[i, :, width - len(prompt) :].clone() for layer in found.layers],
            logits[i].clone(),
        )
        for i, prompt in enumerate(prompts)
    ]


class RowCache(Cache):
    """Room for `limit` rows at most; `lengths` [rows] tokens of each are there, in the columns before `end`."""

    def __init__(self, limit: int, like: Prefilled) -> None:
        """`like` has the layers' shapes, type and device."""
        super().__init__(
            layers=[
                _Layer(self, k.new_empty(0, len(k), 0, k.shape[2]), v.new_empty(0, len(v), 0, v.shape[2]))
                for k, v in zip(like.keys, like.values, strict=True)
            ]
        )
        self.limit = limit
        self.lengths = torch.zeros(0, dtype=torch.int64)
        self.end = 0

    @property
    def rows(self) -> int:
        return len(self.lengths)

    @property
    def begin(self) -> int:
        return self.end - int(self.lengths.max()) if self.rows else self.end

    def mask(self) -> torch.Tensor:
        """Which columns [rows, width] of those in use, and the one to come, are a row's own."""
        columns = torch.arange(self.begin, self.end + 1)
        return columns >= (self.end - self.lengths)[:, None]

    def advance(self) -> None:
        """A column has been written."""
        self.lengths += 1
        self.end += 1
        if self.end == self._columns:
            self._move(self.rows, 0)

    @property
    def _height(self) -> int:
        return len(self.layers[0].keys)

    @property
    def _columns(self) -> int:
        return self.layers[0].keys.shape[2]

    def reserve(self, rows: int, longest: int) -> None:
        """Make room for that many more rows, with prompts of at most `longest` tokens."""
        rows += self.rows
        if rows > self._height or longest > self.end or self.end + 1 >= self._columns:
            self._move(rows, longest)

    def admit(self, prompt: Prefilled, copies: int) -> None:
        """Add rows that begin with a prompt; room for them is reserved."""
        length = prompt.keys[0].shape[1]
        rows, columns = slice(self.rows, self.rows + copies), slice(self.end - length, self.end)
        self.lengths = torch.cat([self.lengths, torch.full((copies,), length)])
        for layer, keys, values in zip(self.layers, prompt.keys, prompt.values, strict=True):
            layer.keys[rows, :, columns] = keys
            layer.values[rows, :, columns] = values

    @torch.inference_mode()
    def drop(self, gone: list[int]) -> list[int]:
        """Take rows out; the last ones move into their places. Returns the old number of each row that is left."""
        left = self.rows - len(gone)
        holes = sorted(row for row in gone if row < left)
        movers = sorted(set(range(left, self.rows)) - set(gone))
        order = list(range(left))
        for hole, mover in zip(holes, movers, strict=True):
            order[hole] = mover
        if holes:
            used = slice(self.begin, self.end)
            for layer in self.layers:
                layer.keys[holes, :, used] = layer.keys[movers, :, used]
                layer.values[holes, :, used] = layer.values[movers, :, used]
        self.lengths = self.lengths[order]
        if not left:
            self.end = 0
        return order

    @torch.inference_mode()
    def sort(self) -> list[int]:
        """Put rows in order of falling length, so that neighbours begin alike, where rows are read in parts.

        Returns the old number of each row.
        """
        if not _read_in_parts(self.layers[0].keys[:, :, self.begin : self.end + 1]):
            return list(range(self.rows))
        order = self.lengths.argsort(descending=True, stable=True)
        moved = (order != torch.arange(self.rows)).nonzero()[:, 0]
        if len(moved):
            used = slice(self.begin, self.end)
            for layer in self.layers:
                for part in (layer.keys[:, :, used], layer.values[:, :, used]):
                    part[moved] = part[order[moved]]
            self.lengths = self.lengths[order]
        return order.tolist()

    def _move(self, rows: int, longest: int) -> None:
        """Make room for `rows` rows, prompts of `longest` tokens and the columns in use; in these buffers if they are enough."""
        begin, end = self.begin, self.end
        self.end = max(end - begin, longest)
        there = slice(self.end - (end - begin), self.end)
        fits = rows <= self._height and self.end + _ROOM <= self._columns
        columns = self.end + max(_ROOM, self.end // 4)
        kept = self._height if rows <= self._height else min(self.limit, max(rows, 2 * self._height))
        for layer in self.layers:
            for name in ("keys", "values"):
                old = getattr(layer, name)
                # Masked is not unread: no NaN may lie in a new buffer.
                new = old if fits else old.new_zeros(kept, old.shape[1], columns, old.shape[3])
                part = old[: self.rows, :, begin:end]
                new[: self.rows, :, there] = part.clone() if fits else part
                setattr(layer, name, new)
