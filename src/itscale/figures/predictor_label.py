"""What the predictor says of held-out questions, against what their samples show."""

from pathlib import Path

import pandas as pd
from scipy.stats import spearmanr

from itscale.figures.style import COLOURS, figure

CAPTION = (
    "Predicted parameters of the {benchmark} questions, from their text alone, against the labels that their samples give "
    "(a point a question; the grey line is equality; rho: Spearman's rank correlation). The labels are noisy, most of all "
    "the transition rates of few rounds. Whether this beats the prompt's length or TF-IDF is in "
    "tables/predictor_quality.csv."
)
NAMES = {
    "score_mean": "mean score",
    "score_sd": "sd of scores",
    "p0": "first answer correct, p0",
    "a": "correct to wrong, a",
    "b": "wrong to correct, b",
}


def draw(labels: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`labels`: columns benchmark, problem_id, head, prediction, label; writes `out` as PDF and PNG."""
    rows = labels[labels["benchmark"] == benchmark]
    heads = [h for h in NAMES if (rows["head"] == h).any()]
    rows_of = max(1, -(-len(heads) // 3))
    with figure(out, CAPTION.format(benchmark=benchmark), columns=3, width=9, height=3 * rows_of, rows=rows_of) as (_, axes):
        for index, (axis, head) in enumerate(zip(axes, heads, strict=False)):
            group = rows[rows["head"] == head]
            ends = [min(group["label"].min(), group["prediction"].min()), max(group["label"].max(), group["prediction"].max())]
            axis.plot(ends, ends, color="0.6", lw=1)
            axis.scatter(group["prediction"], group["label"], s=9, alpha=0.6, color=COLOURS[index], lw=0)
            constant = group["prediction"].nunique() < 2 or group["label"].nunique() < 2
            rho = float("nan") if constant else spearmanr(group["prediction"], group["label"]).statistic
            axis.set_title(f"{NAMES[head]}   rho = {rho:.2f}", fontsize=9)
            axis.set_xlabel("predicted")
            axis.set_ylabel("label" if index % 3 == 0 else "")
        for axis in axes[len(heads) :]:
            axis.set_visible(False)
