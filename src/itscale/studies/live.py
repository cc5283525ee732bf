"""What stopping early saves on a real engine, in tokens and on the clock, against the fixed N of the same family.

Also what it would cost to decide in order of arrival: an engine that runs a problem's samples together delivers short ones first.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from itscale.data.ledger import Price
from itscale.data.records import Pool, Problem, Unit
from itscale.drivers.assess import OwnScore, Scorer
from itscale.drivers.driver import right_answers
from itscale.drivers.live import Run, solve
from itscale.drivers.replay import orders_of, per_problem, replay
from itscale.engines import EngineSettings, open_engine
from itscale.engines.protocol import Engine, Sampling
from itscale.errors import UserError
from itscale.grading.comparison import Comparer
from itscale.grading.settings import Grading
from itscale.policies import POLICIES
from itscale.policies.protocol import Policy
from itscale.progress import progress
from itscale.studies.calibrate import reference
from itscale.theory.intervals import ITSELF, SHARE, mean_interval, paired_difference, ratio_interval


@dataclass(frozen=True, slots=True)
class Bench:
    """The engine and what every run on it shares; no run finds what another has drawn or compared."""

    engine: Engine
    sampling: Sampling
    verifier: Scorer | None
    predictions: pd.DataFrame | None = None
    seed: int = 0
    chains: int = 1
    prefetch: int = 8
    grading: Grading = field(default_factory=Grading)
    allow_unanswered: bool = True  # the tables count them
    price: Price | None = None
    confidence: OwnScore | None = None

    def run(self, problems: list[Problem], policy: Policy) -> Run:
        options = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("engine", "price")}
        if hasattr(self.engine, "drop_caches"):
            self.engine.drop_caches()
        with Comparer(self.grading) as comparer:
            comparer.start()
            return solve(problems, self.engine, policy, comparer=comparer, shown=False, **options)


def study(
    problems: list[Problem], policies: list[tuple[str, Policy]], bench: Bench, engine: str, alone: bool = True
) -> pd.DataFrame:
    """A row per fixed N and per policy, all on the same problems with the same seeds.

    Time is read twice, on one half of the problems and then, in reverse order of the policies, on the other half, so that a
    machine whose load drifts does not favour one of them; the two readings are the ends beside a saving of time. The clock says
    something only if nothing else runs on the machine: without `alone`, seconds and wall_ columns are empty.

    Columns: engine, method, family, unit, budget, problems, samples_drawn, of these unanswered and cut_off; per problem
    accuracy, its paired difference to fixed N (accuracy_difference), tokens_drawn (completion tokens, those of no use included),
    each with _low and _high, and prefetched_tokens, aborted_tokens, verifier_tokens; seconds; against fixed N token_saving (with
    _low and _high) and wall_saving (_low and _high: the two readings), both as shares, and wall_per_token, their ratio; the same
    of this process's processor time (for an engine on the CPU: what the clock would say if nothing else ran);
    milliseconds per decision, and per abort (median and 95th percentile) from the arrival of the deciding sample. Where tokens
    have a price: dollars per problem, with _low and _high.
    """
    bench.run(problems[:4], policies[0][1])  # warms the engine up
    # A fixed N is run once, before the first policy that it stands beside; policies that hold arrays have no hash.
    places: dict[Policy, int] = {}
    asked: list[Policy] = []
    for _, policy in policies:
        if (whole := reference(policy)) not in places:
            places[whole] = len(asked)
            asked.append(whole)
        asked.append(policy)
    halves = [half for half in (problems[::2], problems[1::2]) if half]
    runs: list[list[Run]] = [[] for _ in asked]
    with progress(description="live", unit="run", total=len(halves) * len(asked)) as bar:
        for half, order in zip(halves, (range(len(asked)), reversed(range(len(asked)))), strict=False):
            for place in order:
                runs[place].append(bench.run(half, asked[place]))
                bar.update()
    rows, names = [], iter(name for name, _ in policies)
    with Comparer(bench.grading) as comparer:
        for place, policy in enumerate(asked):
            fixed = place in places.values()
            whole = runs[place] if fixed else runs[places[reference(policy)]]
            method = POLICIES[policy.family].name if fixed else next(names)
            rows.append(_row(method, policy, runs[place], whole, comparer, bench.price))
    clock = [] if alone else ["seconds", *(name for name in rows[0] if name.startswith("wall_"))]
    return pd.DataFrame(rows).assign(engine=engine, **dict.fromkeys(clock, np.nan))


def _time_saved(seconds: list[float], whole: list[float], name: str) -> dict[str, float]:
    """The share of some runs' time that was saved, and the least and the most among the single runs."""
    readings = [1 - mine / theirs for mine, theirs in zip(seconds, whole, strict=True)]
    return {name: 1 - sum(seconds) / sum(whole), f"{name}_low": min(readings), f"{name}_high": max(readings)}


def _row(
    method: str, policy: Policy, runs: list[Run], wholes: list[Run], comparer: Comparer, price: Price | None
) -> dict[str, Any]:
    drawn, full = (_per_problem(r, lambda run: [row.ledger.drawn for row in run.rows]) for r in (runs, wholes))
    right, theirs = (_per_problem(r, lambda run: right_answers(run.rows, comparer)) for r in (runs, wholes))
    saving = ITSELF if runs is wholes else ratio_interval(full - drawn, full)
    times = {name: [[getattr(run.clock, name) for run in of] for of in (runs, wholes)] for name in ("total", "processor")}
    latencies = 1000 * np.array([value for run in runs for value in run.clock.abort_latency] or [np.nan])
    of = [row for run in runs for row in run.rows]
    row: dict[str, Any] = {"method": method, "family": policy.family, "unit": str(policy.unit), "budget": policy.limit}
    row |= {"problems": len(drawn), "samples_drawn": float(np.mean([len(r.samples) for r in of]))}
    row |= {name: sum(getattr(run, name) for run in runs) / len(of) for name in ("unanswered", "cut_off")}
    row |= mean_interval(right, SHARE).columns("accuracy") | mean_interval(drawn).columns("tokens_drawn")
    row |= paired_difference(right, theirs, SHARE).columns("accuracy_difference")
    for name in ("prefetched", "aborted", "verifier"):
        row[f"{name}_tokens"] = float(np.mean([getattr(r.ledger, name) for r in of]))
    if price is not None:
        row |= mean_interval(_per_problem(runs, lambda run: [price.dollars(r.ledger) for r in run.rows])).columns("dollars")
    row |= {"seconds": sum(times["total"][0]), **saving.columns("token_saving")}
    row |= _time_saved(*times["total"], "wall_saving")
    row |= {"wall_per_token": row["wall_saving"] / saving.mean if saving.mean > 0 else np.nan}
    row |= {"processor_seconds": sum(times["processor"][0]), **_time_saved(*times["processor"], "processor_saving")}
    row |= {"decision_ms": 1000 * sum(r.clock.deciding for r in runs) / max(1, sum(r.clock.decisions for r in runs))}
    return row | {"abort_ms": float(np.median(latencies)), "abort_ms_95": float(np.quantile(latencies, 0.95))}


def _per_problem(runs: list[Run], values: Callable[[Run], list[float]]) -> np.ndarray:
    """Mean over the chains of each problem, one run's problems after the other's."""
    found = []
    for run in runs:
        chains = 1 + max(row.chain for row in run.rows)
        found.append(np.asarray(values(run), float).reshape(-1, chains).mean(axis=1))
    return np.concatenate(found)


def arrival_order(tokens: np.ndarray, slots: int) -> np.ndarray:
    """Order [K] in which samples of `tokens` [K] finish when `slots` run at once, a token each per step, freed slots refilled."""
    running = [(int(t), i) for i, t in enumerate(tokens[:slots])]
    heapq.heapify(running)
    order = []
    waiting = iter(range(slots, len(tokens)))
    while running:
        now, i = heapq.heappop(running)
        order.append(i)
        if (following := next(waiting, None)) is not None:
            heapq.heappush(running, (now + int(tokens[following]), following))
    return np.array(order)


def arrival_bias(pool: Pool, policies: list[tuple[str, Policy]], *, slots: int, orders: int, seed: int) -> pd.DataFrame:
    """What each policy over samples does on the same random orders in order of submission and in order of arrival.

    Returns:
        Rows with method, budget, and per order (submission, arrival) accuracy, samples_drawn, of these unanswered and cut_off,
        and tokens_per_sample; accuracy_difference and samples_drawn_difference (arrival - submission) with _low and _high over
        problems.
    """
    row = np.repeat(np.arange(pool.rows), orders)
    submitted = _reordered(pool, row, orders_of(pool, orders, seed).reshape(-1, pool.size))
    arrivals: dict[int, Pool] = {}
    rows, problems = [], len(pool.problem_ids)
    for method, policy in policies:
        if policy.unit is not Unit.SAMPLE or policy.limit > pool.size:
            continue
        record: dict[str, Any] = {"method": method, "budget": policy.limit}
        if policy.limit not in arrivals:  # what is submitted ends there
            moved = np.stack([arrival_order(tokens[: policy.limit], slots) for tokens in submitted.completion_tokens])
            arrivals[policy.limit] = _reordered(submitted, np.arange(len(row)), moved)
        found = {}
        for name, source in (("submission", submitted), ("arrival", arrivals[policy.limit])):
            outcomes = replay(policy, source, orders=1)
            found[name] = [per_problem(values, outcomes, problems) for values in (outcomes.correct, outcomes.drawn)]
            record |= {f"accuracy_{name}": found[name][0].mean(), f"samples_drawn_{name}": found[name][1].mean()}
            record |= {f"{kind}_{name}": getattr(outcomes, kind).mean() for kind in ("unanswered", "cut_off")}
            record[f"tokens_per_sample_{name}"] = outcomes.ledger.completion.sum() / outcomes.drawn.sum()
        for part, (name, within) in enumerate({"accuracy": SHARE, "samples_drawn": (1, policy.limit)}.items()):
            gap = paired_difference(found["arrival"][part], found["submission"][part], within)
            record |= gap.columns(f"{name}_difference")
        rows.append(record)
    measured = ("accuracy", "samples_drawn", "unanswered", "cut_off", "tokens_per_sample")
    of = [f"{name}_{order}" for order in ("submission", "arrival") for name in measured]
    ends = [f"{name}_difference{end}" for name in ("accuracy", "samples_drawn") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["method", "budget", *of, *ends])


def _reordered(pool: Pool, row: np.ndarray, order: np.ndarray) -> Pool:
    """Rows of a pool, each with its columns in an order of its own."""
    picked = pool.subset(row)
    matrices = {f.name: getattr(picked, f.name) for f in fields(picked)}
    moved = {
        name: np.take_along_axis(v, order, axis=1) for name, v in matrices.items() if isinstance(v, np.ndarray) and v.ndim == 2
    }
    return replace(picked, **moved)


def adaptive(policies: list[tuple[str, Policy]], names: list[str], budget: int) -> list[tuple[str, Policy]]:
    """The named methods at one budget of samples (rules over rounds keep their own).

    Raises:
        UserError: a name that the calibration does not have at this budget.
    """
    missing = [m for m in names if not any(m == name and (p.unit is Unit.ROUND or p.limit == budget) for name, p in policies)]
    if missing:
        raise UserError(f"live.methods names {missing[0]!r}, which the calibration does not have at a budget of {budget}.")
    return [(m, p) for m, p in policies if m in names and (p.unit is Unit.ROUND or p.limit == budget)]


def study_engines(
    problems: list[Problem],
    policies: list[tuple[str, Policy]],
    *,
    engine: EngineSettings,
    names: list[str],
    verifier: Scorer | None,
    prefetch: int,
    sampling: Sampling,
    predictions: pd.DataFrame | None,
    seed: int,
    grading: Grading | None = None,
    alone: bool = True,
    confidence: OwnScore | None = None,
) -> pd.DataFrame:
    """`study` on each of several engines (by `names`) with otherwise the same settings."""
    tables = []
    for name in names:
        with open_engine(replace(engine, name=name)) as opened:
            bench = Bench(
                opened,
                sampling,
                verifier,
                predictions,
                seed,
                prefetch=prefetch,
                grading=grading or Grading(),
                price=engine.price,
                confidence=confidence,
            )
            tables.append(study(problems, policies, bench, name, alone))
    return pd.concat(tables, ignore_index=True)
