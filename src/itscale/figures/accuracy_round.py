"""Accuracy per round of re-answering: observed, as the two-state chain has it, and the bounds of what it can become."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from itscale.figures.style import COLOURS, figure, legend_below

CAPTION = (
    "Accuracy per round of sequential re-answering on the {benchmark} benchmark. {where}Points with bars: "
    "observed, 95 % intervals over questions. Line and band: a two-state chain for each question, fitted to these"
    " chains, and where 95 % of datasets lie that follow it; a point outside the band is a round that the theory does not "
    "explain (p: goodness of fit over all rounds, parametric bootstrap). Dotted: forecast without any label, from first "
    "scores and the calibration split's rates. Dashed: bounds, the means over questions of the best and the worst that "
    "re-answering can come to.{levels}"
)


def draw(rounds: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`rounds`: columns benchmark, level, round (from 1), observed, predicted, label_free, bounds, fit_p; writes PDF and PNG."""
    rows = rounds[rounds["benchmark"] == benchmark]
    every = rows[rows["level"] == "all"].sort_values("round")
    levels = [level for level in rows["level"].dropna().unique() if level not in ("", "all")]
    caption = CAPTION.format(
        benchmark=benchmark,
        where="Left: all questions. " if levels else "",
        levels=" Right: by level, points observed, lines fitted." if levels else "",
    )
    with figure(out, caption, columns=2 if levels else 1, width=10 if levels else 6.6) as (_, axes):
        axis, *right = axes
        t = every["round"]
        observed = 100 * every["observed"]
        axis.fill_between(t, 100 * every["predicted_low"], 100 * every["predicted_high"], color=COLOURS[1], alpha=0.2, lw=0)
        axis.plot(t, 100 * every["predicted"], color=COLOURS[1], label=f"chain per question (p = {every['fit_p'].iloc[0]:.2g})")
        bars = [observed - 100 * every["observed_low"], 100 * every["observed_high"] - observed]
        axis.errorbar(t, observed, bars, fmt="o", color=COLOURS[0], ms=4.5, elinewidth=0.8, label="observed")
        axis.plot(t, 100 * every["label_free"], ":", color=COLOURS[2], lw=1.8, label="forecast without labels")
        for name, label in (("upper", "bounds"), ("lower", None)):
            axis.axhline(100 * every[name].iloc[0], color="0.35", ls="--", lw=1, label=label)
        axis.set_title("all questions", fontsize=9)
        axis.set_ylabel("accuracy (%)")
        legend_below(axis, 2)
        for level, colour in zip(levels, plt.colormaps["viridis"](np.linspace(0, 0.92, len(levels))), strict=True):
            mine = rows[rows["level"] == level].sort_values("round")
            right[0].plot(mine["round"], 100 * mine["predicted"], color=colour, lw=1.2, label=f"level {level}")
            right[0].plot(mine["round"], 100 * mine["observed"], "o", color=colour, ms=3.5)
        for panel in right:
            panel.set_title("by level", fontsize=9)
            panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        for panel in (axis, *right):
            panel.set_xlabel("round")
            panel.set_xticks(t)
