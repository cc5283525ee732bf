"""How far forecasts of later rounds miss: pooled rates against rates per question, by simulation and on the data."""

from pathlib import Path

import pandas as pd

from itscale.figures.style import figure, look

CAPTION = (
    "Forecast minus true accuracy per round, {benchmark} benchmark, over all chains (left pair) and over those whose first "
    "answer was wrong (right pair). Simulation: chains drawn from the fitted chain of each question, which are first order "
    "by construction, half as many as there are, and fitted as the data are; bands: where 95 % of 40 simulations lie. What "
    "the pooled rates miss there is the bias of pooling questions that differ. Data: rates from half of each question's "
    "chains against the other half, both ways round (questions with one chain are left out); bands: 95 % "
    "intervals over questions. From one re-answer: rates fitted to the first two rounds only; no label: from first scores "
    "and the calibration split, against all chains."
)


def draw(forecasts: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`forecasts`: columns benchmark, source (simulation, data), start, forecast, round, error, error_low, error_high."""
    rows = forecasts[forecasts["benchmark"] == benchmark]
    names = list(rows["forecast"].unique())
    panels = [(source, start) for start in rows["start"].unique() for source in ("simulation", "data")]
    with figure(out, CAPTION.format(benchmark=benchmark), columns=len(panels), width=13, height=3.6) as (fig, axes):
        for axis, (source, start) in zip(axes, panels, strict=True):
            mine = rows[(rows["source"] == source) & (rows["start"] == start)]
            for name, group in mine.groupby("forecast", sort=False):
                style = look(names.index(name))
                axis.plot(group["round"], 100 * group["error"], label=name, ms=4.5, **style)
                low, high = 100 * group["error_low"], 100 * group["error_high"]
                axis.fill_between(group["round"], low, high, color=style["color"], alpha=0.13, lw=0)
            axis.axhline(0, color="0.3", lw=1)
            axis.set_title(f"{source}: {start}", fontsize=9)
            axis.set_xlabel("round")
            axis.set_ylabel("forecast minus accuracy (points)" if axis is axes[0] else "")
            axis.set_xticks(sorted(rows["round"].unique()))
        ends = [axis.get_ylim() for axis in axes]
        for axis in axes:
            axis.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
        handles, labels = axes[1].get_legend_handles_labels()
        fig.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
