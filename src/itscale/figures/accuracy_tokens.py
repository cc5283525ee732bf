"""What stopping early changes: the paired difference in accuracy against tokens, every method and budget."""

from pathlib import Path

import pandas as pd

from itscale.figures.style import differences, figure, under, verifiers, whole_numbers

CAPTION = (
    "Paired difference in accuracy to the fixed N of the same family and limit, on the {benchmark} benchmark, against the tokens "
    "per question that a rule needs; left: completion tokens, right: all computed tokens (prompt, completion, verifier, "
    "predictor); a row of panels for each kind of rule, and for each verifier where rules read scores. Bars: paired 95 % "
    "intervals over questions; lines join the limits of one rule. Votes are compared with self-consistency, best-scored samples "
    "with best-of-N, rounds of re-answering with MR-Thinking (whether re-answering pays is in the figure rounds_tokens)."
)
_KINDS = {
    "self_consistency": "rules that vote, against self-consistency",
    "best_of_n": "best-scored sample, against best-of-N",
    "mr_thinking": "rounds of re-answering, against MR-Thinking",
}
_FIXED = ("best-of-N", "self-consistency", "MR-Thinking")
_QUANTITIES = {"completion_tokens": "completion", "total_tokens": "total"}


def draw(main: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`main`: the main table (a row per method and budget); writes `out` as PDF and PNG."""
    table = main[(main["benchmark"] == benchmark) & ~main["method"].isin(_FIXED)]
    names = verifiers(table)
    shown = [(f, v) for f in _KINDS for v in (names if f != "self_consistency" else names[:1]) if (table["family"] == f).any()]
    with figure(out, CAPTION.format(benchmark=benchmark), 2, 10, 0.4 + 2.9 * len(shown), len(shown)) as (_, axes):
        for row, (family, verifier) in enumerate(shown):
            rows = under(table, verifier)
            rows = rows[rows["family"] == family]
            title = _KINDS[family] + (f", verifier {verifier}" if family != "self_consistency" and len(names) > 1 else "")
            for axis, (quantity, label) in zip(axes[2 * row : 2 * row + 2], _QUANTITIES.items(), strict=True):
                axis.axhline(0, color="0.5", lw=1, zorder=0)
                for _, group in rows.groupby("method", sort=False):
                    group = group.sort_values(quantity)
                    differences(axis, group, group[quantity])
                axis.set_xscale("log")
                whole_numbers(axis.xaxis)
                axis.set_xlabel(f"{label} tokens per question (log scale)")
                axis.set_title(title, fontsize=9)
            axes[2 * row].set_ylabel("change in accuracy (points)")
            axes[2 * row + 1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7)
