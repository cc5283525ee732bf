"""What an engine is: requests in, completions out, every token counted."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from itscale.errors import UserError, refuse_below
from itscale.models.confidence import Confidence
from itscale.models.prompts import PromptSettings


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample; temperature 0 is greedy. `top_k` (0: off), `min_p` and `top_p` leave out improbable tokens.

    None is what a server does of itself; a model in this process then takes temperature 1, top_p 1, and as many tokens as its
    window holds. As in vLLM, min_p (relative to the most probable token) comes before top_k, and the nucleus is of what is left.
    `repetition_penalty` is CTRL's, over prompt and completion (1: off). A completion ends before the first of the strings in
    `stop`. `confidence` has the engine return log-probabilities, summed up (`itscale.models.confidence`).
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    confidence: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", tuple(self.stop))
        refuse_below(0, self, *(["temperature"] if self.temperature is not None else []), "top_k", "min_p")
        if self.max_tokens is not None:
            refuse_below(1, self, "max_tokens")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}: give a share above 0 and at most 1.")
        if self.min_p > 1:
            raise UserError(f"min_p is {self.min_p}: give a share of at most 1.")
        if not self.repetition_penalty > 0:
            raise UserError(f"repetition_penalty is {self.repetition_penalty}: give a number above 0, 1 for none.")
        if not all(self.stop):
            raise UserError("stop holds an empty string: leave it out.")

    @property
    def heat(self) -> float:
        """The temperature of a model in this process."""
        return 1.0 if self.temperature is None else self.temperature

    @property
    def nucleus(self) -> float:
        """The top_p of a model in this process."""
        return 1.0 if self.top_p is None else self.top_p


# What a server may be sent beside the model and the messages, by our names.
PARAMETERS = frozenset(f.name for f in fields(Sampling) if f.name != "confidence") | {
    *("seed", "stream", "stream_options", "continuous_usage_stats", "logprobs", "top_logprobs", "chat_template_kwargs")
}


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to draw; its seed alone decides it, on one machine and engine. The prompt is what `encode` returned."""

    request_id: str
    prompt_ids: tuple[int, ...] | str
    sampling: Sampling
    seed: int


class Finish(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    LENGTH = "length"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens so far; `aborted` are completion tokens of requests that were cut short, whose prompts count in `prompt`."""

    prompt: int = 0
    cached_prompt: int = 0
    completion: int = 0
    aborted: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished request. `token_ids` end with the stop token where there was one; text is without it.

    A server sends text and counts, no ids: then `token_ids` is empty and `counted` is its number of completion tokens.
    `lost` is what attempts at this request that broke off had cost. `failure` says why there is no completion, where it failed.
    `estimated`: a server did not count these tokens. `confidence` is there where the request asked for it and the engine has it.
    A text that is kept elsewhere is None here.
    """

    request_id: str
    token_ids: Sequence[int]
    text: str | None
    finish: Finish
    prompt_tokens: int
    cached_prompt_tokens: int
    counted: int | None = None
    lost: Usage = Usage()
    failure: str | None = None
    estimated: bool = False
    confidence: Confidence | None = None

    @property
    def completion_tokens(self) -> int:
        return len(self.token_ids) if self.counted is None else self.counted


def completion(
    tokenizer: Any,
    request: Request,
    ids: tuple[int, ...],
    *,
    stopped: bool,
    ended: bool,
    cached_prompt_tokens: int = 0,
    confidence: Confidence | None = None,
) -> Completion:
    """A finished request from its ids, which stopped of itself or ran to its limit; `ended`: the last id is a stop token."""
    written = ids[:-1] if ended else ids
    text = cut_at_stop(
        tokenizer.decode(written, skip_special_tokens=False, clean_up_tokenization_spaces=False), request.sampling.stop
    )
    finish = Finish.STOP if stopped else Finish.LENGTH
    return Completion(request.request_id, ids, text, finish, len(request.prompt_ids), cached_prompt_tokens, confidence=confidence)


def cut_at_stop(text: str, stop: tuple[str, ...]) -> str:
    """The text before the first of the strings that end a completion."""
    found = [place for place in map(text.find, stop) if place >= 0]
    return text[: min(found)] if found else text


def failed(request: Request, reason: str, lost: Usage = Usage()) -> Completion:
    """A request that came to nothing."""
    return Completion(request.request_id, (), "", Finish.FAILED, 0, 0, counted=0, lost=lost, failure=reason)


def part_long(requests: list[Request], window: int) -> tuple[list[Request], list[Completion]]:
    """The requests that leave room for an answer in a model's window of tokens, and the others as failed."""
    long = [r for r in requests if len(r.prompt_ids) >= window]
    reasons = [f"the prompt has {len(r.prompt_ids)} tokens, which leaves no room in the model's window of {window}" for r in long]
    fits = [r for r in requests if len(r.prompt_ids) < window]
    return fits, [failed(request, reason) for request, reason in zip(long, reasons, strict=True)]


class Engine(Protocol):
    """Continuous generation; `slots` requests run together, further ones wait inside.

    An engine that computes many prompts before it draws a token carries `prompts_read`, how many it has computed.
    """

    slots: int
    prompts: PromptSettings

    @property
    def outstanding(self) -> int:
        """Requests that were submitted and neither came back nor were aborted."""
        ...

    def encode(self, question: str, previous: str | None) -> tuple[int, ...] | str: ...

    def submit(self, requests: list[Request]) -> None:
        """Take requests on; one that cannot be served comes back from `poll` as failed."""
        ...

    def poll(self) -> list[Completion]:
        """Work for a while and return what has finished, perhaps nothing yet."""
        ...

    def under_way(self) -> int:
        """Completion tokens that requests in flight have so far."""
        ...

    def abort(self, request_ids: list[str]) -> dict[str, Usage]:
        """Cut requests short; what each of them had cost. One that has finished is not in it: it comes from `poll`."""
        ...

    def usage(self) -> Usage: ...

    def close(self) -> None: ...


def reading(engine: Engine) -> dict[str, int]:
    """What a bar shows of prompts that are computed; nothing of an engine that does not say."""
    read = getattr(engine, "prompts_read", None)
    return {} if read is None else {"prompts": read}


class ReloadingEngine(Engine, Protocol):
    """An engine in this process, whose model can be replaced while it is open."""

    def reload(self, folder: Path) -> None:
        """Take over the weights of a model folder of the same shape; nothing may be outstanding. Caches are dropped."""
        ...
