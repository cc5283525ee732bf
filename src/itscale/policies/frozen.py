"""Calibration files: what the calibration split said, and the policies whose hyperparameters it chose."""

from dataclasses import asdict, fields
from typing import Any, get_args, get_type_hints

import numpy as np

from itscale.errors import UserError
from itscale.policies import make_policy
from itscale.policies.calibration import Calibration
from itscale.policies.protocol import Policy


def known_to_json(known: Calibration) -> dict[str, Any]:
    """The calibration split's statistics as JSON values."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(v) for name, v in value.items()}
        # JSON knows no NaN.
        return np.where(np.isnan(value), None, value).tolist() if isinstance(value, np.ndarray) else value

    return plain(asdict(known))


def known_from_json(values: dict[str, Any]) -> Calibration:
    """The reverse of `known_to_json`.

    Raises:
        UserError: a part lacks a value, or has one that is not known: another version wrote it.
    """

    def part(kind: type, content: dict[str, Any] | None) -> Any:
        if content is None:
            return None
        if str in get_args(kind):
            return content
        if np.ndarray in get_args(kind):
            return np.asarray(content, float)
        cls = next(c for c in get_args(kind) if c is not type(None))
        types = get_type_hints(cls)
        if strange := sorted(set(content) ^ {f.name for f in fields(cls)}):
            raise UserError(
                f"the calibration's {cls.__name__} does not agree on {strange[0]!r}: another version wrote it, run "
                "`itscale calibrate` anew."
            )
        return cls(**{k: np.asarray(v, float) if types[k] is np.ndarray else v for k, v in content.items()})

    hints = get_type_hints(Calibration)
    return Calibration(**{f.name: part(hints[f.name], values.get(f.name)) for f in fields(Calibration)})


def frozen_policies(record: dict[str, Any]) -> list[tuple[str, Policy]]:
    """(method, bound policy) of every row of a calibration file, hyperparameters as chosen there."""
    known = known_from_json(record["known"])
    return [
        (entry["method"], make_policy(entry["policy"], **entry["settings"], **entry["hyperparameters"]).bind(known))
        for entry in record["methods"]
    ]
