"""Savings, label accuracy and entropy of test-time training on one time axis."""

from pathlib import Path

import pandas as pd

from itscale.figures.style import figure, look_of
from itscale.figures.training_curves import NAMES

CAPTION = (
    "What each step of the training was like, means over prompts and {window} steps: rollouts that voted (savings are the "
    "distance to fixed N), label accuracy (is the consensus right?) and reward accuracy (dotted: is a rollout "
    "rewarded exactly if it is right? Not drawn for rewards that pay every answer something), and the entropy of the "
    "answers of the group that trains (as many in every run). "
    "Savings alone prove nothing: a policy that collapses agrees with itself, votes become short, the entropy falls, and "
    "the labels are no better. Gold answers are read for this figure only."
)
WINDOW = 5


def draw(table: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`table`: a row per run and step; writes `out` as PDF and PNG."""
    with figure(out, CAPTION.format(window=WINDOW), columns=3, width=11, height=3.8) as (_, axes):
        for run, rows in table.groupby("run", sort=False):
            name, rule = NAMES.get(run, (run, run))
            smooth = rows.set_index("step").rolling(WINDOW, min_periods=1).mean(numeric_only=True)
            colour = look_of(rule)["color"]
            axes[0].plot(smooth.index, smooth["votes"], color=colour, label=name)
            axes[1].plot(smooth.index, 100 * smooth["label_accuracy"], color=colour, label=f"{name}, labels")
            if smooth["reward_accuracy"].notna().any():
                axes[1].plot(smooth.index, 100 * smooth["reward_accuracy"], color=colour, linestyle=":", label=f"{name}, rewards")
            axes[2].plot(smooth.index, smooth["vote_entropy"], color=colour, label=name)
        for axis, label in zip(
            axes, ("rollouts per prompt", "right labels, right rewards (%)", "entropy of answers (nats)"), strict=True
        ):
            axis.set_xlabel("step")
            axis.set_ylabel(label)
        axes[0].set_ylim(bottom=0)
        axes[2].set_ylim(bottom=0)
        for axis in axes[:2]:
            axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=7)
