"""The tables: every method on a benchmark, its accuracy and tokens with intervals, and its stops by reason."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from itscale.data.ledger import Price
from itscale.data.records import Pool, Unit
from itscale.data.tables import NONE, OWN
from itscale.drivers.expectation import Means, expected, pass_at, question_means, replayed
from itscale.drivers.replay import Outcomes, reason_shares, replay
from itscale.policies.consistency import mean_scores
from itscale.policies.fixed import BestOfN, SelfConsistency
from itscale.policies.protocol import Policy, Reason, depends_on_verifier
from itscale.studies.calibrate import reference
from itscale.theory import truncnormal
from itscale.theory.intervals import SHARE, difference_intervals, mean_interval, paired_difference


def compare(
    policies: list[tuple[str, Policy]],
    pools: dict[Unit, Pool],
    *,
    benchmark: str,
    orders: int,
    seed: int,
    verifier: str = OWN,
    price: Price | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Replay every bound policy on a benchmark's pools, which are scored by `verifier`.

    With a price, what the generator's tokens cost is a column (`dollars`).

    Returns:
        The main table (a row per method and budget), the stops (a row per method, budget, samples drawn and reason), and the
        accuracy of each of the main table's rows on each question [rows, Q], over the orders of the replay; NaN where the row's
        pool lacks the question.
    """
    fixed = cache(lambda policy: replay(policy, pools[policy.unit], orders=orders, seed=seed))
    rows, stops, accuracy = [], [], []
    for method, policy in policies:
        pool, full = pools[policy.unit], fixed(reference(policy))
        outcomes = full if policy == reference(policy) else replay(policy, pool, orders=orders, seed=seed)
        scored_by = verifier if depends_on_verifier(policy) else NONE
        label = {
            "benchmark": benchmark,
            "method": method,
            "verifier": scored_by,
            "unit": str(policy.unit),
            "budget": policy.limit,
        }
        rows.append({**label, "family": policy.family, **summary(question_means(policy, pool, outcomes), outcomes, full, price)})
        stops.append(_stops(outcomes).assign(**label))
        accuracy.append(pd.Series(replayed(outcomes, len(pool.problem_ids)).accuracy, pool.problem_ids))
    return pd.DataFrame(rows), pd.concat(stops, ignore_index=True), pd.DataFrame(accuracy).reset_index(drop=True)


def against_fixed(main: pd.DataFrame, accuracy: pd.DataFrame) -> pd.DataFrame:
    """Every row of a main table against every fixed N that reads the same scores or none: paired differences with intervals.

    Args:
        accuracy: of each row on each question [rows, Q], as `compare` returns it; pairs are the questions that both have.

    Returns:
        A row per row and fixed N: benchmark, method, verifier, budget; baseline, baseline_verifier, baseline_budget;
        accuracy_difference with _low and _high.
    """
    values, known = accuracy.to_numpy(), accuracy.notna().to_numpy()
    label, ends = ["benchmark", "method", "verifier", "budget"], [f"accuracy_difference{end}" for end in ("", "_low", "_high")]
    columns = [*label, "baseline", "baseline_verifier", "baseline_budget", *ends]
    found = []
    # Only the difference of a thing from itself has no width: such a row is a fixed N.
    for baseline in np.flatnonzero((main["accuracy_difference_low"] == 0) & (main["accuracy_difference_high"] == 0)):
        base = main.iloc[baseline]
        paired = np.full(len(main), True) if base["verifier"] == NONE else main["verifier"].isin([base["verifier"], NONE])
        for unit in main["unit"].unique():
            rows = np.flatnonzero(paired & (main["unit"] == unit))
            shared = known[rows].all(axis=0) & known[baseline]
            intervals = difference_intervals(values[rows][:, shared] - values[baseline, shared], SHARE)
            gaps = {name: np.where(rows == baseline, 0.0, each) for name, each in zip(ends, intervals, strict=True)}
            theirs = {"baseline": base["method"], "baseline_verifier": base["verifier"], "baseline_budget": base["budget"]}
            found.append(main.iloc[rows][label].assign(**theirs, **gaps))
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def summary(shown: Means, outcomes: Outcomes, full: Outcomes, price: Price | None = None) -> dict[str, Any]:
    """Accuracy and tokens as `shown`, and how the replays differ from those of the fixed N on the same orders.

    A difference of replays on the same orders is nearer the truth than one of two columns, of which one may be an expectation.
    """
    problems = len(shown.accuracy)
    row: dict[str, Any] = {"problems": problems, "samples_drawn": float(outcomes.drawn.mean())}
    row |= {"unanswered": float(outcomes.unanswered.mean()), "cut_off": float(outcomes.cut_off.mean())}
    levels, ours = _quantities(shown, price), _quantities(replayed(outcomes, problems), price)
    theirs = ours if outcomes is full else _quantities(replayed(full, problems), price)
    for name, values in levels.items():
        within = SHARE if name == "accuracy" else None
        difference = paired_difference(ours[name], theirs[name], within)
        row |= mean_interval(values, within).columns(name) | difference.columns(f"{name}_difference")
    row |= {f"{name}_tokens": float(np.mean(getattr(shown.ledger, name))) for name in ("prompt", "cached_prompt", "verifier")}
    row["stops"] = "; ".join(f"{reason} {100 * share:.0f} %" for reason, share in reason_shares(outcomes).items())
    return row


def _quantities(means: Means, price: Price | None) -> dict[str, np.ndarray]:
    ledger = means.ledger
    found = {"accuracy": means.accuracy, "completion_tokens": ledger.completion, "total_tokens": ledger.total}
    return found if price is None else {**found, "dollars": price.dollars(ledger)}


def _stops(outcomes: Outcomes) -> pd.DataFrame:
    counts = pd.DataFrame({"samples": outcomes.drawn, "reason": outcomes.reason}).value_counts().rename("count").reset_index()
    return counts.assign(reason=[str(list(Reason)[code]) for code in counts["reason"]])


def accuracy_curves(pool: Pool, *, benchmark: str, verifier: str = OWN) -> pd.DataFrame:
    """Expected accuracy of the fixed rules and pass@N for N = 1, 2, 4, ... of a parallel pool, with intervals.

    unanswered and cut_off are how many of N samples are.
    """
    numbers = [2**i for i in range(pool.size.bit_length()) if 2**i <= pool.size]
    curves = {
        **({("best-of-N", verifier): expected(BestOfN, pool, numbers).accuracy} if pool.scored else {}),
        ("self-consistency", NONE): expected(SelfConsistency, pool, numbers).accuracy,
        ("pass@N", NONE): pass_at(pool, numbers),
    }
    lost = {
        "unanswered": float((pool.cluster < 0).mean()),
        "cut_off": float(pool.cut_off.mean()) if pool.cut_off is not None else 0.0,
    }
    return pd.DataFrame(
        [
            {
                **{"benchmark": benchmark, "method": name, "verifier": by, "n": n},
                **mean_interval(values, SHARE).columns("accuracy"),
                **{kind: n * share for kind, share in lost.items()},
            }
            for n, each in zip(numbers, zip(*curves.values(), strict=True), strict=True)
            for (name, by), values in zip(curves, each, strict=True)
        ]
    )


def score_fits(pool: Pool, *, benchmark: str, verifier: str = OWN) -> pd.DataFrame:
    """All scores of three problems (quartiles of the mean score) each with its truncated normal; none without scores."""
    if not pool.scored:
        return pd.DataFrame(columns=["benchmark", "verifier", "problem_id", "score", "e1", "e2", "p_value"])
    mean = mean_scores(pool)
    order = np.argsort(mean, kind="stable")[: int((~np.isnan(mean)).sum())]
    chosen = order[[len(order) // 4, len(order) // 2, 3 * len(order) // 4]]
    frames = []
    for row in chosen:
        scores = pool.score[row][~np.isnan(pool.score[row])]
        fit = truncnormal.fit(np.array([scores.mean()]), np.array([np.mean(scores**2)]))
        problem_id = pool.problem_ids[pool.problem[row]]
        label = {"benchmark": benchmark, "verifier": verifier, "problem_id": problem_id}
        columns = {"e1": float(fit.e1[0]), "e2": float(fit.e2[0]), "p_value": fit_p_value(scores)}
        frames.append(pd.DataFrame({**label, "score": scores, **columns}))
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
