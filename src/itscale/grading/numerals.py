"""Numbers, dates and times of day in every notation, exactly."""

import re
from fractions import Fraction
from typing import NamedTuple

_LARGEST_EXPONENT = 2000  # beyond it a power of ten is compared as text
_DECIMAL = r"(?:\d+(?:\.\d*)?|\.\d+)"
_SIGNED = rf"\s*([+-]?\s*{_DECIMAL})\s*"
_FRACTION = rf"\\frac\s*(?:\{{{_SIGNED}\}}|(\d))\s*(?:\{{{_SIGNED}\}}|(\d))"
_POWER_OF_TEN = r"10\s*\^\s*(?:\{\s*([+-]?\s*\d+)\s*\}|([+-]?\d+))"
_SIGN = r"\s*([+-]?)\s*"
_MIXED = re.compile(rf"{_SIGN}(\d+)\s*{_FRACTION}(?!\d)|{_SIGN}(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d.])")
_PLAIN_FRACTION = re.compile(rf"{_SIGN}{_FRACTION}(?!\s*[\d])")
_REPEATING = re.compile(
    rf"{_SIGN}(\d*)\.(\d*)(?:\\overline\s*\{{\s*(\d+)\s*\}}|\((\d+)\)|\\(?:dot|bar)\s*\{{?\s*(\d)\s*\}}?|(\d)\7\7+\s*(?:\.\.\.|\\[lc]?dots))"
)
_SCIENTIFIC = re.compile(rf"{_SIGN}(?:({_DECIMAL})\s*(?:\\times|\\cdot|\*|x)\s*)?{_POWER_OF_TEN}")
_E_NOTATION = re.compile(rf"{_SIGN}({_DECIMAL})[eE]([+-]?\d+)(?![\w.])")
_RATIONAL = re.compile(rf"{_SIGN}({_DECIMAL})(?:\s*/\s*({_SIGN}{_DECIMAL})(?![\d.]*\s*/))?")


def read_number(s: str) -> tuple[Fraction, str] | None:
    """The number that a normalised answer begins with, and what follows it; None without one.

    3, -3., .5, 1e-6, 2 \\times 10^{3}, 10^{3}, 3/4, \\frac34, 2 1/2, 2\\frac12, 0.\\overline{3}, 0.(3), 0.333...
    """
    if match := _MIXED.match(s):
        if match[2] is not None:
            part = _quotient(match[3] or match[4], match[5] or match[6])
            whole, sign = int(match[2]), match[1]
        else:
            part, whole, sign = _quotient(match[9], match[10]), int(match[8]), match[7]
        if part is not None and 0 <= part < 1:
            return _signed(sign, whole + part), s[match.end() :]
    if match := _PLAIN_FRACTION.match(s):
        value = _quotient(match[2] or match[3], match[4] or match[5])
        return None if value is None else (_signed(match[1], value), s[match.end() :])
    if match := _REPEATING.match(s):
        whole, fixed, digits = match[2] or "0", match[3], match[4] or match[5] or match[6] or match[7]
        value = int(whole) + Fraction(int(fixed or 0), 10 ** len(fixed))
        return _signed(match[1], value + Fraction(int(digits), (10 ** len(digits) - 1) * 10 ** len(fixed))), s[match.end() :]
    if match := _SCIENTIFIC.match(s):
        return _scaled(match[1], match[2] or "1", match[3] or match[4], s[match.end() :])
    if match := _E_NOTATION.match(s):
        return _scaled(match[1], match[2], match[3], s[match.end() :])
    if match := _RATIONAL.match(s):
        value = _quotient(match[2], match[3] or "1")
        return None if value is None else (_signed(match[1], value), s[match.end() :])
    return None


def _signed(sign: str, value: Fraction) -> Fraction:
    return -value if sign == "-" else value


def _quotient(numerator: str, denominator: str) -> Fraction | None:
    bottom = Fraction(denominator.replace(" ", "").rstrip("."))
    return Fraction(numerator.replace(" ", "").rstrip(".")) / bottom if bottom else None


def _scaled(sign: str, digits: str, exponent: str, rest: str) -> tuple[Fraction, str] | None:
    power = exponent.replace(" ", "")
    if len(power) > 6 or abs(int(power)) > _LARGEST_EXPONENT:
        return None
    return _signed(sign, Fraction(digits.rstrip(".")) * Fraction(10) ** int(power)), rest


def decimals(value: Fraction) -> int | None:
    """Decimal places of a number that ends, None for one that does not (or has over 300)."""
    bottom, twos, fives = value.denominator, 0, 0
    while bottom % 2 == 0:
        bottom, twos = bottom // 2, twos + 1
    while bottom % 5 == 0:
        bottom, fives = bottom // 5, fives + 1
    return max(twos, fives) if bottom == 1 and max(twos, fives) <= 300 else None


class Date(NamedTuple):
    """A day; None for what is not said."""

    year: int | None
    month: int | None
    day: int | None


class Time(NamedTuple):
    """A time of day by the 24-hour clock."""

    hour: int
    minute: int
    second: int


_MONTHS = "january february march april may june july august september october november december".split()
_MONTH = "(" + "|".join(f"{m[:3]}(?:{m[3:]})?" if m != "may" else "may" for m in _MONTHS) + r"|sept)\.?"
_WEEKDAY = r"(?:(?:mon|tues?|wednes|thurs?|fri|satur|sun)(?:day)?,?\s+)?"
_NUMERIC = re.compile(r"(\d{1,2})\s*([/.-])\s*(\d{1,2})\s*\2\s*(\d{4}|\d{2})")
_ISO = re.compile(r"(\d{4})([/.-])(\d{1,2})\2(\d{1,2})")
_US = re.compile(rf"{_WEEKDAY}{_MONTH}\s+(\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s+(\d{{4}}))?", re.IGNORECASE)
_EUROPEAN = re.compile(
    rf"{_WEEKDAY}(?:the\s+)?(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}(?:,?\s+(\d{{4}}))?", re.IGNORECASE
)
_MONTH_YEAR = re.compile(rf"{_MONTH},?\s+(\d{{4}})", re.IGNORECASE)
_CLOCK = re.compile(
    r"(?:at\s+)?(\d{1,2})(?:\s*:\s*(\d{2}))?(?:\s*:\s*(\d{2}))?\s*(?:([ap])\.?\s?m\.?|(o'?\s?clock))?"
    r"(?:\s+(?:in the\s+)?(morning|afternoon|evening|at night))?",
    re.IGNORECASE,
)


def read_date(s: str, order: str = "") -> Date | None:
    """A date: 05/01/2021, 2021-05-01, May 1, 2021, 1 May 2021, May 1, May 2021.

    `order` "MD" or "DM" says what comes first in 05/01/2021: the month, or the day; without it the month, unless that cannot be.
    """
    if match := _NUMERIC.fullmatch(s):
        first, second = int(match[1]), int(match[3])
        day_first = order == "DM" or (not order and (first > 12 or match[2] == "."))
        month, day = (second, first) if day_first else (first, second)
        year = int(match[4]) + (0 if len(match[4]) == 4 else 2000 if int(match[4]) < 70 else 1900)
        if match[2] == "/" or len(match[4]) == 4:
            return _date(year, month, day)
        return None
    if match := _ISO.fullmatch(s):
        return _date(int(match[1]), int(match[3]), int(match[4]))
    if match := _US.fullmatch(s):
        return _date(match[3], _month(match[1]), int(match[2]))
    if match := _EUROPEAN.fullmatch(s):
        return _date(match[3], _month(match[2]), int(match[1]))
    if match := _MONTH_YEAR.fullmatch(s):
        return Date(int(match[2]), _month(match[1]), None)
    return None


def _month(name: str) -> int:
    return next(i for i, month in enumerate(_MONTHS, 1) if month.startswith(name[:3].lower()))


def _date(year: int | str | None, month: int, day: int) -> Date | None:
    return Date(int(year) if year else None, month, day) if 1 <= month <= 12 and 1 <= day <= 31 else None


def read_time(s: str, expected: bool) -> Time | None:
    """A time of day: 3 pm, 3:00 p.m., 15:00, 3:05; 3:15 only where a time is `expected`, for it may be a ratio."""
    words = s.lower().strip()
    if words in ("noon", "midnight"):
        return Time(12 if words == "noon" else 0, 0, 0)
    match = _CLOCK.fullmatch(s)
    if not match:
        return None
    hour, minute, second = int(match[1]), int(match[2] or 0), int(match[3] or 0)
    half, marked = match[4], match[4] or match[5] or match[6]
    if not marked and not (match[2] and (expected or match[2].startswith("0") or match[3])):
        return None
    late = (half or "").lower() == "p" or (match[6] or "").lower() in ("afternoon", "evening", "at night")
    if hour > 24 or minute > 59 or second > 59:
        return None
    if half or match[6]:
        if not 1 <= hour <= 12:
            return Time(hour, minute, second) if late == (hour >= 12) else None
        hour = hour % 12 + (12 if late else 0)
    return Time(hour, minute, second)
