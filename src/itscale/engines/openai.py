"""Any OpenAI-compatible server, through the official client: streamed chat completions, several at once, cut short on demand.

The server renders the prompt and counts the tokens. The key comes from OPENAI_API_KEY and goes nowhere but into requests.
What is not done: no token ids, and what a server computes after its last message to a request that was cut short is unknown to
us.
"""

import asyncio
import json
import os
import queue
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass, field, fields
from email.utils import parsedate_to_datetime
from typing import Any

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from itscale.data.records import well_formed
from itscale.engines.dialect import Dialect
from itscale.engines.protocol import Completion, Request, Sampling, Usage, failed
from itscale.engines.replies import Reply, ServerSaysError, is_web_page, one_line
from itscale.errors import UserError
from itscale.models.confidence import ALTERNATIVES
from itscale.models.prompts import PLAIN, PromptSettings, message

_ATTEMPTS = 6
_POLL_S = 0.05
_BACKOFF = wait_random_exponential(multiplier=0.5, max=30)
_LONGEST_PAUSE_S = 300.0
# Seconds without a word; a server that does not stream says nothing until the completion is whole.
_SILENCE_S, _SILENCE_WHOLE_S = 600.0, 3600.0


class _BrokenOff(Exception):
    """A stream that ended before its completion did."""


def _passing(error: BaseException) -> bool:
    """May the same request succeed later?"""
    if isinstance(error, openai.APIStatusError):
        return error.code != "insufficient_quota" and (error.status_code in (408, 409, 429) or error.status_code >= 500)
    if isinstance(error, ServerSaysError):
        return error.status is None or error.status in (408, 409, 429) or error.status >= 500
    return isinstance(error, openai.APIError | _BrokenOff)


def _pause(state: RetryCallState) -> float:
    """Seconds until the next attempt: what the server asks for, else a random time that doubles."""
    error = state.outcome.exception() if state.outcome else None
    asked = _asked_pause(error.response.headers.get("retry-after", "")) if isinstance(error, openai.APIStatusError) else None
    return _BACKOFF(state) if asked is None else min(max(asked, 0.0), _LONGEST_PAUSE_S)


def _asked_pause(header: str) -> float | None:
    """Seconds of a Retry-After: a number, or a date."""
    try:
        return float(header)
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(header).timestamp() - time.time()
    except (TypeError, ValueError):
        return None


class _Events(openai.AsyncStream[object]):
    """The client's stream, which also tells whether the server said that it had ended."""

    done = False

    async def _iter_events(self) -> AsyncIterator[Any]:
        async for event in super()._iter_events():
            self.done = self.done or event.data.startswith("[DONE]")
            yield event


@dataclass(slots=True)
class _Job:
    """A request under way: what its broken attempts had cost, and what the present one has."""

    request: Request
    lost: Usage = field(default_factory=Usage)
    spent: Usage = field(default_factory=Usage)
    version: int = 0
    task: asyncio.Task | None = None

    def give_up(self) -> Usage:
        self.lost, self.spent = self.lost + self.spent, Usage()
        return self.lost


def _wanted(sampling: Sampling) -> dict[str, Any]:
    """What a request asks for by our names: nothing that nobody has set."""
    usual = {f.name: f.default for f in fields(sampling)}
    always = ("temperature", "top_p", "max_tokens")
    values = {name: getattr(sampling, name) for name in usual if name != "confidence"}
    wanted = {name: value for name, value in values.items() if name in always or value != usual[name]}
    return wanted | ({"logprobs": True, "top_logprobs": ALTERNATIVES} if sampling.confidence else {})


class OpenaiEngine:
    """Implements `Engine`; `slots` requests are open at once.

    `url` ends in `#MODEL` where the server offers more than one model. `parameters` says under which name the server takes a
    parameter, None for one that it does not take: temperature, top_p, max_tokens, seed, stream, stream_options and
    continuous_usage_stats (of vLLM). What it refuses with a message that names the parameter is found out (and said once).

    Raises:
        UserError: the server does not answer, is none, refuses the key, or does not offer the model.
    """

    remote = True  # tokens are somebody's money

    def __init__(
        self,
        url: str,
        slots: int,
        prompts: PromptSettings = PLAIN,
        parameters: Mapping[str, str | None] | None = None,
    ) -> None:
        self.slots = slots
        self.prompts = prompts
        self._url, _, name = url.partition("#")
        self._dialect = Dialect(self._url, parameters or {})
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
            self._model, self._running = self._await(self._find_model(name))
        except BaseException:
            self.close()
            raise

    @property
    def learnt(self) -> dict[str, str | None]:
        """Parameters that the server has refused so far: what they are sent as, None for those that are left out."""
        return self._dialect.learnt

    def _await(self, work: Coroutine) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _find_model(self, name: str) -> tuple[str, bool]:
        """The model's name, and whether the server can count with every message."""
        found: Any = None
        try:
            async for attempt in self._attempts(3):
                with attempt:
                    found = await self._client.get("/models", cast_to=object)
        except openai.APIStatusError as error:
            if error.status_code not in (400, 404, 405, 501):
                raise self._fatal(error) or UserError(f"{self._url}/models: {_served_badly(error)}.") from None
            if not name:
                raise UserError(
                    f"{self._url} has no list of models (status {error.status_code}): {self._advice()} If it is a server that "
                    f"lists none, name the model as {self._url}#MODEL."
                ) from None
            return name, False
        except json.JSONDecodeError:
            found = None
        except Exception as error:
            raise self._fatal(error) or error from None
        models = found.get("data") if isinstance(found, dict) else None
        if not isinstance(models, list):
            if isinstance(found, str) and is_web_page(found):
                raise UserError(f"{self._url}/models is a web page, no list of models: {self._advice()}")
            models = found if isinstance(found, list) else []
        by = {str(model["id"]): model for model in models if isinstance(model, dict) and model.get("id")}
        if not by and name:
            return name, False
        if not by:
            raise UserError(f"{self._url} lists no models: name one as {self._url}#MODEL.")
        if not name and len(by) != 1:
            raise UserError(f"{self._url} offers {', '.join(sorted(by)[:8])}: choose one as {self._url}#MODEL.")
        name = name or next(iter(by))
        if name not in by:
            raise UserError(f"{self._url} has no model {name!r}: it offers {', '.join(sorted(by)[:8])}.")
        return name, by[name].get("owned_by") == "vllm"

    def _advice(self) -> str:
        if self._url.rstrip("/").endswith("/v1"):
            return "check the address."
        return f"most servers want an address that ends in /v1, {self._url.rstrip('/')}/v1."

    def _attempts(self, most: int = _ATTEMPTS) -> AsyncRetrying:
        return AsyncRetrying(retry=retry_if_exception(_passing), wait=_pause, stop=stop_after_attempt(most), reraise=True)

    def encode(self, question: str, previous: str | None) -> str:
        if self.prompts.form == "forced" and previous is not None:
            raise UserError(
                "engine.prompt is forced, and a server's chat has no way to go on in a turn: draw with a local model."
            )
        return well_formed(message(question, previous, self.prompts))

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
                result = await self._persist(job)
        except Exception as error:
            result = self._fatal(error) or failed(job.request, _served_badly(error), job.give_up())
        del self._jobs[job.request.request_id]
        self._finished.put(result)

    async def _persist(self, job: _Job) -> Completion:
        """A completion, after as many attempts as are worth while."""
        while True:
            try:
                async for attempt in self._attempts():
                    with attempt:
                        job.give_up()
                        result = await self._ask(job)
                return result
            except openai.APIStatusError as error:
                if error.status_code not in (400, 422):
                    raise
                parameter = error.param if isinstance(error.param, str) else None
                sent = self._parameters(job.request)
                if not self._dialect.learn(job.version, sent, _words_of(error), parameter):
                    raise

    def _parameters(self, request: Request) -> dict[str, Any]:
        """A request's parameters by our names."""
        streamed = self._dialect.takes("stream")
        counting = streamed and self._dialect.takes("stream_options")
        return {
            **_wanted(request.sampling),
            "chat_template_kwargs": dict(self.prompts.template_arguments) or None,
            "seed": request.seed,
            "stream": True if streamed else None,
            "stream_options": {"include_usage": True} if counting else None,
            # vLLM can count with every message, so that what was cut short is known.
            "continuous_usage_stats": True if counting and self._running else None,
        }

    async def _ask(self, job: _Job) -> Completion:
        job.version = self._dialect.version
        said = self._dialect.spoken(self._parameters(job.request))
        if running := said.pop("continuous_usage_stats", False):
            said["stream_options"] |= {"continuous_usage_stats": True}
        before = [{"role": "system", "content": self.prompts.system_prompt}] if self.prompts.system_prompt else []
        messages = [*before, {"role": "user", "content": job.request.prompt_ids}]
        body = {"model": self._model, "messages": messages, **said}
        reply = Reply()
        if "stream" not in said:
            options = {"timeout": _SILENCE_WHOLE_S}
            try:
                answer = await self._client.post("/chat/completions", cast_to=object, body=body, options=options)
            except json.JSONDecodeError as error:
                raise _BrokenOff(f"what came is not JSON ({error.msg})") from None
            reply.hear(_json(answer))
            return self._completion(job, reply, whole=reply.ended(done=True, running=False))
        options = {"timeout": _SILENCE_S}
        async with await self._client.post(
            "/chat/completions", cast_to=object, body=body, options=options, stream=True, stream_cls=_Events
        ) as stream:
            kind = stream.response.headers.get("content-type", "")
            if "json" in kind or "html" in kind:  # the server does not stream, whatever it was asked
                reply.hear(_json((await stream.response.aread()).decode("utf-8", "replace")))
                return self._completion(job, reply, whole=reply.ended(done=True, running=False))
            try:
                async for message in stream:
                    reply.hear(message)
                    self._note(job, reply)
            except json.JSONDecodeError as error:
                raise _BrokenOff(f"a message of the stream is not JSON ({error.msg})") from None
        return self._completion(job, reply, whole=reply.ended(done=stream.done, running=bool(running)))

    def _note(self, job: _Job, reply: Reply) -> None:
        """What a request would have cost if it were cut short now."""
        count = reply.count(job.request.prompt_ids, self._prompts.get(job.request.prompt_ids))
        job.spent = Usage(count.prompt, count.cached_prompt, aborted=count.completion)

    def _completion(self, job: _Job, reply: Reply, *, whole: bool) -> Completion:
        request = job.request
        if not whole:
            raise _BrokenOff("the stream broke off")
        count = reply.count(request.prompt_ids, self._prompts.get(request.prompt_ids))
        if not count.estimated:
            self._prompts[request.prompt_ids] = count.prompt
        finish = reply.finish(count.completion, request.sampling.max_tokens)
        return Completion(
            request.request_id,
            (),
            reply.text(finish),
            finish,
            count.prompt,
            count.cached_prompt,
            counted=count.completion,
            lost=job.lost,
            estimated=count.estimated,
            confidence=reply.confidence,
        )

    def poll(self) -> list[Completion]:
        came: list[Completion] = []
        while self._outstanding:
            try:
                result = self._finished.get(timeout=0 if came else _POLL_S)
            except queue.Empty:
                break
            if isinstance(result, BaseException):
                raise result from None
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

    def under_way(self) -> int:
        return sum(job.spent.aborted for job in list(self._jobs.values()))

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

    def _fatal(self, error: BaseException) -> BaseException | None:
        """What ends the job, since no other request would fare better; None where it is this request's own failure.

        The server's own words on a refused key are left out, they may quote it.
        """
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return UserError(f"{self._url} refuses the key (status {error.status_code}): set OPENAI_API_KEY.")
        if isinstance(error, openai.APIStatusError) and error.status_code == 404:
            return UserError(
                f"{self._url} has no chat completions of the model {getattr(self, '_model', '')!r} (status 404: "
                f"{_words_of(error)}): {self._advice()}"
            )
        if isinstance(error, openai.APIStatusError) and (error.status_code == 402 or error.code == "insufficient_quota"):
            return UserError(f"{self._url} wants to be paid first ({_words_of(error)}): see to the account.")
        if isinstance(error, _WebPage):
            return UserError(f"{self._url} answers with a web page where a completion was to come: {self._advice()}")
        if isinstance(error, openai.APIConnectionError) and not isinstance(error, openai.APITimeoutError):
            if hasattr(self, "_model"):
                return UserError(
                    f"{self._url} has stopped answering ({type(error).__name__}): see what the server printed last and start it "
                    "again; the same command continues."
                )
            return UserError(f"{self._url} does not answer ({type(error).__name__}): start the server or check the address.")
        return None if isinstance(error, openai.APIError | ServerSaysError | _BrokenOff) else error


class _WebPage(Exception):
    """What came is HTML."""


def _json(said: Any) -> Any:
    """An answer that is JSON, or was sent as another kind of text."""
    if not isinstance(said, str):
        return said
    if is_web_page(said):
        raise _WebPage
    try:
        return json.loads(said)
    except json.JSONDecodeError:
        raise ServerSaysError(f"no JSON, but {one_line(said, 80)!r}") from None


def _words_of(error: openai.APIError) -> str:
    """What a server said with an error, as far as it used words."""
    body = error.body
    return one_line((body.get("message") or body.get("detail") or body) if isinstance(body, dict) else body or error.message)


def _served_badly(error: BaseException) -> str:
    """Why a request came to nothing, blamed on whoever is to blame."""
    if isinstance(error, openai.APIStatusError):
        words = _words_of(error)
        if error.status_code == 429:
            return f"the server was too busy {_ATTEMPTS} times (status 429: {words})"
        if error.status_code >= 500:
            return f"the server failed {_ATTEMPTS} times (status {error.status_code}: {words})"
        return f"the server refuses the request (status {error.status_code}: {words})"
    if isinstance(error, openai.APITimeoutError):
        return "the server said nothing for too long"
    if isinstance(error, openai.APIError):
        return f"the server broke off with an error ({_words_of(error)})"
    if isinstance(error, ServerSaysError):
        return f"the server sent an error in place of a completion ({error})"
    return f"the server ended its answer in the middle {_ATTEMPTS} times ({error})"
