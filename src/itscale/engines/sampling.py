"""The next token of every row by inverse CDF, without sorting the vocabulary.

A row's token depends on its logits, its settings and its own uniform number alone. The vocabulary keeps its order; the settings
only set what they leave out to zero. One pass adds up the mass of blocks of tokens. Without restrictions the number falls into a
block and then on a token in it. With one (top_p, top_k, min_p) what is kept is found among the most probable tokens: a few are
taken, it is proven that they hold everything that is kept, and only where they do not more are taken, in the end all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch

from itscale.engines.protocol import Sampling
from itscale.errors import UserError

_BLOCK = 128  # tokens whose mass is added up together
_CHUNK = 1 << 18  # logits of one pass: on a CPU they stay in a core's cache
_TAKEN = (64, 4096)  # the most probable tokens that are looked at, before all of them


@dataclass(frozen=True, slots=True)
class Rules:
    """`Sampling` of B rows as tensors [B]."""

    temperature: torch.Tensor
    top_p: torch.Tensor
    top_k: torch.Tensor
    min_p: torch.Tensor

    @classmethod
    def of(cls, samplings: Sequence[Sampling], device: torch.device | str = "cpu") -> Self:
        """The rules of some requests; `top_k` 0 is the largest integer."""
        return cls(
            torch.tensor([s.heat for s in samplings], device=device),
            torch.tensor([s.nucleus for s in samplings], device=device, dtype=torch.float64),
            torch.tensor([s.top_k or torch.iinfo(torch.int64).max for s in samplings], device=device),
            torch.tensor([s.min_p for s in samplings], device=device),
        )

    def rows(self, index: torch.Tensor) -> "Rules":
        """Some of the rows."""
        return Rules(*(getattr(self, f.name)[index] for f in fields(self)))


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Of B rows' logits divided by `scale` [B]: each block's highest [B, N], and its mass [B, N] relative to the row's `top`."""

    logits: torch.Tensor  # [B, V], as the model gave them
    scale: torch.Tensor
    high: torch.Tensor
    mass: torch.Tensor
    top: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        return self.mass.sum(1)

    def weight(self, scaled: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Mass of some of the rows' scaled logits [R, K], in double precision for sums."""
        return (scaled - self.top[rows, None]).exp().double()

    def part(self, rows: torch.Tensor, blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scaled logits and ids [R, K * _BLOCK] of some blocks [R, K] of some rows [R]; -inf beyond the vocabulary."""
        ids = (blocks[:, :, None] * _BLOCK + torch.arange(_BLOCK, device=blocks.device)).flatten(1)
        beyond = ids >= self.logits.shape[1]
        found = self.logits[rows[:, None], ids.masked_fill(beyond, 0)].float() / self.scale[rows, None]
        return found.masked_fill(beyond, -torch.inf), ids


def _blocks(logits: torch.Tensor, scale: torch.Tensor) -> _Blocks:
    rows, size = logits.shape
    count = -(-size // _BLOCK)
    high = torch.empty(rows, count, device=logits.device)
    mass = torch.empty(rows, count, device=logits.device, dtype=torch.float64)
    step = max(1, _CHUNK // size) if logits.device.type == "cpu" else rows
    buffer = torch.empty(min(step, rows), count * _BLOCK, device=logits.device)
    scaled = bool((scale != 1).any())
    for start in range(0, rows, step):
        here = slice(start, min(rows, start + step))
        part = buffer[: here.stop - start]
        part[:, size:] = -torch.inf
        part[:, :size].copy_(logits[here])
        if scaled:
            part.div_(scale[here, None])
        grid = part.view(len(part), count, _BLOCK)
        high[here] = grid.amax(2)
        mass[here] = grid.sub_(high[here].amax(1)[:, None, None]).exp_().sum(2)
    top = high.amax(1)
    if not torch.isfinite(top).all():
        raise UserError(
            "the model gives no number (NaN) for the next token: its weights are broken, or its precision overflows; "
            "set engine.dtype to float32."
        )
    return _Blocks(logits, scale, high, mass, top)


def draw(logits: torch.Tensor, rules: Rules, uniform: torch.Tensor) -> torch.Tensor:
    """Next tokens [B] from logits [B, V] at uniform numbers [B] in [0, 1); temperature 0 takes the first of the most probable.

    Raises:
        UserError: a logit is NaN.
    """
    greedy = rules.temperature <= 0
    found = _blocks(logits, torch.where(greedy, 1.0, rules.temperature))
    restricted = ~greedy & ((rules.top_p < 1) | (rules.min_p > 0) | (rules.top_k < logits.shape[1]))
    token = torch.empty(len(logits), dtype=torch.int64, device=logits.device)
    for choose, mask in ((_first, greedy), (_anywhere, ~greedy & ~restricted), (_among_the_most_probable, restricted)):
        if len(rows := mask.nonzero()[:, 0]):
            token[rows] = choose(found, rows, rules, uniform)
    return token


def _first(found: _Blocks, rows: torch.Tensor, rules: Rules, uniform: torch.Tensor) -> torch.Tensor:
    scaled, ids = found.part(rows, found.high[rows].argmax(1)[:, None])
    return ids.gather(1, scaled.argmax(1)[:, None])[:, 0]


def _anywhere(found: _Blocks, rows: torch.Tensor, rules: Rules, uniform: torch.Tensor) -> torch.Tensor:
    """The whole distribution: first the block, then the token in it."""
    below = found.mass[rows].cumsum(1)
    target = uniform[rows] * below[:, -1]
    block = _position(below, target)
    rest = target - torch.where(block > 0, below.gather(1, (block - 1).clamp(min=0)[:, None])[:, 0], 0)
    scaled, ids = found.part(rows, block[:, None])
    return ids.gather(1, _position(found.weight(scaled, rows).cumsum(1), rest)[:, None])[:, 0]


def _position(cumulative: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The place [R] whose step of a cumulative sum [R, K] holds the target [R], the last with mass where rounding exceeds it."""
    last = torch.searchsorted(cumulative, cumulative[:, -1:].contiguous())[:, 0]
    return torch.minimum(torch.searchsorted(cumulative, target[:, None].contiguous(), right=True)[:, 0], last)


def _among_the_most_probable(found: _Blocks, rows: torch.Tensor, rules: Rules, uniform: torch.Tensor) -> torch.Tensor:
    token = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
    pending = torch.arange(len(rows), device=rows.device)
    size = found.logits.shape[1]
    for taken in sorted({min(t, size) for t in (*_TAKEN, size)}):
        here = rows[pending]
        scaled, ids = _most_probable(found, here, taken)
        weight = found.weight(scaled, here)
        kept, proven = _kept(scaled, weight, found.total[here], rules.rows(here), size)
        ids, order = torch.where(torch.arange(ids.shape[1], device=ids.device) < kept[:, None], ids, size).sort(1)
        cumulative = torch.where(ids < size, weight.gather(1, order), 0).cumsum(1)
        place = _position(cumulative, uniform[here] * cumulative[:, -1])
        token[pending] = ids.gather(1, place[:, None])[:, 0]
        pending = pending[~proven]
        if not len(pending):
            break
    return token


def _most_probable(found: _Blocks, rows: torch.Tensor, taken: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest scaled logits and ids [R, taken], downwards; of equals the first in the vocabulary comes first."""
    size = found.logits.shape[1]
    if taken * _BLOCK < size:
        # At least `taken` tokens, these blocks' highest, are no lower than anything in the other blocks.
        scaled, ids = found.part(rows, found.high[rows].topk(taken).indices)
        scaled, order = scaled.topk(taken)
        ids = ids.gather(1, order)
    else:
        scaled = found.logits[rows].float() / found.scale[rows, None]
        if taken == size:
            return scaled.sort(dim=1, descending=True, stable=True)
        scaled, ids = scaled.topk(taken)
    ids, order = ids.sort(1)
    scaled, order = scaled.gather(1, order).sort(dim=1, descending=True, stable=True)
    return scaled, ids.gather(1, order)


def _kept(
    scaled: torch.Tensor, weight: torch.Tensor, total: torch.Tensor, rules: Rules, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """How many [R] of the most probable tokens [R, K] are kept, and whether [R] this is proven to be all that is kept of `size`.

    As in vLLM: min_p relative to the most probable token, then top_k, then the nucleus of what is left. All three keep a
    beginning of the tokens by falling probability. What is left out is at most as probable as the last token here, so every
    token above that one is in its place.
    """
    count = scaled.shape[1]
    sure = torch.full_like(rules.top_k, size) if count == size else (scaled > scaled[:, -1:]).sum(1)
    limit = torch.where(rules.min_p > 0, (weight >= rules.min_p[:, None]).sum(1), size).minimum(rules.top_k)
    limited = limit < size
    limit = limit.clamp(1, count)
    below = weight.cumsum(1)
    needed = rules.top_p * torch.where(limited, below.gather(1, limit[:, None] - 1)[:, 0], total)
    nucleus = (below - weight < needed[:, None]).sum(1)
    reached = below.gather(1, nucleus[:, None] - 1)[:, 0] >= needed
    kept = torch.where(rules.top_p < 1, nucleus.minimum(limit), limit)
    proven = (~limited | (limit <= sure)) & ((rules.top_p >= 1) | (reached & (nucleus <= sure)))
    return kept, proven | (count == size)


def penalise(logits: torch.Tensor, seen: Sequence[Sequence[int]], penalties: Sequence[float]) -> torch.Tensor:
    """Logits [B, V] with those of each row's `seen` tokens divided by its penalty where positive, multiplied where negative.

    (CTRL, arXiv 1909.05858, as in transformers and vLLM: prompt and completion are seen.)
    """
    changed = logits
    for i, (tokens, penalty) in enumerate(zip(seen, penalties, strict=True)):
        if penalty == 1:
            continue
        changed = logits.clone() if changed is logits else changed
        index = torch.tensor(sorted(set(tokens)), device=logits.device)
        old = changed[i, index]
        changed[i, index] = torch.where(old > 0, old / penalty, old * penalty)
    return changed


def log_probabilities(logits: torch.Tensor, token: torch.Tensor, alternatives: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of logits [B, V] at temperature 1, before any restriction: log p of the tokens [B], and of the most probable [B, K]."""
    found = _blocks(logits, torch.ones(len(logits), device=logits.device))
    rows = torch.arange(len(logits), device=logits.device)
    norm = (found.top + found.total.log())[:, None]
    best, _ = _most_probable(found, rows, min(alternatives, logits.shape[1]))
    return (logits[rows, token].float()[:, None] - norm)[:, 0], best - norm
