"""Any OpenAI-compatible server, through the official client: streamed chat completions, several at once, cut short on demand.

The server renders the prompt and counts the tokens. The key comes from OPENAI_API_KEY and goes nowhere but into requests.
What is not done: no probabilities, no token ids, and what a server computes after its last message to a request that was cut
short is unknown to us.
"""

import asyncio
import os
import queue
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from itscale.engines.protocol import Completion, Finish, Request, Usage
from itscale.errors import UserError
from itscale.models.prompts import user_turn

_ATTEMPTS = 6
_POLL_S = 0.05
_BACKOFF = wait_random_exponential(multiplier=0.5, max=30)


class _BrokenOff(Exception):
    """A stream that ended before its completion did."""


def _passing(error: BaseException) -> bool:
    """May the same request succeed later?"""
    if isinstance(error, openai.APIStatusError):
        return error.status_code in (408, 409, 429) or error.status_code >= 500
    return isinstance(error, openai.APIError | _BrokenOff)


def _pause(state: RetryCallState) -> float:
    """Seconds until the next attempt: what the server asks for, else a random time that doubles."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.response.headers.get("retry-after", "") if isinstance(error, openai.APIStatusError) else ""
    return min(float(asked), 60.0) if asked.replace(".", "", 1).isdigit() else _BACKOFF(state)


@dataclass(slots=True)
class _Job:
    """A request under way: what its broken attempts had cost, and what the present one has."""

    request: Request
    lost: Usage = field(default_factory=Usage)
    spent: Usage = field(default_factory=Usage)
    task: asyncio.Task | None = None

    def give_up(self) -> Usage:
        self.lost, self.spent = self.lost + self.spent, Usage()
        return self.lost


class OpenaiEngine:
    """Implements `Engine`; `slots` requests are open at once.

    `url` ends in `#MODEL` where the server offers more than one model.

    Raises:
        UserError: the server does not answer, refuses the key, or does not offer the model.
    """

    def __init__(self, url: str, slots: int, instruction: str = "") -> None:
        self.slots = slots
        self._instruction = instruction
        self._url, _, name = url.partition("#")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai", daemon=True)
        self._thread.start()
        key = os.environ.get("OPENAI_API_KEY") or "none"  # many servers want none
        self._client = openai.AsyncOpenAI(base_url=self._url, api_key=key, max_retries=0)
        self._permits = asyncio.Semaphore(slots)
        self._jobs: dict[str, _Job] = {}  # the loop's own
        self._finished: queue.Queue[Completion | BaseException] = queue.Queue()
        self._outstanding: set[str] = set()
        self._prompts: dict[str, int] = {}
        self._usage = Usage()
        try:
            self._model, self._options = self._await(self._find_model(name))
        except BaseException:
            self.close()
            raise

    def _await(self, work: Coroutine) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _find_model(self, name: str) -> tuple[str, dict[str, bool]]:
        try:
            async for attempt in self._attempts(3):
                with attempt:
                    models = {model.id: model async for model in await self._client.models.list()}
        except Exception as error:
            raise self._sentence(error) from None
        if not name and len(models) != 1:
            raise UserError(f"{self._url} offers {', '.join(sorted(models)[:8])}: choose one as {self._url}#MODEL.")
        name = name or next(iter(models))
        if name not in models:
            raise UserError(f"{self._url} has no model {name!r}: it offers {', '.join(sorted(models)[:8])}.")
        # vLLM can count with every message, so that what was cut short is known; other servers refuse the option.
        running = {"continuous_usage_stats": True} if models[name].owned_by == "vllm" else {}
        return name, {"include_usage": True, **running}

    def _attempts(self, most: int = _ATTEMPTS) -> AsyncRetrying:
        return AsyncRetrying(retry=retry_if_exception(_passing), wait=_pause, stop=stop_after_attempt(most), reraise=True)

    def encode(self, question: str, previous: str | None) -> str:
        return user_turn(question + self._instruction, previous)

    @property
    def outstanding(self) -> int:
        return len(self._outstanding)

    def submit(self, requests: list[Request]) -> None:
        self._outstanding.update(r.request_id for r in requests)
        self._await(self._begin(requests))

    async def _begin(self, requests: list[Request]) -> None:
        for request in requests:
            job = self._jobs[request.request_id] = _Job(request)
            job.task = self._loop.create_task(self._draw(job))

    async def _draw(self, job: _Job) -> None:
        result: Completion | BaseException
        try:
            async with self._permits:
                async for attempt in self._attempts():
                    with attempt:
                        job.give_up()
                        result = await self._stream(job)
        except Exception as error:
            result = error
        del self._jobs[job.request.request_id]
        self._finished.put(result)

    async def _stream(self, job: _Job) -> Completion:
        request, text, finish = job.request, [], None
        stream = await self._client.chat.completions.create(
            model=self._model,
            messages=[{"role": "user", "content": request.prompt_ids}],
            temperature=request.sampling.temperature,
            top_p=request.sampling.top_p,
            max_tokens=request.sampling.max_tokens,
            seed=request.seed,
            stream=True,
            stream_options=self._options,
        )
        usage = None
        async with stream:
            async for chunk in stream:
                for choice in chunk.choices:
                    text.append(choice.delta.content or "")
                    finish = choice.finish_reason or finish
                if chunk.usage is not None:
                    usage = chunk.usage
                    cached = (usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens) or 0
                    job.spent = Usage(usage.prompt_tokens, cached, aborted=usage.completion_tokens)
                elif chunk.choices:  # the server counts at the end only: until then every message is at least a token
                    known = self._prompts.get(request.prompt_ids, 0)
                    job.spent = Usage(known, 0, aborted=job.spent.aborted + bool(text[-1]))
        if finish is None:
            raise _BrokenOff(request.request_id)
        if usage is None:
            raise UserError(f"{self._url} sends no usage, so its tokens cannot be counted: use a server that does.")
        self._prompts[request.prompt_ids] = usage.prompt_tokens
        return Completion(
            request.request_id,
            (),
            "".join(text),
            Finish.LENGTH if finish == "length" else Finish.STOP,
            job.spent.prompt,
            job.spent.cached_prompt,
            counted=usage.completion_tokens,
            lost=job.lost,
        )

    def poll(self) -> list[Completion]:
        came: list[Completion] = []
        while self._outstanding:
            try:
                result = self._finished.get(timeout=0 if came else _POLL_S)
            except queue.Empty:
                break
            if isinstance(result, BaseException):
                raise self._sentence(result) from None
            self._outstanding.remove(result.request_id)
            self._usage += Usage(result.prompt_tokens, result.cached_prompt_tokens, result.completion_tokens) + result.lost
            came.append(result)
        return came

    def abort(self, request_ids: list[str]) -> dict[str, Usage]:
        cut = self._await(self._cancel(request_ids))
        self._outstanding -= cut.keys()
        self._usage = sum(cut.values(), self._usage)
        return cut

    async def _cancel(self, request_ids: list[str]) -> dict[str, Usage]:
        jobs = [self._jobs.pop(i) for i in request_ids if i in self._jobs]
        for job in jobs:
            job.task.cancel()
        await asyncio.gather(*(job.task for job in jobs), return_exceptions=True)  # their connections are closed now
        return {job.request.request_id: job.give_up() for job in jobs}

    def usage(self) -> Usage:
        return self._usage

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self.abort(list(self._outstanding))
        self._await(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _sentence(self, error: BaseException) -> BaseException:
        """What to tell the user; the server's own words on a refused key are left out, they may quote it."""
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return UserError(f"{self._url} refuses the key (status {error.status_code}): set OPENAI_API_KEY.")
        if isinstance(error, openai.APIStatusError):
            return UserError(f"{self._url} answers with status {error.status_code} ({error.message[:300]}): correct the request.")
        if isinstance(error, openai.APIError | _BrokenOff):
            return UserError(f"{self._url} does not answer ({type(error).__name__}): start the server or check the address.")
        return error
