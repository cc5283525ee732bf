"""How many rounds each sequential rule ran before it stopped."""

from pathlib import Path

import numpy as np
import pandas as pd

from itscale.figures.style import COLOURS, deciding, figure
from itscale.policies.protocol import Reason

CAPTION = (
    "Rounds that each rule over rounds ran before it stopped, on the {benchmark} benchmark, over all chains; colours say "
    "why. The dashed line is the mean. The gate knows only one round or all; MarkovScale^0 and MarkovScale^t know after one "
    "round how many there will be; the filter looks after each."
)


def draw(stops: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`stops`: columns benchmark, method, budget, samples, reason, count; writes PDF and PNG."""
    rows = stops[stops["benchmark"] == benchmark]
    methods = deciding(rows)
    found = set(rows[rows["method"].isin(methods)]["reason"])
    reasons = [str(reason) for reason in Reason if str(reason) in found]
    colours = {reason: COLOURS[index % len(COLOURS)] for index, reason in enumerate(reasons)}
    width = 2.6 * max(len(methods), 2)
    with figure(out, CAPTION.format(benchmark=benchmark), columns=max(len(methods), 1), width=width, height=3) as (fig, axes):
        for index, (axis, method) in enumerate(zip(axes, methods, strict=False)):
            group = rows[rows["method"] == method]
            budget = int(group["budget"].max())
            below = np.zeros(budget)
            for reason in reasons:
                counts = group[group["reason"] == reason].groupby("samples")["count"].sum()
                share = 100 * counts.reindex(np.arange(1, budget + 1), fill_value=0).to_numpy() / group["count"].sum()
                label = reason if index == 0 else None
                axis.bar(np.arange(1, budget + 1), share, bottom=below, color=colours[reason], width=0.85, label=label)
                below += share
            axis.axvline(np.average(group["samples"], weights=group["count"]), color="0.2", lw=1, ls="--")
            axis.set_title(method, fontsize=9)
            axis.set_xticks(np.arange(1, budget + 1))
            axis.set_ylim(0, 100)
            axis.grid(False)
            axis.set_xlabel("rounds")
            axis.set_ylabel("share of chains (%)" if index == 0 else "")
        handles, labels = axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
