"""Anyone's scores as probabilities: any real number, one a sample or one a step, with a stated map to [0, 1]."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.special import expit

from itscale.errors import UserError

MAPS = ("identity", "sigmoid", "rank")
STEPS: dict[str, Callable[[np.ndarray], float]] = {
    "mean": np.mean,
    "min": np.min,
    "last": lambda steps: steps[-1],
    "prod": np.prod,
}


def check_map(score: str, steps: str) -> None:
    """Refuse a map to [0, 1], or a score of several steps, that there is none of.

    Raises:
        UserError: the first of the two that is not known.
    """
    if score not in MAPS:
        raise UserError(f"there is no --score {score!r}: choose identity, sigmoid (of logits) or rank.")
    if steps not in STEPS:
        raise UserError(f"there is no --steps {steps!r}: choose {', '.join(STEPS)}.")


def mapped_scores(values: pd.Series, score: str, steps: str) -> tuple[pd.Series, pd.Series | None]:
    """Scores [rows] and, where there was one a step, the last step's [rows]; NaN where there is none.

    `sigmoid` maps each step before they become one number, `rank` the number itself: (rank - 1/2) / scores, ties shared.

    Raises:
        ValueError: a value that is no number; its position is the argument.
    """
    last = None
    if any(isinstance(value, list) for value in values):
        arrays = [_numbers(value if isinstance(value, list) else [value], i) for i, value in enumerate(values)]
        if score == "sigmoid":
            arrays = [expit(array) for array in arrays]
        arrays = [array[~np.isnan(array)] for array in arrays]
        one, end = (
            pd.Series([float(STEPS[how](a)) if len(a) else np.nan for a in arrays], values.index) for how in (steps, "last")
        )
        return (_ranked(one), _ranked(end)) if score == "rank" else (one, end)
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    if (bad := numbers.isna() & values.notna()).any():
        raise ValueError(int(bad.to_numpy().argmax()))
    if score == "sigmoid":
        numbers = pd.Series(expit(numbers.to_numpy()), values.index)
    return (_ranked(numbers) if score == "rank" else numbers), last


def _numbers(steps: list, position: int) -> np.ndarray:
    try:
        return np.array(steps, dtype=float).reshape(-1)
    except (TypeError, ValueError):
        raise ValueError(position) from None


def _ranked(numbers: pd.Series) -> pd.Series:
    return (numbers.rank() - 0.5) / numbers.notna().sum()
