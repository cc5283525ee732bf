"""N* over the parameters of a question."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm

from itscale.figures.style import figure

CAPTION = (
    "Samples needed until the best verifier score reaches s_min = {s_min:g} with probability {alpha:g}, over the mean mu "
    "and standard deviation sigma of the normal before its truncation to [0, 1] (closed form, capped at {n_max}). Left of "
    "the steep edge no budget suffices, right of it one sample does: the rule's whole work is done in the narrow valley "
    "between, so an error of a few hundredths in (mu, sigma) decides between one sample and the fixed N."
)


def draw(table: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`table`: columns mu, sigma, needed, s_min, alpha, n_max (the same on every benchmark); writes `out` as PDF and PNG."""
    first = table.iloc[0]
    grid = table.pivot(index="sigma", columns="mu", values="needed")
    caption = CAPTION.format(s_min=first["s_min"], alpha=first["alpha"], n_max=int(first["n_max"]))
    with figure(out, caption, width=6.8, height=4.4) as (fig, (axis,)):
        norm = LogNorm(1, float(first["n_max"]))
        mesh = axis.pcolormesh(grid.columns, grid.index, grid.to_numpy(), norm=norm, cmap="cividis_r", shading="nearest")
        mesh.set_rasterized(True)
        ticks = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= first["n_max"]]
        lines = axis.contour(
            grid.columns, grid.index, grid.to_numpy(), levels=np.array(ticks[1:-1]) + 0.5, colors="white", linewidths=0.6
        )
        axis.clabel(lines, fmt=lambda v: f"{int(v)}", fontsize=7)
        axis.set_yscale("log")
        axis.set_xlabel("mu")
        axis.set_ylabel("sigma (log scale)")
        axis.grid(False)
        bar = fig.colorbar(mesh, ax=axis, ticks=ticks, label="N* (log scale)")
        bar.ax.set_yticklabels([str(n) for n in ticks])
        bar.ax.minorticks_off()
        plt.setp(bar.ax.get_yticklabels(), fontsize=8)
