"""What the filter believes of six chains, round by round."""

from pathlib import Path

import pandas as pd

from itscale.figures.style import COLOURS, figure

CAPTION = (
    "Six chains of the {benchmark} benchmark as the filter sees them, from those whose posterior moves least (left) to most"
    " (right), at even steps of their rank. Lines: probability that each round's answer is correct, from the rounds up to "
    "it (filtered) and from all rounds (smoothed). Marks on the smoothed line: filled where the answer was correct, hollow "
    "where it was wrong. Small crosses: verifier score. Grey ticks below: the answer changed. Vertical line: the filter "
    "stops there; star: the round that it answers with."
)


def draw(traces: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`traces`: columns benchmark, chain, round, filtered, smoothed, score, answer, correct, stop, answered_with."""
    rows = traces[traces["benchmark"] == benchmark]
    chains = list(rows.groupby("chain", sort=False))
    with figure(out, CAPTION.format(benchmark=benchmark), columns=max(len(chains), 1), width=13, height=2.9) as (fig, axes):
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
            changed = t[group["answer"] != group["answer"].shift(fill_value=group["answer"].iloc[0])].to_numpy()
            axis.plot(changed, [-0.07] * len(changed), "|", color="0.3", ms=7, label="answer changed")
            axis.axvline(group["stop"].iloc[0], color=COLOURS[1], lw=1, label="stop")
            answered = group[t == group["answered_with"]]
            axis.plot(answered["round"].to_numpy(), [1.06] * len(answered), "*", color=COLOURS[1], ms=8, label="answered with")
            axis.set_title(name.replace(", ", "\n"), fontsize=8)
            axis.set_ylim(-0.12, 1.12)
            axis.set_xticks(t[::2])
            axis.set_xlabel("round")
            axis.set_ylabel("P(correct), score" if index == 0 else "")
        handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        fig.legend(handles.values(), handles.keys(), loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=8)
