"""How many samples (or rounds) each adaptive method drew before it stopped."""

from pathlib import Path

import numpy as np
import pandas as pd

from itscale.figures.style import COLOURS, figure, under, verifiers
from itscale.policies.protocol import CODE, Reason

CAPTION = (
    "Distribution of the number of samples (blue) or rounds (orange) drawn before the rule stopped, on the {benchmark} "
    "benchmark, over all questions and orders, at the largest budget, where the axis ends; black outlines: with the weaker "
    "verifier, where there is one. The grey line is the mean. A bar at the end means that a rule over samples ran out of "
    "budget without the confidence it asks for; the gate runs all rounds where it expects a gain."
)
_COLUMNS = 4


def draw(stops: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`stops`: columns benchmark, method, verifier, unit, budget, samples, reason, count; writes `out` as PDF and PNG."""
    table = stops[stops["benchmark"] == benchmark]
    table = table[table["budget"] == table.groupby("method")["budget"].transform("max")]
    methods = [m for m, group in table.groupby("method", sort=False) if (group["reason"] != CODE[Reason.FIXED]).any()]
    names = verifiers(table)
    rows = max(1, -(-len(methods) // _COLUMNS))
    with figure(out, CAPTION.format(benchmark=benchmark), _COLUMNS, 10, 0.5 + 1.9 * rows, rows) as (_, axes):
        for index, (axis, method) in enumerate(zip(axes, methods, strict=False)):
            group = under(table[table["method"] == method], names[0])
            counts = group.groupby("samples")["count"].sum()
            share = 100 * counts / counts.sum()
            budget = int(group["budget"].max())
            by_round = (group["unit"] == "round").all()
            width = 1.0 if budget <= 16 else 2.0
            edges = np.arange(0.5, budget + width + 0.5, width)
            axis.hist(share.index, bins=edges, weights=share.to_numpy(), color=COLOURS[1 if by_round else 0], alpha=0.85)
            for other in names[1:]:
                beside = table[(table["method"] == method) & (table["verifier"] == other)].groupby("samples")["count"].sum()
                if len(beside):
                    weights = (100 * beside / beside.sum()).to_numpy()
                    axis.hist(beside.index, bins=edges, weights=weights, histtype="step", color="black", lw=0.8)
            axis.axvline(float(np.average(counts.index, weights=counts)), color="0.4", lw=1)
            axis.set_title(method, fontsize=9)
            axis.set_xlabel("rounds" if by_round else "samples")
            axis.set_ylabel("share of\nquestions (%)" if index % _COLUMNS == 0 else "")
        for axis in axes[len(methods) :]:
            axis.set_visible(False)
