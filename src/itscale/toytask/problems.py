"""The arithmetic of the toy task: questions, worked solutions, careless slips, and the truth of every written step.

A question such as `12+3-4*2` is worked from left to right modulo 100, one operation a line, and ends with the answer:

    12+3=15
    15-4=11
    11*2=22
    \\boxed{22}
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

MODULUS = 100
SLIPS = (-10, -2, -1, 1, 2, 10)
# Products by more than 4 are beyond a model that is trained for minutes: nine operands would be 900 facts to learn by heart.
OPERANDS = {"+": (1, 9), "-": (1, 9), "*": (2, 4)}
_OPERATION = re.compile(r"([+\-*])(\d)")
_QUESTION = re.compile(r"(\d{1,2})((?:[+\-*]\d)+)")
_RESULT = re.compile(r"=(\d{1,2})$")


@dataclass(frozen=True, slots=True)
class Expression:
    """A start value (0 to 99) and the operations on it, each an operator of `+-*` and a digit."""

    start: int
    operations: tuple[tuple[str, int], ...]

    @property
    def question(self) -> str:
        return str(self.start) + "".join(f"{operator}{operand}" for operator, operand in self.operations)


def parse(question: str) -> Expression:
    """The expression that a question spells.

    Raises:
        ValueError: the text is not such a question.
    """
    match = _QUESTION.fullmatch(normalise(question))
    if match is None:
        raise ValueError(f"{question!r} is not a question of the toy task")
    return Expression(
        int(match[1]),
        tuple((operator, int(operand)) for operator, operand in _OPERATION.findall(match[2])),
    )


def normalise(question: str) -> str:
    """A question without white space: two questions are the same one where these agree."""
    return "".join(question.split())


def apply(value: int, operator: str, operand: int) -> int:
    """One operation modulo 100."""
    if operator == "+":
        return (value + operand) % MODULUS
    if operator == "-":
        return (value - operand) % MODULUS
    return (value * operand) % MODULUS


def answer(expression: Expression) -> int:
    """The right answer."""
    value = expression.start
    for operator, operand in expression.operations:
        value = apply(value, operator, operand)
    return value


def solution(expression: Expression, slips: Mapping[int, int] | None = None) -> list[str]:
    """The lines of a worked solution; `slips` maps a step to what is added to its written result and carried on."""
    slips = slips or {}
    value, lines = expression.start, []
    for step, (operator, operand) in enumerate(expression.operations):
        result = (apply(value, operator, operand) + slips.get(step, 0)) % MODULUS
        lines.append(f"{value}{operator}{operand}={result}")
        value = result
    return [*lines, f"\\boxed{{{value}}}"]


def right_lines(expression: Expression, lines: list[str]) -> list[str]:
    """What each written line ought to be, given the result written on the line before it.

    An error is thus charged to the step that makes it, and to no later one. Lines beyond the answer ought to be empty.
    """
    value, right = expression.start, []
    for step, line in enumerate(lines):
        if step < len(expression.operations):
            operator, operand = expression.operations[step]
            result = apply(value, operator, operand)
            right.append(f"{value}{operator}{operand}={result}")
            written = _RESULT.search(line)
            # An illegible step is wrong; what follows is assessed as if it had been right.
            value = int(written[1]) if written else result
        else:
            right.append(f"\\boxed{{{value}}}" if step == len(expression.operations) else "")
    return right


def even_levels(low: int, high: int) -> dict[int, float]:
    """Weights by which every level from `low` to `high` is as frequent as any other."""
    return dict.fromkeys(range(low, high + 1), 1.0)


def usual_operations() -> dict[str, float]:
    """Weights of the operators wherever nothing is said of them: products are the rarest."""
    return {"+": 4.0, "-": 2.0, "*": 1.0}


def draw_expression(rng: np.random.Generator, level: int, operations: Mapping[str, float]) -> Expression:
    """A random expression of `level` operations; `operations` maps the operators to their weights."""
    weights = np.fromiter(operations.values(), float)
    operators = rng.choice(list(operations), size=level, p=weights / weights.sum())
    low, high = np.array([OPERANDS[operator] for operator in operators]).T
    operands = rng.integers(low, high + 1)
    return Expression(
        int(rng.integers(MODULUS)),
        tuple(zip(operators.tolist(), operands.tolist(), strict=True)),
    )


def draw_slips(rng: np.random.Generator, steps: int, rate: float) -> dict[int, int]:
    """Careless slips: each step's result is off by 1, 2 or 10 with probability `rate`."""
    return {int(step): int(rng.choice(SLIPS)) for step in np.flatnonzero(rng.random(steps) < rate)}


def draw_expressions(
    rng: np.random.Generator,
    levels: Mapping[int, float],
    operations: Mapping[str, float],
    exclude: set[str],
) -> Iterator[Expression]:
    """Endless random expressions, their levels drawn by weight, none with a question in `exclude` (normalised)."""
    weights = np.fromiter(levels.values(), float)
    weights /= weights.sum()
    names = [int(level) for level in levels]
    while True:
        expression = draw_expression(rng, int(rng.choice(names, p=weights)), operations)
        if expression.question not in exclude:
            yield expression
