"""Tidy tables put together, and the main table as Markdown for people."""

from pathlib import Path

import pandas as pd

from itscale.records import write_atomic


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically as CSV."""
    write_atomic(path, table.to_csv(index=False, float_format="%.6g").encode())


def concat(paths: list[Path]) -> pd.DataFrame:
    """Tables of several benchmarks under each other."""
    return pd.concat([pd.read_csv(p) for p in paths], ignore_index=True)


def markdown(main: pd.DataFrame) -> str:
    """The main table with a cell `mean [low, high]` per quantity."""

    def cell(name: str, scale: float, digits: int) -> pd.Series:
        values = [scale * main[f"{name}{end}"] for end in ("", "_low", "_high")]
        return pd.Series([f"{m:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]" for m, low, high in zip(*values, strict=True)])

    table = pd.DataFrame(
        {
            "benchmark": main["benchmark"],
            "method": main["method"],
            "budget": main["budget"].astype(str) + " " + main["unit"] + "s",
            "used": main["used"].map("{:.1f}".format),
            "accuracy (%)": cell("accuracy", 100, 1),
            "against the full budget (points)": cell("accuracy_difference", 100, 1),
            "completion tokens": cell("completion_tokens", 1, 0),
            "total tokens": cell("total_tokens", 1, 0),
            "stops by reason": main["stops"],
        }
    )
    return table.to_markdown(index=False, disable_numparse=True) + "\n"
