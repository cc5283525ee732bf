"""Gold answers as files hold them: a text, a number, or a list."""

from typing import Any

import numpy as np

from itscale.errors import UserError

GOLD_LISTS = ("any", "tuple")


def check_gold_list(how: str | None) -> None:
    """Refuse another way to read a list of gold answers than those there are.

    Raises:
        UserError: the way is not known.
    """
    if how is not None and how not in GOLD_LISTS:
        raise UserError(
            f"a gold list cannot be read as {how!r}: choose any (each is accepted) or tuple (all together, in order)."
        )


def gold_answers(value: Any, how: str | None) -> tuple[str, ...]:
    """The accepted answers of one question, none where the value is empty.

    A list of one is its element. One of several is so many accepted answers (`how` is any) or one tuple (tuple).

    Raises:
        ValueError: a list of several and `how` is None, or something that is no answer; the message says which.
    """
    if isinstance(value, list | tuple | np.ndarray):
        items = [answer for item in value for answer in gold_answers(item, None)]
        if len(items) < 2:
            return tuple(items)
        if how is None:
            raise ValueError(
                "has a list of several answers as gold: say with --gold-list whether any of them or the tuple is right"
            )
        return tuple(dict.fromkeys(items)) if how == "any" else (f"({', '.join(items)})",)
    if value is None or value != value:
        return ()
    if isinstance(value, dict):
        raise ValueError("has a gold answer that is an object: name the column that holds the answer itself")
    text = str(value).strip()
    return (text,) if text else ()
