"""An engine that serves a stored pool's samples, on a clock of its own: what a live run would have met, without a model.

The clock counts token steps; every running request advances by one token a step, as in a batch. Arrival orders other than
by length stretch each request's duration and keep its tokens.
"""

import heapq
import json
from collections import deque
from typing import Literal

import numpy as np
import pandas as pd

from itscale.data.records import CONFIDENCE, KEY
from itscale.engines.protocol import Completion, Finish, Request, Usage
from itscale.models.confidence import Confidence
from itscale.models.prompts import PLAIN

Arrival = Literal["length", "submission", "reverse", "random"]


class ReplayingEngine:
    """Implements `Engine` on a table of samples (schema SAMPLES or POOL).

    Arrival: `length`, every request takes as many steps as it has tokens; `submission`, the first submitted finishes
    first; `reverse`, the last submitted of those that run finishes first; `random`, any of those that run.
    """

    def __init__(self, samples: pd.DataFrame, slots: int, arrival: Arrival = "length", seed: int = 0) -> None:
        self.slots, self.prompts = slots, PLAIN
        columns = samples[[*KEY, "text", "finish_reason", "prompt_tokens", "cached_prompt_tokens", "completion_tokens"]]
        self._stored = {json.dumps(list(row[:4])): row[4:] for row in columns.itertuples(index=False, name=None)}
        kept = samples[list(CONFIDENCE)].to_numpy(float) if set(CONFIDENCE) <= set(samples) else ()
        self._confidence = dict(zip(self._stored, (Confidence(*row) for row in kept), strict=False))
        self._arrival = arrival
        self._rng = np.random.default_rng(seed)
        self._waiting: deque[str] = deque()
        self._running: dict[str, tuple[float, float]] = {}  # request -> start, end
        self._ends: list[tuple[float, str]] = []  # heap; may hold aborted requests
        self._usage = Usage()
        self._submitted = 0
        self.now = 0.0

    def encode(self, question: str, previous: str | None) -> str:
        return question

    @property
    def outstanding(self) -> int:
        return len(self._waiting) + len(self._running)

    def submit(self, requests: list[Request]) -> None:
        self._waiting.extend(r.request_id for r in requests)
        self._start()

    def _start(self) -> None:
        while self._waiting and len(self._running) < self.slots:
            request_id = self._waiting.popleft()
            self._submitted += 1
            end = self._end(self._stored[request_id][-1])
            self._running[request_id] = (self.now, end)
            heapq.heappush(self._ends, (end, request_id))

    def _end(self, tokens: int) -> float:
        match self._arrival:
            case "length":
                return self.now + tokens
            case "submission":
                return max(self.now, float(self._submitted))
            case "reverse":
                return self.now + 1 / self._submitted
            case "random":
                return self.now + self._rng.random()

    def poll(self) -> list[Completion]:
        while self._ends and self._ends[0][1] not in self._running:
            heapq.heappop(self._ends)
        if not self._ends:
            return []
        self.now, request_id = heapq.heappop(self._ends)
        del self._running[request_id]
        text, finish, prompt, cached, tokens = self._stored[request_id]
        self._usage += Usage(prompt, cached, tokens)
        self._start()
        known = Finish(finish) if finish in set(Finish) else Finish.STOP
        sure = self._confidence.get(request_id)
        return [Completion(request_id, (), text, known, prompt, cached, counted=tokens, confidence=sure)]

    def abort(self, request_ids: list[str]) -> dict[str, Usage]:
        cut = {}
        for request_id in request_ids:
            if request_id in self._waiting:
                self._waiting.remove(request_id)
                cut[request_id] = Usage()
            elif request_id in self._running:
                start, end = self._running.pop(request_id)
                *_, prompt, cached, tokens = self._stored[request_id]
                done = int(tokens * (self.now - start) / (end - start)) if end > start else 0
                cut[request_id] = Usage(prompt, cached, aborted=done)
        self._usage = sum(cut.values(), self._usage)
        self._start()
        return cut

    def under_way(self) -> int:
        return 0  # a stored sample comes whole

    def usage(self) -> Usage:
        return self._usage

    def close(self) -> None:
        self.abort([*self._waiting, *self._running])
