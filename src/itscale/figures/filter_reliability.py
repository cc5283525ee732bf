"""Is the filter's posterior calibrated: how often answers of a given posterior are correct."""

from pathlib import Path

import numpy as np
import pandas as pd

from itscale.figures.style import COLOURS, MARKERS, figure

CAPTION = (
    "Reliability of the filter on the {benchmark} benchmark: answers of all rounds in bins of their posterior probability of "
    "being correct, against how often they were. Bars: 95 % intervals over questions; the nearer to the diagonal the better; "
    "bins of fewer than {few} answers are left out on the left ({out_of} of {bins}). Filtered: from the rounds up to the "
    "answer; smoothed: from all rounds; recalibrated: what a smoothed posterior was worth on held-out calibration questions; "
    "returned: the one answer of each chain that the filter gives, by its smoothed posterior when it stopped. Densities and "
    "rates come from the calibration split. ECE: mean distance from the diagonal, weighted by answers; right: how many answers "
    "each bin holds."
)
_FEW = 30


def draw(reliability: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`reliability`: columns benchmark, posterior, bins, predicted, observed with its ends, answers, calibration_error."""
    rows = reliability[reliability["benchmark"] == benchmark]
    caption = CAPTION.format(benchmark=benchmark, few=_FEW, out_of=int((rows["answers"] < _FEW).sum()), bins=len(rows))
    with figure(out, caption, columns=2, width=9) as (_, (axis, right)):
        axis.plot([0, 1], [0, 1], color="0.3", lw=1)
        for index, (kind, group) in enumerate(rows.groupby("posterior", sort=False)):
            colour, label = COLOURS[index], f"{kind} (ECE {100 * group['calibration_error'].iloc[0]:.1f} points)"
            few = (group["answers"] < _FEW).to_numpy()
            part = group[["predicted", "observed", "observed_low", "observed_high"]].to_numpy()[~few].T
            bars = np.maximum([part[1] - part[2], part[3] - part[1]], 0)
            axis.errorbar(part[0], part[1], bars, fmt=MARKERS[index], color=colour, ms=5, elinewidth=0.8, label=label)
            width = 0.2 * (group["bin_high"] - group["bin_low"])
            left = group["bin_low"] + (group["bin_high"] - group["bin_low"]) * (0.1 + 0.2 * index)
            right.bar(left, group["answers"], width, align="edge", color=colour, label=kind)
        axis.set_xlabel("posterior probability of being correct")
        axis.set_ylabel("share that is correct")
        axis.set_xlim(-0.03, 1.03)
        axis.set_ylim(-0.03, 1.03)
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        right.set_xlabel("posterior probability of being correct")
        right.set_ylabel("answers in the bin (log scale above 10)")
        right.set_yscale("symlog", linthresh=10)
        right.set_ylim(0)
