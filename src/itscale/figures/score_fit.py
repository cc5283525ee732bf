"""Verifier scores of three questions with the truncated normal fitted to them."""

from pathlib import Path

import numpy as np
import pandas as pd

from itscale.data.records import CONFIDENCE
from itscale.figures.style import COLOURS, figure, verifiers
from itscale.theory.truncnormal import density

CAPTION = (
    "Verifier scores of all samples of three questions of the {benchmark} benchmark (at the lower quartile, median and upper "
    "quartile of the mean score) with the truncated normal fitted by maximum likelihood, a row of panels for each verifier. "
    "OptScale's guarantee is as good as this fit. {verdict} The p-value is that of the Kolmogorov-Smirnov distance by parametric "
    "bootstrap: 999 draws from the curve, each fitted anew (0.001 is the smallest there is)."
)


def draw(scores: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`scores`: columns benchmark, verifier, problem_id, score, e1, e2, p_value; writes `out` as PDF and PNG."""
    rows = scores[scores["benchmark"] == benchmark]
    grid = np.linspace(0, 1, 401)
    names = verifiers(rows)
    found = rows.groupby(["verifier", "problem_id"])["p_value"].first()
    rejected = int((found < 0.05).sum())
    verdict = f"The truncated normal is rejected (p below 0.05) for {rejected} of these {len(found)} sets of scores."
    caption = CAPTION.format(benchmark=benchmark, verdict=verdict)
    with figure(out, caption, 3, 10, 0.2 + 3.0 * len(names), len(names)) as (fig, axes):
        groups = rows.groupby(["verifier", "problem_id"], sort=False)
        for axis, ((verifier, problem_id), group) in zip(axes, groups, strict=False):
            axis.hist(group["score"], bins=np.linspace(0, 1, 26), density=True, color=COLOURS[5], alpha=0.7, label="samples")
            first = group.iloc[0]
            axis.plot(grid, density(grid, first["e1"], first["e2"]), color=COLOURS[1], label="fitted truncated normal")
            of = f"verifier {verifier}, " if len(names) > 1 else ""
            axis.set_title(f"{of}{problem_id}\nn = {len(group)}, p = {first['p_value']:.2g}", fontsize=9)
            what = f"score (from {verifier})" if verifier in CONFIDENCE else "verifier score (mean step probability)"
            axis.set_xlabel(what)
            axis.set_ylabel("density")
        fig.legend(*axes[0].get_legend_handles_labels(), loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
