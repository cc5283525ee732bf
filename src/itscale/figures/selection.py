"""How much of a figure is the choice of its cell on the benchmark itself."""

from pathlib import Path

import numpy as np
import pandas as pd

from itscale.figures.style import COLOURS, figure, under, verifiers

CAPTION = (
    "Accuracy on the {benchmark} benchmark at the largest budget, by how the rule's hyperparameters were chosen. Published "
    "protocol: the best cell of the grid on the benchmark itself, in one order of the samples, reported in that order. Same "
    "cell, all orders: what that choice is worth on the average of all orders. Calibrated: the cell with the fewest tokens "
    "that keeps the fixed N's accuracy on the calibration split, all orders. Bars: 95 % intervals over questions; a panel for "
    "each verifier. First minus second: one lucky order; second minus third: choosing on this benchmark, and for accuracy "
    "alone."
)
PROTOCOLS = {
    "published": "published protocol (chosen on this benchmark, one order)",
    "published, all orders": "same cell, all orders",
    "calibrated": "calibrated (chosen on the calibration split, all orders)",
}


def draw(selection: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`selection`: columns benchmark, method, verifier, budget, protocol, accuracy with its ends; writes PDF and PNG."""
    rows = selection[(selection["benchmark"] == benchmark) & (selection["unit"] == "sample")]
    rows = rows[rows["budget"] == rows.groupby("method")["budget"].transform("max")]
    names, methods = verifiers(rows), list(dict.fromkeys(rows["method"]))
    size = 3.5 + 5 * len(names), 0.36 * len(methods) + 1.6
    with figure(out, CAPTION.format(benchmark=benchmark), len(names), *size) as (fig, axes):
        for axis, verifier in zip(axes, names, strict=True):
            shown = under(rows, verifier)
            for index, (protocol, label) in enumerate(PROTOCOLS.items()):
                group = shown[shown["protocol"] == protocol].set_index("method").reindex(methods)
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
            if len(names) > 1:
                axis.set_title(f"verifier {verifier}", fontsize=9)
            if axis is not axes[0]:
                axis.set_yticklabels([])
        fig.legend(*axes[0].get_legend_handles_labels(), loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1)
