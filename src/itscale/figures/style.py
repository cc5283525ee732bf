"""The one style of all figures: colour-blind-safe colours, one marker per method, PDF and PNG side by side."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito (2008), distinguishable with every common colour vision deficiency.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_RC = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "savefig.bbox": "tight",
    "savefig.dpi": 160,
    "pdf.fonttype": 42,
}


def look(index: int, *, beside_grey: bool = False) -> dict[str, str]:
    """Colour and marker of the index-th method of a figure; `beside_grey`: no grey, which means something else in it."""
    if beside_grey:  # one colour fewer than markers, so that pairs repeat late
        return {"color": COLOURS[index % (len(COLOURS) - 1)], "marker": MARKERS[index % len(MARKERS)]}
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]}


def verifiers(table: pd.DataFrame) -> list[str]:
    """The verifiers of a table in their order, or `none`, which rows of rules have that read no scores."""
    return [name for name in dict.fromkeys(table["verifier"]) if name != "none"] or ["none"]


def under(table: pd.DataFrame, verifier: str) -> pd.DataFrame:
    """The rows of a verifier, and of the rules that read no scores."""
    return table[table["verifier"].isin([verifier, "none"])]


def points(axis: Axes, group: pd.DataFrame, quantity: str, index: int, **style: float) -> None:
    """A method's accuracy (%) against tokens, bars both ways, a line where it has several budgets; beside grey.

    `group`: its rows of a table, with the columns method, accuracy and `quantity`, each with its ends.
    """
    x, left, right = (group[f"{quantity}{end}"].to_numpy() for end in ("", "_low", "_high"))
    y, low, high = (100 * group[f"accuracy{end}"].to_numpy() for end in ("", "_low", "_high"))
    axis.errorbar(
        x,
        y,
        xerr=[x - left, right - x],
        yerr=[y - low, high - y],
        label=group["method"].iloc[0],
        lw=1,
        linestyle="-" if len(group) > 1 else "none",
        **look(index, beside_grey=True),
        **style,
    )


@contextmanager
def figure(
    out: Path, caption: str, columns: int = 1, width: float = 6.6, height: float = 4.2, rows: int = 1
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of `rows` times `columns` panels that is saved as `out` (.pdf) and beside it as .png, its caption below it."""
    with plt.rc_context(_RC):
        fig, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False)
        yield fig, list(axes.flat)
        fig.tight_layout()
        fig.text(0.0, -0.02, textwrap.fill(caption, int(width * 17)), va="top", ha="left", fontsize=8)
        out = Path(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        fig.savefig(out.with_suffix(".png"), metadata={"Software": None})
        fig.savefig(out.with_suffix(".pdf"), metadata={"CreationDate": None})
        plt.close(fig)
