"""What a vote's guarantee is worth when wrong answers cluster."""

from pathlib import Path

import pandas as pd

from itscale.figures.style import figure, look_of

CAPTION = (
    "Simulated votes: error of the votes that stopped before the limit of 64 (left) and rollouts (right), against how "
    "strongly the wrong answers cluster on one of them: 0 is OptPO's model (ten answers, the consensus with probability "
    "0.4, the others equal), at 1 a single wrong answer is nearly as frequent as the consensus. Dashed: the nominal error "
    "of 5 %. Filled: the rule is told the true p0 and m (Bayes: all shares); hollow: it estimates them from such answers, by "
    "which clustered questions make it careful. The certified vote is told nothing and promises that of all votes at most "
    "5 % stop wrongly, which is what its line shows. Under the model all keep their promise; beyond it OptPO's tests do not. A "
    "point is missing where hardly any vote stopped."
)


def draw(table: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`table`: rule, model, clustering, error_of_stopped, rollouts, stopped, nominal; writes `out` as PDF and PNG."""
    with figure(out, CAPTION, columns=2, width=10) as (fig, axes):
        for rule in table["rule"].unique():
            for model, fill in (("told", True), ("estimated", False)):
                rows = table[(table["rule"] == rule) & (table["model"] == model)]
                if rows.empty:
                    continue
                style = look_of(rule)
                options = {
                    "linestyle": "-" if fill else ":",
                    "markerfacecolor": style["color"] if fill else "white",
                    "label": f"{rule}, {model}",
                    "markersize": 5,
                    **style,
                }
                if rows["slug"].iloc[0] == "vote_certified":  # promises something of all votes, and stops few
                    options["label"] = "certified vote, of all votes"
                    error = (rows["stopped"] * rows["error_of_stopped"]).fillna(0.0)
                else:
                    error = rows["error_of_stopped"].where(rows["stopped"] > 0.01)
                axes[0].plot(rows["clustering"], 100 * error, **options)
                axes[1].plot(rows["clustering"], rows["rollouts"], **options)
        axes[0].axhline(100 * table["nominal"].iloc[0], color="black", linestyle="--", linewidth=0.8)
        axes[0].set_ylabel("error of stopped votes (%)")
        axes[1].set_ylabel("rollouts per vote")
        for axis in axes:
            axis.set_xlabel("clustering of wrong answers")
            axis.set_ylim(bottom=0)
        handles, labels = axes[1].get_legend_handles_labels()
        fig.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
