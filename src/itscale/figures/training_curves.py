"""Accuracy on the trained benchmark against the rollout tokens spent."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from itscale.figures.style import figure, look

CAPTION = (
    "Test-time training without labels: mean@k, majority@k and pass@k on the trained benchmark against the tokens that "
    "rollouts have cost so far (prompts and every completion token, used or not). The first point is the untrained model. "
    "Bands: 95 % bootstrap over questions, a question's value being its mean over {seeds}. A rule that saves lies to the "
    "left; it is worth its saving only where it is not lower."
)
PANELS = (("mean", "mean@k (%)"), ("majority", "majority@k (%)"), ("pass", "pass@k (%)"))


def draw(table: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`table`: a row per run and evaluated step; writes `out` as PDF and PNG."""
    seeds = int(table["seeds"].max())
    with figure(out, CAPTION.format(seeds=f"{seeds} seed{'s' if seeds > 1 else ''}"), columns=3, width=11, height=3.8) as (
        fig,
        axes,
    ):
        for axis, (metric, label) in zip(axes, PANELS, strict=True):
            for index, (run, rows) in enumerate(table.groupby("run", sort=False)):
                plot_run(axis, rows, metric, run, index)
            axis.set_xlabel("rollout tokens (thousands)")
            axis.set_ylabel(label)
        handles, labels = axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5)


def plot_run(axis: Axes, rows: pd.DataFrame, metric: str, label: str, index: int) -> None:
    """One run's curve with its band."""
    style = look(index)
    x = rows["rollout_tokens"] / 1000
    axis.plot(x, 100 * rows[metric], label=label, markersize=4.5, **style)
    axis.fill_between(x, 100 * rows[f"{metric}_low"], 100 * rows[f"{metric}_high"], color=style["color"], alpha=0.15, linewidth=0)
