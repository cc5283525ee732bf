"""The tables: every method on a benchmark, its accuracy and tokens with intervals, and its stops by reason."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from itscale.data.records import Pool, Unit
from itscale.drivers.replay import Outcomes, per_problem, reason_shares, replay
from itscale.policies import make_policy
from itscale.policies.protocol import Policy
from itscale.studies.calibrate import reference
from itscale.theory import truncnormal
from itscale.theory.intervals import mean_interval, paired_difference


def compare(
    policies: list[tuple[str, Policy]], pools: dict[Unit, Pool], *, benchmark: str, orders: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Replay every bound policy on a benchmark's pools.

    Returns:
        The main table (a row per method and budget) and the stops (a row per method, budget, samples drawn and reason).
    """
    fixed = cache(lambda fixed: replay(fixed, pools[fixed.unit], orders=orders, seed=seed))
    rows, stops = [], []
    for method, policy in policies:
        pool = pools[policy.unit]
        outcomes = replay(policy, pool, orders=orders, seed=seed)
        full = fixed(reference(policy))
        label = {"benchmark": benchmark, "method": method, "unit": str(policy.unit), "budget": policy.limit}
        rows.append({**label, "family": policy.family, **summary(outcomes, full, len(pool.problem_ids))})
        stops.append(_stops(outcomes).assign(**label))
    return pd.DataFrame(rows), pd.concat(stops, ignore_index=True)


def summary(outcomes: Outcomes, full: Outcomes, problems: int) -> dict[str, Any]:
    row: dict[str, Any] = {"problems": problems, "samples_drawn": float(outcomes.drawn.mean())}
    ledger, baseline = outcomes.ledger, full.ledger
    quantities = {
        "accuracy": (outcomes.correct, full.correct),
        "completion_tokens": (ledger.completion, baseline.completion),
        "total_tokens": (ledger.total, baseline.total),
    }
    for name, (values, baseline_values) in quantities.items():
        ours, theirs = per_problem(values, outcomes, problems), per_problem(baseline_values, full, problems)
        row |= mean_interval(ours).columns(name) | paired_difference(ours, theirs).columns(f"{name}_difference")
    row |= {f"{name}_tokens": float(np.mean(getattr(ledger, name))) for name in ("prompt", "cached_prompt", "verifier")}
    row["stops"] = "; ".join(f"{reason} {100 * share:.0f} %" for reason, share in reason_shares(outcomes).items())
    return row


def _stops(outcomes: Outcomes) -> pd.DataFrame:
    return pd.DataFrame({"samples": outcomes.drawn, "reason": outcomes.reason}).value_counts().rename("count").reset_index()


def accuracy_curves(pool: Pool, *, benchmark: str, orders: int, seed: int) -> pd.DataFrame:
    """Accuracy of the fixed rules and pass@N against N = 1, 2, 4, ... of a parallel pool, with intervals."""
    problems = len(pool.problem_ids)
    rows = []
    for n in [2**i for i in range(pool.size.bit_length()) if 2**i <= pool.size]:
        for name, label in (("best_of_n", "best-of-N"), ("self_consistency", "self-consistency")):
            outcomes = replay(make_policy(name, n=n), pool, orders=orders, seed=seed)
            rows.append((label, n, mean_interval(per_problem(outcomes.correct, outcomes, problems))))
        rows.append(("pass@N", n, mean_interval(pass_at(pool, n))))
    return pd.DataFrame([{"benchmark": benchmark, "method": m, "n": n, **i.columns("accuracy")} for m, n, i in rows])


def pass_at(pool: Pool, n: int) -> np.ndarray:
    """Probability [R] that any of n samples drawn without replacement is correct (Chen et al. 2021, unbiased pass@k)."""
    wrong = pool.size - pool.correct.sum(axis=1)
    i = np.arange(n)
    return 1 - np.clip((wrong[:, None] - i) / (pool.size - i), 0, None).prod(axis=1)


def score_fits(pool: Pool, *, benchmark: str) -> pd.DataFrame:
    """All scores of three problems (quartiles of the mean score) with the truncated normal fitted to each."""
    mean = np.nanmean(pool.score, axis=1)
    order = np.argsort(mean, kind="stable")
    chosen = order[[len(order) // 4, len(order) // 2, 3 * len(order) // 4]]
    frames = []
    for row in chosen:
        scores = pool.score[row][~np.isnan(pool.score[row])]
        fit = truncnormal.fit(np.array([scores.mean()]), np.array([np.mean(scores**2)]))
        problem_id = pool.problem_ids[pool.problem[row]]
        columns = {"e1": float(fit.e1[0]), "e2": float(fit.e2[0]), "p_value": fit_p_value(scores)}
        frames.append(pd.DataFrame({"benchmark": benchmark, "problem_id": problem_id, "score": scores, **columns}))
    return pd.concat(frames, ignore_index=True)


def fit_p_value(scores: np.ndarray, replicates: int = 999, seed: int = 0) -> float:
    """Kolmogorov-Smirnov p-value of scores [n] against the truncated normal fitted to them; NaN if they are all the same.

    Parametric bootstrap: as many scores are drawn from the fit, fitted anew and measured. The test's own distribution is that
    of a curve fixed beforehand; a curve that was fitted to the same scores lies closer, and would hardly ever be rejected.
    """
    own, fit = _distance_to_fit(scores[None])
    if fit.degenerate[0]:
        return float("nan")
    grid = np.linspace(0, 1, 2**14 + 1)
    cdf = np.exp(truncnormal.log_cdf(grid, fit.e1[0], fit.e2[0]))
    drawn = np.interp(np.random.default_rng(seed).random((replicates, len(scores))), cdf, grid)
    return float((1 + (_distance_to_fit(drawn)[0] >= own[0]).sum()) / (1 + replicates))


def _distance_to_fit(scores: np.ndarray) -> tuple[np.ndarray, truncnormal.Fit]:
    """Largest distance [B] between the empirical CDF of each row of scores [B, n] and that of its fit, and the fits."""
    fit = truncnormal.fit(scores.mean(axis=1), (scores**2).mean(axis=1))
    cdf = np.exp(truncnormal.log_cdf(np.sort(scores, axis=1), fit.e1[:, None], fit.e2[:, None]))
    steps = np.arange(scores.shape[1] + 1) / scores.shape[1]
    return np.maximum(steps[1:] - cdf, cdf - steps[:-1]).max(axis=1), fit
