"""Sweep of the vote lead: error against rollouts, in theory and measured."""

from pathlib import Path

import pandas as pd

from itscale.figures.style import COLOURS, figure

CAPTION = (
    "The lead d that stops a vote, {benchmark} benchmark, votes of at most {limit} samples, half of a question's. Left: how "
    "often a vote that stopped before the limit ends on another answer than the plurality of the other half, which it never "
    "saw, against rollouts; measured (bars: 95 % intervals over questions), simulated under the model with p0 = {p0:.2f} and "
    "m = {options} from the calibration split, and the bound (m − 1)/(r^d + m − 1) of such stops at the model's rollouts. Right: "
    "accuracy of all votes against the gold answer, which no vote certifies. Measured above the bound: questions differ in p0, "
    "their wrong answers cluster, which the model says they do not, or the plurality of {limit} samples errs where two answers "
    "are nearly as frequent."
)


def draw(table: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`table`: a row per lead with error of the stopped, rollouts, accuracy and their intervals; writes `out` as PDF and PNG."""
    rows = table[table["benchmark"] == benchmark]
    known = rows.iloc[0]
    caption = CAPTION.format(
        benchmark=benchmark, limit=int(known["limit"]), p0=known["p_consensus"], options=int(known["options"])
    )
    with figure(out, caption, columns=2, width=10) as (_, axes):
        for axis, quantity, label in (
            (axes[0], "error_of_stopped", "error of votes that stopped (%, log above 0.1)"),
            (axes[1], "accuracy", "accuracy (%)"),
        ):
            mean, low, high = (100 * rows[f"{quantity}{end}"] for end in ("", "_low", "_high"))
            bars = [(mean - low).clip(0), (high - mean).clip(0)]
            axis.errorbar(rows["rollouts"], mean, bars, fmt="o", color=COLOURS[0], ms=5, elinewidth=0.8, label="measured")
            for _, row in rows.iterrows():
                axis.annotate(
                    f"{int(row['lead'])}",
                    (row["rollouts"], 100 * row[quantity]),
                    xytext=(4, 5),
                    textcoords="offset points",
                    fontsize=7,
                )
            axis.set_xlabel("rollouts per question (numbers: d)")
            axis.set_ylabel(label)
        for quantity, style, colour, label in (
            ("model_error_of_stopped", "s", COLOURS[1], "simulated model"),
            ("bound", "^", COLOURS[2], "bound of the model"),
        ):
            axes[0].plot(rows["model_rollouts"], 100 * rows[quantity], style, color=colour, markersize=4, label=label)
        axes[0].set_yscale("symlog", linthresh=0.1)
        axes[0].set_ylim(bottom=0)
        axes[0].yaxis.set_major_formatter("{x:g}")
        axes[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
