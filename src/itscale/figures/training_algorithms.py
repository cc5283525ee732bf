"""The algorithms of test-time training side by side, and the baselines."""

from pathlib import Path

import pandas as pd

from itscale.figures.style import figure, look
from itscale.figures.training_curves import plot_run

CAPTION = (
    "Gain in mean@k on the trained benchmark over the untrained model, against rollout tokens. Left: OptPO's vote with "
    "GRPO, RLOO, PPO and SFT. Right: GRPO with OptPO's vote (training on the first rollouts, or on all), with TTRL's fixed "
    "vote, and with the gold answers as rewards, which no vote can beat by right. Bands: 95 % intervals over questions, a "
    "question's value being its mean over {seeds} seeds. PPO makes two optimiser steps of each draw, the others one."
)
ALGORITHMS = {"optpo": "GRPO", "optpo_rloo": "RLOO", "optpo_ppo": "PPO", "optpo_sft": "SFT"}
BASELINES = {"optpo": "OptPO, first", "optpo_all": "OptPO, all", "ttrl": "TTRL", "gold": "gold rewards"}


def draw(table: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`table`: a row per run and evaluated step; writes `out` as PDF and PNG."""
    with figure(out, CAPTION.format(seeds=int(table["seeds"].max())), columns=2, width=10) as (_, axes):
        for axis, names in zip(axes, (ALGORITHMS, BASELINES), strict=True):
            for index, (run, label) in enumerate(names.items()):
                rows = table[table["run"] == run]
                if len(rows):
                    plot_run(axis, rows, "gain", label, look(index))
            axis.set_xlabel("rollout tokens (thousands)")
            axis.set_ylabel("gain in mean@k (points)")
            axis.legend()
        axes[1].sharey(axes[0])
