"""Accuracy against total tokens: methods over rounds, with the parallel methods at every number of tokens beside them."""

from pathlib import Path

import pandas as pd

from itscale.figures.style import COLOURS, figure, points, whole_numbers

CAPTION = (
    "Accuracy on the {benchmark} benchmark against all computed tokens per question (prompt, completion, verifier and "
    "predictor; re-answering pays for its prompt in every round). Grey curves: parallel samples, 1 to all, with 95 % "
    "intervals. Points: methods over rounds, bars likewise. A method over rounds is worth running where it lies "
    "above the grey curves."
)


def draw(methods: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`methods`: rows of the methods over rounds, and of the parallel curves (kind parallel); writes PDF and PNG."""
    rows = methods[methods["benchmark"] == benchmark]
    curves, rules = rows[rows["kind"] == "parallel"], rows[rows["kind"] == "rounds"]
    with figure(out, CAPTION.format(benchmark=benchmark), width=7.6, height=4.6) as (_, (axis,)):
        for (method, group), style in zip(curves.groupby("method", sort=False), ("--", "-"), strict=False):
            x = group["total_tokens"]
            axis.fill_between(x, 100 * group["accuracy_low"], 100 * group["accuracy_high"], color=COLOURS[7], alpha=0.15, lw=0)
            axis.plot(x, 100 * group["accuracy"], style, color="0.4", lw=1.3, label=f"{method} (parallel)")
        for _, group in rules.groupby("method", sort=False):
            points(axis, group.sort_values("total_tokens"), "total_tokens", elinewidth=0.7, markersize=5.5)
        axis.set_xscale("log")
        whole_numbers(axis.xaxis)
        if len(rules):
            axis.set_xlim(0.8 * rules["total_tokens"].min(), 3 * rules["total_tokens"].max())
        axis.set_xlabel("total tokens per question (log scale)")
        axis.set_ylabel("accuracy (%)")
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
