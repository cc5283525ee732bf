"""Batched sampling with transformers: one static batch at a time, longest prompts first, finished rows dropped.

Every token takes one uniform number of its own request's generator, so a sample does not depend on what else is in the
batch (but for rounding in the matrix products, which a GPU may do differently for another batch size). A batch that does not fit
into memory is halved.
"""

import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.cache_utils import DynamicCache

from itscale.engines.protocol import Completion, Request, Usage, completion, part_long
from itscale.models.hub import model_files
from itscale.models.memory import fitting
from itscale.models.prompts import render


class TransformersEngine:
    """Implements `Engine`."""

    def __init__(self, model: str | Path, batch_size: int, instruction: str = "") -> None:
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        # A GPU computes in the precision of the file, a CPU in single precision.
        dtype = "auto" if self._device == "cuda" else torch.float32
        with model_files(model):
            self._tokenizer = AutoTokenizer.from_pretrained(model)
            loaded = AutoModelForCausalLM.from_pretrained(model, use_safetensors=True, dtype=dtype)
        self._model = loaded.to(self._device).eval()
        self._instruction = instruction
        self._window: int = getattr(loaded.config, "max_position_embeddings", None) or sys.maxsize
        eos = self._model.generation_config.eos_token_id
        eos = eos if eos is not None else self._tokenizer.eos_token_id
        self._stops = torch.tensor(eos if isinstance(eos, list) else [eos], device=self._device)
        self.slots = batch_size
        self._waiting: deque[Request] = deque()
        self._failed: list[Completion] = []
        self._usage = Usage()

    def encode(self, question: str, previous: str | None) -> tuple[int, ...]:
        return tuple(render(self._tokenizer, question + self._instruction, previous))

    @property
    def outstanding(self) -> int:
        return len(self._waiting) + len(self._failed)

    def submit(self, requests: list[Request]) -> None:
        requests, failed = part_long(requests, self._window)
        self._failed += failed
        # Sorted by length, a batch pads little.
        self._waiting = deque(sorted([*self._waiting, *requests], key=lambda r: (-len(r.prompt_ids), r.request_id)))

    def abort(self, request_ids: list[str]) -> dict[str, Usage]:
        # A static batch runs to its end within `poll`: only what has not begun can be taken back, and that costs nothing.
        gone = {r.request_id for r in self._waiting} & set(request_ids)
        self._waiting = deque(r for r in self._waiting if r.request_id not in gone)
        return dict.fromkeys(gone, Usage())

    def reload(self, folder: Path) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).to(self._device).eval()

    def usage(self) -> Usage:
        return self._usage

    def close(self) -> None:
        self._waiting.clear()

    def poll(self) -> list[Completion]:
        if self._failed:
            failed, self._failed = self._failed, []
            return failed
        batch = [self._waiting.popleft() for _ in range(min(self.slots, len(self._waiting)))]
        if not batch:
            return []
        ids, size = fitting(self._generate, batch, "requests")
        if size < len(batch):
            self.slots = size
            self._waiting.extendleft(reversed(batch[size:]))
            batch = batch[:size]
        completions = [
            completion(self._tokenizer, r.request_id, tuple(tokens), stopped=stopped, prompt_tokens=len(r.prompt_ids))
            for r, (tokens, stopped) in zip(batch, ids, strict=True)
        ]
        self._usage += Usage(
            prompt=sum(c.prompt_tokens for c in completions), completion=sum(c.completion_tokens for c in completions)
        )
        return completions

    @torch.inference_mode()
    def _generate(self, batch: Sequence[Request]) -> list[tuple[list[int], bool]]:
        """(token ids, ended by a stop token) of each request."""
        limits = np.array([min(r.sampling.max_tokens, self._window - len(r.prompt_ids)) for r in batch])
        limit = int(limits.max())
        uniforms = np.stack([np.random.default_rng(r.seed).random(limit) for r in batch])
        width = max(len(r.prompt_ids) for r in batch)
        pad = int(self._stops[0])
        ids = torch.tensor([[pad] * (width - len(r.prompt_ids)) + list(r.prompt_ids) for r in batch], device=self._device)
        lengths = torch.tensor([len(r.prompt_ids) for r in batch], device=self._device)
        mask = (torch.arange(width, device=self._device) >= (width - lengths)[:, None]).long()
        position = (mask.cumsum(1) - 1).clamp(min=0)
        rows = np.arange(len(batch))
        alive = torch.ones(len(batch), dtype=torch.bool, device=self._device)
        cache = DynamicCache(config=self._model.config)
        out: list[list[int]] = [[] for _ in batch]
        stopped = [False] * len(batch)
        for step in range(limit):
            logits = self._model(
                input_ids=ids, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True, logits_to_keep=1
            ).logits[:, -1]
            token = sample(logits.float(), [batch[i] for i in rows], torch.as_tensor(uniforms[rows, step], device=self._device))
            ended = torch.isin(token, self._stops)
            for i, t, live, end in zip(rows, token.tolist(), alive.tolist(), ended.tolist(), strict=True):
                if live:
                    out[i].append(t)
                    stopped[i] = end
            full = torch.as_tensor(step + 1 >= limits[rows], device=self._device)
            alive = alive & ~ended & ~full
            if not alive.any():
                break
            ids, position = token[:, None], position[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            if alive.sum() < 0.75 * len(rows):  # copying the cache costs about a step, so only now and then
                keep = alive.nonzero()[:, 0]
                cache.batch_select_indices(keep)
                ids, position, mask, rows, alive = ids[keep], position[keep], mask[keep], rows[keep.cpu().numpy()], alive[keep]
        return list(zip(out, stopped, strict=True))


def sample(logits: torch.Tensor, requests: list[Request], uniform: torch.Tensor) -> torch.Tensor:
    """Next tokens [B] from logits [B, V] by inverse CDF at uniform [B]; temperature and top_p are each request's."""
    temperature = torch.tensor([r.sampling.temperature for r in requests], device=logits.device)
    top_p = torch.tensor([r.sampling.top_p for r in requests], device=logits.device)
    probability = torch.softmax(logits / temperature.clamp(min=1e-6)[:, None], dim=-1, dtype=torch.float64)
    if (top_p < 1).any():
        ordered, order = probability.sort(dim=-1, descending=True)
        ordered[ordered.cumsum(-1) - ordered >= top_p[:, None]] = 0
        probability = torch.zeros_like(probability).scatter(-1, order, ordered)
    cumulative = probability.cumsum(-1)
    token = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)[:, 0].clamp(
        max=logits.shape[-1] - 1
    )
    return torch.where(temperature > 0, token, logits.argmax(-1))
