"""Accuracy against completion tokens: what each rule buys, between the fixed N and the oracle stop."""

from pathlib import Path

import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter

from itscale.figures.style import figure, look, under, verifiers

CAPTION = (
    "Accuracy on the {benchmark} benchmark against completion tokens per question, one point a budget N, with 95 % bands over "
    "questions. Left: rules that return the best-scored sample, a panel for each verifier; dashed: the oracle stop, which "
    "knows the answers and uses the fewest tokens that lose nothing that best-of-N solves, a bound for every such rule that "
    "loses nothing. Right: rules that vote. Grey: the fixed N, best-of-N and self-consistency; a rule earns its keep only "
    "where it lies above them."
)
SCORES = ("best-of-N", "weighted best-of-N", "score threshold", "Pandora")
BOUND = "oracle stop"


def draw(frontier: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`frontier`: rows like the main table's and those of the bounds; writes `out` as PDF and PNG."""
    rows = frontier[frontier["benchmark"] == benchmark]
    methods = list(dict.fromkeys(rows["method"]))
    left = [m for m in methods if m in SCORES or m.startswith("OptScale")] + [BOUND] * (BOUND in methods)
    right = [m for m in methods if m in ("self-consistency", "ESC", "ASC") or m.startswith(("DSC", "OptPO", "Dirichlet"))]
    names = verifiers(rows)
    titles = [f"best-scored sample, verifier {name}" if len(names) > 1 else "best-scored sample" for name in names]
    panels = [*((left, under(rows, name), title) for name, title in zip(names, titles, strict=True))]
    panels.append((right, under(rows, names[0]), "vote"))
    with figure(out, CAPTION.format(benchmark=benchmark), columns=len(panels), width=5.5 * len(panels), height=4.4) as (_, axes):
        for axis, (chosen, shown, title) in zip(axes, panels, strict=True):
            for index, method in enumerate(chosen):
                group = shown[shown["method"] == method].sort_values("completion_tokens")
                if group.empty:
                    continue
                bound = method == BOUND
                own = {BOUND: {"color": "black", "marker": ""}, chosen[0]: {"color": "0.5", "marker": "o"}}
                style = own.get(method, look(index - 1, beside_grey=True))
                axis.plot(
                    group["completion_tokens"],
                    100 * group["accuracy"],
                    label=method,
                    markersize=4,
                    linewidth=1.1,
                    linestyle="--" if bound else "-",
                    **style,
                )
                axis.fill_between(
                    group["completion_tokens"],
                    100 * group["accuracy_low"],
                    100 * group["accuracy_high"],
                    color=style["color"],
                    alpha=0.08,
                    lw=0,
                )
            early = shown[shown["method"].isin(chosen[1:])]
            if len(early):  # what lies left of all that stops early is not worth the room
                start = 0.6 * early["completion_tokens"].min()
                seen = shown[shown["method"].isin(chosen) & (shown["completion_tokens"] >= start)]
                axis.set_xlim(left=start)
                axis.set_ylim(100 * seen["accuracy_low"].min() - 1, 100 * seen["accuracy_high"].max() + 1)
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_title(title, fontsize=9)
            axis.set_xlabel("completion tokens per question (log scale)")
            if chosen:
                axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)
        axes[0].set_ylabel("accuracy (%)")
