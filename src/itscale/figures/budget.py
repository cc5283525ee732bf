"""Tokens and accuracy against the budget N, for the fixed N and the rules that stop early."""

from pathlib import Path

import pandas as pd

from itscale.figures.style import figure, look, under, verifiers

CAPTION = (
    "Completion tokens (left) and accuracy (right) on the {benchmark} benchmark against the largest number N of samples that a "
    "rule may draw, with 95 % bands over questions. What a rule saves is its distance below the line of best-of-N on the left; "
    "what it pays for that is its distance on the right. A row of panels for each verifier."
)
SHOWN = (
    "best-of-N",
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
    with figure(out, CAPTION.format(benchmark=benchmark), 2, 10, 0.4 + 3.6 * len(names), len(names)) as (fig, axes):
        for place, axis in enumerate(axes):
            shown, left = under(rows, names[place // 2]), place % 2 == 0
            quantity, scale = ("completion_tokens", 1) if left else ("accuracy", 100)
            for index, method in enumerate(methods):
                group = shown[shown["method"] == method].sort_values("budget")
                style = look(index)
                axis.plot(group["budget"], scale * group[quantity], label=method, markersize=4, linewidth=1.1, **style)
                low, high = scale * group[f"{quantity}_low"], scale * group[f"{quantity}_high"]
                axis.fill_between(group["budget"], low, high, color=style["color"], alpha=0.08, lw=0)
            axis.set_xscale("log", base=2)
            ticks = sorted(rows["budget"].unique())
            axis.set_xticks(ticks, [str(n) for n in ticks])
            axis.set_xlabel("largest number of samples, N (log scale)")
            axis.set_ylabel("completion tokens per question (log scale)" if left else "accuracy (%)")
            if left:
                axis.set_yscale("log")
            if len(names) > 1:
                axis.set_title(f"verifier {names[place // 2]}", fontsize=9)
        handles, labels = axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5)
