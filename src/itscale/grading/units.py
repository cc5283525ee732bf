"""Units: what follows a number, in one notation."""

import re
from functools import lru_cache

# Unit -> (what it measures, its symbols, its names). Symbols are case-sensitive, names are not and may be in the plural.
_UNITS = {
    "mm": ("length", "mm", "millimeter millimetre"),
    "cm": ("length", "cm", "centimeter centimetre"),
    "m": ("length", "m", "meter metre"),
    "km": ("length", "km", "kilometer kilometre"),
    "in": ("length", "", "inch inches"),
    "ft": ("length", "ft", "foot feet"),
    "yd": ("length", "yd", "yard"),
    "mi": ("length", "mi", "mile"),
    "ms": ("time", "ms", "millisecond"),
    "s": ("time", "s sec", "second"),
    "min": ("time", "min", "minute"),
    "h": ("time", "h hr hrs", "hour"),
    "day": ("time", "", "day"),
    "week": ("time", "", "week"),
    "month": ("time", "", "month"),
    "year": ("time", "yr", "year"),
    "mg": ("mass", "mg", "milligram"),
    "g": ("mass", "g", "gram"),
    "kg": ("mass", "kg", "kilogram"),
    "lb": ("mass", "lb lbs", ""),
    "oz": ("mass", "oz", "ounce"),
    "ton": ("mass", "", "ton tonne"),
    "dollar": ("money", "$ USD", "dollar buck"),
    "cent": ("money", "¢", "cent"),
    "euro": ("money", "€ EUR", "euro"),
    "pound": ("money", "£ GBP", "pound"),
    "yen": ("money", "¥", "yen"),
    "rupee": ("money", "₹ Rs", "rupee"),
    "degree": ("angle", "", "degree deg"),
    "rad": ("angle", "rad", "radian"),
    "celsius": ("temperature", "", "celsius"),
    "fahrenheit": ("temperature", "", "fahrenheit"),
    "K": ("temperature", "K", "kelvin"),
    "l": ("volume", "l L", "liter litre"),
    "ml": ("volume", "ml mL", "milliliter millilitre"),
    "gal": ("volume", "gal", "gallon"),
    "J": ("energy", "J", "joule"),
    "kJ": ("energy", "kJ", "kilojoule"),
    "eV": ("energy", "eV", "electronvolt"),
    "MeV": ("energy", "MeV", ""),
    "cal": ("energy", "cal", "calorie"),
    "N": ("force", "N", "newton"),
    "W": ("power", "W", "watt"),
    "kW": ("power", "kW", "kilowatt"),
    "V": ("voltage", "V", "volt"),
    "A": ("current", "A", "ampere amp"),
    "Hz": ("frequency", "Hz", "hertz"),
    "Pa": ("pressure", "Pa", "pascal"),
    "atm": ("pressure", "atm", "atmosphere"),
    "mol": ("amount", "mol", "mole"),
}
_KIND = {unit: kind for unit, (kind, _, _) in _UNITS.items()}
_SYMBOL = {symbol: unit for unit, (_, symbols, _) in _UNITS.items() for symbol in symbols.split()}
_NAME = {name: unit for unit, (_, _, names) in _UNITS.items() for name in names.split()}
_COMPOUND = {"mph": "mi / h", "kph": "km / h", "kmh": "km / h", "kmph": "km / h"}
_EMPTY = frozenset(
    "a an the of in on is are has have was were will be it they he she unit and total old each about around only".split()
)
CHANGING = frozenset(  # words beside a number that make it another one
    "not no less more than least most over under above below between except minus plus negative half dozen double twice thrice "
    "times squared cubed greater fewer up to from or and exceeds within before after until hundred".split()
)
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_TOKEN = re.compile(r"\^\s*\{?\s*(-?\d)\s*\}?|([a-zA-Z]+)|([$€£¥₹¢])|(/)|\S")


def singular(word: str) -> str:
    """A word without the ending of its plural."""
    word = word.lower()
    return (
        word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-1] if word.endswith("s") and len(word) > 3 else word
    )


@lru_cache(maxsize=4096)
def read_unit(phrase: str) -> str | None:
    """A unit in one notation: "meters per second" and m/s are "m s^-1"; else the words; "" for none; None for no unit at all.

    A phrase that holds digits (but for exponents) or words that change a number's value is no unit.
    """
    phrase = re.sub(
        r"\^\s*\{?\s*\\circ\s*\}?\s*([CF]\b)?", lambda m: {"C": " celsius ", "F": " fahrenheit "}.get(m[1], " degree "), phrase
    )
    phrase = re.sub(r"\\(?:cdot|times)(?![a-zA-Z])", " ", phrase)
    powers: dict[str, int] = {}
    words, sign, wait, last = [], 1, 1, ""
    for token in _TOKEN.finditer(phrase):
        power, word, currency, slash = token.groups()
        if slash:
            sign = -1
        elif power:
            if not last:
                return None
            powers[last] += (int(power) - 1) * (1 if powers[last] > 0 else -1)
        elif currency:
            powers[_SYMBOL[currency]] = powers.get(_SYMBOL[currency], 0) + sign
        elif word:
            if word.lower() in CHANGING:
                return None
            for piece in _COMPOUND.get(word.lower(), word).split():
                if piece == "/" or piece.lower() == "per":
                    sign = -1
                elif piece.lower() in ("square", "sq", "cubic"):
                    wait = 3 if piece.lower() == "cubic" else 2
                elif unit := _SYMBOL.get(piece) or _NAME.get(singular(piece)) or _NAME.get(piece.lower()):
                    powers[unit] = powers.get(unit, 0) + sign * wait
                    wait, last = 1, unit
                elif piece.lower() not in _EMPTY and singular(piece) not in _EMPTY:
                    words.append(singular(piece))
        elif token.group() not in "(),.-'\"&":
            return None
    if powers:
        if powers.get("degree") and (powers.get("celsius") or powers.get("fahrenheit")):
            del powers["degree"]
        return " ".join(unit if power == 1 else f"{unit}^{power}" for unit, power in sorted(powers.items()) if power)
    return " ".join(sorted(words))


def is_unit(unit: str | None) -> bool:
    """Whether what `read_unit` returned is made of units, not of other words."""
    return bool(unit) and all(part.partition("^")[0] in _KIND for part in unit.split())


@lru_cache(maxsize=4096)
def units_named(question: str) -> tuple[frozenset[str], frozenset[str]]:
    """The units that a question names, by a word or by a symbol after a number, and all its words in the singular."""
    words = re.findall(r"[A-Za-z]+|[$€£¢]", question)
    units = {found for w in words if (found := _NAME.get(singular(w)) or _NAME.get(w.lower()))}
    units |= {
        _SYMBOL[w]
        for w in re.findall(r"\d\s*(?:\\[,; ]|~|\\text\s*\{|\\mathrm\s*\{|\s)*([A-Za-z]{1,3})\b", question)
        if w in _SYMBOL
    }
    if "$" in words and re.search(r"(?:^|[\s(])\\?\$\d[\d,.]*(?=[\s.,;?)]|$)", question):
        units.add("dollar")
    return frozenset(units), frozenset(singular(w) for w in words if w.isalpha())


def is_named(unit: str, question: str) -> bool:
    """Whether the question names a unit, and no other one of its kind, so that a bare number means it too."""
    units, words = units_named(question)
    parts = [part.partition("^")[0] for part in unit.split()]
    if is_unit(unit):
        return all(
            (part == "degree" and "rad" not in units)
            or (part in units and not any(_KIND[u] == _KIND[part] for u in units - {part}))
            for part in parts
        )
    return bool(parts) and all(part in words for part in parts)
