"""What servers that call themselves OpenAI-compatible say, read tolerantly: text, thinking, why it ended, and tokens.

Fields may be null, missing, a list of parts in place of a text, or named otherwise. Nothing is invented: where a server does not
count (or says 0 of a text that is there), the count is an estimate and says so.
"""

import re
from dataclasses import dataclass
from typing import Any

from itscale.data.records import well_formed
from itscale.engines.protocol import Finish
from itscale.models.confidence import Confidence, Gauge

# A token of English text.
_CHARACTERS = 4
_CUT = ("length", "max_tokens", "max_output_tokens", "model_length")
_WEB_PAGE = re.compile(r"\s*<(!doctype|html|head|body)\b", re.IGNORECASE)


class ServerSaysError(Exception):
    """An error that came where a completion was to come; `status` where it names one."""

    def __init__(self, said: Any) -> None:
        self.status: int | None = None
        words = said
        if isinstance(said, dict):
            words = said.get("message") or said.get("detail") or said
            code = said.get("code") or said.get("status")
            self.status = int(code) if str(code).isdigit() else None
        super().__init__(one_line(words))


def one_line(said: Any, most: int = 300) -> str:
    """What a server said, on one line; a web page is named and not quoted."""
    text = " ".join(str(said).split())
    return "a web page" if is_web_page(text) else text[:most]


def is_web_page(text: str) -> bool:
    """Whether a text is HTML, which no such server sends: the address is another one's."""
    return _WEB_PAGE.match(text) is not None


@dataclass(frozen=True, slots=True)
class Count:
    """Tokens of a completion so far; `estimated` where the server's own numbers do not say all of it."""

    prompt: int
    cached_prompt: int
    completion: int
    estimated: bool


def _items(value: Any) -> list[dict[str, Any]]:
    """Objects in what is a list of them, one of them, or nothing."""
    return [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, dict)]


def _words(value: Any) -> tuple[str, str]:
    """(thinking, text) of a content: a text, or parts of a text; other parts (images, calls) are nothing."""
    if isinstance(value, str):
        return "", value
    thinking, text = "", ""
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, str):
            text += part
        elif isinstance(part, dict):
            thinking += "".join(_words(part.get("thinking") or part.get("reasoning")))
            inner = _words(part.get("text") or part.get("content"))
            thinking, text = thinking + inner[0], text + inner[1]
    return thinking, text


def _count(usage: dict[str, Any], *names: str) -> int | None:
    """The first of some counts that is there and not 0."""
    return next((value for name in names if isinstance(value := usage.get(name), int) and value > 0), None)


class Reply:
    """A completion as it comes, message by message (or in one)."""

    def __init__(self) -> None:
        self._thinking: list[str] = []
        self._text: list[str] = []
        self._spoken = 0  # messages that had words
        self._finish: str | None = None
        self._prompt: int | None = None
        self._cached = 0
        self._completions: list[int] = []
        self._total: int | None = None
        self._gauge = Gauge()
        self._closed = False  # a message that had nothing but the usage, the last one

    def hear(self, message: Any) -> None:
        """Take in a message.

        Raises:
            ServerSaysError: it is an error.
        """
        if not isinstance(message, dict):
            return
        if message.get("error") or message.get("object") == "error":
            raise ServerSaysError(message.get("error") or message)
        choices = _items(message.get("choices"))
        spoken = [self._hear_choice(choice) for choice in choices]
        self._spoken += any(spoken)
        if isinstance(usage := message.get("usage"), dict):
            self._hear_usage(usage)
            self._closed = not choices and self._counted

    def _hear_choice(self, choice: dict[str, Any]) -> bool:
        thinking, text = "", ""
        for part in _items(choice.get("delta") or choice.get("message")):
            thought = part.get("reasoning_content") or part.get("reasoning")
            own, said = _words(part.get("content") or part.get("refusal"))
            thinking, text = thinking + "".join(_words(thought)) + own, text + said
        text += choice["text"] if isinstance(choice.get("text"), str) else ""
        self._thinking.append(thinking)
        self._text.append(text)
        logprobs = choice.get("logprobs")
        for token in _items(logprobs.get("content") if isinstance(logprobs, dict) else None):
            best = [alternative["logprob"] for alternative in _items(token.get("top_logprobs")) if "logprob" in alternative]
            if best and "logprob" in token:
                self._gauge.add(token["logprob"], best)
        if isinstance(finish := choice.get("finish_reason"), str) and finish:
            if finish == "error":
                raise ServerSaysError(choice.get("error") or "finish_reason is 'error'")
            self._finish = finish
        return bool(thinking or text)

    def _hear_usage(self, usage: dict[str, Any]) -> None:
        self._prompt = _count(usage, "prompt_tokens", "input_tokens") or self._prompt
        details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
        within = _count(details, "cached_tokens") if isinstance(details, dict) else None
        self._cached = within or _count(usage, "prompt_cache_hit_tokens", "cached_tokens") or self._cached
        self._total = _count(usage, "total_tokens") or self._total
        if (completion := _count(usage, "completion_tokens", "output_tokens")) is not None:
            self._completions.append(completion)

    @property
    def _counted(self) -> bool:
        return bool(self._completions) or self._total is not None

    def ended(self, *, done: bool, running: bool) -> bool:
        """Whether the completion is whole now that the stream has ended.

        Args:
            done: the stream said [DONE].
            running: usage was asked for with every message, so that it alone says nothing.
        """
        if self._finish is not None:
            return True
        if self._counted and (done or self._closed or not running):
            return True
        return done and self._spoken > 0

    @property
    def confidence(self) -> Confidence | None:
        """From log-probabilities, where the server sent any."""
        return self._gauge.read()

    def text(self, finish: Finish) -> str:
        """The completion with its thinking before it, marked as models mark it themselves."""
        thinking, text = "".join(self._thinking), "".join(self._text)
        if thinking:
            cut = finish is Finish.LENGTH and not text
            text = f"<think>\n{thinking}" if cut else f"<think>\n{thinking}\n</think>\n\n{text}"
        return well_formed(text)

    def finish(self, completion: int, most: int | None) -> Finish:
        """Why it ended: a server that does not say has cut off what is as long as it may be."""
        if self._finish is None:
            return Finish.LENGTH if most is not None and completion >= most else Finish.STOP
        return Finish.LENGTH if self._finish in _CUT else Finish.STOP

    def count(self, prompt: str, known: int | None) -> Count:
        """Tokens so far; `known` are those of the same prompt, told before."""
        asked = self._prompt or known or -(-len(prompt) // _CHARACTERS)
        estimated = (self._prompt or known) is None
        cached = min(self._cached, asked)
        if self._completions:
            last = self._completions[-1]
            if 2 * last < self._spoken and len(self._completions) > 1:  # each counts its own message
                return Count(asked, cached, sum(self._completions), True)
            return Count(asked, cached, last, estimated)
        if self._total is not None and self._total > asked:
            return Count(asked, cached, self._total - asked, estimated)
        if not self._spoken:
            return Count(asked, cached, 0, True)
        characters = sum(map(len, self._thinking)) + sum(map(len, self._text))
        return Count(asked, cached, max(self._spoken, -(-characters // _CHARACTERS)), True)
