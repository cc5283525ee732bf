"""Sequential methods beside the first answer alone, and beside parallel samples that cost as many tokens (docs/optscale.md)."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from itscale.data.records import Pool, Unit
from itscale.data.tables import OWN, drawn_cells, interval_cells
from itscale.drivers.expectation import expected
from itscale.drivers.replay import per_problem, replay
from itscale.errors import UserError
from itscale.policies.fixed import BestOfN, MultiRoundThinking, SelfConsistency
from itscale.policies.protocol import Policy
from itscale.studies.compare import compare
from itscale.theory.intervals import SHARE, mean_interval, paired_difference

PARALLEL = {"self-consistency": SelfConsistency, "best-of-N": BestOfN}
# What is held equal, and how the table's columns of it end: the prompt is paid again in each round, but decoding takes the time.
EQUAL = {"total": "", "completion": " at equal completion"}


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy and tokens (of one kind) per problem of a parallel method at each number of samples, [N, P]."""

    accuracy: np.ndarray
    tokens: np.ndarray

    def at(self, tokens: float) -> np.ndarray:
        """Accuracy per problem [P] where the method may spend `tokens` per problem on average.

        Between two numbers of samples it draws the one or the other by chance, so that it spends exactly as much; below
        one sample and beyond the pool it is at the nearest end.
        """
        spent = self.tokens.mean(1)
        n = int(np.clip(np.searchsorted(spent, tokens, side="right") - 1, 0, max(len(spent) - 2, 0)))
        if len(spent) == 1:
            return self.accuracy[0]
        share = np.clip((tokens - spent[n]) / (spent[n + 1] - spent[n]), 0, 1)
        return (1 - share) * self.accuracy[n] + share * self.accuracy[n + 1]


def parallel_curves(rule: type[BestOfN | SelfConsistency], pool: Pool) -> dict[str, Curve]:
    """The expected curves of a parallel rule with fixed N over 1 to all samples, by the tokens that are held EQUAL."""
    found = expected(rule, pool, range(1, pool.size + 1))
    return {kind: Curve(found.accuracy, getattr(found.ledger, kind)) for kind in EQUAL}


def compare_rounds(
    policies: list[tuple[str, Policy]], pools: dict[Unit, Pool], *, benchmark: str, verifier: str = OWN
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Replay every sequential method over the chains, beside parallel samples (where there are any) at as many tokens.

    Total tokens are held equal, and completion tokens; best-of-N stands beside where there are scores.

    Returns:
        The table (a row per method: the main table's columns and more), the stops as `compare` counts them, and the curves
        of the parallel methods (method, budget, accuracy, total and completion tokens with intervals).
    """
    chains, samples = pools[Unit.ROUND], pools.get(Unit.SAMPLE)
    if samples is not None and chains.problem_ids != samples.problem_ids:
        raise UserError(
            f"the samples and the chains of {benchmark} are of different questions: give both of the same, or one of the two."
        )
    problems = len(chains.problem_ids)
    curves = {} if samples is None else {name: parallel_curves(rule, samples) for name, rule in _possible(samples).items()}
    main, stops, _ = compare(policies, pools, benchmark=benchmark, orders=1, seed=0, verifier=verifier)

    def accuracy_of(policy: Policy) -> np.ndarray:
        outcomes = replay(policy, chains)
        return per_problem(outcomes.correct, outcomes, problems)

    one = MultiRoundThinking(1)
    first = accuracy_of(one)
    rows = []
    for i, (_, policy) in enumerate(policies):
        accuracy = first if policy == one else accuracy_of(policy)
        row = paired_difference(accuracy, first, SHARE).columns("gain")
        for name, kind in product(curves, EQUAL):
            equal, label = curves[name][kind].at(main[f"{kind}_tokens"].iloc[i]), f"{name}{EQUAL[kind]}"
            gap = paired_difference(accuracy, equal, SHARE).columns(f"minus {label}")
            row |= mean_interval(equal, SHARE).columns(label) | gap
        rows.append(row)
    return pd.concat([main, pd.DataFrame(rows)], axis=1), stops, _curve_table(curves, benchmark)


def _possible(pool: Pool) -> dict[str, type[BestOfN | SelfConsistency]]:
    return {name: rule for name, rule in PARALLEL.items() if pool.scored or not rule.needs_scores}


def _curve_table(curves: dict[str, dict[str, Curve]], benchmark: str) -> pd.DataFrame:
    rows = []
    for name, by_kind in curves.items():
        for i, accuracy in enumerate(by_kind["total"].accuracy):
            row = {"benchmark": benchmark, "method": name, "budget": i + 1, **mean_interval(accuracy, SHARE).columns("accuracy")}
            for kind, curve in by_kind.items():
                row |= mean_interval(curve.tokens[i]).columns(f"{kind}_tokens")
            rows.append(row)
    ends = [
        f"{quantity}{end}" for quantity in ("accuracy", *(f"{kind}_tokens" for kind in EQUAL)) for end in ("", "_low", "_high")
    ]
    return pd.DataFrame(rows, columns=["benchmark", "method", "budget", *ends])


def markdown(table: pd.DataFrame) -> str:
    """The table for people: a row per benchmark and method, cells `mean [low, high]`.

    Parallel methods appear as differences; what they reach at as many tokens is in the CSV.
    """
    shown = pd.DataFrame(
        {
            "benchmark": table["benchmark"],
            "method": table["method"],
            "rounds drawn": drawn_cells(table),
            "accuracy (%)": interval_cells(table, "accuracy", 100, 1),
            **{
                f"against {name}, equal {kind} tokens (points)": interval_cells(table, f"minus {name}{EQUAL[kind]}", 100, 1)
                for name, kind in product(PARALLEL, EQUAL)
                if f"minus {name}{EQUAL[kind]}" in table
            },
            "against the first answer (points)": interval_cells(table, "gain", 100, 1),
            "total tokens": interval_cells(table, "total_tokens", 1, 0),
            "completion tokens": interval_cells(table, "completion_tokens", 1, 0),
            "stops by reason": table["stops"],
        }
    )
    return shown.to_markdown(index=False, disable_numparse=True) + "\n"


def equal_tokens(table: pd.DataFrame) -> str:
    """The rows of `markdown` with their differences to parallel samples of equal total tokens; empty without such."""
    found = {f"minus {name}": f"against {name} (points)" for name in PARALLEL if f"minus {name}" in table}
    if not found:
        return ""
    columns = {
        "accuracy (%)": interval_cells(table, "accuracy", 100, 1),
        "total tokens": interval_cells(table, "total_tokens", 1, 0),
    }
    columns |= {title: interval_cells(table, name, 100, 1) for name, title in found.items()}
    shown = table[["benchmark", "method"]].assign(**{"rounds drawn": drawn_cells(table), **columns})
    return shown.to_markdown(index=False, disable_numparse=True) + "\n"
