"""Budget forcing (s1, arXiv 2501.19393) beside re-answering: the same questions, chains of both kinds, equal total tokens."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from itscale.data.records import Pool
from itscale.data.tables import interval_cells
from itscale.drivers.expectation import replayed
from itscale.drivers.replay import replay
from itscale.errors import UserError
from itscale.policies import make_policy
from itscale.policies.fixed import SelfConsistency
from itscale.studies.chains.comparison import Curve, parallel_curves
from itscale.theory.intervals import SHARE, mean_interval, paired_difference

FORCED, REANSWERED = "budget forcing", "re-answering"
# Rules over a fixed number of rounds, and the setting that holds it.
RULES = {"mr_thinking": "rounds", "majority_over_rounds": "n", "best_scored_round": "n"}
_NAMES = {"mr_thinking": "last answer", "majority_over_rounds": "majority over rounds", "best_scored_round": "best-scored round"}


def beside(forced: Pool, reanswered: Pool, parallel: Pool | None, *, benchmark: str) -> pd.DataFrame:
    """A row per kind of chain, rule and number of rounds.

    Columns: accuracy, completion_tokens and total_tokens (a round pays for its prompt, which in budget forcing holds all that
    was said) with intervals; `gain` over the first answer of the same chains; `minus_reanswering` and `minus_votes`: paired
    differences to the same rule of re-answering, and to votes over parallel samples, at as many total tokens (of two numbers of
    rounds or samples the one or the other by chance, as `Curve.at`).

    Raises:
        UserError: the pools are of different questions.
    """
    pools = {FORCED: forced, REANSWERED: reanswered}
    for pool in (reanswered, *([parallel] if parallel is not None else [])):
        if pool.problem_ids != forced.problem_ids:
            raise UserError(f"the pools of {benchmark} are of different questions: draw all of them for the same.")
    votes = None if parallel is None else parallel_curves(SelfConsistency, parallel)["total"]
    rows = []
    for rule, setting in RULES.items():
        if rule == "best_scored_round" and not (forced.scored and reanswered.scored):
            continue
        curves = {kind: _curve(pool, rule, setting) for kind, pool in pools.items()}
        for kind, (curve, completion) in curves.items():
            for i, accuracy in enumerate(curve.accuracy):
                total = float(curve.tokens[i].mean())
                others: Mapping[str, np.ndarray] = {
                    "gain": curve.accuracy[0],
                    "minus_reanswering": curves[REANSWERED][0].at(total),
                    **({} if votes is None else {"minus_votes": votes.at(total)}),
                }
                row = {"benchmark": benchmark, "kind": kind, "rule": _NAMES[rule], "rounds": i + 1}
                row |= mean_interval(accuracy, SHARE).columns("accuracy")
                row |= mean_interval(completion[i]).columns("completion_tokens")
                row |= mean_interval(curve.tokens[i]).columns("total_tokens")
                for name, other in others.items():
                    row |= paired_difference(accuracy, other, SHARE).columns(name)
                rows.append(row)
    return pd.DataFrame(rows)


def _curve(pool: Pool, rule: str, setting: str) -> tuple[Curve, np.ndarray]:
    """Accuracy and total tokens of a rule at 1, 2, ... rounds, and its completion tokens [N, P]."""
    means = [replayed(replay(make_policy(rule, **{setting: n}), pool), len(pool.problem_ids)) for n in range(1, pool.size + 1)]
    accuracy, total, completion = (
        np.stack(values)
        for values in zip(*((each.accuracy, each.ledger.total, each.ledger.completion) for each in means), strict=True)
    )
    return Curve(accuracy, total), completion


def forcing_markdown(table: pd.DataFrame) -> str:
    """The same for people."""
    shown = pd.DataFrame(
        {
            "benchmark": table["benchmark"],
            "chains": table["kind"],
            "rule": table["rule"],
            "rounds": table["rounds"],
            "accuracy (%)": interval_cells(table, "accuracy", 100, 1),
            "completion tokens": interval_cells(table, "completion_tokens", 1, 0),
            "total tokens": interval_cells(table, "total_tokens", 1, 0),
            "against the first answer (points)": interval_cells(table, "gain", 100, 1),
            "against re-answering, equal total tokens": interval_cells(table, "minus_reanswering", 100, 1),
            **(
                {"against votes, equal total tokens": interval_cells(table, "minus_votes", 100, 1)}
                if "minus_votes" in table
                else {}
            ),
        }
    )
    return shown.to_markdown(index=False, disable_numparse=True) + "\n"
