"""Tokens and accuracy against the budget N, for the fixed N and the rules that stop early."""

from pathlib import Path

import pandas as pd

from itscale.figures.style import figure, look

CAPTION = (
    "Completion tokens (left) and accuracy (right) on the {benchmark} benchmark against the largest number N of samples "
    "that a rule may draw, with 95 % bands over questions. What a rule saves is its distance below the line of "
    "best-of-N on the left; what it pays for that is its distance on the right."
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
    with figure(out, CAPTION.format(benchmark=benchmark), columns=2, width=10, height=4) as (fig, axes):
        for axis, quantity, scale in zip(axes, ("completion_tokens", "accuracy"), (1, 100), strict=True):
            for index, method in enumerate(m for m in SHOWN if (rows["method"] == m).any()):
                group = rows[rows["method"] == method].sort_values("budget")
                style = look(index)
                axis.plot(group["budget"], scale * group[quantity], label=method, markersize=4, linewidth=1.1, **style)
                low, high = scale * group[f"{quantity}_low"], scale * group[f"{quantity}_high"]
                axis.fill_between(group["budget"], low, high, color=style["color"], alpha=0.08, lw=0)
            axis.set_xscale("log", base=2)
            ticks = sorted(rows["budget"].unique())
            axis.set_xticks(ticks, [str(n) for n in ticks])
            axis.set_xlabel("largest number of samples, N (log scale)")
        axes[0].set_yscale("log")
        axes[0].set_ylabel("completion tokens per question (log scale)")
        axes[1].set_ylabel("accuracy (%)")
        handles, labels = axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5)
