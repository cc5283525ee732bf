"""The tables of docs/public_pools.md and docs/choices.md: every rule on one half of a pool, its settings from the other half.

    itscale import SAMPLES --split 0.5 --part calibration --out pools/NAME/calibration
    itscale import SAMPLES --split 0.5 --part test --out pools/NAME/test
    python docs/measure_pools.py pools/NAME

The first table has settings fixed beforehand (published, or ours where nothing is published) and calibrated ones on the test
half; the second what each criterion chose, on either half, and what that lost on the other.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from itscale.cli.advising import Cells
from itscale.data.records import Pool, Unit, read_any_pool
from itscale.drivers.expectation import question_means, replayed
from itscale.drivers.limits import limit_setting
from itscale.drivers.replay import replay
from itscale.errors import UserError
from itscale.policies import POLICIES, make_policy
from itscale.policies.calibration import Calibration
from itscale.policies.protocol import Policy
from itscale.studies.advice import SAME
from itscale.studies.calibrate import calibrate, known_from_pools, reference
from itscale.studies.criterion import Criterion, Verdict
from itscale.studies.grids import GRIDS, fixed_beforehand
from itscale.studies.methods import Method, within_pools
from itscale.theory.intervals import SHARE, Interval, mean_interval, paired_difference


@dataclass(frozen=True, slots=True)
class Measured:
    """A bound rule on a half: samples and tokens a question, accuracy, and what both are against the fixed N of its family."""

    samples: float
    tokens: float
    accuracy: Interval
    difference: Interval | None  # None of the fixed N itself
    saved: float


def rules(pool: Pool, limits: list[int]) -> list[Method]:
    """Every rule on samples with its grid, under each limit that the pool has."""
    found = []
    for rule in POLICIES.values():
        if rule.policy.unit is not Unit.SAMPLE or getattr(rule.policy, "replay_only", False) or rule.slug in SAME:
            continue
        sizes = [n for n in sorted({min(n, pool.size) for n in limits}) if exists(rule.slug, n)]
        if sizes:
            sweep = {limit_setting(rule.policy): sizes}
            found.append(Method(rule.name, rule.slug, sweep=sweep, grid=GRIDS.get(rule.slug, {})))
    return within_pools(found, {Unit.SAMPLE: pool})[0]


def exists(slug: str, limit: int) -> bool:
    """Whether a rule has that limit: the paper's OptScale has no peek for 10 samples."""
    try:
        return bool(make_policy(slug, **{limit_setting(POLICIES[slug].policy): limit}))
    except UserError:
        return False


def measure(policy: Policy, known: Calibration, pool: Pool, orders: int) -> Measured:
    """Replay a rule, what it reads of a calibration split bound to it, and the fixed N beside it."""

    outcomes, beside = (replay(each, pool, orders=orders, seed=0) for each in (policy.bind(known), reference(policy)))
    # Differences are of replays on the same orders, as in every run's main table.
    mine, theirs = (replayed(each, len(pool.problem_ids)) for each in (outcomes, beside))
    spent = float(mine.ledger.completion.mean())
    return Measured(
        float(outcomes.drawn.mean()),
        spent,
        mean_interval(question_means(policy, pool, outcomes).accuracy, SHARE),
        None if policy == reference(policy) else paired_difference(mine.accuracy, theirs.accuracy, SHARE),
        1 - spent / float(theirs.ledger.completion.mean()),
    )


def chosen(methods: list[Method], pool: Pool, known: Calibration, orders: int, criterion: Criterion) -> list[dict[str, Any]]:
    """What a criterion chose of each rule that has a choice."""
    able = [method for method in methods if method.chooses]
    return calibrate(able, {Unit.SAMPLE: pool}, known, orders=orders, seed=0, criterion=criterion)


def said(values: dict[str, Any]) -> str:
    """Settings in a cell."""
    return " ".join(f"{name}={value:g}" for name, value in values.items())


def rule_rows(methods: list[Method], records: list[dict[str, Any]], known: Calibration, pool: Pool, orders: int) -> pd.DataFrame:
    """Each rule at the pool's size, as fixed beforehand and as calibrated."""
    rows = []
    for method in methods:
        limit = {limit_setting(POLICIES[method.policy].policy): pool.size}
        cases = [("", fixed_beforehand(method.policy))]
        cases += [
            (" (calibrated)", each["hyperparameters"])
            for each in records
            if each["slug"] == method.slug and each["settings"] == limit and each["hyperparameters"] != cases[0][1]
        ]
        for how, settings in cases:
            found = measure(make_policy(method.policy, **limit, **settings), known, pool, orders)
            rows.append(
                {
                    "Rule": method.name + how,
                    "Settings": said(settings),
                    "Samples": f"{found.samples:.2f}",
                    "Accuracy (%)": Cells(100, 1).of(found.accuracy),
                    "Against fixed N (points)": "–" if found.difference is None else Cells(100, 1).of(found.difference),
                    "Tokens": f"{found.tokens:.0f}",
                    "Saved": f"{100 * found.saved:.0f} %",
                }
            )
    return pd.DataFrame(rows)


def choice_rows(
    methods: list[Method], halves: list[Pool], names: tuple[str, str], known: list[Calibration], orders: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What `point` and `interval` chose on each half and lost on the other; and that of all choices together."""
    rows, points = [], []
    for here, there in ((0, 1), (1, 0)):
        both = [chosen(methods, halves[here], known[here], orders, c) for c in (Criterion.POINT, Criterion.INTERVAL)]
        for before, after in zip(*both, strict=True):
            row = {"calibrated on": f"{len(halves[here].problem_ids)} ({names[here]})", "rule": f"`{before['slug']}`"}
            row["N"] = str(next(iter(before["settings"].values())))
            found = []
            for when, record in (("before", before), ("after", after)):
                policy = make_policy(record["policy"], **record["settings"], **record["hyperparameters"])
                found.append(measure(policy, known[here], halves[there], orders))
                star = "*" if record["verdict"] == Verdict.TOO_FEW and when == "after" else ""
                row[when] = said(record["hyperparameters"]) + star
                row[f"difference, {when} (points)"] = Cells(100, 1).of(found[-1].difference)
                row[f"saved, {when}"] = f"{100 * found[-1].saved:.0f} %"
            rows.append(row)
            points.append([(f.difference.mean, f.difference.high, f.tokens) for f in found])
    found = np.array(points)
    loss = -100 * found[:, :, 0]
    clear = (loss > 1) & (found[:, :, 1] < 0)
    total = {"choices": len(rows)}
    for i, when in enumerate(("before", "after")):
        total |= {
            f"lost on average (points), {when}": f"{loss[:, i].mean():.1f}",
            f"largest loss, {when}": f"{loss[:, i].max():.1f}",
        }
        total[f"more than 1 point, interval without 0, {when}"] = str(int(clear[:, i].sum()))
    total["tokens, after against before"] = f"{100 * (found[:, 1, 2] / found[:, 0, 2] - 1).mean():+.0f} %"
    return pd.DataFrame(rows), pd.DataFrame([total])


def main(
    folder: Annotated[Path, typer.Argument(help="Folder with the pools `calibration` and `test`, halves of one.")],
    orders: Annotated[int, typer.Option(min=1, help="Orders a question.")] = 20,
    limit: Annotated[list[int] | None, typer.Option(help="Limits of samples beside the pool's size; may be repeated.")] = None,
) -> None:
    """Print the tables of one pool."""
    names = ("calibration", "test")
    halves = [read_any_pool(folder / name) for name in names]
    if any(half.unit is not Unit.SAMPLE for half in halves):
        raise SystemExit(f"{folder} holds chains, and these tables are of samples: see docs/public_pools.md.")
    known = [known_from_pools({Unit.SAMPLE: half}, strata=4, strength=10.0) for half in halves]
    methods = rules(halves[0], [*(limit or []), halves[0].size])
    whole = rules(halves[0], [halves[0].size])
    records = chosen(whole, halves[0], known[0], orders, Criterion.INTERVAL)
    shown = rule_rows(whole, records, known[0], halves[1], orders)
    choices, total = choice_rows(methods, halves, names, known, orders)
    for table in (shown, total, choices):
        print(table.to_markdown(index=False, disable_numparse=True), end="\n\n")


if __name__ == "__main__":
    typer.run(main)
