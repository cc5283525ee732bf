"""Is the fitted P(max >= s_min) what happens?"""

from pathlib import Path

import pandas as pd

from itscale.figures.style import figure, look, look_of, verifiers

CAPTION = (
    "Calibration of OptScale's confidence on the {benchmark} benchmark: the probability, fitted to the first five scores of a "
    "question, that the best of the next four reaches s_min (three thresholds), against how often it does, a panel for each "
    "verifier. Bars: 95 % intervals over questions; areas of points grow with the number of cases. On the diagonal the "
    "confidence is honest; above it the rule is underconfident, so that it draws more than it need; below it it promises more "
    "than it keeps."
)
# What the fits are called where rules use them.
_METHODS = {
    "maximum likelihood": "OptScale^0 (paper)",
    "calibration prior": "OptScale^0 (ours)",
    "predicted prior": "OptScale^t (ours)",
}


def draw(reliability: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`reliability`: columns benchmark, verifier, fit, predicted, observed with its ends, cases; writes `out` as PDF and PNG."""
    rows = reliability[reliability["benchmark"] == benchmark]
    names = verifiers(rows)
    with figure(out, CAPTION.format(benchmark=benchmark), len(names), 0.6 + 4.4 * len(names), 4.2) as (fig, axes):
        for axis, verifier in zip(axes, names, strict=True):
            shown = rows[rows["verifier"] == verifier]
            axis.plot([0, 1], [0, 1], color="0.6", lw=1, zorder=0)
            for index, (name, group) in enumerate(shown.groupby("fit", sort=False)):
                style = look_of(_METHODS[name]) if name in _METHODS else look(index)
                group = group.sort_values("predicted")
                error = [group["observed"] - group["observed_low"], group["observed_high"] - group["observed"]]
                axis.errorbar(
                    group["predicted"], group["observed"], yerr=error, color=style["color"], elinewidth=0.7, lw=1, alpha=0.8
                )
                size = 12 + 60 * group["cases"] / rows["cases"].max()
                axis.scatter(
                    group["predicted"],
                    group["observed"],
                    s=size,
                    label=f"{_METHODS[name]}: {name}" if name in _METHODS else name,
                    **style,
                )
            axis.set_xlabel("fitted probability that the best of the next 4 reaches s_min")
            axis.set_ylabel("observed frequency")
            axis.set_xlim(-0.02, 1.02)
            axis.set_ylim(-0.02, 1.02)
            if len(names) > 1:
                axis.set_title(f"verifier {verifier}", fontsize=9)
        fig.legend(*axes[0].get_legend_handles_labels(), loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
