"""Sequential methods beside the first answer alone, and beside parallel samples that cost as many tokens (METHODS section 5)."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from itscale.compare import compare
from itscale.intervals import Interval, mean_interval, paired_difference
from itscale.policies import make_policy
from itscale.policies.protocol import Policy
from itscale.records import Pool, Unit
from itscale.replay import per_problem, replay
from itscale.tables import interval_cells

PARALLEL = {"self-consistency": "self_consistency", "best-of-N": "best_of_n"}


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy and total tokens per problem of a parallel method at each number of samples, [N, P]."""

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


def parallel_curve(policy: str, pool: Pool, *, orders: int, seed: int) -> Curve:
    """The curve of a fixed-budget parallel policy over 1 to all samples."""
    accuracy, tokens = [], []
    for n in range(1, pool.size + 1):
        outcomes = replay(make_policy(policy, n=n), pool, orders=orders, seed=seed)
        accuracy.append(per_problem(outcomes.correct, outcomes, len(pool.problem_ids)))
        tokens.append(per_problem(outcomes.ledger.total, outcomes, len(pool.problem_ids)))
    return Curve(np.array(accuracy), np.array(tokens))


def compare_rounds(
    policies: list[tuple[str, Policy]], pools: dict[Unit, Pool], *, benchmark: str, orders: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Replay every sequential method over the chains, beside parallel samples at as many total tokens.

    Returns:
        The table (a row per method: the main table's columns and more), the stops as `compare` counts them, and the curves
        of the parallel methods (method, budget, accuracy and total tokens with intervals).
    """
    chains, samples = pools[Unit.ROUND], pools[Unit.SAMPLE]
    if chains.problem_ids != samples.problem_ids:
        raise ValueError(f"{benchmark}: the two pools hold different problems")
    problems = len(chains.problem_ids)
    curves = {name: parallel_curve(policy, samples, orders=orders, seed=seed) for name, policy in PARALLEL.items()}
    main, stops = compare(policies, pools, benchmark=benchmark, orders=orders, seed=seed)

    def accuracy_of(policy: Policy) -> np.ndarray:
        outcomes = replay(policy, chains)
        return per_problem(outcomes.correct, outcomes, problems)

    first = accuracy_of(make_policy("mr_thinking", rounds=1))
    rows = []
    for (_, policy), tokens in zip(policies, main["total_tokens"], strict=True):
        accuracy = accuracy_of(policy)
        row = _cells("gain", paired_difference(accuracy, first))
        for name, curve in curves.items():
            equal = curve.at(tokens)
            row |= _cells(name, mean_interval(equal)) | _cells(f"minus {name}", paired_difference(accuracy, equal))
        rows.append(row)
    return pd.concat([main, pd.DataFrame(rows)], axis=1), stops, _curve_table(curves, benchmark)


def _cells(name: str, value: Interval) -> dict[str, float]:
    return {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}


def _curve_table(curves: dict[str, Curve], benchmark: str) -> pd.DataFrame:
    rows = []
    for name, curve in curves.items():
        for n, (accuracy, tokens) in enumerate(zip(curve.accuracy, curve.tokens, strict=True), start=1):
            label = {"benchmark": benchmark, "method": name, "budget": n}
            rows.append({**label, **_cells("accuracy", mean_interval(accuracy)), **_cells("total_tokens", mean_interval(tokens))})
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """The table for people: a row per benchmark and method, cells `mean [low, high]`."""

    shown = pd.DataFrame(
        {
            "benchmark": table["benchmark"],
            "method": table["method"],
            "rounds used": [f"{used:.1f} of {budget}" for used, budget in zip(table["used"], table["budget"], strict=True)],
            "accuracy (%)": interval_cells(table, "accuracy", 100, 1),
            "against the first answer (points)": interval_cells(table, "gain", 100, 1),
            "total tokens": interval_cells(table, "total_tokens", 1, 0),
            **{f"{name} at as many tokens (%)": interval_cells(table, name, 100, 1) for name in PARALLEL},
            **{f"against {name} (points)": interval_cells(table, f"minus {name}", 100, 1) for name in PARALLEL},
            "stops by reason": table["stops"],
        }
    )
    return shown.to_markdown(index=False, disable_numparse=True) + "\n"
