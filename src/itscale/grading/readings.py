"""What an answer is: a number, a choice, a date, a time, words, mathematics, or several of these in a list, set or interval.

Every answer has one reading in its question, made without sight of the gold answer or of other answers. Its `key` says which
answers are equal: equal keys, an equivalence. Whether an answer is right is `same`, which asks about two readings and is more
generous where one side says less than the other (a unit, a percent sign, six decimals of a third).
"""

import re
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

from itscale.errors import UserError
from itscale.grading.normalisation import END, TEXT, bare, normalise_answer
from itscale.grading.numerals import Date, Time, decimals, read_date, read_number, read_time
from itscale.grading.units import CHANGING, SCALES, is_named, is_unit, read_unit

COMPARISONS = ("auto", "math", "text", "choice", "exact")
LONGEST = 1000  # characters of an answer; a longer one is compared as text

Key = tuple[Any, ...]


def check_comparison(compare: str) -> str:
    """The comparison itself.

    Raises:
        UserError: it is none.
    """
    if compare not in COMPARISONS:
        raise UserError(f"there is no comparison {compare!r}: choose among {', '.join(COMPARISONS)}.")
    return compare


@dataclass(frozen=True)
class Question:
    """What a question's text says about its answers."""

    text: str = ""

    @cached_property
    def choices(self) -> dict[str, str]:
        """Letter -> option of a multiple-choice question; empty where there are not at least A and B."""
        for pattern in (
            r"(?:^|\s)\(([A-J])\)\s*",
            r"(?:^|\n)\s*([A-J])[.):]\s+",
            r"\s([A-J])[.)]\s+",
            r"\\textbf\{\(([A-J])\)[^}]*\}",
        ):
            marks = list(re.finditer(pattern, self.text))
            start = next((i for i in range(len(marks) - 1, -1, -1) if marks[i][1] == "A"), None)
            if start is None:
                continue
            found = {}
            for i, mark in enumerate(marks[start:]):
                if mark[1] != chr(65 + i):
                    break
                end = marks[start + i + 1].start() if start + i + 1 < len(marks) else len(self.text)
                found[mark[1]] = self.text[mark.end() : end].strip().partition("\n\n")[0]
            if len(found) > 1:
                return found
        return {}

    @cached_property
    def variables(self) -> frozenset[str]:
        """Letters that its mathematics uses; outside of mathematics, single letters that follow no number."""
        parts = re.findall(r"\$\$?(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", self.text, re.DOTALL)
        mathematics = " ".join("".join(part) for part in parts)
        mathematics = re.sub(r"\\(?:text|mathrm|mbox)\s*\{[^{}]*\}|\\[a-zA-Z]+", " ", mathematics)
        plain = re.findall(r"(?<![\w\\'’])(?<!\d\s)([b-zB-HJ-Z])(?![\w'’])", self.text)
        return frozenset(re.findall(r"[A-Za-z]", mathematics)) | frozenset(plain)

    @cached_property
    def asks_percent(self) -> bool:
        return bool(re.search(r"(?i)(?:what|how many|which|as an?|in|the|find)\s+(?:\w+\s+)?percent", self.text))

    @cached_property
    def date_order(self) -> str:
        """MD or DM where the question says how it wants dates, as in MM/DD/YYYY."""
        found = re.search(r"(?i)\b(?:(mm?\W?dd?)|(dd?\W?mm?))\W?yy(?:yy)?\b", self.text)
        return "" if not found else "MD" if found[1] else "DM"

    @cached_property
    def asks_time(self) -> bool:
        return bool(re.search(r"(?i)\btime\b|o'?clock|\b[ap]\.?m\.?\b|\bnoon\b|\bmidnight\b", self.text))

    @cached_property
    def asks_tuple(self) -> bool:
        """Whether a list without brackets lacks them."""
        return bool(re.search(r"(?i)\bordered (?:pair|triple|quadruple)|\bcoordinates of\b", self.text))

    @cached_property
    def asks_equation(self) -> bool:
        curves = r"(?i)\b(?:equation|line|curve|parabola|circle|ellipse|hyperbola|plane|asymptote|directrix)"
        return bool(re.search(curves, self.text))

    def asks_scale(self, scale: str) -> bool:
        return bool(re.search(rf"(?i)\b(?:in|how many)\s+{scale}s?\b", self.text))


class Number(NamedTuple):
    """A rational number with what follows it, unless the question asks for just that: then a bare number means it too."""

    shown: Fraction  # what is written
    unit: str = ""
    scale: str = ""  # "%", "million"
    product: "Expression | Value | None" = None  # with a unit that may be a variable: the product

    @property
    def value(self) -> Fraction:
        """What the number amounts to: 35 % is 0.35."""
        factor = Fraction(1)
        for word in self.scale.split():
            factor *= Fraction(1, 100) if word == "%" else SCALES[word]
        return self.shown * factor


class Expression(NamedTuple):
    """Mathematics that is yet to be read: LaTeX with one letter for each variable, and the variables' names."""

    latex: str
    names: tuple[tuple[str, str], ...]
    ratio: bool = False  # up to a factor, as the left side of an equation "... = 0"
    positive: bool = False  # up to a positive factor, as that of an inequality
    text: str = ""  # what is compared where it cannot be read


class Value(NamedTuple):
    """Mathematics that was read: `kind` real, complex, at points (a function of its variables), up to a factor, or other."""

    kind: str
    digits: tuple[str, ...]


class Choice(NamedTuple):
    letter: str


class Words(NamedTuple):
    text: str


class Text(NamedTuple):
    """Text that nothing else fits; `hangs`: reading it as mathematics was given up."""

    text: str
    hangs: bool = False


class Sequence(NamedTuple):
    """Several things: "set" in any order, "()", "[)" and the like in order, "matrix", "union", "mod" and so on."""

    kind: str
    items: tuple["Tree", ...]


class Quantity(NamedTuple):
    """Mathematics with a unit."""

    value: "Tree"
    unit: str


class Assignment(NamedTuple):
    """y = 2x + 3, 3a = 2: its right side; and the equation, where the question asks for one or the left side is no name."""

    right: "Tree"
    equation: "Tree"
    as_equation: bool


Tree = Number | Expression | Value | Choice | Words | Text | Date | Time | Sequence | Assignment | Quantity


@dataclass(frozen=True, slots=True)
class Outliner:
    """Reads answers to one question, up to what is mathematics (`Expression`)."""

    question: Question = field(default_factory=Question)
    compare: str = "auto"

    def outline(self, answer: str) -> Tree:
        """The reading of an answer, in which expressions are still LaTeX."""
        if self.compare == "exact":
            return Text(answer.strip())
        if len(answer) > LONGEST:
            return Text(" ".join(answer.split()))
        s = normalise_answer(answer)
        if not s:
            return Text(" ".join(answer.split()))
        if self.compare == "text":
            return _words(s)
        if self.compare == "choice" or (self.compare == "auto" and self.question.choices):
            found = _marked_choice(bare(s), self.question.choices) or self._by_option(s)
            if found or self.compare == "choice":
                return found or _words(s)
        try:
            return self._whole(s)
        except RecursionError:  # brackets without end
            return Text(" ".join(answer.split()))

    def _by_option(self, s: str) -> Choice | None:
        """The choice whose option an answer repeats."""
        plain = Outliner(self.question, "math" if self.compare == "math" else "plain")
        mine = plain._whole(s)
        same_option = [c for c, option in self.question.choices.items() if plain._whole(normalise_answer(option)) == mine]
        return Choice(same_option[0]) if len(same_option) == 1 else None

    def _whole(self, s: str) -> Tree:
        if not bare(s):
            return Text("")
        s = re.sub(r"^\s*(?:\\approx|\\sim|\\thicksim|\\therefore|=|:)(?![a-zA-Z])\s*", "", s)
        s = re.sub(rf"^{TEXT}?\s*(?i:about|approximately|approx\.?|around|roughly|exactly)\s+", "", s)
        found = self._exact(s) or self._relation(s) or self._collection(s)
        return found or self._words_or_mathematics(s)

    # Exact readings.

    def _exact(self, s: str) -> Tree | None:
        plain = bare(s)
        if self.compare != "math":
            if date := read_date(plain, self.question.date_order):
                return date
            if time := read_time(plain, self.question.asks_time):
                return time
        if match := re.fullmatch(r"\(?([A-Z])\)?[.):]?", plain):
            return Choice(match[1])
        if match := re.fullmatch(r"(\d+|\d*\.\d+)\s*:\s*(\d+|\d*\.\d+)", plain):
            if Fraction(match[2]):
                ratio = Fraction(match[1]) / Fraction(match[2])
                return Number(ratio)
        return self._number(s)

    def _number(self, s: str) -> Number | None:
        currency, unsigned = re.match(r"\s*([+-]?)\s*(?:(?:US|A|C)?([$€£¥₹])|Rs\.?(?=\s*\d))\s*", s), s
        if currency:
            unsigned = currency[1] + s[currency.end() :]
        found = read_number(unsigned.lstrip(f"{TEXT}{END} "))
        if found is None:
            return None
        value, rest = found
        return self._with_unit(value, rest, (currency[2] or "₹") if currency else "")

    def _with_unit(self, value: Fraction, rest: str, currency: str) -> Number | None:
        """A number with what follows it, if that is a unit."""
        marked = TEXT in rest
        phrase = bare(rest)
        if match := re.match(r"_\s*\{?\s*(?:base\s*)?(\d+|two|eight|ten)\s*\}?$", phrase):
            return Number(value, f"base {match[1]}")
        if match := re.match(r"\(?\\p?mod\s*\{?\s*(\w+)\s*\}?\)?$", phrase):
            return Number(value, f"mod {match[1]}")
        scale = []
        while match := re.match(
            r"\s*(%|per\s?cent(?:age)?\b|percentage points?\b|(?:thousand|million|billion|trillion)\b)", phrase, re.IGNORECASE
        ):
            scale.append(word if (word := match[1].lower()) in SCALES else "%")
            phrase = phrase[match.end() :]
        if all(self.question.asks_percent if word == "%" else self.question.asks_scale(word) for word in scale):
            scale = []
        letters = re.fullmatch(r"\s*([A-Za-z])\s*(?:\^\s*\{?\s*[23]\s*\}?)?\s*", phrase)
        if phrase and not marked and self._binds(phrase, letters, spaced=rest[:1].isspace()):
            return None
        unit = read_unit(f"{currency} {phrase}".strip())
        if unit is None or (
            unit and not marked and not currency and re.match(r"[_({+*/=<>|&!-]|\^(?!\s*\{?\s*\\circ)|\\(?!circ)", phrase.strip())
        ):
            return None
        if is_named(unit, self.question.text):
            return Number(value, "", " ".join(scale))
        product = _expression(f"{_latex(value)} {phrase}") if letters and not marked else None
        return Number(value, unit, " ".join(scale), product)

    def _binds(self, phrase: str, letter: re.Match[str] | None, *, spaced: bool) -> bool:
        """Whether what follows a number multiplies it: a variable of the question, or a letter that touches it."""
        if letter:
            unit = read_unit(letter[1]) or ""
            touches = not spaced and not is_named(unit, self.question.text)
            return letter[1] in self.question.variables or touches or not is_unit(unit)
        tokens = re.findall(r"[A-Za-z]+", re.sub(r"\\[a-zA-Z]+", " ", phrase))
        return any(
            token in self.question.variables
            if len(token) == 1
            else len(token) == 2
            and (
                (not is_unit(read_unit(token)) and token not in self.question.text)
                or (not spaced and set(token) <= self.question.variables)
            )
            for token in tokens
        )

    # Equations, inequalities, lists.

    def _relation(self, s: str) -> Tree | None:
        parts = _split(
            s,
            r"=|<|>|\\leq?(?:slant)?(?![a-zA-Z])|\\geq?(?:slant)?(?![a-zA-Z])|\\neq?(?![a-zA-Z])|\\in(?![a-zA-Z])|\\equiv(?![a-zA-Z])|:",
        )
        if len(parts) < 3 or len(_split(s, r",|;")) > 1 or _JOINED.search(s):
            return None
        signs = [
            {"leq": "le", "geq": "ge", "neq": "ne"}.get(sign, sign)
            for sign in (p.lstrip("\\").replace("slant", "") for p in parts[1::2])
        ]
        sides = [bare(part) for part in parts[::2]]
        if not all(sides) or ":" in signs:
            return None
        if set(signs) == {"="}:
            return self._equation(parts[::2])
        if signs == ["in"] or signs == ["equiv"]:
            return self._whole(parts[2].strip())
        if "=" in signs or "in" in signs or "equiv" in signs:
            return None
        return self._inequality(sides, signs)

    def _equation(self, sides: list[str]) -> Tree | None:
        if len(sides) == 2 and re.fullmatch(_NAME, bare(sides[1])) and self._number(sides[0]):  # 5 = x
            sides = sides[::-1]
        left, right = bare(sides[0]), sides[-1].strip()
        if len(sides) > 2 or not _letters(left):  # 2 + 3 = 5
            return self._whole(right)
        if re.fullmatch(_LABEL, left) or (
            re.fullmatch(_NAME, left) and (len(left) == 1 or left[0] == "\\") and self._number(right)
        ):
            return self._whole(right)
        equation = _expression(f"({left})-({bare(right)})", ratio=True, text=bare("=".join(sides)))
        whole = Sequence("equation", (equation,))
        if re.fullmatch(_NAME, left):
            return Assignment(self._whole(right), whole, self.question.asks_equation)
        return whole if _letters(bare(right)) else Assignment(self._whole(right), whole, True)

    def _inequality(self, sides: list[str], signs: list[str]) -> Tree:
        if len(sides) == 2 and not re.fullmatch(_NAME, sides[0]) and re.fullmatch(_NAME, sides[1]):
            sides, signs = sides[::-1], [_TURNED[signs[0]]]
        if all(sign in (">", "ge") for sign in signs):
            sides, signs = sides[::-1], [_TURNED[sign] for sign in reversed(signs)]
        bounds = [side for side in sides if not re.fullmatch(_NAME, side)]
        if all(sign in ("<", "le") for sign in signs) and len(bounds) == len(sides) - 1 and not any(_letters(b) for b in bounds):
            where = next(i for i, side in enumerate(sides) if re.fullmatch(_NAME, side))
            if where in (0, 1) and len(sides) in (2, 3) and (len(sides) == 2 or where == 1):
                low = self._whole(sides[where - 1]) if where else Words("-infinity")
                high = self._whole(sides[where + 1]) if where + 1 < len(sides) else Words("infinity")
                ends = ("[" if where and signs[where - 1] == "le" else "(") + (
                    "]" if where < len(signs) and signs[where] == "le" else ")"
                )
                return Sequence(ends, (low, high))
        parts = []
        for i, sign in enumerate(signs):
            left, right, turned = sides[i], sides[i + 1], sign
            if sign in (">", "ge"):
                left, right, turned = right, left, _TURNED[sign]
            difference = _expression(
                f"({left})-({right})", ratio=sign == "ne", positive=sign != "ne", text=f"{left} {sign} {right}"
            )
            parts.append(Sequence(turned, (difference,)))
        return parts[0] if len(parts) == 1 else Sequence("and", tuple(parts))

    def _collection(self, s: str) -> Tree | None:
        if match := re.fullmatch(
            r"(?:\\begin\s*\{([pbvBV]?matrix|array)\}(?:\{[lcr| ]*\})?)(.*)\\end\s*\{\1\}", s.strip(), re.DOTALL
        ):
            if "\\begin" in match[2]:
                return None
            rows = [row for row in re.split(r"\\\\|\\cr(?![a-zA-Z])", match[2]) if row.strip()]
            cells = tuple(Sequence("row", tuple(self._whole(cell.strip()) for cell in row.split("&"))) for row in rows)
            return Sequence("determinant" if match[1] == "vmatrix" else "matrix", cells)
        union = _split(s, r"\\cup(?![a-zA-Z])")
        if len(union) > 1:
            return Sequence("union", tuple(self._whole(part.strip()) for part in union[::2]))
        inner = re.fullmatch(r"\\(?:\{|lbrace(?![a-zA-Z]))(.*)\\(?:\}|rbrace(?![a-zA-Z]))", s.strip(), re.DOTALL)
        if inner:
            return self._set(_separate(inner[1])) if inner[1].strip() else Sequence("set", ())
        if s.strip() in (r"\emptyset", r"\varnothing"):
            return Sequence("set", ())
        if match := re.fullmatch(r"\\langle(.*)\\rangle", s.strip(), re.DOTALL):
            return Sequence("()", tuple(self._whole(part) for part in _separate(match[1])))
        if s.startswith(("(", "[")) and _bracketed(s):
            items = _separate(s[1:-1])
            if len(items) > 1 and all(items):
                return Sequence(s[0] + s[-1], tuple(self._whole(item) for item in items))
            if s[0] == "(" and s[-1] == ")" and len(items) == 1 and items[0]:
                return self._whole(items[0])
        items = _separate(s)
        if len(items) > 1 and all(items) and not _sentence(bare(s)):
            if self.question.asks_tuple and not any("(" in item for item in items):
                return Sequence("()", tuple(self._whole(item) for item in items))
            return self._set(items)
        if re.search(r"\\pm(?![a-zA-Z])", s):
            signs = ((r"+", r"-"), (r"-", r"+"))
            both = [re.sub(r"\\mp(?![a-zA-Z])", mp, re.sub(r"\\pm(?![a-zA-Z])", pm, s)) for pm, mp in signs]
            return self._set([re.sub(r"^\s*\+", "", part).strip() for part in both])
        return None

    def _set(self, items: list[str]) -> Tree:
        """Things in any order; a unit that only the last one has belongs to all."""
        read = [self._whole(item) for item in items]
        if isinstance(last := read[-1], Number) and last.unit:
            plain = [isinstance(r, Number) and not r.unit and not r.product for r in read[:-1]]
            if all(plain):
                read = [number._replace(unit=last.unit) for number in read[:-1]] + [last]
        return Sequence("set", tuple(read))

    # Words, and what is left.

    def _words_or_mathematics(self, s: str) -> Tree:
        plain = bare(s)
        if match := re.fullmatch(r"([+-]?)\s*\\infty", plain):
            return Words(f"{match[1].strip('+')}infinity")
        if re.fullmatch(r"(?i)all real( number)?s?|\\mathbb\s*\{?R\}?|\\R", plain):
            return Sequence("()", (Words("-infinity"), Words("infinity")))
        text = re.fullmatch(rf"(.*[^\s_^{{(])\s*{TEXT}([^{END}]*){END}", s, re.DOTALL)  # \frac{{\pi}}{{2}}\text{{ cm}}
        word = re.fullmatch(r"(.*[\w)}])\s+([A-Za-z]{3,}[A-Za-z\s/]*)", s)
        if (text and (unit := read_unit(text[2])) is not None) or (word and is_unit(unit := read_unit(word[2]))):
            value = self._whole((text or word)[1])
            return Quantity(value, unit) if unit and not is_named(unit, self.question.text) else value
        if self._is_words(s, plain):
            return self._numbered(plain) or _words(s)
        return _expression(plain)

    def _is_words(self, s: str, plain: str) -> bool:
        if self.compare == "math":
            return False
        if s.startswith(TEXT) and s.endswith(END) and s.count(TEXT) == 1:
            return not re.fullmatch(r"[a-z]", plain)
        outside = re.sub(r"\\[a-zA-Z]+|[_^]\s*\{[^{}]*\}", " ", re.sub(rf"{TEXT}.*?{END}", " ", s))
        runs = re.findall(r"[^\W\d_]+", outside)
        if any(len(run) > 2 and run.lower() not in _FUNCTIONS and not set(run) <= self.question.variables for run in runs):
            return True
        if re.search(r"[\\^=+*/|<>{}()\[\]]", s):
            return False
        if re.fullmatch(r"[^\W\d_]{2,}", plain):  # AC is not CA; ab is ba only where the question has a and b
            return plain.isupper() or not set(plain) <= self.question.variables or not plain.isascii()
        return bool(re.fullmatch(r"[A-Z]+-?\d+[A-Z\d]*|\d+[A-Z][A-Z\d]*|.*[^\x00-\x7f].*", plain)) or bool(
            re.search(r"[?\"#@&;]", plain)
        )

    def _numbered(self, plain: str) -> Number | None:
        """Tom has 18 apples: words about one number, none of which changes it."""
        numbers = list(
            re.finditer(r"(?<![\w.,-])[+-]?[$€£]?(?:\d+(?:\.\d+)?(?:\s*/\s*\d+)?|\.\d+)(?![\w.]*\d|[a-zA-Z])%?", plain)
        )
        if len(numbers) != 1 or "\\" in plain:
            return None
        match = numbers[0]
        before, after = plain[: match.start()], plain[match.end() :]
        if any(word.lower() in CHANGING for word in re.findall(r"[A-Za-z]+", before + " " + after)):
            return None
        token = match.group()
        percent = "%" if token.endswith("%") else ""
        found = read_number(token.rstrip("%").lstrip("$€£"))
        symbol = next(iter(re.findall("[$€£]", token)), "")
        if found is None or found[1]:
            return None
        return self._with_unit(found[0], f"{percent} {TEXT}{after} {before}{END}", symbol)


# What an equation's left side may be called without saying anything: f(x), f^{-1}(x), Area, P(A), \\angle ABC, (s, t).
_LABEL = (
    r"[A-Za-z]+(?:_\{?\w+\}?)?(?:\s*\^\s*\{-1\})?'*\s*\([^=]*\)|[A-Za-z]{2,}(?:\s+[A-Za-z]+)*(?:_\{?\w+\}?)?"
    r"|m?\s*\\(?:angle|overline|triangle|measuredangle)[\s{]*[A-Za-z]+\}?|\(\s*[A-Za-z](?:\s*,\s*[A-Za-z])+\s*\)"
)
_NAME = r"\\?[A-Za-z]+(?:_\{?\w+\}?)?|[a-z]\([a-z]\)"
_TURNED = {"<": ">", ">": "<", "le": "ge", "ge": "le", "ne": "ne"}
_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc log ln exp max min gcd lcm mod arcsin arccos arctan sinh cosh tanh sqrt det deg pi".split()
)
_JOINED = re.compile(rf"(?i)(?:^|[\s{TEXT}{END}])(?:and|or)(?:[\s{TEXT}{END}]|$)|\\(?:text)?(?:and|or)\b")
_ENGLISH = re.compile(r"[A-Za-z]{3,}")


def _english(s: str) -> bool:
    return any(word.lower() not in _FUNCTIONS for word in _ENGLISH.findall(re.sub(r"\\[a-zA-Z]+", " ", s)))


def _sentence(plain: str) -> bool:
    """Words rather than a list: "yes, because it rains"; items of a list are short."""
    return any(len(_ENGLISH.findall(item)) > 5 for item in re.split(r"[,;]", plain))


def _letters(s: str) -> bool:
    return bool(re.search(r"[A-Za-z]", re.sub(r"\\[a-zA-Z]+", " ", s).replace("e", "")))


def _words(s: str) -> Words:
    plain = re.sub(r"\\[a-zA-Z]+|[{}$\\]", " ", bare(s)) if re.search(r"[a-zA-Z]", bare(s)) else bare(s)
    plain = re.sub(r"[^\w\s+/%°.-]|(?<!\d)\.|\.(?!\d)|(?<=\w)-(?=[^\W\d])", " ", plain.casefold())
    words = [word for word in plain.split() if word not in ("a", "an", "the")] or plain.split()
    return Words(" ".join(words) or bare(s))


def _marked_choice(plain: str, choices: dict[str, str]) -> Choice | None:
    """A letter with its mark, alone or before an option's text: B, (B), B., B) 14, Option B, B: it is conserved."""
    match = re.fullmatch(r"(?:(?i:option|choice|answer)\s*:?\s*)?\(?\s*([A-Za-z])\s*(?:\)|(?=[.:,)\s]|$))(.*)", plain, re.DOTALL)
    if not match or (choices and match[1].upper() not in choices):
        return None
    rest, marked = match[2].strip(), plain[: match.end(1) + 1].rstrip()[-1:] in ".:),"
    if not rest or rest in (")", ".", ":") or marked or re.match(r"[.:)]", rest):
        return Choice(match[1].upper())
    option = choices.get(match[1].upper(), "")
    return Choice(match[1].upper()) if option and " ".join(option.split()).casefold().startswith(rest.casefold()) else None


def _split(s: str, pattern: str) -> list[str]:
    """Pieces and separators in turn, split outside of all brackets."""
    pieces, depth, start, i = [], 0, 0, 0
    separator = re.compile(pattern)
    while i < len(s):
        if s[i] == "\\" and i + 1 < len(s) and s[i + 1] in "{}|":
            depth += {"{": 1, "}": -1}.get(s[i + 1], 0)
            i += 2
            continue
        if s[i] in "([{":
            depth += 1
        elif s[i] in ")]}":
            depth = max(0, depth - 1)
        elif depth == 0 and (match := separator.match(s, i)):
            pieces += [s[start:i], match.group()]
            start = i = match.end()
            continue
        i += 1
    return [*pieces, s[start:]]


def _separate(s: str) -> list[str]:
    """The items of a list: by commas, semicolons, "and", "or"."""
    joined = r",|;|(?<![A-Za-z\\])(?i:and|or)(?![A-Za-z])"
    items = [item.strip() for item in _split(s, joined)[::2]]
    items = [item.removeprefix(END).removesuffix(TEXT).strip() for item in items]
    items = [f"{TEXT}{item}" if END in item and TEXT not in item else item for item in items]
    items = [f"{item}{END}" if TEXT in item and END not in item else item for item in items]
    return [item for item in items if item] if len(items) > 1 and any(items) else items


def _bracketed(s: str) -> bool:
    """Whether the bracket at the beginning closes at the end; half-open intervals do too."""
    depth = 0
    for i, character in enumerate(s):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return i == len(s) - 1
    return False


# Variables: one letter each, so that case, subscripts and primes are kept whatever the parser thinks of them.

_IDENTIFIER = re.compile(
    r"(?P<function>[fghFG]'*\s*\((?:[^()]|\([^()]*\))*\))|"
    r"(?P<name>\\(?:alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|vartheta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|upsilon|phi|"
    r"varphi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Sigma|Upsilon|Phi|Psi|Omega|ell|hbar|angle|triangle)(?![a-zA-Z])|[A-Za-z])"
    r"(?P<marks>(?:\s*_\s*(?:\{(?:[^{}]|\{[^{}]*\})*\}|\\[a-zA-Z]+|\w))?(?:\s*'+|\s*\^\s*\{?\s*\\prime\s*\}?)*(?:\s*_\s*(?:\{[^{}]*\}|\w))?)|"
    r"(?P<other>\\(?:operatorname\s*\{[^{}]*\}|begin\s*\{[^{}]*\}|end\s*\{[^{}]*\}|[a-zA-Z]+(?:_(?:\{\d+\}|\d))?|.))",
    re.DOTALL,
)
_STANDINS = "xyztuvwpqrsmnkljabcghoABCDFGHJKLMNOPQRSTUVWXYZ"
_BOUND = re.compile(r"\\(?:int|sum|prod|lim|frac\s*\{\s*d)")  # letters here are not only names


def _expression(latex: str, *, ratio: bool = False, positive: bool = False, text: str = "") -> Expression | Text:
    text = text or latex
    if _BOUND.search(latex):
        return Expression(latex, (), ratio, positive, re.sub(r"\s+|\{\s*\}", "", text))
    names: dict[str, str] = {}

    def letter(match: re.Match[str]) -> str:
        if match["other"]:
            return match.group()
        name = re.sub(
            r"[\s{}]", "", match["function"] or match["name"] + match["marks"].replace(r"^\prime", "'").replace(r"\prime", "'")
        )
        if name in ("e", "i"):
            return f" {name} "
        if name not in names:
            names[name] = _STANDINS[len(names)] if len(names) < len(_STANDINS) else ""
        return f" {names[name]} "

    encoded = _IDENTIFIER.sub(letter, latex)
    if "" in names.values():
        return Text(re.sub(r"\s+", "", text))
    pairs = tuple((standin, name) for name, standin in names.items())
    return Expression(" ".join(encoded.split()), pairs, ratio, positive, re.sub(r"\s+|\{\s*\}", "", text))


def _latex(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


# Trees: what is to be read in them, with what was read, their keys, and whether two are the same.


def expressions(tree: Tree | None) -> list[Expression]:
    """The expressions in a reading."""
    match tree:
        case Expression():
            return [tree]
        case Number():
            return expressions(tree.product)
        case Sequence():
            return [e for item in tree.items for e in expressions(item)]
        case Assignment():
            return expressions(tree.right) + expressions(tree.equation)
        case Quantity():
            return expressions(tree.value)
    return []


def fill(tree: Tree, read: dict[Expression, Tree]) -> Tree:
    """The reading with its expressions as they were read."""
    match tree:
        case Expression():
            return read[tree]
        case Number(product=Expression() as product):
            return tree._replace(product=read[product])
        case Sequence():
            return ordered(tree.kind, tuple(fill(item, read) for item in tree.items))
        case Quantity():
            value = fill(tree.value, read)
            plain = isinstance(value, Number) and not value.unit
            return value._replace(unit=tree.unit) if plain else tree._replace(value=value)
        case Assignment():
            return tree._replace(right=fill(tree.right, read), equation=fill(tree.equation, read))
    return tree


_UNORDERED = ("set", "union", "and")


def ordered(kind: str, items: tuple[Tree, ...]) -> Tree:
    """Several readings as one: of a set each once and in one order, and one thing is not a set; an end at infinity is open."""
    if len(kind) == 2 and len(items) == 2:
        left, right = (isinstance(item, Words) and item.text.endswith("infinity") for item in items)
        kind = ("(" if left else kind[0]) + (")" if right else kind[1])
    if kind in _UNORDERED:
        flat = [part for item in items for part in (item.items if isinstance(item, Sequence) and item.kind == kind else (item,))]
        items = tuple({repr(key(item)): item for item in flat}[name] for name in sorted({repr(key(item)) for item in flat}))
        if len(items) == 1:
            return items[0]
    return Sequence(kind, items)


def hangs(tree: Tree) -> bool:
    """Whether reading some of it was given up."""
    match tree:
        case Text():
            return tree.hangs
        case Sequence():
            return any(map(hangs, tree.items))
        case Assignment():
            return hangs(tree.right) or hangs(tree.equation)
        case Quantity():
            return hangs(tree.value)
    return False


def key(tree: Tree) -> Key:
    """What two answers that are equal have in common, and no others."""
    match tree:
        case Number():
            product = () if tree.product is None else key(tree.product)
            return ("number", str(tree.shown), tree.unit, tree.scale, *product)
        case Sequence():
            return (tree.kind, *(key(item) for item in tree.items))
        case Quantity():
            return (*key(tree.value), tree.unit)
        case Assignment():
            return (*key(tree.right), *(key(tree.equation) if tree.as_equation else ()))
    return (type(tree).__name__, *map(str, tree))


def same(gold: Tree, answer: Tree) -> bool:
    """Whether an answer's reading agrees with the gold answer's; symmetric. What hangs agrees with its own text only."""
    match gold, answer:
        case (Text(), Text()) | (Words(), Words()):
            return gold[0] == answer[0]
        case Number(), Number():
            return _same_number(gold, answer)
        case Quantity(), Quantity():
            return gold.unit == answer.unit and same(gold.value, answer.value)
        case (Quantity() as quantity, other) | (other, Quantity() as quantity):
            return not (isinstance(other, Number) and other.unit) and same(quantity.value, other)
        case (Number(product=Value() as product), Value() as other) | (Value() as other, Number(product=Value() as product)):
            return product == other
        case (Number() as number, Value(kind="real") as real) | (Value(kind="real") as real, Number() as number):
            return not number.unit and _moderate(real.digits[0]) and _rounds(number.value, Fraction(real.digits[0]))
        case Value(kind="real"), Value(kind="real"):
            return gold == answer
        case Assignment(), Assignment() if gold.as_equation or answer.as_equation:
            return same(gold.equation, answer.equation)
        case Assignment(), Assignment():
            return same(gold.right, answer.right)
        case (Assignment() as one, other) | (other, Assignment() as one):
            return same(one.right, other) or (one.as_equation and same(one.equation, other))
        case Sequence(), Sequence():
            if gold.kind != answer.kind or len(gold.items) != len(answer.items):
                return False
            return _matched(gold.items, answer.items) if gold.kind in _UNORDERED else all(map(same, gold.items, answer.items))
    return key(gold) == key(answer)


def _matched(gold: tuple[Tree, ...], answer: tuple[Tree, ...]) -> bool:
    """Whether every item has a partner of its own on the other side."""
    left = list(answer)
    for one in gold:
        partner = next((i for i, two in enumerate(left) if same(one, two)), None)
        if partner is None:
            return False
        del left[partner]
    return True


def _same_number(gold: Number, answer: Number) -> bool:
    if gold.product and answer.product and gold.product == answer.product:
        return True
    if gold.unit and answer.unit and gold.unit != answer.unit:
        return False
    if gold.value == answer.value:
        return True
    scaled = bool(gold.scale) + bool(answer.scale)
    if scaled == 1 and gold.shown == answer.shown:  # 18 % or 18 million where the gold answer is 18
        return True
    return not scaled and (_rounds(gold.value, answer.value) or _rounds(answer.value, gold.value))


def _moderate(digits: str) -> bool:
    """Whether a real number may be written out."""
    _, _, exponent = digits.partition("e")
    return len(exponent) < 5


def _rounds(short: Fraction, value: Fraction) -> bool:
    """Whether a number of at least six decimals, and six digits, is another one rounded to as many."""
    places = decimals(short)
    if places is None or places < 6 or abs(short) * 10**places < 10**5:
        return False
    return round(value * 10**places) == short * 10**places
