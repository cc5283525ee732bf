"""What deciding in order of arrival would change: it favours short answers."""

from pathlib import Path

import numpy as np
import pandas as pd

from itscale.figures.style import COLOURS, figure

CAPTION = (
    "The same samples of the {benchmark} benchmark replayed in order of arrival instead of order of submission, each question's "
    "samples running together. Left: the change in accuracy; right: the mean length of the samples that a decision rests on. "
    "Bars: paired 95 % intervals over questions; {verdict}. Where a left bar excludes 0, a driver that decides on whatever "
    "comes first reports another method than the one it names; the live driver decides in order of submission."
)


def draw(arrival: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`arrival`: a row per method and budget; writes `out` as PDF and PNG."""
    labels = [f"{m} ({b})" for m, b in zip(arrival["method"], arrival["budget"], strict=True)]
    at = np.arange(len(arrival))[::-1]
    clear = ((arrival["accuracy_difference_low"] > 0) | (arrival["accuracy_difference_high"] < 0)).sum()
    verdict = f"{clear} of {len(arrival)} rules change their accuracy beyond noise"
    caption = CAPTION.format(benchmark=benchmark, verdict=verdict)
    with figure(out, caption, columns=2, width=9, height=1.2 + 0.32 * len(arrival)) as (_, axes):
        change, length = axes
        mean = 100 * arrival["accuracy_difference"]
        ends = [mean - 100 * arrival["accuracy_difference_low"], 100 * arrival["accuracy_difference_high"] - mean]
        change.errorbar(mean, at, xerr=ends, fmt="o", color=COLOURS[0], ms=5, elinewidth=1)
        change.axvline(0, color="0.5", lw=0.8)
        for axis in axes:
            axis.set_ylim(-0.6, len(at) - 0.4)
        change.set_yticks(at, labels)
        change.set_xlabel("accuracy in order of arrival\nminus in order of submission (points)")
        for index, (name, label) in enumerate((("submission", "submission"), ("arrival", "arrival"))):
            column = arrival[f"tokens_per_sample_{name}"]
            length.plot(column, at, "os"[index], color=COLOURS[index], ms=5, label=f"in order of {label}")
        length.set_yticks(at, [""] * len(at))
        length.set_xlabel("completion tokens per sample drawn")
        length.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
