"""What counts as the answer of a text: the formats that can be read, and what thoughts and cut-off texts hold.

Every format is one pass over the end of the text, where an answer stands: boxes and JSON are looked for in its last 100,000
characters, all else in its last 10,000. What a text repeats without end is looked at some dozens of times.
"""

import json
import re
from collections import deque
from collections.abc import Callable

from itscale.data.records import CUT_OFF
from itscale.errors import UserError

FORMATS = ("auto", "boxed", "hash", "phrase", "choice", "last_number", "regex:PATTERN", "json:KEY")

_READ, _READ_WORDS = 100_000, 10_000
_LAST_BOXES, _LAST_PHRASES = 200, 50  # how many of them are looked at
_LONGEST = 400  # characters of what follows a phrase


def check_format(form: str) -> str:
    """The format itself.

    Raises:
        UserError: it is none.
    """
    kind, colon, rest = form.partition(":")
    if kind in ("regex", "json") and colon and rest:
        if kind == "regex":
            try:
                re.compile(rest)
            except re.error as error:
                raise UserError(f"the answer format {form!r} is no regular expression ({error}): correct it.") from None
        return form
    if form not in FORMATS[:-2]:
        raise UserError(f"there is no answer format {form!r}: choose among {', '.join(FORMATS)}.")
    return form


def extract_answer(text: str, finish: str = "", *, form: str = "auto", read_cut_off: bool = False) -> str | None:
    """The answer of a text in a format, None where it has none; `auto` takes the first of box, ####, phrase and lettered line.

    Only what follows `</think>` counts, where anything does. A completion that was cut off (`finish` is "length") or that ends
    within a thought has no answer, unless `read_cut_off`.
    """
    if finish == CUT_OFF and not read_cut_off:
        return None
    final = _after_thought(text, read_cut_off)[-_READ:]
    kind, _, argument = form.partition(":")
    if kind == "regex":
        return _last_match(final[-_READ_WORDS:], argument)
    if kind == "json":
        return _json_value(final, argument)
    if (found := _boxed(final) if kind in ("auto", "boxed") else None) is not None:
        return found
    for extract in _EXTRACT.get(kind, ()):
        if (found := extract(final[-_READ_WORDS:])) is not None:
            return found
    return None


def _after_thought(text: str, read_cut_off: bool) -> str:
    before, closed, after = text.rpartition("</think>")
    final = after if closed and after.strip() else before if closed else text
    return "" if "<think>" in after and not read_cut_off else final


_COMMAND = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])")
# A box command with what opens its argument, an escaped character, or a brace.
_TOKEN = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])(?:\s*\[[^\[\]{}]{0,20}\])*\s*\{?|\\.|[{}]", re.DOTALL)
_BARE = re.compile(r"\\[a-zA-Z]+(?:\{[^{}]*\})*|[^\s${}\\,;]+")  # the argument of a box without braces
_BETWEEN = re.compile(  # two boxes with only this between them are one list
    r"(?:[ \t]|[$,;&()]|\\[,;:! ()\[\]]|\\q?quad|\\(?:text|mathrm)\s*\{[\s,]*(?:and|or)?\s*\}|\b(?:and|or)\b"
    r"|[A-Za-z](?:_\{?\w\}?)?\s*=)*"
)
_BLANK = re.compile(r"(?:[\s.…?_$~{}-]|\\[,;:! ]|\\(?:[lc]?dots|text|square|q?quad)(?![a-zA-Z]))*")
_STANDS_FOR = re.compile(
    r"(?i)(?:insert |put )?(?:the |your )?(?:final )?answer(?: here)?|[<\[](?:the |your )?(?:final )?answer[>\]]"
)


def _boxed(text: str) -> str | None:
    """The last box that is complete and holds something, with the boxes before it that belong to its list."""
    last_commands = deque(_COMMAND.finditer(text), maxlen=_LAST_BOXES)
    if not last_commands:
        return None
    open_braces: list[int] = []  # where the content of an open box begins, -1 for any other brace
    boxes: list[tuple[int, int, int, str]] = []  # start of the command, of its content, end, content
    commands: list[int] = []
    for token in _TOKEN.finditer(text, last_commands[0].start()):
        found = token.group()
        if found == "{":
            open_braces.append(-1)
        elif found == "}":
            start = open_braces.pop() if open_braces else -1
            if start >= 0:
                command = commands.pop()
                if not boxes or boxes[-1][0] < start:  # else the box inside is the answer
                    boxes.append((command, start, token.end(), text[start : token.start()].strip().rstrip(",")))
        elif len(found) > 2:
            if found.endswith("{"):
                open_braces.append(token.end())
                commands.append(token.start())
            elif bare := _BARE.match(text, token.end()):
                boxes.append((token.start(), bare.start(), bare.end(), bare.group().rstrip(".:")))
    while boxes and _placeholder(boxes[-1][3]):
        boxes.pop()
    if not boxes:
        return None
    *_, last = boxes
    found, start = [last[3]], last[0]
    for command, _, end, content in reversed(boxes[:-1]):
        if start - end > 60 or not _BETWEEN.fullmatch(text, end, start) or _placeholder(content):
            break
        found.append(content)
        start = command
    return ", ".join(dict.fromkeys(reversed(found)))


def _placeholder(content: str) -> bool:
    plain = content.strip("${} ").removeprefix("\\text").strip("{} ")
    return bool((_BLANK.fullmatch(content[:200]) and len(content) <= 200) or _STANDS_FOR.fullmatch(plain[:40]))


def _hash(text: str) -> str | None:
    """What follows the last ####, on a line that nothing follows."""
    _, mark, line = text.rstrip().rpartition("####")
    found = line.strip().strip("*").strip()
    return found if mark and found and "\n" not in found else None


_PHRASE = re.compile(
    r"(?i)(?:\banswers?|\b(?:the|correct|right|best|final)\s+(?:option|choice|solution|result))\b"
    r"(?:\s+(?:to|of|for)\s[^.\n:]{0,60}?)?[\s*_]*(?:\bis\b|\bare\b|\bwould\s+be\b|\bshould\s+be\b|\bmust\s+be\b|:|：|=)[\s*_:]*"
)
_SENTENCE_END = re.compile(r"(?<!\b[A-Za-z])(?<!\b(?:St|Mr|Dr|vs|Mt))(?<!\b(?:Mrs|etc))[.!?。](?=[\s*\"”]|$)")
_REASON = re.compile(r"(?i),?\s+(?:because|since|as|which|so that|where|when)\s")
_NOTHING = re.compile(  # "the answer is indeed correct" names none
    r"(?i)(?:(?:indeed|also|still|all|both|probably|therefore|then)\s+)*"
    r"(?:not|correct|incorrect|wrong|right|as follows|unclear|unknown)\b"
)
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")


def _phrase(text: str) -> str | None:
    """What follows the last "the answer is", "final answer:" and the like; else the bold words of the last line."""
    for match in reversed(deque(_PHRASE.finditer(text), maxlen=_LAST_PHRASES)):
        line = text[match.end() : match.end() + _LONGEST].lstrip().partition("\n")[0]
        found = _trim(_REASON.split(_SENTENCE_END.split(line, maxsplit=1)[0], maxsplit=1)[0])
        if found and not _placeholder(found) and not _NOTHING.match(found):
            return found
    last = _last_line(text)
    bold = [found for found in _BOLD.findall(last) if not found.rstrip().endswith(":")]
    return _trim(bold[-1]) or None if bold else None


def _last_line(text: str) -> str:
    return text.rstrip().rpartition("\n")[2].strip()[-10 * _LONGEST :]


def _trim(found: str) -> str:
    found = found.strip().strip('*_"“”`').strip()
    if found.count("$") % 2 and found.endswith("$"):
        found = found[:-1]
    if found.endswith(".") and not re.search(r"(?:\b[A-Za-z]\.)+$", found):
        found = found[:-1]
    return found.strip().rstrip(",;:")


_LETTER_LINE = re.compile(
    r"[\W_]*(?:(?:option|choice)\s+)?(?:\(([A-Ja-j])\)|([A-J])(?:[.):]|[*_\s]*$))(?:[\s*_:].*)?$", re.IGNORECASE
)
_LETTER = re.compile(r"\(([A-J])\)|\b([A-J])\b(?:[):]|\*\*)")


def _lettered_line(text: str) -> str | None:
    """The letter that the last line is, or begins with and marks: (B), B., "B) 14"."""
    match = _LETTER_LINE.match(_last_line(text))
    return (match[1] or match[2]).upper() if match else None


def _choice(text: str) -> str | None:
    """The letter of a phrase, of the last line, or else the last one with a mark."""
    phrase = _phrase(text)
    if phrase and (match := re.match(r"[\W_]*(?:(?:option|choice)\s+)?([A-J])\b", phrase, re.IGNORECASE)):
        return match[1].upper()
    marked = _LETTER.findall(text)
    return _lettered_line(text) or ("".join(marked[-1]) if marked else None)


_NUMBER = re.compile(r"(?<![\w.])[-−]?[$€£]?\d+(?:,\d{3})*(?:\.\d+)?(?:\s?/\s?\d+)?(?:\s?\\?%)?|(?<![\w.])[-−]?\.\d+")


def _last_number(text: str) -> str | None:
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else None


def _last_match(text: str, pattern: str) -> str | None:
    match = next(iter(deque(re.finditer(pattern, text), maxlen=1)), None)
    if match is None:
        return None
    return (next((group for group in match.groups() if group is not None), None) or match.group()).strip() or None


def _json_value(text: str, key: str) -> str | None:
    """The value of a key of the last JSON object that has it."""
    at = text.rfind(json.dumps(key))
    start, decoder = text.rfind("{", 0, at), json.JSONDecoder()
    for _ in range(20):  # the object may begin before others that are its values
        if at < 0 or start < 0:
            return None
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            value, end = None, 0
        if end > at and isinstance(value, dict) and key in value:
            found = value[key]
            return (found if isinstance(found, str) else json.dumps(found)).strip() or None
        start = text.rfind("{", 0, start)
    return None


_EXTRACT: dict[str, tuple[Callable[[str], str | None], ...]] = {
    "auto": (_hash, _phrase, _lettered_line),  # after the box
    "hash": (_hash,),
    "phrase": (_phrase,),
    "choice": (_choice,),
    "last_number": (_last_number,),
}
