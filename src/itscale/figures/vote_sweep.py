"""Sweep of the vote lead: error against rollouts, in theory and measured."""

from pathlib import Path

import pandas as pd

from itscale.figures.style import COLOURS, figure

CAPTION = (
    "The lead d that stops a vote, {benchmark} benchmark, limit {limit}. Left: how often the vote ends on another answer "
    "than the plurality of all samples, against rollouts; measured (band: 95 % bootstrap over questions), simulated under "
    "the model with p0 = {p0:.2f} and m = {options} from the calibration split, and the bound (m − 1)/(r^d + m − 1) at the "
    "model's rollouts. Right: accuracy against the gold answer, which no vote certifies. Where the measured curve lies "
    "above the bound, questions differ in p0 and their wrong answers cluster, which the model says they do not."
)


def draw(table: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`table`: a row per lead with error, rollouts, accuracy and their intervals; writes `out` as PDF and PNG."""
    rows = table[table["benchmark"] == benchmark]
    known = rows.iloc[0]
    caption = CAPTION.format(benchmark=benchmark, limit=int(known["limit"]), p0=known["p0"], options=int(known["options"]))
    with figure(out, caption, columns=2, width=10) as (_, axes):
        for axis, quantity, label in (
            (axes[0], "error", "error against the consensus (%)"),
            (axes[1], "accuracy", "accuracy (%)"),
        ):
            axis.plot(rows["rollouts"], 100 * rows[quantity], "o-", color=COLOURS[0], markersize=5, label="measured")
            axis.fill_between(
                rows["rollouts"],
                100 * rows[f"{quantity}_low"],
                100 * rows[f"{quantity}_high"],
                color=COLOURS[0],
                alpha=0.2,
                linewidth=0,
            )
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
        axes[0].plot(
            rows["model_rollouts"], 100 * rows["model_error"], "s--", color=COLOURS[1], markersize=4, label="simulated model"
        )
        axes[0].plot(
            rows["model_rollouts"], 100 * rows["bound"], "^:", color=COLOURS[2], markersize=4, label="bound of the model"
        )
        axes[0].set_ylim(bottom=0)
        axes[0].legend()
