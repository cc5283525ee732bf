"""Is the filter's posterior calibrated: how often answers of a given posterior are correct."""

from pathlib import Path

import numpy as np
import pandas as pd

from itscale.figures.style import COLOURS, MARKERS, figure

CAPTION = (
    "Reliability of the filter on the {benchmark} benchmark: answers of all rounds in bins of their posterior probability "
    "of being correct, against how often they were. Bars: 95 % bootstrap intervals over questions; the nearer to the "
    "diagonal the better. Filtered: from the rounds up to the answer; smoothed: from all rounds; recalibrated: what a "
    "smoothed posterior was worth on held-out calibration questions; returned: the one answer a chain that the filter gives, by "
    "its smoothed posterior when it stopped. Densities and rates come from the calibration split. "
    "ECE: mean distance from the diagonal, weighted by answers; right: how many answers each bin holds."
)


def draw(reliability: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`reliability`: columns benchmark, posterior, bins, predicted, observed with its ends, answers, calibration_error."""
    rows = reliability[reliability["benchmark"] == benchmark]
    with figure(out, CAPTION.format(benchmark=benchmark), columns=2, width=9) as (_, (axis, right)):
        axis.plot([0, 1], [0, 1], color="0.3", lw=1)
        for index, (kind, group) in enumerate(rows.groupby("posterior", sort=False)):
            bars = [
                np.maximum(group["observed"] - group["observed_low"], 0),
                np.maximum(group["observed_high"] - group["observed"], 0),
            ]
            colour, label = COLOURS[index], f"{kind} (ECE {100 * group['calibration_error'].iloc[0]:.1f} points)"
            style = {"color": colour, "marker": MARKERS[index], "ms": 5, "lw": 1, "elinewidth": 0.8}
            axis.errorbar(group["predicted"], group["observed"], bars, label=label, **style)
            width = 0.2 * (group["bin_high"] - group["bin_low"])
            left = group["bin_low"] + (group["bin_high"] - group["bin_low"]) * (0.1 + 0.2 * index)
            right.bar(left, group["answers"], width, align="edge", color=colour, label=kind)
        axis.set_xlabel("posterior probability of being correct")
        axis.set_ylabel("share that is correct")
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1)
        axis.legend(loc="upper left")
        right.set_xlabel("posterior probability of being correct")
        right.set_ylabel("answers in the bin")
        right.legend()
