"""Accuracy against completion tokens: what each rule buys, between the fixed N and the oracle stop."""

from pathlib import Path

import pandas as pd

from itscale.figures.style import figure, legend_below, look_of, under, verifiers, whole_numbers

CAPTION = (
    "Accuracy on the {benchmark} benchmark against completion tokens per question, one point a limit N. First rules that vote, "
    "then rules that return the best-scored sample, a panel for each verifier. Grey: the fixed N, self-consistency or best-of-N; "
    "a rule earns its keep only where it lies above it. Dashed: the oracle stop, which knows the answers and uses the fewest "
    "tokens that lose nothing that best-of-N solves, a bound for every such rule. All rules see the same samples, so that the "
    "intervals of their accuracies (about 6 points) say little about their differences: those are paired, in the figures savings "
    "and accuracy_tokens."
)
SCORES = ("best-of-N", "weighted best-of-N", "score threshold", "Pandora")
VOTES = ("self-consistency", "ESC", "ASC", "doubling vote")
BOUND = "oracle stop"


def draw(frontier: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`frontier`: rows like the main table's and those of the bounds; writes `out` as PDF and PNG."""
    rows = frontier[frontier["benchmark"] == benchmark]
    methods = list(dict.fromkeys(rows["method"]))
    scored = [m for m in methods if m in SCORES or m.startswith("OptScale")] + [BOUND] * (BOUND in methods)
    voting = [m for m in methods if m in VOTES or m.startswith(("DSC", "OptPO", "Dirichlet"))]
    names = verifiers(rows)
    titles = [f"best-scored sample, verifier {name}" if len(names) > 1 else "best-scored sample" for name in names]
    panels = [(voting, under(rows, names[0]), "votes")]
    panels += [(scored, under(rows, name), title) for name, title in zip(names, titles, strict=True) if len(scored) > 1]
    with figure(out, CAPTION.format(benchmark=benchmark), columns=len(panels), width=4.6 * len(panels), height=4.2) as (_, axes):
        for axis, (chosen, shown, title) in zip(axes, panels, strict=True):
            for method in chosen:
                group = shown[shown["method"] == method].sort_values("completion_tokens")
                if group.empty:
                    continue
                bound = method == BOUND
                style = {"color": "black", "marker": "", "linestyle": "--"} if bound else look_of(method)
                axis.plot(
                    group["completion_tokens"], 100 * group["accuracy"], label=method, markersize=4.5, linewidth=1.1, **style
                )
            early = shown[shown["method"].isin(chosen[1:])]
            if len(early):  # what lies left of all that stops early is not worth the room
                start = 0.6 * early["completion_tokens"].min()
                seen = shown[shown["method"].isin(chosen) & (shown["completion_tokens"] >= start)]
                axis.set_xlim(left=start)
                axis.set_ylim(100 * seen["accuracy"].min() - 2, 100 * seen["accuracy"].max() + 2)
            axis.set_xscale("log")
            whole_numbers(axis.xaxis)
            axis.set_title(title, fontsize=9)
            axis.set_xlabel("completion tokens per question (log scale)")
            if chosen:
                legend_below(axis, 3)
        axes[0].set_ylabel("accuracy (%)")
