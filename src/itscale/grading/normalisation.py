"""One way to write each answer: Unicode, delimiters, spacing and styling, without loss of what tells two answers apart.

What stood in \\text{} or the like is kept between two marks (`TEXT`, `END`), since a unit there is no variable.
"""

import re
import unicodedata

TEXT, END = "\ue000", "\ue001"

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUPER, _SUB = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+"), re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_VULGAR = re.compile("[¼½¾⅐-⅞]")
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega".split()
)
_SIGNS = {
    **dict.fromkeys("−–—‐‑﹣－", "-"),
    **dict.fromkeys("×✕✖", r"\times "),
    **dict.fromkeys("·⋅∙", r"\cdot "),
    **dict.fromkeys("‘’′‵", "'"),
    **dict.fromkeys("“”", '"'),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\xad", ""),
    **{"÷": "/", "⁄": "/", "∕": "/", "√": r"\sqrt ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx "},
    **{
        "°": r"^\circ ",
        "∪": r"\cup ",
        "∩": r"\cap ",
        "∈": r"\in ",
        "∅": r"\emptyset ",
        "±": r"\pm ",
        "∓": r"\mp ",
        "…": r"\ldots ",
    },
    **{"″": "''", "∶": ":", "％": "%", "℃": r"^\circ C", "℉": r"^\circ F", "ℝ": r"\mathbb{R}", "→": r"\to ", "∠": r"\angle "},
    **{unicodedata.lookup(f"GREEK SMALL LETTER {name.upper().replace('LAMBDA', 'LAMDA')}"): rf"\{name} " for name in _GREEK},
    **{unicodedata.lookup(f"GREEK CAPITAL LETTER {name.upper()}"): rf"\{name.title()} " for name in ("delta", "omega", "sigma")},
}
_TRANSLATED = str.maketrans(_SIGNS)

_STYLE = re.compile(  # one argument, which is all that counts
    r"\\(text(?:bf|it|rm|sf|tt|normal|up)?|math(?:rm|bf|it|sf|tt|normal|cal|scr)|mbox|hbox|emph|boldsymbol|bm|underline|operatorname\*?"
    r"|vec|hat|widehat|bar|overrightarrow|overleftrightarrow|boxed|fbox|ensuremath|overline(?=\{[A-Z]{1,3}\}))\s*\{"
)
_IS_TEXT = re.compile(r"text|mbox|hbox|emph|mathrm|operatorname")
_ONE_LETTER = re.compile(r"\\(?:math(?:rm|bf|it|sf)|text(?:bf|rm)?|boldsymbol|bm|vec|hat|bar)\s*([A-Za-z])(?![A-Za-z])")
_SPACES = re.compile(
    r"(?<!\\)\\[,;:! ]|\\(?:q?quad|hspace\*?\{[^{}]*\}|hfill|hskip|enspace|thinspace|displaystyle|textstyle|limits)(?![a-zA-Z])|~"
)
_SIZES = re.compile(r"\\(?:left|right|[bB]igg?[lrm]?)(?![a-zA-Z])\s*\.?")
_SWITCH = re.compile(r"\\(?:rm|bf|it|sf|tt|normalfont|mathstrut|tfrac|dfrac|cfrac)(?![a-zA-Z])")
_DOUBLED = re.compile(r"\\\\(?=(?:[dt]?frac|text|sqrt|pi|times|cdot|left|right|boxed|circ|mathrm|infty)(?![a-zA-Z]))")
_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3})((?:(?:,\\!|\{,\}|,|\\,| |\u2009|\u202f)\d{3})+)(?![\d])")
_ANSWER = re.compile(r"(?i)\s*(?:so,?\s+)?(?:the\s+)?(?:final\s+)?(?:answer|ans|result|solution)\s*(?:is|:|=)\s*:?\s*")
_BECAUSE = re.compile(r",?\s+because\s")
_TRAILING = re.compile(r"(?:\s|[,;:]|(?<![.\d])\.|(?<=\d)\.(?!\.)|\\$)+$")


def normalise_answer(answer: str) -> str:
    """An answer in plain notation: ASCII signs, `\\frac`, no `$`, no spacing or sizing commands, text between marks."""
    s = _SUPER.sub(lambda m: "^{" + m.group().translate(_SUPERSCRIPTS) + "}", answer)
    s = _SUB.sub(lambda m: "_{" + m.group().translate(_SUBSCRIPTS) + "}", s)
    s = _VULGAR.sub(lambda m: " " + unicodedata.normalize("NFKC", m.group()), s)
    s = unicodedata.normalize("NFKC", s.translate(_TRANSLATED)).translate(_TRANSLATED)
    s = _thousands(_DOUBLED.sub(r"\\", s)).replace("<=", r"\le ").replace(">=", r"\ge ")
    s = s.replace(r"\(", " ").replace(r"\)", " ").replace(r"\[", " ").replace(r"\]", " ").replace(r"\%", "%").replace(r"\#", "#")
    s = _dollars(s)
    s = _SIZES.sub(" ", _SPACES.sub(" ", s))
    s = _SWITCH.sub(lambda m: r"\frac" if m.group().endswith("frac") else " ", s)
    s = _unwrap(_ONE_LETTER.sub(r" \1 ", s))
    s = s.replace("**", "^" if re.search(r"\w\*\*[\w({]", s) else "").replace("`", "")
    s = _ANSWER.sub("", s.replace(TEXT, f"{TEXT} "), count=1) if _ANSWER.match(s.replace(TEXT, " ").replace(END, " ")) else s
    s = re.sub(rf"{TEXT}\s*{END}|\{{\s*\}}", " ", " ".join(s.split()))
    return _outer(_TRAILING.sub("", _BECAUSE.split(s, maxsplit=1)[0]).strip('"'))


def bare(normalised: str) -> str:
    """Without the marks of text."""
    return " ".join(normalised.replace(TEXT, " ").replace(END, " ").split())


def _thousands(s: str) -> str:
    """18,000 and 18 000 are one number; 1,2 and (1,234,5) are lists."""

    def joined(match: re.Match[str]) -> str:
        marks = set(re.findall(r"\D+", match[2]))
        mixed = marks == {" "} and re.match(r"\s*/", s[match.end() :])  # 2 131/132
        if match[1] == "0" or mixed or len(marks) > 1:
            return match.group()
        return match[1] + re.sub(r"\D", "", match[2])

    return _THOUSANDS.sub(joined, s)


def _dollars(s: str) -> str:
    """Without the `$` of mathematics; one alone, or one written `\\$`, is a currency and becomes the word."""
    s = s.replace(r"\$", "\ue002")
    if s.count("$") % 2:
        s = s.replace("$", "\ue002", 1)
    return s.replace("$", " ").replace("\ue002", "$")


def _unwrap(s: str) -> str:
    """Styling commands replaced by their arguments, those of text between marks."""
    for match in reversed(list(_STYLE.finditer(s))):
        end = _closing(s, match.end() - 1)
        if end > 0:
            inside = s[match.end() : end]
            plain = f"{TEXT}{inside}{END}" if _IS_TEXT.match(match[1]) and TEXT not in inside else f" {inside} "
            s = s[: match.start()] + plain + s[end + 1 :]
    return s


def _outer(s: str) -> str:
    """Without braces around all of it."""
    s = s.strip()
    while s.startswith("{") and _closing(s, 0) == len(s) - 1:
        s = s[1:-1].strip()
    return s


def _closing(s: str, start: int) -> int:
    """Where the brace at `start` closes, -1 if it does not."""
    depth = 0
    for i in range(start, len(s)):
        depth += (s[i] == "{") - (s[i] == "}")
        if depth == 0:
            return i
    return -1
