"""Accuracy on the trained benchmark against the rollout tokens spent."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from itscale.figures.style import figure, look_of

CAPTION = (
    "Test-time training without labels against the tokens that rollouts have cost so far (prompts and every completion token, "
    "used or not). k is the number of evaluation samples a question (16 in the default configuration). Left: gain in mean@k on "
    "the trained benchmark over the untrained model (which has {before:.1f} %), band: 95 % interval of the paired difference "
    "over questions; middle and right: majority@k and pass@k, bands of the values themselves. A question's value is its mean "
    "over {seeds}. A rule that saves ends further to the left; it is worth its saving only where it is not lower."
)
PANELS = (("gain", "gain in mean@k (points)"), ("majority", "majority@k (%)"), ("pass", "pass@k (%)"))


NAMES = {
    "ttrl": ("TTRL: fixed votes", "self_consistency"),
    "optpo": ("OptPO: posterior rule", "vote_posterior"),
}


def draw(table: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`table`: a row per run and evaluated step; writes `out` as PDF and PNG."""
    seeds, before = int(table["seeds"].max()), 100 * table[table["step"] == 0]["mean"].mean()
    with figure(
        out, CAPTION.format(before=before, seeds=f"{seeds} seed{'s' if seeds > 1 else ''}"), columns=3, width=11, height=3.8
    ) as (
        fig,
        axes,
    ):
        for axis, (metric, label) in zip(axes, PANELS, strict=True):
            for run, rows in table.groupby("run", sort=False):
                label_of, rule = NAMES.get(run, (run, run))
                plot_run(axis, rows, metric, label_of, look_of(rule))
            axis.set_xlabel("rollout tokens (thousands)")
            axis.set_ylabel(label)
        handles, labels = axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5)


def plot_run(axis: Axes, rows: pd.DataFrame, metric: str, label: str, style: dict[str, str]) -> None:
    """One run's curve with its band."""
    x = rows["rollout_tokens"] / 1000
    axis.plot(x, 100 * rows[metric], label=label, markersize=4.5, **style)
    axis.fill_between(x, 100 * rows[f"{metric}_low"], 100 * rows[f"{metric}_high"], color=style["color"], alpha=0.15, linewidth=0)
