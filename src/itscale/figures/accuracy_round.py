"""Accuracy per round of re-answering: observed, and as the two-state chain predicts it."""

from pathlib import Path

import pandas as pd

from itscale.figures.style import COLOURS, figure

CAPTION = (
    "Accuracy per round of sequential re-answering on the {benchmark} benchmark. Points and band: observed, with 95 % bootstrap "
    "intervals over questions. Lines: the two-state chain with the transition rates of the calibration split, started from the "
    "first round's accuracy, once with rates pooled over all questions and once as the mean over questions of chains with "
    "rates of their stratum (first answer's verifier score). Where a line leaves the band the model does not hold."
)


def draw(rounds: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`rounds`: columns benchmark, round (from 1), observed, observed_low, observed_high, pooled, strata; writes PDF and PNG."""
    rows = rounds[rounds["benchmark"] == benchmark].sort_values("round")
    with figure(out, CAPTION.format(benchmark=benchmark)) as (_, (axis,)):
        axis.fill_between(
            rows["round"],
            100 * rows["observed_low"],
            100 * rows["observed_high"],
            color=COLOURS[0],
            alpha=0.18,
            lw=0,
            label="95 % interval",
        )
        axis.plot(rows["round"], 100 * rows["observed"], "o-", color=COLOURS[0], label="observed")
        axis.plot(rows["round"], 100 * rows["pooled"], "--", color=COLOURS[1], label="two states, pooled rates")
        axis.plot(rows["round"], 100 * rows["strata"], "-.", color=COLOURS[2], label="two states, rates per stratum")
        axis.set_xlabel("round")
        axis.set_ylabel("accuracy (%)")
        axis.set_xticks(rows["round"])
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
