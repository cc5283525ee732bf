"""What an engine is: requests in, completions out, every token counted."""

from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from itscale.errors import UserError, refuse_below


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample; temperature 0 is greedy."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256

    def __post_init__(self) -> None:
        refuse_below(0, self, "temperature")
        refuse_below(1, self, "max_tokens")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}: give a share above 0 and at most 1.")


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
    `lost` is what attempts at this request that broke off had cost.
    """

    request_id: str
    token_ids: tuple[int, ...]
    text: str
    finish: Finish
    prompt_tokens: int
    cached_prompt_tokens: int
    counted: int | None = None
    lost: Usage = Usage()

    @property
    def completion_tokens(self) -> int:
        return len(self.token_ids) if self.counted is None else self.counted


def completion(
    tokenizer: Any, request_id: str, ids: tuple[int, ...], *, stopped: bool, prompt_tokens: int, cached_prompt_tokens: int = 0
) -> Completion:
    """A finished request from its ids, of which the last is the stop token if it stopped."""
    written = ids[:-1] if stopped else ids
    text = tokenizer.decode(written, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    finish = Finish.STOP if stopped else Finish.LENGTH
    return Completion(request_id, ids, text, finish, prompt_tokens, cached_prompt_tokens)


def refuse_long(requests: list[Request], window: int) -> None:
    """Refuse prompts that leave no room for an answer in a model's window of tokens.

    Raises:
        UserError: the first such prompt.
    """
    for request in requests:
        if len(request.prompt_ids) >= window:
            raise UserError(
                f"the prompt of sample {request.request_id} has {len(request.prompt_ids)} tokens, the model's window {window}: "
                "leave this question out, or take a model with a longer window."
            )


class Engine(Protocol):
    """Continuous generation; `slots` requests run together, further ones wait inside."""

    slots: int

    @property
    def outstanding(self) -> int:
        """Requests that were submitted and neither came back nor were aborted."""
        ...

    def encode(self, question: str, previous: str | None) -> tuple[int, ...] | str: ...

    def submit(self, requests: list[Request]) -> None:
        """Take requests on; a UserError refuses them all where a prompt does not fit the model's window."""
        ...

    def poll(self) -> list[Completion]:
        """Work for a while and return what has finished, perhaps nothing yet."""
        ...

    def abort(self, request_ids: list[str]) -> dict[str, Usage]:
        """Cut requests short; what each of them had cost. One that has finished is not in it: it comes from `poll`."""
        ...

    def usage(self) -> Usage: ...

    def close(self) -> None: ...


class ReloadingEngine(Engine, Protocol):
    """An engine in this process, whose model can be replaced while it is open."""

    def reload(self, folder: Path) -> None:
        """Take over the weights of a model folder of the same shape; nothing may be outstanding. Caches are dropped."""
        ...
