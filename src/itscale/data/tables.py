"""Tidy tables put together, and the main table as Markdown for people."""

from math import isnan
from pathlib import Path

import pandas as pd

from itscale.data.records import write_atomic
from itscale.errors import UserError

# What the column `verifier` says of pools whose verifier has no name, and of rules that read no scores.
OWN, NONE = "own", "none"


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
        ends = "" if isnan(low) else f" [{_plain(low, digits)}, {_plain(high, digits)}]"
        return "" if isnan(mean) else f"{_plain(mean, digits)}{ends}"

    return pd.Series([cell(*values) for values in cells])


def drawn_cells(table: pd.DataFrame) -> list[str]:
    """Cells `drawn of budget`, samples or rounds."""
    return [f"{drawn:.1f} of {budget}" for drawn, budget in zip(table["samples_drawn"], table["budget"], strict=True)]


def _plain(value: float, digits: int) -> str:
    """A number with so many digits, never minus zero."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if not text.strip("-0.") else text


def saved(main: pd.DataFrame) -> pd.Series:
    """Share of the completion tokens of its fixed N that each row of the main table saves; NaN for a fixed N."""
    change = main["completion_tokens_difference"]
    return (-change / (main["completion_tokens"] - change)).where(change != 0)


def readable(main: pd.DataFrame) -> pd.DataFrame:
    """The main table with a cell `mean [low, high]` per quantity; dollars where tokens have a price."""
    paid = {"dollars": interval_cells(main, "dollars", 1, 5)} if "dollars" in main else {}
    return pd.DataFrame(
        {
            "benchmark": main["benchmark"],
            "method": main["method"],
            "verifier": main["verifier"],
            "limit": [f"{n} {unit}{'s' if n != 1 else ''}" for n, unit in zip(main["budget"], main["unit"], strict=True)],
            "samples drawn": main["samples_drawn"].map("{:.1f}".format),
            "unanswered": main["unanswered"].map("{:.1f}".format),
            "cut off": main["cut_off"].map("{:.1f}".format),
            "accuracy (%)": interval_cells(main, "accuracy", 100, 1),
            "tokens saved (%)": ["" if isnan(s) else _plain(100 * s, 0) for s in saved(main)],
            "against the fixed N (points)": interval_cells(main, "accuracy_difference", 100, 1),
            "completion tokens": interval_cells(main, "completion_tokens", 1, 0),
            "total tokens": interval_cells(main, "total_tokens", 1, 0),
            **paid,
            "stops by reason": main["stops"],
        }
    )


_LEGEND = """# Every rule and limit

- *verifier*: whose scores the rule reads (`none`: it reads none); thresholds were chosen with each on the calibration split.
- *limit*: the most samples (or rounds) that the rule may draw; *samples drawn*: how many it drew on average.
- *tokens saved*: completion tokens, against the fixed N of the same group and limit.
- *against the fixed N*: paired difference in accuracy to self-consistency for votes, best-of-N for best-scored samples,
  MR-Thinking for rounds, at the same limit. Brackets: 95 % intervals over questions.
- *total tokens* add prompts and what the verifier and the predictor read.
- *^0* knows nothing of the question beforehand, *^t* has a predictor trained on questions; *(paper)* is as published, *(ours)*
  and *(fitted)* are variants of this project.
"""
_PAID = "- *dollars*: what a question's prompts and completions cost, at the generator's price.\n"
_GROUPS = {
    "self_consistency": "Votes",
    "best_of_n": "Best-scored sample",
    "mr_thinking": "Rounds of re-answering",
}
_EQUAL = (
    "First against parallel samples that cost as many tokens, then against MR-Thinking at the same limit, all of its rounds run."
)


def markdown(main: pd.DataFrame, equal: str = "") -> str:
    """The main table as Markdown: a legend, and a table for each kind of rule.

    `equal`: rounds against parallel samples of as many tokens, as a Markdown table, which goes before the comparison with rounds.
    """
    parts = [_LEGEND + _PAID * ("dollars" in main)]
    for family, title in _GROUPS.items():
        if (of := main[main["family"] == family]).size:
            shown = readable(of.reset_index(drop=True))
            first = f"{_EQUAL}\n\n{equal}\n" if family == "mr_thinking" and equal else ""
            parts.append(f"## {title}\n\n{first}{shown.to_markdown(index=False, disable_numparse=True)}\n")
    return "\n".join(parts)
