"""Tidy tables put together, and the main table as Markdown for people."""

from math import isnan
from pathlib import Path

import pandas as pd

from itscale.data.records import write_atomic
from itscale.errors import UserError


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically as CSV."""
    write_atomic(path, table.to_csv(index=False, float_format="%.6g").encode())


def read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV table.

    Raises:
        UserError: the file is missing, or is no table with a header.
    """
    try:
        return pd.read_csv(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run the rule that makes it first.") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise UserError(f"{path} is no CSV table ({reason}): restore it, or make it anew.") from None


def concat(paths: list[Path]) -> pd.DataFrame:
    """Tables of several benchmarks under each other."""
    return pd.concat([read_csv(p) for p in paths], ignore_index=True)


def interval_cells(table: pd.DataFrame, name: str, scale: float, digits: int) -> pd.Series:
    """Cells `mean [low, high]` from the columns NAME, NAME_low and NAME_high, times `scale`; what is NaN is left out."""
    cells = zip(*(scale * table[f"{name}{end}"] for end in ("", "_low", "_high")), strict=True)

    def cell(mean: float, low: float, high: float) -> str:
        ends = "" if isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"
        return "" if isnan(mean) else f"{mean:.{digits}f}{ends}"

    return pd.Series([cell(*values) for values in cells])


def readable(main: pd.DataFrame) -> pd.DataFrame:
    """The main table with a cell `mean [low, high]` per quantity."""
    return pd.DataFrame(
        {
            "benchmark": main["benchmark"],
            "method": main["method"],
            "verifier": main["verifier"],
            "budget": main["budget"].astype(str) + " " + main["unit"] + "s",
            "samples drawn": main["samples_drawn"].map("{:.1f}".format),
            "unanswered": main["unanswered"].map("{:.1f}".format),
            "cut off": main["cut_off"].map("{:.1f}".format),
            "accuracy (%)": interval_cells(main, "accuracy", 100, 1),
            "against the fixed N (points)": interval_cells(main, "accuracy_difference", 100, 1),
            "completion tokens": interval_cells(main, "completion_tokens", 1, 0),
            "total tokens": interval_cells(main, "total_tokens", 1, 0),
            "stops by reason": main["stops"],
        }
    )


def markdown(main: pd.DataFrame) -> str:
    """The main table as Markdown."""
    return readable(main).to_markdown(index=False, disable_numparse=True) + "\n"
