"""What the page's frontier shows: every rule and limit of a run, and the command that runs each."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

import pandas as pd

from itscale.data.tables import NONE, saved
from itscale.figures.style import look_of
from itscale.policies import POLICIES

_SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "v": "triangle-down",
    ">": "triangle-right",
    "D": "diamond",
    "d": "diamond-tall",
    "P": "cross",
    "X": "x",
    "x": "x-thin-open",
    "*": "star",
    "h": "hexagon",
    "p": "pentagon",
}
CALIBRATION = "results/calibration.json"
_KINDS = {"self_consistency": "votes", "best_of_n": "best-scored sample", "mr_thinking": "rounds"}
_QUANTITIES = ("accuracy", "accuracy_difference", "completion_tokens", "total_tokens", "dollars")


def points(
    main: pd.DataFrame, calibration: Mapping[str, Any] | None, path: str = CALIBRATION, baselines: pd.DataFrame | None = None
) -> list[dict[str, Any]]:
    """A point a row of the main table, JSON-ready.

    Args:
        calibration: what `itscale calibrate` wrote to `path`: the settings.
        baselines: each row's paired differences from every fixed N (`itscale replay`); they are in `against`, by `key`.
    """
    found, against = [], _against(baselines)
    for row, share in zip(main.to_dict("records"), saved(main), strict=True):
        style, rule = look_of(row["method"]), POLICIES.get(row.get("slug", ""))
        point = {name: row[name] for name in ("benchmark", "method", "verifier", "budget", "samples_drawn")}
        point["key"] = _key(*(row[name] for name in ("benchmark", "method", "verifier", "budget")))
        point["against"] = against.get(point["key"], {})
        point |= {"kind": _KINDS.get(row["family"], row["family"]), "color": style["color"]}
        point |= {"symbol": _SYMBOLS.get(style["marker"], "circle"), "saved": _number(share)}
        point |= {
            "needs": [n for n in rule.needs if n != "calibration"] if rule else [],
            "command": command(row, calibration, path),
        }
        for name in _QUANTITIES:
            if name in row:
                point[name] = [_number(row.get(f"{name}{end}")) for end in ("", "_low", "_high")]
        found.append(point)
    return found


def _key(benchmark: str, method: str, verifier: str, budget: int) -> str:
    return f"{benchmark}, {method}, {verifier}, {budget}"


def _against(baselines: pd.DataFrame | None) -> dict[str, dict[str, list[float | None]]]:
    """Paired differences [mean, low, high] by the key of a row and that of its baseline."""
    found: dict[str, dict[str, list[float | None]]] = {}
    for row in [] if baselines is None else baselines.to_dict("records"):
        mine = _key(row["benchmark"], row["method"], row["verifier"], row["budget"])
        theirs = _key(row["benchmark"], row["baseline"], row["baseline_verifier"], row["baseline_budget"])
        found.setdefault(mine, {})[theirs] = [_number(row[f"accuracy_difference{end}"]) for end in ("", "_low", "_high")]
    return found


def command(row: Mapping[str, Any], calibration: Mapping[str, Any] | None, path: str = CALIBRATION) -> str:
    """The `itscale solve` line of a row of the main table; empty for a rule that exists in a replay only."""
    rule = POLICIES.get(row.get("slug", ""))
    if rule is None or getattr(rule.policy, "replay_only", False):
        return ""
    settings = _settings(row, calibration)
    words = ["itscale", "solve", "--policy", rule.slug]
    words += [word for key, value in settings.items() for word in ("--set", f"{key}={_plain(value)}")]
    words += ["--calibration", path] * rule.calibrated
    words += ["--verifier", "PRM"] * ("verifier" in rule.needs)
    words += ["--predictions", "PREDICTIONS"] * ("predictor" in rule.needs)
    return shlex.join([*words, "--model", "MODEL", "--problems", "questions.jsonl"])


def _settings(row: Mapping[str, Any], calibration: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings and chosen hyperparameters of a row; none where there is no calibration."""
    records = [calibration, *calibration.get("others", {}).values()] if calibration else []
    names = [calibration.get("verifier"), *calibration.get("others", {})] if calibration else []
    chosen = [r for r, name in zip(records, names, strict=True) if row["verifier"] in (name, NONE)] or records
    for record in chosen[:1]:
        for entry in record["methods"]:
            values = {**entry["settings"], **entry["hyperparameters"]}
            if entry["method"] == row["method"] and row["budget"] in (values.get(k, 1) for k in ("n", "n_max", "rounds")):
                return values
    return {}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(f"{value:.6g}")
