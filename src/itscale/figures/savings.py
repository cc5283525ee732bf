"""Tokens saved against the change in accuracy: what stopping early is worth, one mark a rule."""

from pathlib import Path

import pandas as pd

from itscale.data.tables import saved
from itscale.figures.style import differences, figure, legend_below, verifiers

CAPTION = (
    "Completion tokens saved against the paired change in accuracy on the {benchmark} benchmark, each rule against its fixed N "
    "at the same limit: self-consistency for rules that vote, best-of-N for rules that return the best-scored sample. Same "
    "samples for every rule, thresholds from the calibration split, bars: paired 95 % intervals over questions. To the right is"
    " cheaper, up is better; the line at 0 is the fixed N. A panel for votes (limit {votes}), and one for each verifier (limit "
    "{scored})."
)
_VOTES, _SCORED = "self_consistency", "best_of_n"
_LIMIT = 16  # of rules that read scores: the best of more is no better, and with a weak verifier worse
_HIDDEN = ("dsc_oracle",)  # reads what no live run knows


def at_limit(rows: pd.DataFrame, family: str) -> pd.DataFrame:
    """The rows of rules that stop early within a family, at the limit that is shown: the largest for votes, 16 for scores."""
    of = rows[(rows["family"] == family) & (rows["unit"] == "sample") & ~rows["slug"].isin(_HIDDEN)]
    if of.empty:
        return of
    limits = sorted(of["budget"].unique())
    limit = limits[-1] if family == _VOTES else max([n for n in limits if n <= _LIMIT], default=limits[0])
    of = of[of["budget"] == limit]
    return of[of["completion_tokens_difference"] != 0]


def draw(main: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`main`: the main table (a row per method and budget); writes `out` as PDF and PNG."""
    rows = main[main["benchmark"] == benchmark]
    panels = {"rules that vote": at_limit(rows, _VOTES)}
    # DSC votes, but predicts a verifier's scores: it is among the votes once, for the first verifier.
    first = verifiers(rows)[0]
    panels["rules that vote"] = panels["rules that vote"][panels["rules that vote"]["verifier"].isin([first, "none"])]
    scored = at_limit(rows, _SCORED)
    for name in verifiers(rows):
        panels[f"best-scored sample, verifier {name}"] = scored[scored["verifier"] == name]
    panels = {title: group for title, group in panels.items() if len(group)}
    limits = [str(group["budget"].iloc[0]) for group in (at_limit(rows, family) for family in (_VOTES, _SCORED)) if len(group)]
    caption = CAPTION.format(benchmark=benchmark, votes=limits[0] if limits else "-", scored=limits[-1] if limits else "-")
    with figure(out, caption, max(len(panels), 1), 3.9 * max(len(panels), 1), 4.0) as (_, axes):
        for axis, (title, group) in zip(axes, panels.items(), strict=False):
            axis.axhline(0, color="0.5", lw=1, zorder=0)
            for _, own in group.groupby("method", sort=False):
                differences(axis, own, 100 * saved(own), markersize=7)
            axis.set_xlim(min(0, 100 * saved(group).min() - 3), 100)
            axis.set_title(title, fontsize=9)
            axis.set_xlabel("completion tokens saved (%)")
            legend_below(axis, 2, handletextpad=0.3)
        axes[0].set_ylabel("change in accuracy (points)")
