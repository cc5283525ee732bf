"""The confidence that is asked for, and the one that is reached."""

from pathlib import Path

import pandas as pd

from itscale.figures.style import figure, look, look_of
from itscale.policies import find_rule

CAPTION = (
    "Simulated questions with truncated normal scores: how often the best score reaches s_min (the 90 % quantile of a "
    "score) where a confidence alpha is asked for, averaged over {pairs} pairs of (mu, sigma); bands are 95 % Monte Carlo "
    "intervals. With known parameters the guarantee holds (on or just above the grey line, N* being an integer). With "
    "estimated ones it is whatever the estimate makes of it: below the line a rule promises more than it keeps, above it it "
    "pays for confidence that nobody asked for. Right: the samples that this costs."
)


def _style(rule: str, seen: set[str]) -> dict[str, str]:
    """The look of the rule that a row names (`estimated: RULE, how`); hollow and dashed the second time."""
    name = rule.removeprefix("estimated: ").split(",")[0]
    if find_rule(name) is None:
        return look(6)
    again = {"linestyle": "--", "markerfacecolor": "white"} if name in seen else {}
    seen.add(name)
    return look_of(name) | again


def draw(table: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`table`: columns rule, alpha, reached, reached_low, reached_high, samples (the same on every benchmark); PDF and PNG."""
    with figure(out, CAPTION.format(pairs="six"), columns=2, width=10, height=4.2) as (fig, axes):
        start = min(table["reached_low"].min(), table["alpha"].min()) - 0.02
        axes[0].plot([start, 1], [start, 1], color="0.6", lw=1, zorder=0)
        seen: set[str] = set()
        for rule, group in table.groupby("rule", sort=False):
            style = _style(rule, seen)
            axes[0].plot(group["alpha"], group["reached"], label=rule, markersize=4.5, **style)
            axes[0].fill_between(
                group["alpha"], group["reached_low"], group["reached_high"], color=style["color"], alpha=0.15, lw=0
            )
            axes[1].plot(group["alpha"], group["samples"], label=rule, markersize=4.5, **style)
        axes[0].set_xlabel("confidence asked for, alpha")
        axes[0].set_ylabel("confidence reached")
        axes[1].set_xlabel("confidence asked for, alpha")
        axes[1].set_ylabel("mean number of samples")
        handles, labels = axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
