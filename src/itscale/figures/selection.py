"""How much of a figure is the choice of its cell on the benchmark itself."""

from pathlib import Path

import numpy as np
import pandas as pd

from itscale.figures.style import COLOURS, figure, under, verifiers

CAPTION = (
    "Paired difference in accuracy to the fixed N on the {benchmark} benchmark, at the largest limit, by how the rule's "
    "hyperparameters were chosen. Published protocol: the best cell of the grid on the benchmark itself, in one order of the "
    "samples, reported in that order. Same cell, all orders: what that choice is worth on the average of all orders. "
    "Calibrated: chosen on the calibration split, all orders. Bars: paired 95 % intervals over questions; a panel for each "
    "verifier. From the first mark to the second is the luck of one order (good or bad), from the second to the third the worth"
    " of choosing on the benchmark itself."
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
                mean, low, high = (100 * group[f"accuracy_difference{end}"] for end in ("", "_low", "_high"))
                error = [(mean - low).fillna(0), (high - mean).fillna(0)]
                axis.errorbar(
                    mean,
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
            axis.axvline(0, color="0.5", lw=1, zorder=0)
            axis.set_xlabel("accuracy minus that of the fixed N (points)")
            if len(names) > 1:
                axis.set_title(f"verifier {verifier}", fontsize=9)
            if axis is not axes[0]:
                axis.set_yticklabels([])
        fig.legend(*axes[0].get_legend_handles_labels(), loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1)
