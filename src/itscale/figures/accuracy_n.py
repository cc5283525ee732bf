"""Accuracy against the number of parallel samples, for the fixed N."""

from pathlib import Path

import pandas as pd

from itscale.figures.style import COLOURS, figure, look_of

CAPTION = (
    "Accuracy on the {benchmark} benchmark against the number N of parallel samples, expected over every choice of N of each "
    "question's samples. Bands: 95 % intervals over questions. pass@N (any sample is correct) bounds every rule that picks one "
    "of the N answers; best-of-N is only as good as its verifier (in brackets), self-consistency needs none."
)


def draw(curves: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`curves`: columns benchmark, method, verifier, n, accuracy, accuracy_low, accuracy_high; writes `out` as PDF and PNG."""
    rows = curves[curves["benchmark"] == benchmark]
    with figure(out, CAPTION.format(benchmark=benchmark)) as (_, (axis,)):
        hollow = dict.fromkeys(rows.loc[rows["verifier"] != "none", "verifier"])
        for (method, verifier), group in rows.groupby(["method", "verifier"], sort=False):
            group = group.sort_values("n")
            style = {"color": COLOURS[2], "marker": "^"} if method == "pass@N" else look_of(method)
            if verifier in list(hollow)[1:]:
                style |= {"markerfacecolor": "white", "linestyle": "--"}
            label = method if verifier == "none" else f"{method} ({verifier})"
            axis.plot(group["n"], 100 * group["accuracy"], label=label, markersize=4.5, **style)
            axis.fill_between(
                group["n"], 100 * group["accuracy_low"], 100 * group["accuracy_high"], alpha=0.15, color=style["color"], lw=0
            )
        axis.set_xscale("log", base=2)
        ticks = sorted(rows["n"].unique())
        axis.set_xticks(ticks, [str(n) for n in ticks])
        axis.set_xlabel("samples per question, N (log scale)")
        axis.set_ylabel("accuracy (%)")
        axis.legend()
