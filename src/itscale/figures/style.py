"""The one style of all figures: one colour and marker a method; PDF, PNG and the caption as text side by side."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from itscale.policies import find_rule
from itscale.policies.protocol import Reason

# Okabe and Ito (2008), distinguishable with every common colour vision deficiency.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DPI = 160  # of the PNG
_RC = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "savefig.dpi": DPI,
    "pdf.fonttype": 42,
}


# One colour and marker a method, in every figure. Greys: the fixed N; blues and purples: votes; reds and greens: scores; browns:
# rounds of re-answering.
_FIXED, _BLACK = "#7F7F7F", "#000000"
LOOKS = {
    "best_of_n": (_FIXED, "o"),
    "self_consistency": (_FIXED, "s"),
    "mr_thinking": (_FIXED, "D"),
    "first_answer": (_BLACK, "*"),
    "weighted_best_of_n": (_BLACK, "P"),
    "asc": ("#0072B2", "o"),
    "esc": ("#56B4E9", "v"),
    "dsc": ("#00456B", "^"),
    "dsc_oracle": ("#00456B", "x"),
    "vote_lead": ("#CC79A7", "D"),
    "vote_posterior": ("#8B2F6B", "s"),
    "vote_heuristic": ("#E3A6C8", "X"),
    "vote_ratio": ("#8B2F6B", "^"),
    "vote_dirichlet": ("#5B2C83", "P"),
    "vote_doubling": ("#9A86D4", "h"),
    "vote_bayes": ("#3F51B5", "p"),
    "vote_certified": ("#14143C", "*"),
    "cisc": ("#00838F", "D"),
    "deepconf": ("#00838F", "v"),
    "asc_conf": ("#00838F", "o"),
    "score_threshold": ("#D55E00", "o"),
    "pandora": ("#E69F00", "D"),
    "pandora_by_data": ("#E69F00", "d"),
    "optscale_paper": ("#009E73", "s"),
    "optscale_paper_predicted": ("#66C6AB", "^"),
    "optscale": ("#005C43", "v"),
    "optscale_predicted": ("#8FB935", ">"),
    "optscale_fitted": ("#2E7D32", "D"),
    "majority_over_rounds": ("#4D4D4D", "P"),
    "best_scored_round": ("#4D4D4D", "X"),
    "markovscale_gate": ("#8C510A", "s"),
    "markovscale_zero": ("#BF812D", "o"),
    "markovscale_map": ("#D9B36C", "^"),
    "markovscale_filter": ("#543005", "v"),
}


def look(index: int) -> dict[str, str]:
    """Colour and marker of the index-th of some things that are no methods: fits, runs, forecasts."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]}


def look_of(method: str) -> dict[str, str]:
    """Colour and marker of a method by its name in tables or its slug; those of one's own have looks by their name."""
    rule = find_rule(method)
    if rule is None or rule.slug not in LOOKS:
        return look(crc32(method.encode()) % (len(COLOURS) * len(MARKERS)))
    return dict(zip(("color", "marker"), LOOKS[rule.slug], strict=True))


def deciding(stops: pd.DataFrame) -> list[str]:
    """The methods of a table of stops, in its order, that do more than draw a fixed number, or what a question has of it."""
    nothing = {str(Reason.FIXED), str(Reason.EXHAUSTED)}
    return [method for method, group in stops.groupby("method", sort=False) if not set(group["reason"]) <= nothing]


def whole_numbers(axis: Axis, subs: tuple[float, ...] = (1, 2, 5)) -> None:
    """Plain numbers at 1, 2 and 5 times powers of ten on a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def verifiers(table: pd.DataFrame) -> list[str]:
    """The verifiers of a table in their order, or `none`, which rows of rules have that read no scores."""
    return [name for name in dict.fromkeys(table["verifier"]) if name != "none"] or ["none"]


def under(table: pd.DataFrame, verifier: str) -> pd.DataFrame:
    """The rows of a verifier, and of the rules that read no scores."""
    return table[table["verifier"].isin([verifier, "none"])]


def points(axis: Axes, group: pd.DataFrame, quantity: str, **style: float) -> None:
    """A method's accuracy (%) against tokens, bars both ways, a line where it has several budgets.

    `group`: its rows of a table, with the columns method, accuracy and `quantity`, each with its ends.
    """
    x, left, right = (group[f"{quantity}{end}"].to_numpy() for end in ("", "_low", "_high"))
    y, low, high = (100 * group[f"accuracy{end}"].to_numpy() for end in ("", "_low", "_high"))
    method = group["method"].iloc[0]
    axis.errorbar(
        x,
        y,
        xerr=[x - left, right - x],
        yerr=[y - low, high - y],
        label=method,
        lw=1,
        linestyle="-" if len(group) > 1 else "none",
        **look_of(method),
        **style,
    )


def differences(axis: Axes, group: pd.DataFrame, x: pd.Series, **style: float) -> None:
    """A method's paired difference in accuracy to its fixed N (points) with its 95 % interval, at `x`; a line over budgets."""
    y, low, high = (100 * group[f"accuracy_difference{end}"].to_numpy() for end in ("", "_low", "_high"))
    method = group["method"].iloc[0]
    axis.errorbar(
        x.to_numpy(),
        y,
        yerr=[np.nan_to_num(y - low), np.nan_to_num(high - y)],
        label=method,
        lw=1,
        elinewidth=0.7,
        linestyle="-" if len(group) > 1 else "none",
        **{"markersize": 4.5, **look_of(method), **style},
    )


def legend_below(axis: Axes, columns: int, **options: float) -> None:
    """A legend under a panel's label, as far below the panel at every height of it."""
    size, below = 7, 32  # points
    axis.legend(fontsize=size, loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=below / size, ncols=columns, **options)


def draw_nothing(out: Path, sentence: str) -> None:
    """A figure that says why there is nothing to show, in place of an empty panel."""
    with figure(out, sentence, height=1.2) as (_, (axis,)):
        axis.axis("off")
        axis.text(0.5, 0.5, textwrap.fill(sentence, 90), ha="center", va="center", transform=axis.transAxes)


@contextmanager
def figure(
    out: Path, caption: str, columns: int = 1, width: float = 6.6, height: float = 4.2, rows: int = 1
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of `rows` times `columns` panels, saved as `out` (.pdf) and beside it as .png, its caption as .txt."""
    with plt.rc_context(_RC):
        fig, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False)
        yield fig, list(axes.flat)
        fig.tight_layout()
        out = Path(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        box = fig.get_tightbbox().padded(0.05)  # measured once for both files
        fig.savefig(out.with_suffix(".png"), bbox_inches=box, metadata={"Software": None})
        fig.savefig(out.with_suffix(".pdf"), bbox_inches=box, metadata={"CreationDate": None})
        plt.close(fig)
    out.with_suffix(".txt").write_text(textwrap.fill(caption, 100) + "\n")
