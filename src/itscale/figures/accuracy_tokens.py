"""Accuracy against tokens, every method, parallel and sequential."""

from pathlib import Path

import pandas as pd

from itscale.figures.style import figure, look

CAPTION = (
    "Accuracy on the {benchmark} benchmark against tokens per question; left: completion tokens, right: all computed tokens "
    "(prompt, completion, verifier). Bars: 95 % bootstrap intervals over questions. Up and to the left is better; a method that "
    "stops early is worth its rule only where it lies above the line of the fixed budgets of its own family. "
    "Filled: parallel samples; hollow: sequential rounds."
)


def draw(main: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`main`: the main table (a row per method and budget); writes `out` as PDF and PNG."""
    rows = main[main["benchmark"] == benchmark]
    with figure(out, CAPTION.format(benchmark=benchmark), columns=2, width=10) as (fig, axes):
        for axis, quantity, label in zip(axes, ("completion_tokens", "total_tokens"), ("completion", "total"), strict=True):
            for index, (method, group) in enumerate(rows.groupby("method", sort=False)):
                group = group.sort_values(quantity)
                style = look(index)
                axis.errorbar(
                    group[quantity],
                    100 * group["accuracy"],
                    xerr=[group[quantity] - group[f"{quantity}_low"], group[f"{quantity}_high"] - group[quantity]],
                    yerr=[100 * (group["accuracy"] - group["accuracy_low"]), 100 * (group["accuracy_high"] - group["accuracy"])],
                    label=method,
                    elinewidth=0.6,
                    linewidth=1,
                    markersize=4.5,
                    markerfacecolor="white" if (group["unit"] == "round").all() else style["color"],
                    linestyle="-" if len(group) > 1 else "none",
                    **style,
                )
            axis.set_xscale("log")
            axis.set_xlabel(f"{label} tokens per question (log scale)")
            axis.set_ylabel("accuracy (%)")
        handles, labels = axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5)
