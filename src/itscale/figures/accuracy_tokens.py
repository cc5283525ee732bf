"""Accuracy against tokens, every method, parallel and sequential."""

from pathlib import Path

import pandas as pd

from itscale.figures.style import figure, points, under, verifiers

CAPTION = (
    "Accuracy on the {benchmark} benchmark against tokens per question; left: completion tokens, right: all computed tokens "
    "(prompt, completion, verifier, predictor); a row of panels for each kind of rule, and for each verifier where rules read "
    "scores. Bars and bands: 95 % intervals over questions. Up and to the left is better; grey, in every panel: the fixed N "
    "best-of-N (solid) and self-consistency (dashed), which a rule that stops early must lie above to be worth anything."
)
_KINDS = {
    "best_of_n": "rules that return the best-scored sample",
    "self_consistency": "rules that vote",
    "mr_thinking": "rules over rounds of re-answering",
}
_FIXED = {"best-of-N": "-", "self-consistency": "--"}
_QUANTITIES = {"completion_tokens": "completion", "total_tokens": "total"}


def draw(main: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`main`: the main table (a row per method and budget); writes `out` as PDF and PNG."""
    table = main[main["benchmark"] == benchmark]
    names = verifiers(table)
    shown = [(f, v) for f in _KINDS for v in (names if f != "self_consistency" else names[:1]) if (table["family"] == f).any()]
    with figure(out, CAPTION.format(benchmark=benchmark), 2, 10, 0.4 + 3.1 * len(shown), len(shown)) as (_, axes):
        for row, (family, verifier) in enumerate(shown):
            rows = under(table, verifier)
            title = _KINDS[family] + (f", verifier {verifier}" if family != "self_consistency" and len(names) > 1 else "")
            methods = [m for m in dict.fromkeys(table.loc[table["family"] == family, "method"]) if m not in _FIXED]
            for axis, (quantity, label) in zip(axes[2 * row : 2 * row + 2], _QUANTITIES.items(), strict=True):
                for method, line in _FIXED.items():
                    fixed = rows[rows["method"] == method].sort_values(quantity)
                    axis.plot(fixed[quantity], 100 * fixed["accuracy"], line, color="0.6", lw=1.2, zorder=1)
                    band = 100 * fixed["accuracy_low"], 100 * fixed["accuracy_high"]
                    axis.fill_between(fixed[quantity], *band, color="0.6", alpha=0.12, lw=0)
                for index, method in enumerate(methods):
                    group = rows[rows["method"] == method].sort_values(quantity)
                    if group.empty:
                        continue
                    points(axis, group, quantity, index, elinewidth=0.5, markersize=4)
                axis.set_xscale("log")
                axis.set_xlabel(f"{label} tokens per question (log scale)")
                axis.set_ylabel("accuracy (%)")
                axis.set_title(title, fontsize=9)
            axes[2 * row + 1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7)
