"""One table of all rules: what each needs and promises, what was measured of the promise, what it saves and loses."""

import pandas as pd

from itscale.data.tables import interval_cells, saved
from itscale.policies import find_rule

COLUMNS = [
    *("benchmark", "rule", "slug", "needs", "verifier", "limit", "promised_error"),
    *(f"measured_error{end}" for end in ("", "_low", "_high")),
    "saving",
    *(f"difference{end}" for end in ("", "_low", "_high")),
    *("unanswered", "cut_off"),
]


def rule_table(main: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """A row per benchmark, rule and verifier, at the rule's largest limit; the most saving first.

    Args:
        main: the main table of all benchmarks.
        chosen: what the calibration chose (`itscale calibrate --table`), which says what was promised and measured.
    """
    largest = main.sort_values("budget", kind="stable").groupby(["benchmark", "slug", "verifier"], sort=False).tail(1)
    largest = largest.assign(saving=saved(largest).fillna(0.0))
    error = chosen.dropna(subset=["promised_error"])
    limits = error["settings"].str.extract(r"\bn(?:_max)?=(\d+)", expand=False).astype(float)
    error = error.assign(limit=limits).sort_values("limit", kind="stable").groupby("slug").tail(1)
    errors = [name for name in COLUMNS if name.endswith("error") or name.startswith("measured_error")]
    table = largest.merge(error[["slug", *errors]], on="slug", how="left")
    table = table.rename(
        columns={"method": "rule"} | {f"accuracy_difference{e}": f"difference{e}" for e in ("", "_low", "_high")}
    )
    table["limit"] = [f"{n} {unit}{'s' if n != 1 else ''}" for n, unit in zip(table["budget"], table["unit"], strict=True)]
    table["needs"] = [", ".join(rule.needs) if (rule := find_rule(slug)) else "" for slug in table["slug"]]
    order = table.sort_values(["benchmark", "saving"], ascending=[True, False], kind="stable", ignore_index=True)
    return order[COLUMNS]


def rule_markdown(table: pd.DataFrame) -> str:
    """The same for people: a Markdown table a benchmark."""
    shown = pd.DataFrame(
        {
            "benchmark": table["benchmark"],
            "rule": table["rule"],
            "needs": table["needs"].replace("", "answers"),
            "verifier": table["verifier"],
            "limit": table["limit"],
            "promised error (%)": (100 * table["promised_error"]).map("{:g}".format).where(table["promised_error"].notna(), ""),
            "measured (%)": interval_cells(table, "measured_error", 100, 1),
            "saving (% of tokens)": (100 * table["saving"]).map("{:.0f}".format),
            "accuracy against fixed N (points)": interval_cells(table, "difference", 100, 1),
            "unanswered, cut off": [f"{u:.2g}, {c:.2g}" for u, c in zip(table["unanswered"], table["cut_off"], strict=True)],
        }
    )
    parts = [
        f"## {name}\n\n{rows.drop(columns='benchmark').to_markdown(index=False, disable_numparse=True)}"
        for name, rows in shown.groupby("benchmark", sort=False)
    ]
    note = (
        "Every rule at its largest limit, hyperparameters from the calibration split. Saving and accuracy are against the fixed "
        "N of its family on the same orders, with paired 95 % intervals over questions; promised errors are of the consensus, "
        "measured on held-out halves of the calibration split's samples and questions. Unanswered "
        "and cut off: of the samples that the rule drew of a question."
    )
    return "\n\n".join(["# Which rule?", note, *parts]) + "\n"
