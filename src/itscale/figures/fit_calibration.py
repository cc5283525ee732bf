"""Whether fitted densities say how scores are spread, over all questions."""

from pathlib import Path

import numpy as np
import pandas as pd

from itscale.figures.style import COLOURS, figure, legend_below, verifiers

CAPTION = (
    "Held-out scores of all questions of the {benchmark} benchmark by the tenth of the distribution that was fitted to every "
    "other score of their question, a panel for each verifier. Were a density right, a tenth of the scores would lie in each "
    "(dashed), but for what a fit to few scores cannot know. A high bar at the right: more high scores than the fit has, so "
    "that OptScale draws more than its target needs. In the legend the held-out log-likelihood of a score."
)


def draw(table: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`table`: benchmark, verifier, density, log_likelihood, tenth_1 to tenth_10; writes `out` as PDF and PNG."""
    rows = table[table["benchmark"] == benchmark]
    names = verifiers(rows)
    tenths = [name for name in rows.columns if name.startswith("tenth_")]
    with figure(out, CAPTION.format(benchmark=benchmark), len(names), 4.6 * len(names), 3.4) as (_, axes):
        for axis, verifier in zip(axes, names, strict=True):
            of = rows[rows["verifier"] == verifier]
            width = 0.84 / max(len(of), 1)  # side by side, with room between the tenths
            for index, (_, row) in enumerate(of.iterrows()):
                at = np.arange(1, len(tenths) + 1) + width * (index - (len(of) - 1) / 2)
                label = f"{row['density']} ({row['log_likelihood']:.2f})"
                axis.bar(at, 100 * row[tenths].to_numpy(float), width, color=COLOURS[index], label=label)
            axis.axhline(100 / len(tenths), color="black", linestyle="--", linewidth=0.8)
            axis.set_title(f"verifier {verifier}" if len(names) > 1 else "", fontsize=9)
            axis.set_xticks(range(1, len(tenths) + 1))
            axis.set_xlabel("tenth of the fitted distribution")
            axis.set_ylabel("held-out scores (%)")
            if len(rows):
                legend_below(axis, 3)
            else:
                axis.text(0.5, 0.5, "no question has enough scores", transform=axis.transAxes, ha="center")
