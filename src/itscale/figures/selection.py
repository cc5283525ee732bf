"""How much of a figure is the choice of its cell on the benchmark itself."""

from pathlib import Path

import numpy as np
import pandas as pd

from itscale.figures.style import COLOURS, figure

CAPTION = (
    "Accuracy on the {benchmark} benchmark at the largest budget, by how the rule's hyperparameters were chosen. Published "
    "protocol: the best cell of the grid on the benchmark itself, in one order of the samples, reported in that order. Same "
    "cell, all orders: what that choice is worth on the average of all orders. Calibrated: the cell with the fewest "
    "tokens that keeps the fixed N's accuracy on the calibration split, all orders. Bars: 95 % intervals over questions. First "
    "minus second: one lucky order; second minus third: choosing on this benchmark, and for accuracy alone."
)
PROTOCOLS = {
    "published": "published protocol (chosen on this benchmark, one order)",
    "published, all orders": "same cell, all orders",
    "calibrated": "calibrated (chosen on the calibration split, all orders)",
}


def draw(selection: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`selection`: columns benchmark, method, budget, protocol, accuracy with its interval; writes `out` as PDF and PNG."""
    rows = selection[(selection["benchmark"] == benchmark) & (selection["unit"] == "sample")]
    rows = rows[rows["budget"] == rows.groupby("method")["budget"].transform("max")]
    methods = list(dict.fromkeys(rows["method"]))
    with figure(out, CAPTION.format(benchmark=benchmark), width=8.5, height=0.36 * len(methods) + 1.6) as (_, (axis,)):
        for index, (protocol, label) in enumerate(PROTOCOLS.items()):
            group = rows[rows["protocol"] == protocol].set_index("method").loc[methods]
            y = np.arange(len(methods)) + 0.22 * (index - 1)
            error = [100 * (group["accuracy"] - group["accuracy_low"]), 100 * (group["accuracy_high"] - group["accuracy"])]
            axis.errorbar(
                100 * group["accuracy"],
                y,
                xerr=error,
                fmt="os^"[index],
                color=COLOURS[index],
                label=label,
                elinewidth=0.8,
                markersize=4.5,
            )
        axis.set_yticks(range(len(methods)), [f"{m} (N = {rows[rows['method'] == m]['budget'].iloc[0]})" for m in methods])
        axis.invert_yaxis()
        axis.set_xlabel("accuracy (%)")
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1)
