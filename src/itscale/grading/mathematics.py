"""What an expression is worth, by math-verify's LaTeX parser and sympy; run in a worker, since some input never ends.

Two expressions are equal where they agree, to 20 digits, at four points that their variables' names decide, two of which have
negative coordinates: sqrt(x^2) is not x. An expression without variables has one value; a rational one is a number.
"""

import hashlib
import re
from fractions import Fraction
from typing import Any

import mpmath
import sympy
from latex2sympy2_extended import latex2sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from latex2sympy2_extended.math_normalization import NormalizationConfig
from sympy import FiniteSet, Interval, MatrixBase, Tuple

_CONVERSION = ConversionConfig(interpret_as_mixed_fractions=True, lowercase_symbols=False)
_NORMALISATION = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none", equations=False
)
_POINTS, _DIGITS, _WORKING = 4, 20, 40


def evaluate(latex: str, names: dict[str, str], *, ratio: bool, positive: bool) -> Any:
    """The reading of an expression as JSON values; None where it is no mathematics that the parser knows.

    ["number", "3/4"]; [kind, digits...] with kind real, complex, points or factor; ["sequence", kind, [readings]].
    """
    parsed = latex2sympy(_degrees(latex), is_real=None, conversion_config=_CONVERSION, normalization_config=_NORMALISATION)
    return _reading(parsed, names, ratio, positive)


def _degrees(latex: str) -> str:
    """45^\\circ within a function is 45 pi/180."""
    return re.sub(r"(\d+(?:\.\d+)?)\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ)", r"{\\frac{\1 \\pi}{180}}", latex)


def _reading(found: Any, names: dict[str, str], ratio: bool, positive: bool) -> Any:
    if isinstance(found, sympy.MatrixExpr):
        found = found.doit()
    if isinstance(found, MatrixBase):
        rows = [
            ["sequence", "row", [_reading(found[i, j], names, False, False) for j in range(found.cols)]]
            for i in range(found.rows)
        ]
        return None if any(None in row[2] for row in rows) else ["sequence", "matrix", rows]
    if isinstance(found, Interval):
        ends = ("(" if found.left_open else "[") + (")" if found.right_open else "]")
        return _sequence(ends, [found.start, found.end], names)
    if isinstance(found, FiniteSet):
        return _sequence("set", list(found.args), names)
    if isinstance(found, Tuple | tuple | list):
        return _sequence("()", list(found), names)
    if not isinstance(found, sympy.Expr) or found.has(sympy.nan, sympy.zoo):
        return None
    if found in (sympy.oo, -sympy.oo):
        return ["words", "infinity" if found == sympy.oo else "-infinity"]
    return _value(found, names, ratio, positive)


def _sequence(kind: str, items: list[Any], names: dict[str, str]) -> Any:
    read = [_reading(item, names, False, False) for item in items]
    return None if None in read else ["sequence", kind, read]


def _value(found: sympy.Expr, names: dict[str, str], ratio: bool, positive: bool) -> Any:
    if found.has(sympy.Sum, sympy.Integral, sympy.Product, sympy.Limit, sympy.Derivative):
        found = found.doit()
    found = found.replace(lambda part: isinstance(part, sympy.Float), lambda part: sympy.Rational(str(part)))
    found = found.subs({symbol: sympy.I for symbol in found.free_symbols if symbol.name == "i"})
    found = found.subs({symbol: sympy.E for symbol in found.free_symbols if symbol.name == "e"})
    if found.is_Rational:
        return (
            _scaled([mpmath.mpf(found.p) / found.q], ratio, positive) if ratio or positive else ["number", f"{found.p}/{found.q}"]
        )
    with mpmath.workdps(_WORKING):
        symbols = sorted(found.free_symbols, key=lambda symbol: symbol.name)
        values = []
        for place in range(_POINTS if symbols else 1):
            point = {symbol: _coordinate(names.get(symbol.name, symbol.name), place) for symbol in symbols}
            value = _evaluate(found, point)
            if value is None:
                return None
            values.append(value)
        if ratio or positive:
            return _scaled(values, ratio, positive)
        if all(abs(value - values[0]) <= mpmath.mpf(10) ** (5 - _WORKING) * abs(values[0]) for value in values):
            return _constant(values[0])
        return ["points", *map(_written, values)]


def _coordinate(name: str, place: int) -> sympy.Float:
    """A coordinate between 0.2 and 2.2 in size, negative at the third point, of either sign at the fourth."""
    digest = hashlib.sha256(f"{place} {name}".encode()).digest()
    size = sympy.Rational(int.from_bytes(digest[:6], "big"), 1 << 47) + sympy.Rational(1, 5)
    negative = place == 2 or (place == 3 and digest[6] & 1)
    return sympy.Float(-size if negative else size, _WORKING + 20)


def _evaluate(found: sympy.Expr, point: dict[sympy.Symbol, sympy.Float]) -> Any:
    """A value as mpmath's real or complex, exact zeros as 0; None where there is none."""
    result = found.evalf(_WORKING, subs=point) if point else found.evalf(_WORKING)
    real, imaginary = result.as_real_imag()
    parts = []
    for part in (real, imaginary):
        if not part.is_Number or part in (sympy.oo, -sympy.oo, sympy.nan):
            return None
        parts.append(mpmath.mpf(0) if part.is_Float and part._prec < 60 else mpmath.mpf(str(part.evalf(_WORKING))))
    size = max(abs(parts[0]), abs(parts[1]))
    parts = [part if abs(part) > size * mpmath.mpf(10) ** (5 - _WORKING) else mpmath.mpf(0) for part in parts]
    return mpmath.mpc(*parts) if parts[1] else parts[0]


def _constant(value: Any) -> Any:
    if isinstance(value, mpmath.mpc):
        return ["complex", _written(value)]
    exact = (
        Fraction(mpmath.nstr(value, _WORKING, strip_zeros=False, min_fixed=-mpmath.inf, max_fixed=mpmath.inf))
        if abs(value) < 1e300 and (not value or abs(value) > 1e-300)
        else None
    )
    if exact is not None:
        near = exact.limit_denominator(10**6)
        if (near and abs(near - exact) <= abs(near) * Fraction(1, 10**30)) or not exact:
            return ["number", str(near)]
    return ["real", _written(value)]


def _scaled(values: list[Any], ratio: bool, positive: bool) -> Any:
    """Values up to a common factor, or up to a positive one."""
    first = next((value for value in values if value), None)
    if first is None:
        return ["factor", "0"]
    factor = abs(first) if positive else first
    return ["factor", *(_written(value / factor) for value in values)]


def _written(value: Any) -> str:
    if isinstance(value, mpmath.mpc):
        return f"{_written(value.real)} {_written(value.imag)}"
    return mpmath.nstr(value, _DIGITS) if value else "0"
