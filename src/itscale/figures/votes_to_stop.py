"""Votes until a rule stops, by difficulty."""

from pathlib import Path

import numpy as np
import pandas as pd

from itscale.figures.style import figure, look_of

CAPTION = (
    "Votes until each rule stops on the {benchmark} benchmark (limit {limit}), by difficulty: the share of a question's samples "
    "that are right. Bars: mean with 95 % interval over questions; hatched: the share of the bar's votes that "
    "ended at the limit, where nothing is certified. Easy questions are settled in a few votes. The lead "
    "is 4, promised errors are 5 %. A vote that stops certifies the "
    "consensus, not that it is right. Where p0 is at most 1/2 the heuristic cannot stop on a unanimous vote."
)


def draw(table: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`table`: a row per rule and bin with votes, its interval and at_limit; writes `out` as PDF and PNG."""
    rows = table[table["benchmark"] == benchmark]
    rules = list(rows["rule"].unique())
    starts = sorted(rows["from"].unique())
    with figure(out, CAPTION.format(benchmark=benchmark, limit=int(rows["limit"].iloc[0])), width=8) as (_, (axis,)):
        width = 0.8 / len(rules)
        for index, rule in enumerate(rules):
            part = rows[rows["rule"] == rule]
            where = np.array([starts.index(f) for f in part["from"]]) + (index - (len(rules) - 1) / 2) * width
            low = np.where(np.isnan(part["votes_low"]), part["votes"], part["votes_low"])
            high = np.where(np.isnan(part["votes_high"]), part["votes"], part["votes_high"])
            error, colour = [part["votes"] - low, high - part["votes"]], look_of(rule)["color"]
            axis.bar(
                where,
                part["votes"],
                width,
                yerr=error,
                color=colour,
                label=rule,
                error_kw={"elinewidth": 0.8},
            )
            axis.bar(where, part["votes"] * part["at_limit"], width, color="none", edgecolor="white", hatch="////", lw=0)
        counts = rows[rows["rule"] == rules[0]].set_index("from")
        labels = [f"{100 * f:.0f}–{100 * counts['to'][f]:.0f} %\n(n = {counts['problems'][f]})" for f in starts]
        axis.set_xticks(range(len(starts)), labels)
        axis.set_xlabel("share of right samples of the question")
        axis.set_ylabel("votes until it stops")
        axis.legend(ncols=len(rules), loc="lower center", bbox_to_anchor=(0.5, 1.0))
