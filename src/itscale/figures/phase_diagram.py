"""Where re-answering helps and where it harms: first accuracy against the accuracy that it tends to, a point a question."""

from pathlib import Path

import pandas as pd

from itscale.figures.style import COLOURS, figure

CAPTION = (
    "Phase diagram of re-answering on the {benchmark} benchmark: the chance p0 that a question's first answer is correct "
    "against the accuracy π that its two-state chain tends to. Above the diagonal re-answering helps, below it harms. "
    "Points: questions, rates drawn towards their level (empirical Bayes), bars: 95 % credible intervals of every fifth "
    "question; undecided: the 95 % interval of the gain by one re-answer holds 0. Cross: the means."
)
_LOOK = {"helps": (COLOURS[2], "^"), "undecided": (COLOURS[7], "o"), "harms": (COLOURS[1], "v")}


def draw(questions: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`questions`: columns benchmark, problem_id, effect, p_first_correct and stationary_accuracy with _low and _high.

    Writes PDF and PNG.
    """
    rows = questions[questions["benchmark"] == benchmark].reset_index(drop=True)
    with figure(out, CAPTION.format(benchmark=benchmark), width=5.6, height=5.2) as (_, (axis,)):
        axis.plot([0, 1], [0, 1], color="0.3", lw=1)
        axis.fill_between([0, 1], [0, 1], 1, color=_LOOK["helps"][0], alpha=0.06, lw=0)
        axis.fill_between([0, 1], 0, [0, 1], color=_LOOK["harms"][0], alpha=0.06, lw=0)
        for effect, (colour, marker) in _LOOK.items():
            mine = rows[rows["effect"] == effect]
            some = mine[mine.index % 5 == 0]
            axis.errorbar(
                some["p_first_correct"].to_numpy(),
                some["stationary_accuracy"].to_numpy(),
                # A mean of a very skewed posterior may lie outside its central interval.
                xerr=[
                    (some["p_first_correct"] - some["p_first_correct_low"]).clip(0).to_numpy(),
                    (some["p_first_correct_high"] - some["p_first_correct"]).clip(0).to_numpy(),
                ],
                yerr=[
                    (some["stationary_accuracy"] - some["stationary_accuracy_low"]).clip(0).to_numpy(),
                    (some["stationary_accuracy_high"] - some["stationary_accuracy"]).clip(0).to_numpy(),
                ],
                fmt="none",
                color=colour,
                alpha=0.3,
                elinewidth=0.7,
            )
            label = f"{effect}: {len(mine)} of {len(rows)} questions"
            axis.plot(mine["p_first_correct"], mine["stationary_accuracy"], marker, color=colour, ms=4.5, alpha=0.8, label=label)
        axis.plot(rows["p_first_correct"].mean(), rows["stationary_accuracy"].mean(), "+", color="black", ms=14, mew=2)
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1)
        axis.set_xlabel("chance of a correct first answer, p0")
        axis.set_ylabel("accuracy that re-answering tends to, π")
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, handletextpad=0.2, columnspacing=1.0)
