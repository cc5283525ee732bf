"""How many samples each adaptive method drew before it stopped."""

from pathlib import Path

import numpy as np
import pandas as pd

from itscale.figures.style import deciding, figure, look_of, under, verifiers

CAPTION = (
    "Number of samples drawn before each rule stopped, on the {benchmark} benchmark, over all questions and orders, at the "
    "largest limit, where the axis ends; bars that leave the panel are labelled; black outlines: with the other verifier, where "
    "there is one. The grey line is the mean. A bar at the end: the rule ran out of samples without the confidence that it asks "
    "for. OptScale^0 (paper) looks once, after its first fit, and DSC is ASC except where it calls a question easy or hard "
    "beforehand. Rounds of re-answering are in the figure rounds_drawn."
)
_COLUMNS, _TOP = 4, 60
_PLAIN = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}  # a mean's line may lie behind a label


def draw(stops: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`stops`: columns benchmark, method, verifier, unit, budget, samples, reason, count; writes `out` as PDF and PNG."""
    table = stops[(stops["benchmark"] == benchmark) & (stops["unit"] == "sample")]
    table = table[table["budget"] == table.groupby("method")["budget"].transform("max")]
    methods = deciding(table)
    names = verifiers(table)
    rows = max(1, -(-len(methods) // _COLUMNS))
    with figure(out, CAPTION.format(benchmark=benchmark), _COLUMNS, 10, 0.5 + 1.9 * rows, rows) as (_, axes):
        for index, (axis, method) in enumerate(zip(axes, methods, strict=False)):
            group = under(table[table["method"] == method], names[0])
            counts = group.groupby("samples")["count"].sum()
            share = 100 * counts / counts.sum()
            budget = int(group["budget"].max())
            width = 1.0 if budget <= 16 else 2.0
            edges = np.arange(0.5, budget + width + 0.5, width)
            axis.hist(share.index, bins=edges, weights=share.to_numpy(), color=look_of(method)["color"], alpha=0.85)
            for other in names[1:]:
                beside = table[(table["method"] == method) & (table["verifier"] == other)].groupby("samples")["count"].sum()
                if len(beside):
                    weights = (100 * beside / beside.sum()).to_numpy()
                    axis.hist(beside.index, bins=edges, weights=weights, histtype="step", color="black", lw=0.8)
            top = 100 * np.histogram(counts.index, bins=edges, weights=counts.to_numpy())[0] / counts.sum()
            axis.set_ylim(0, _TOP)
            for edge in np.flatnonzero(top > _TOP):
                axis.annotate(
                    f"{top[edge]:.0f} %",
                    (edges[edge] + width, 0.9 * _TOP),
                    (3, 0),
                    textcoords="offset points",
                    fontsize=7,
                    bbox=_PLAIN,
                )
            axis.axvline(float(np.average(counts.index, weights=counts)), color="0.4", lw=1)
            axis.set_title(method, fontsize=9)
            axis.set_xlabel("samples")
            axis.set_ylabel("share of\nquestions (%)" if index % _COLUMNS == 0 else "")
        for axis in axes[len(methods) :]:
            axis.set_visible(False)
