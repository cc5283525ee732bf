"""N* over the parameters of a question."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.contour import ContourSet

from itscale.figures.style import figure

CAPTION = (
    "Samples needed until the best verifier score reaches s_min = {s_min:g} with probability {alpha:g}, over the mean mu "
    "and standard deviation sigma of the normal before its truncation to [0, 1] (closed form, capped at {n_max}). Below a "
    "sigma of about 0.1 the edge is steep: left of it no number suffices, right of it one sample does, and an error of a few "
    "hundredths in mu decides. Above it the number of samples falls gently with mu, and an error costs little."
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
        axis.clabel(lines, fmt=lambda v: f"{int(v)}", fontsize=7, manual=_places(lines))
        axis.set_yscale("log")
        axis.set_xlabel("mu")
        axis.set_ylabel("sigma (log scale)")
        axis.grid(False)
        bar = fig.colorbar(mesh, ax=axis, ticks=ticks, label="N* (log scale)")
        bar.ax.set_yticklabels([str(n) for n in ticks])
        bar.ax.minorticks_off()
        plt.setp(bar.ax.get_yticklabels(), fontsize=8)


def _places(lines: ContourSet) -> list[tuple[float, float]]:
    """Where each contour is labelled: a step higher from one to the next, so that no two labels touch."""
    found = []
    for index, paths in enumerate(lines.get_paths()):
        if len(paths.vertices):
            wanted = np.quantile(paths.vertices[:, 1], 0.55 + 0.06 * index)
            found.append(tuple(paths.vertices[np.abs(paths.vertices[:, 1] - wanted).argmin()]))
    return found
