"""Continuous sampling with transformers: a step adds a token to every row in flight, freed rows are filled again.

Every token takes one uniform number of its own request's generator, so a sample does not depend on what else is in flight (but
for rounding: a matrix product of another height may round otherwise, most of all in half precision). A prompt is computed once
for all its samples that are outstanding together; each of them counts it. Where memory runs out, what is in flight begins anew
in half the rows, to the same samples.
"""

import sys
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from itscale.engines.cache import Prefilled, RowCache, prefill, refuse_other_memory, use_grouped_attention
from itscale.engines.packed import pack, take_weights
from itscale.engines.protocol import Completion, Request, Usage, completion, part_long
from itscale.engines.sampling import Rules, draw, log_probabilities, penalise
from itscale.models.confidence import ALTERNATIVES, Gauge
from itscale.models.hub import model_files, stop_tokens
from itscale.models.memory import give_back_large_blocks, halved, out_of_memory
from itscale.models.precision import precision
from itscale.models.prompts import PLAIN, PromptSettings, render

_NUMBERS = 64  # uniform numbers that are drawn at once
_PATIENCE = 8  # steps after which even one free row is filled: a prompt costs about a step
_PREFILL = 8192  # prompt tokens of one pass


@dataclass(slots=True)
class _Row:
    """A request in flight: its next uniform numbers, and the tokens that it has."""

    request: Request
    limit: int
    numbers: np.random.Generator
    ahead: list[float] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    gauge: Gauge = field(default_factory=Gauge)

    def number(self) -> float:
        if not self.ahead:
            self.ahead = self.numbers.random(_NUMBERS)[::-1].tolist()
        return self.ahead.pop()


class TransformersEngine:
    """Implements `Engine`."""

    def __init__(self, model: str | Path, batch_size: int, prompts: PromptSettings = PLAIN, dtype: str = "auto") -> None:
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        # cuDNN's attention makes a plan for every new length, and every step has one: that took three quarters of the time.
        torch.backends.cuda.enable_cudnn_sdp(False)
        with model_files(model):
            self._tokenizer = AutoTokenizer.from_pretrained(model)
            self._model = self._load(model, precision(model, dtype), batch_size)
            self._stops = stop_tokens(model, self._tokenizer)
        self.prompts = prompts
        self.window: int = getattr(self._model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
        self.slots = batch_size
        self._waiting: deque[Request] = deque()
        self._ready: list[Completion] = []
        self._rows: list[_Row] = []
        self._outstanding: Counter[tuple[int, ...]] = Counter()
        self._prefilled: dict[tuple[int, ...], Prefilled] = {}
        self._cache: RowCache | None = None
        self._rules = Rules.of([])
        self._idle = 0
        self._usage = Usage()
        self.prompts_read = 0  # prompts computed so far

    def _load(self, folder: str | Path, dtype: str, rows: int) -> PreTrainedModel:
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, dtype=dtype)
        refuse_other_memory(model.config)
        use_grouped_attention(model)
        model = model.to(self._device).eval()
        give_back_large_blocks(model)
        pack(model, rows)
        return model

    def encode(self, question: str, previous: str | None) -> tuple[int, ...]:
        return tuple(render(self._tokenizer, question, previous, self.prompts))

    @property
    def outstanding(self) -> int:
        return len(self._waiting) + len(self._rows) + len(self._ready)

    def submit(self, requests: list[Request]) -> None:
        requests, long = part_long(requests, self.window)
        self._ready += long
        self._waiting.extend(requests)
        self._outstanding.update(r.prompt_ids for r in requests)

    def abort(self, request_ids: list[str]) -> dict[str, Usage]:
        gone = set(request_ids)
        cut = {r.request_id: Usage() for r in self._waiting if r.request_id in gone}
        self._forget([r for r in self._waiting if r.request_id in gone])
        self._waiting = deque(r for r in self._waiting if r.request_id not in gone)
        rows = [i for i, row in enumerate(self._rows) if row.request.request_id in gone]
        for row in (self._rows[i] for i in rows):
            cut[row.request.request_id] = Usage(prompt=len(row.request.prompt_ids), aborted=len(row.ids))
        self._drop(rows)
        self._usage = sum(cut.values(), self._usage)
        return cut

    def reload(self, folder: Path) -> None:
        # Into the weights that are there, so that no second model lies beside them.
        fresh = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, dtype=self._model.dtype)
        take_weights(self._model, fresh)

    def under_way(self) -> int:
        return sum(len(row.ids) for row in self._rows)

    def usage(self) -> Usage:
        return self._usage

    def close(self) -> None:
        self._ready.clear()
        self.abort([r.request_id for r in [*self._waiting, *(row.request for row in self._rows)]])

    def poll(self) -> list[Completion]:
        try:
            self._step()
            fits = True
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            fits = False
        if not fits:  # here, where the error no longer holds on to what had been allocated
            waiting = {r.request_id for r in self._waiting}
            again = [row.request for row in self._rows if row.request.request_id not in waiting]
            size = len(again) or min(self.slots, len(self._waiting))
            self._rows, self._cache, self._prefilled, self._rules = [], None, {}, Rules.of([])
            self._waiting.extendleft(reversed(again))
            self.slots = halved(size, "requests")
        ready, self._ready = self._ready, []
        self._usage = sum((Usage(prompt=c.prompt_tokens, completion=c.completion_tokens) for c in ready), self._usage)
        return ready

    @torch.inference_mode()
    def _step(self) -> None:
        """Fill free rows, then add a token to every row."""
        free = min(self.slots - len(self._rows), len(self._waiting))
        self._idle = self._idle + 1 if free else 0
        if free and (not self._rows or self._idle >= _PATIENCE or 4 * free >= self.slots):
            if not self._read(free):  # the next poll goes on, so that who waits sees it
                return
            self._idle = 0
            self._admit(free)
        if not self._rows:
            return
        cache = self._cache
        logits = self._model(
            input_ids=torch.tensor([[row.ids[-1]] for row in self._rows], device=self._device),
            attention_mask=cache.mask().to(self._device, torch.long),
            position_ids=cache.lengths[:, None].to(self._device),
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        cache.advance()
        self._extend(logits, range(len(self._rows)))

    def _read(self, count: int) -> bool:
        """Compute the prompts of the next requests, one pass of them; whether all are there."""
        wanted = dict.fromkeys(self._waiting[i].prompt_ids for i in range(count))
        left = sorted((prompt for prompt in wanted if prompt not in self._prefilled), key=len)
        if left:
            part = left[-max(1, _PREFILL // len(left[-1])) :]
            self._prefilled |= zip(part, prefill(self._model, part, next(iter(self._stops))), strict=True)
            self.prompts_read += len(part)
            return len(part) == len(left)
        return True

    def _admit(self, count: int) -> None:
        """Begin the next requests, whose prompts have been computed, with each one's first token."""
        requests = [self._waiting[i] for i in range(count)]
        longest = max(len(r.prompt_ids) for r in requests)
        if self._cache is None:
            self._cache = RowCache(self.slots, self._prefilled[requests[0].prompt_ids])
        self._cache.reserve(count, longest)
        begun = len(self._rows)
        for prompt, copies in Counter(r.prompt_ids for r in requests).items():
            self._cache.admit(self._prefilled[prompt], copies)
            for request in (r for r in requests if r.prompt_ids == prompt):
                room = self.window - len(prompt)
                limit = min(request.sampling.max_tokens or room, room)
                self._rows.append(_Row(request, limit, np.random.default_rng(request.seed)))
        for _ in requests:
            self._waiting.popleft()
        self._ruled()
        new = range(begun, len(self._rows))
        self._extend(torch.stack([self._prefilled[self._rows[i].request.prompt_ids].logits for i in new]), new)
        if self._rows:
            self._rows = [self._rows[i] for i in self._cache.sort()]
            self._ruled()

    def _extend(self, logits: torch.Tensor, rows: range) -> None:
        """Draw the next token of some rows from their logits [rows, V]; rows that end leave."""
        begun = [self._rows[i] for i in rows]
        numbers = torch.tensor([row.number() for row in begun], dtype=torch.float64, device=logits.device)
        seen = [(*row.request.prompt_ids, *row.ids) if row.request.sampling.repetition_penalty != 1 else () for row in begun]
        allowed = penalise(logits, seen, [row.request.sampling.repetition_penalty for row in begun])
        tokens = draw(allowed, self._rules.rows(slice(rows.start, rows.stop)), numbers)
        if gauged := [i for i, row in enumerate(begun) if row.request.sampling.confidence]:
            # A list would copy the logits, which are a vocabulary wide.
            part = slice(None) if len(gauged) == len(begun) else gauged
            chosen, best = log_probabilities(logits[part], tokens[part], ALTERNATIVES)
            for i, p, mean in zip(gauged, chosen.tolist(), best.mean(1).tolist(), strict=True):
                begun[i].gauge.add_mean(p, mean)
        ended = []
        for i, row, token in zip(rows, begun, tokens.tolist(), strict=True):
            row.ids.append(token)
            at_end = token in self._stops
            stopped = at_end or self._says_stop(row)
            if stopped or len(row.ids) >= row.limit:
                ended.append(i)
                ids, confidence = tuple(row.ids), row.gauge.read()
                self._ready.append(
                    completion(self._tokenizer, row.request, ids, stopped=stopped, ended=at_end, confidence=confidence)
                )
        self._drop(ended)

    def _says_stop(self, row: _Row) -> bool:
        """Whether the latest token completes one of the request's stop strings."""
        stop = row.request.sampling.stop
        if not stop:
            return False
        # A token is at least a byte of text; a little more, since the first ones may be parts of a character.
        latest = row.ids[-(max(len(text.encode()) for text in stop) + 8) :]
        text = self._tokenizer.decode(latest, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return any(ending in text for ending in stop)

    def _drop(self, rows: list[int]) -> None:
        """Take rows out of the batch."""
        if not rows:
            return
        self._forget([self._rows[i].request for i in rows])
        order = self._cache.drop(rows)
        self._rows = [self._rows[i] for i in order]
        if not (self._rows or self._waiting):
            self._cache = None  # its memory is others' until there is more to draw
        self._ruled()

    def _forget(self, requests: Sequence[Request]) -> None:
        """Let go of prompts of which no sample is outstanding any more."""
        self._outstanding.subtract(r.prompt_ids for r in requests)
        for prompt in {r.prompt_ids for r in requests}:
            if self._outstanding[prompt] <= 0:
                del self._outstanding[prompt]
                self._prefilled.pop(prompt, None)

    def _ruled(self) -> None:
        self._rules = Rules.of([row.request.sampling for row in self._rows], self._device)
