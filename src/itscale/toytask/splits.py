"""The toy task's questions: five splits of arithmetic questions, none in two of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from itscale.data.records import Problem
from itscale.errors import refuse_below
from itscale.toytask import problems as arithmetic


def _levels() -> dict[int, float]:
    return arithmetic.even_levels(2, 10)


def _shifted_levels() -> dict[int, float]:
    return arithmetic.even_levels(7, 10)


def _shifted_operations() -> dict[str, float]:
    return {"+": 3.0, "-": 2.0, "*": 2.0}


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """Sizes of the splits, and the weights of levels (operations in a question) and operators."""

    test: int = 150
    calibration: int = 100
    shifted: int = 60
    predictor_train: int = 200
    predictor_validation: int = 50
    levels: Mapping[int, float] = field(default_factory=_levels)
    operations: Mapping[str, float] = field(default_factory=arithmetic.usual_operations)
    shifted_levels: Mapping[int, float] = field(default_factory=_shifted_levels)
    shifted_operations: Mapping[str, float] = field(default_factory=_shifted_operations)

    def __post_init__(self) -> None:
        refuse_below(1, self, "test", "calibration", "shifted", "predictor_train", "predictor_validation")


def build_splits(seed: int, settings: SplitSettings) -> dict[str, list[Problem]]:
    """Five splits with no question in two of them.

    Returns:
        Problems by split: test, calibration, shifted, predictor_train, predictor_validation. `level` is the number of
        operations.
    """
    seen: set[str] = set()
    splits = {}
    for index, name in enumerate(("test", "calibration", "shifted", "predictor_train", "predictor_validation")):
        rng = np.random.default_rng([seed, index + 1])  # numpy takes [seed, 0] for seed, which the models draw from
        shifted = name == "shifted"
        levels = settings.shifted_levels if shifted else settings.levels
        operations = settings.shifted_operations if shifted else settings.operations
        # The set is read as it grows, so that neither this split nor a later one repeats a question.
        drawn = arithmetic.draw_expressions(rng, levels, operations, seen)
        split = []
        for number in range(getattr(settings, name)):
            expression = next(drawn)
            seen.add(expression.question)
            level = str(len(expression.operations))
            split.append(
                Problem(
                    f"{name}-{number:04d}",
                    expression.question,
                    str(arithmetic.answer(expression)),
                    level,
                )
            )
        splits[name] = split
    return splits
