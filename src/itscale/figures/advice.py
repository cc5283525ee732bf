"""What each rule buys on a pool: accuracy against cost, the baseline and the advice marked."""

from pathlib import Path

import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter

from itscale.figures.style import figure, legend_below, look_of

CAPTION = (
    "Accuracy against {unit} a question, over {questions} questions of {benchmark}: of each rule the settings that nothing else "
    "of it beats. Cross: the baseline. Star: the advice, whose difference to the baseline is {difference:+.1f} points."
)


def draw(curves: pd.DataFrame, benchmark: str, out: Path, unit: str) -> None:
    """`curves`: rows with method, cost (in `unit`), accuracy, difference, questions and mark (advice, baseline or none)."""
    marked = {name: curves[curves["mark"] == name].iloc[0] for name in ("baseline", "advice")}
    advice = marked["advice"]
    caption = CAPTION.format(unit=unit, questions=advice["questions"], benchmark=benchmark, difference=100 * advice["difference"])
    with figure(out, caption, width=7.0, height=4.6) as (_, (axis,)):
        for method, rows in curves[curves["mark"].isna() | (curves["mark"] == "")].groupby("method", sort=False):
            axis.plot(rows["cost"], 100 * rows["accuracy"], label=method, markersize=3, lw=1.1, **look_of(method))
        for name, marker in (("baseline", "X"), ("advice", "*")):
            axis.plot(marked[name]["cost"], 100 * marked[name]["accuracy"], marker, color="black", markersize=12, label=name)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel(f"{unit} a question (log scale)")
        axis.set_ylabel("accuracy (%)")
        legend_below(axis, 4)
