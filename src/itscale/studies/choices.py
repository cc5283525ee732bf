"""What a calibration chose, as a table and in sentences."""

from typing import Any

import pandas as pd

from itscale.studies.criterion import Verdict

COLUMNS = [
    *("verifier", "method", "slug", "settings", "chosen", "reference_accuracy", "accuracy"),
    *(f"difference{end}" for end in ("", "_low", "_high")),
    *("saving", "unanswered", "cut_off", "verdict", "excluded", "edge", "promised_error"),
    *(f"measured_error{end}" for end in ("", "_low", "_high")),
]


def chosen_table(record: dict[str, Any]) -> pd.DataFrame:
    """A row for each choice, and for each rule that promises an error, of a calibration file."""
    parts = {record["verifier"]: record["methods"], **{name: other["methods"] for name, other in record["others"].items()}}
    rows = [
        {
            **entry,
            "verifier": verifier,
            "settings": said(entry["settings"]),
            "chosen": said(entry["hyperparameters"]),
            "edge": ", ".join(entry.get("edge", ())),
        }
        for verifier, entries in parts.items()
        for entry in entries
        if entry["candidates"] or "promised_error" in entry
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def with_promises(stops: pd.DataFrame, entries: list[dict[str, Any]]) -> pd.DataFrame:
    """A table of stops with what each rule promises of its error, and what the calibration split measured; empty without.

    Args:
        stops: rows with method and budget.
        entries: the methods of the calibration file.
    """
    names = [name for name in COLUMNS if name.startswith(("promised", "measured"))]
    rows = [
        {"method": e["method"], "budget": e["settings"]["n_max"], **{name: e.get(name) for name in names}}
        for e in entries
        if "promised_error" in e and "n_max" in e["settings"]
    ]
    return stops.merge(pd.DataFrame(rows, columns=["method", "budget", *names]).astype({"budget": int}), how="left")


def said(settings: dict[str, Any]) -> str:
    """Settings in a line."""
    return " ".join(f"{name}={value}" for name, value in settings.items())


def sentences(table: pd.DataFrame) -> list[str]:
    """What to know of the choices: too few questions, the end of a grid, a promise that the split did not see kept."""
    found = []
    few = table[table["verdict"] == str(Verdict.TOO_FEW)]
    if len(few):
        points = 100 * few["excluded"]
        found.append(
            f"{len(few)} of {table['verdict'].count()} choices: the calibration split has too few questions to exclude "
            f"a loss of 1 point (it excludes {points.min():.1f} to {points.max():.1f}); the settings fixed beforehand were kept."
        )
    for _, row in table[table["edge"].astype(bool) & (table["verdict"] != str(Verdict.TOO_FEW))].iterrows():
        several = "," in row["edge"]
        where, widen = ("are at ends of their grids", "them") if several else ("is at an end of its grid", "it")
        found.append(f"{row['method']} ({row['settings']}): {row['edge']} {where} ({row['chosen']}): widen {widen}.")
    for _, row in table[table["measured_error"] > table["promised_error"]].iterrows():
        measured = [100 * row[f"measured_error{end}"] for end in ("", "_low", "_high")]
        open_ = "" if row["measured_error_low"] > row["promised_error"] else " (the interval holds the promise)"
        found.append(
            f"{row['method']} ({row['settings']}) promises an error of at most {100 * row['promised_error']:g} %, and "
            f"{measured[0]:.1f} % [{measured[1]:.1f}, {measured[2]:.1f}] of its stops erred on the calibration split{open_}."
        )
    return found
