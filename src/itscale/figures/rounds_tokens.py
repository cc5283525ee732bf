"""Accuracy against total tokens: methods over rounds, with the parallel methods at every number of tokens beside them."""

from pathlib import Path

import pandas as pd

from itscale.figures.style import COLOURS, figure, look

CAPTION = (
    "Accuracy on the {benchmark} benchmark against all computed tokens per question (prompt, completion, verifier and "
    "predictor; re-answering pays for its prompt in every round). Grey curves: parallel samples, 1 to all, with 95 % "
    "bootstrap intervals. Points: methods over rounds, bars likewise. A method over rounds is worth running where it lies "
    "above the grey curves."
)


def draw(methods: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`methods`: rows of the methods over rounds, and of the parallel curves (kind parallel); writes PDF and PNG."""
    rows = methods[methods["benchmark"] == benchmark]
    curves, points = rows[rows["kind"] == "parallel"], rows[rows["kind"] == "rounds"]
    with figure(out, CAPTION.format(benchmark=benchmark), width=7.6, height=4.6) as (_, (axis,)):
        for (method, group), style in zip(curves.groupby("method", sort=False), ("--", "-"), strict=False):
            x = group["total_tokens"]
            axis.fill_between(x, 100 * group["accuracy_low"], 100 * group["accuracy_high"], color=COLOURS[7], alpha=0.15, lw=0)
            axis.plot(x, 100 * group["accuracy"], style, color="0.4", lw=1.3, label=f"{method} (parallel)")
        for index, (method, group) in enumerate(points.groupby("method", sort=False)):
            group = group.sort_values("total_tokens")
            x, left, right = (group[f"total_tokens{end}"].to_numpy() for end in ("", "_low", "_high"))
            y, low, high = (100 * group[f"accuracy{end}"].to_numpy() for end in ("", "_low", "_high"))
            axis.errorbar(
                x,
                y,
                xerr=[x - left, right - x],
                yerr=[y - low, high - y],
                linestyle="-" if len(group) > 1 else "none",
                lw=1,
                elinewidth=0.7,
                markersize=5.5,
                label=method,
                **look(index, beside_grey=True),
            )
        axis.set_xscale("log")
        if len(points):
            axis.set_xlim(0.8 * points["total_tokens"].min(), 3 * points["total_tokens"].max())
        axis.set_xlabel("total tokens per question (log scale)")
        axis.set_ylabel("accuracy (%)")
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
