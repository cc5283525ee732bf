"""What the filter believes of six chains, round by round."""

import textwrap
from pathlib import Path

import pandas as pd

from itscale.figures.style import COLOURS, figure

CAPTION = (
    "Six chains of the {benchmark} benchmark as the filter sees them, of those whose posterior moves: from the least moving to "
    "the most, at even steps of their rank, each with its question and gold answer. Lines: probability that each round's answer "
    "is correct, from the rounds up to it (filtered) and from all rounds (smoothed). Marks on the smoothed line: filled where "
    "the answer was correct, hollow where it was wrong; small crosses: verifier score. Below: what each round answered, in "
    "black where it changed. Vertical line: the filter stops there; star: the round that it answers with."
)
_COLUMNS, _ANSWER, _QUESTION = 3, 8, 84  # letters shown of an answer and of a question
_VERBATIM = {"parse_math": False}  # texts of a model are no markup


def _shortened(text: object, letters: int) -> str:
    if isinstance(text, float) and text.is_integer():
        text = int(text)  # a column of a CSV table in which one answer is missing holds floats
    text = "none" if text is None or text != text else " ".join(str(text).split())
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def draw(traces: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`traces`: what `itscale step markovscale` wrote, a row per chain and round."""
    chains = list(traces[traces["benchmark"] == benchmark].groupby("chain", sort=False))
    rows = max(1, -(-len(chains) // _COLUMNS))
    with figure(out, CAPTION.format(benchmark=benchmark), _COLUMNS, 10, 0.4 + 3 * rows, rows) as (fig, axes):
        for index, (axis, (name, group)) in enumerate(zip(axes, chains, strict=False)):
            t = group["round"]
            axis.plot(t, group["filtered"], "--", color=COLOURS[4], lw=1.2, label="filtered")
            axis.plot(t, group["smoothed"], "-", color=COLOURS[0], lw=1.4, label="smoothed")
            for right, face, label in ((True, COLOURS[0], "correct"), (False, "white", "wrong")):
                mine = group[group["correct"] == right]
                axis.plot(
                    mine["round"].to_numpy(), mine["smoothed"].to_numpy(), "o", color=COLOURS[0], mfc=face, ms=5, label=label
                )
            axis.plot(t, group["score"], "x", color="0.45", ms=4, label="score")
            axis.vlines(group["stop"].iloc[0], 0, 1.14, color=COLOURS[1], lw=1, label="stop")
            answered = group[t == group["answered_with"]]
            axis.plot(answered["round"].to_numpy(), [1.07] * len(answered), "*", color=COLOURS[1], ms=8, label="answered with")
            previous = None
            longest = max(len(_shortened(answer, _ANSWER)) for answer in group["answer"])
            turn = {"rotation": 45, "ha": "right"} if longest > 3 else {"ha": "center"}
            for at, answer in zip(t, group["answer"], strict=True):
                shown = _shortened(answer, _ANSWER)
                colour = "0.6" if answer == previous else "black"
                axis.text(at, -0.06, shown, color=colour, fontsize=7, va="top", **turn, **_VERBATIM)
                previous = answer
            title = f"{_shortened(group['question'].iloc[0], _QUESTION)} (gold {_shortened(group['gold'].iloc[0], _ANSWER)})"
            question = group["question"].iloc[0]
            title = title if question and question == question else name
            axis.set_title(textwrap.fill(title, 46), fontsize=8, **_VERBATIM)
            axis.set_ylim(-0.24, 1.14)
            axis.set_yticks([0, 0.25, 0.5, 0.75, 1])
            axis.set_xlim(t.min() - 0.5, t.max() + 0.5)
            axis.set_xticks(t)
            axis.set_xlabel("round")
            axis.set_ylabel("P(correct), score" if index % _COLUMNS == 0 else "")
        for axis in axes[len(chains) :]:
            axis.set_visible(False)
        handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        fig.legend(handles.values(), handles.keys(), loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=7)
