"""What a rule saves and what it pays, against the largest number of samples that it may draw."""

from pathlib import Path

import pandas as pd

from itscale.data.tables import saved
from itscale.figures.style import differences, figure, look_of, under, verifiers

CAPTION = (
    "Completion tokens saved (left) and the paired change in accuracy (right, 95 % intervals over questions) on the {benchmark} "
    "benchmark against the largest number N of samples that a rule may draw; each rule against its fixed N, which is the line at "
    "0: best-of-N for rules that return the best-scored sample, self-consistency for ASC. A row of panels for each verifier."
)
SHOWN = (
    "ASC",
    "score threshold",
    "Pandora",
    "OptScale^0 (paper)",
    "OptScale^t (paper)",
    "OptScale^0 (ours)",
    "OptScale^t (ours)",
)


def draw(frontier: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`frontier`: rows like the main table's; writes `out` as PDF and PNG."""
    rows = frontier[frontier["benchmark"] == benchmark]
    names, methods = verifiers(rows), [m for m in SHOWN if (rows["method"] == m).any()]
    with figure(out, CAPTION.format(benchmark=benchmark), 2, 10, 0.4 + 3.3 * len(names), len(names)) as (fig, axes):
        for place, axis in enumerate(axes):
            shown, left = under(rows, names[place // 2]), place % 2 == 0
            axis.axhline(0, color="0.5", lw=1, zorder=0)
            for index, method in enumerate(methods):
                group = shown[shown["method"] == method].sort_values("budget")
                if group.empty:
                    continue
                if left:
                    axis.plot(
                        group["budget"], 100 * saved(group).fillna(0), label=method, markersize=4.5, lw=1, **look_of(method)
                    )
                else:  # beside each other, so that no interval hides another
                    differences(axis, group, group["budget"] * 1.03 ** (index - len(methods) / 2))
            axis.set_xscale("log", base=2)
            ticks = sorted(rows["budget"].unique())
            axis.set_xticks(ticks, [str(n) for n in ticks])
            axis.minorticks_off()
            axis.set_xlim(0.8 * min(rows.loc[rows["method"].isin(methods), "budget"], default=1), 1.2 * max(ticks, default=2))
            axis.set_xlabel("largest number of samples, N (log scale)")
            axis.set_ylabel("completion tokens saved (%)" if left else "change in accuracy (points)")
            if len(names) > 1:
                axis.set_title(f"verifier {names[place // 2]}", fontsize=9)
        handles, labels = axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
