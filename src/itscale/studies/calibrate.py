"""Choose every hyperparameter on the calibration split by one stated criterion, and write down what was tried.

The criterion is in criterion.py; the fixed N that a rule is held against is best-of-N, self-consistency, or the whole chain.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from itscale.data.records import Pool, Unit, read_json
from itscale.drivers.limits import Limits, Spent, with_limit
from itscale.drivers.replay import replay
from itscale.errors import UserError
from itscale.policies import make_policy
from itscale.policies.calibration import Calibration, known_of_votes
from itscale.policies.consistency import measure_difficulty
from itscale.policies.frozen import known_from_json
from itscale.policies.markovscale import fit_first_score, fit_strata
from itscale.policies.optscale import average_ends, average_moments, score_quantiles
from itscale.policies.protocol import Policy, depends_on_verifier
from itscale.policies.rounds import fit_rounds
from itscale.studies.criterion import Criterion, choose, keep_promise
from itscale.studies.densities import better_density
from itscale.studies.grids import fixed_beforehand
from itscale.studies.methods import Method, within_pools
from itscale.studies.promise import HeldOut, promised_error
from itscale.theory.intervals import SHARE, Interval, paired_difference

# Ends of a grid beyond which there is nothing, or one sample.
_ENDS = {"cost": 0.0, "tau": 1.0, "share": 1.0, "lead": 2, "threshold": 0.8, "window": 2}
# The fixed N of each family, and the setting that holds its limit.
REFERENCES = {"best_of_n": "n", "self_consistency": "n", "mr_thinking": "rounds"}


def reference(policy: Policy) -> Policy:
    """The fixed-budget policy of the same family with the same limit."""
    return make_policy(policy.family, **{REFERENCES[policy.family]: policy.limit})


def measure(policy: Policy, pools: dict[Unit, Pool], orders: int, seed: int) -> tuple[float, float]:
    """Mean accuracy and mean completion tokens of a bound policy on the calibration pools."""
    outcomes = replay(policy, pools[policy.unit], orders=orders, seed=seed)
    return float(outcomes.correct.mean()), float(np.mean(outcomes.ledger.completion))


def calibrate(
    methods: list[Method],
    pools: dict[Unit, Pool],
    known: Calibration,
    *,
    orders: int,
    seed: int,
    criterion: Criterion = Criterion.INTERVAL,
) -> list[dict[str, Any]]:
    """One record per method and swept variant: the chosen hyperparameters, every candidate's measurement, the reference's.

    Returns:
        JSON-ready records with keys method, slug, policy, settings, hyperparameters, candidates; where there was a choice also
        reference_accuracy, accuracy, difference (with _low, _high), saving, unanswered and cut_off (of the samples drawn, a mean
        per question), verdict, excluded (the loss that the split can exclude at best) and edge (hyperparameters at an end of
        their grid); of a rule with a promise also promised_error and measured_error (with _low, _high).
    """
    limits = {unit: Limits(pool, orders=orders, seed=seed) for unit, pool in pools.items()}

    @cache
    def held_out() -> HeldOut:  # few rules promise an error, and these count votes of samples
        return HeldOut(pools[Unit.SAMPLE], orders, seed)

    def erring(policy: Policy) -> Interval:
        return held_out().error(policy, known)

    def recorded(method: Method, settings: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
        own = {"method": method.name, "slug": method.slug, "policy": method.policy, "settings": settings}
        return {**own, **chosen, **_promise(method, {**settings, **chosen["hyperparameters"]}, pools, erring)}

    records = []
    for method in methods:
        if method.chooses:
            measured = _measured(method, limits, known)
            records += [recorded(method, each.settings, _chosen(method, each, criterion, erring)) for each in measured]
        else:  # nothing is read of the calibration split, so that its size is no limit
            for settings in [*method.variants(), *method.beyond()]:
                ((only, _),) = method.candidates(settings)
                records.append(recorded(method, settings, {"hyperparameters": only, "candidates": []}))
    return records


@dataclass(frozen=True, slots=True)
class _Variant:
    """A swept variant of a method: what each combination of its grid gave per question."""

    settings: dict[str, Any]
    grid: list[dict[str, Any]]
    spent: list[Spent]  # of each combination, each [Q]
    reference: Spent  # of the fixed N


def _measured(method: Method, limits: dict[Unit, Limits], known: Calibration) -> list[_Variant]:
    """Replays of every combination; variants that differ in their limit only share them."""
    variants = method.variants()
    made = [method.candidates(settings) for settings in variants]
    groups: dict[str, list[int]] = {}
    for i, candidates in enumerate(made):
        largest = with_limit(candidates[0][1], max(each[0][1].limit for each in made)) if len(made) > 1 else None
        groups.setdefault(repr(largest), []).append(i)
    found: dict[int, list[Spent]] = {}
    for rows in groups.values():
        sizes = np.array([made[i][0][1].limit for i in rows])
        top = rows[int(sizes.argmax())]
        every = limits[made[top][0][1].unit]
        for policy in [reference(made[top][0][1]), *(candidate for _, candidate in made[top])]:
            spent = every.of([policy.bind(known)], sizes)
            for place, i in enumerate(rows):
                found.setdefault(i, []).append(spent.row(place))
    return [
        _Variant(
            settings,
            [chosen for chosen, _ in made[i]],
            found[i][1:],
            found[i][0],
        )
        for i, settings in enumerate(variants)
    ]


def _chosen(method: Method, variant: _Variant, criterion: Criterion, erring: Callable[[Policy], Interval]) -> dict[str, Any]:
    """The part of a record that says what was chosen, and by what; `erring` measures the error of the consensus."""
    fixed = fixed_beforehand(method.policy)
    own = [i for i, chosen in enumerate(variant.grid) if all(fixed.get(name) == value for name, value in chosen.items())]
    cost = np.array([each.completion.mean() for each in variant.spent])
    differences = np.stack([each.accuracy for each in variant.spent]) - variant.reference.accuracy
    promised = promised_error(make_policy(method.policy))
    if criterion is Criterion.PROMISE and promised is not None:
        errors = [erring(make_policy(method.policy, **variant.settings, **each)).mean for each in variant.grid]
        found = keep_promise(np.array(errors), cost, promised, differences)
    else:
        found = choose(differences, cost, criterion, own[0] if own else None)
    chosen, spent = variant.grid[found.index], variant.spent[found.index]
    difference = paired_difference(spent.accuracy, variant.reference.accuracy, SHARE)
    return {
        "hyperparameters": chosen,
        "reference_accuracy": float(variant.reference.accuracy.mean()),
        "accuracy": float(spent.accuracy.mean()),
        **difference.columns("difference"),
        "saving": float(1 - cost[found.index] / variant.reference.completion.mean()),
        "unanswered": float(spent.unanswered.mean()),
        "cut_off": float(spent.cut_off.mean()),
        "verdict": str(found.verdict),
        "excluded": found.excluded,
        "edge": [name for name, values in method.grid.items() if _at_an_end(name, chosen[name], values)],
        "candidates": [
            {"hyperparameters": each, "accuracy": float(variant.spent[i].accuracy.mean()), "completion_tokens": float(cost[i])}
            for i, each in enumerate(variant.grid)
        ],
    }


def _at_an_end(name: str, value: Any, values: list[Any]) -> bool:
    """Whether a number lies at an end of its grid beyond which others would do."""
    numbers = [v for v in values if isinstance(v, int | float)]
    return len(set(numbers)) > 2 and value in (min(numbers), max(numbers)) and value != _ENDS.get(name)


def _promise(
    method: Method, settings: dict[str, Any], pools: dict[Unit, Pool], erring: Callable[[Policy], Interval]
) -> dict[str, Any]:
    """What a rule promises of its error and, if the split is large enough for the rule, what held-out samples measured.

    Nothing of a rule that promises nothing.
    """
    policy = make_policy(method.policy, **settings)
    promised = promised_error(policy)
    if promised is None:
        return {}
    measured = erring(policy).columns("measured_error") if policy.limit <= pools[policy.unit].size else {}
    return {"promised_error": promised, **measured}


def for_verifier(methods: list[Method], pools: dict[Unit, Pool]) -> list[Method]:
    """The methods that another verifier changes and that can run on these pools: the others stand in the tables already."""
    kept, _ = within_pools(methods, pools)
    return [m for m in kept if depends_on_verifier(m.candidates(m.variants()[0])[0][1])]


def known_from_pools(pools: dict[Unit, Pool], *, strata: int, strength: float) -> Calibration:
    """What the calibration split says beforehand; a part is None where the pool or the scores that it needs are missing."""
    samples, rounds = pools.get(Unit.SAMPLE), pools.get(Unit.ROUND)
    scored = {unit: pool if pool and pool.scored else None for unit, pool in ((Unit.SAMPLE, samples), (Unit.ROUND, rounds))}
    voted = known_of_votes(samples.cluster) if samples else Calibration()
    return replace(
        voted,
        moments=average_moments(scored[Unit.SAMPLE]) if scored[Unit.SAMPLE] else None,
        ends=average_ends(scored[Unit.SAMPLE]) if scored[Unit.SAMPLE] else None,
        scores=score_quantiles(scored[Unit.SAMPLE]) if scored[Unit.SAMPLE] else None,
        density=better_density(scored[Unit.SAMPLE]) if scored[Unit.SAMPLE] else None,
        difficulty=measure_difficulty(samples) if samples else None,
        strata=fit_strata(scored[Unit.ROUND], strata) if scored[Unit.ROUND] else None,
        first_score=fit_first_score(scored[Unit.ROUND], strength) if scored[Unit.ROUND] else None,
        rounds=fit_rounds(scored[Unit.ROUND], strata) if scored[Unit.ROUND] else None,
    )


def read_calibration(path: Path, choices: int | None = None) -> dict[str, Any]:
    """What `itscale calibrate` wrote; `choices` is the m of a vote over multiple choice, in place of the estimated one.

    Raises:
        UserError: the file is missing or something else.
    """
    record = read_json(path)
    if not isinstance(record, dict) or not {"known", "methods"} <= record.keys():
        raise UserError(f"{path} is no calibration: give the file that `itscale calibrate` wrote.")
    if choices is not None:
        record["known"]["votes"]["options"] = choices
    return record


def of_verifier(record: dict[str, Any], verifier: str) -> dict[str, Any]:
    """The part of a calibration that was made with the scores of another verifier than the pools' own.

    Raises:
        UserError: there is none.
    """
    others = record.get("others", {})
    if verifier not in others:
        known = ", ".join(others) or "no other"
        raise UserError(f"the calibration knows {known} verifier beside the first, not {verifier!r}: calibrate with its scores.")
    return others[verifier]


def within_sizes(record: dict[str, Any], pools: Mapping[Unit, Pool]) -> tuple[dict[str, Any], list[str]]:
    """A calibration without the rules that these pools are too small for, or hold no such kind of; and what these are called.

    A rule that has a row at the pool's own size is not called lost.
    """
    kept, lost = [], []
    whole = set()
    for entry in record["methods"]:
        policy = make_policy(entry["policy"], **entry["settings"], **entry["hyperparameters"])
        pool = pools.get(policy.unit)
        if pool is not None and policy.limit <= pool.size:
            kept.append(entry)
            whole |= {entry["slug"]} if policy.limit == pool.size else set()
        else:
            lost.append((entry["slug"], f"{entry['slug']} of {policy.limit} {policy.unit}s"))
    lost = [said for slug, said in lost if slug not in whole]
    others = {name: within_sizes(other, pools)[0] for name, other in record.get("others", {}).items()}
    return {**record, "methods": kept, **({"others": others} if others else {})}, lost


def slugs_of(record: dict[str, Any]) -> dict[str, str]:
    """The slug of each method of a calibration file by its name."""
    return {entry["method"]: entry["slug"] for entry in record["methods"]}


def choose_published(record: dict[str, Any], pools: dict[Unit, Pool]) -> list[tuple[str, Policy | None]]:
    """(method, bound policy) with the hyperparameters that are best on these pools themselves: the papers' protocol, not ours.

    The most accurate candidate in the one order of submission, ties to the fewest completion tokens. A method without
    candidates has None.
    """
    known, methods = known_from_json(record["known"]), record["methods"]
    tried = [
        (row, make_policy(entry["policy"], **entry["settings"], **candidate["hyperparameters"]))
        for row, entry in enumerate(methods)
        for candidate in entry["candidates"]
    ]
    best: dict[int, tuple[tuple[float, float], Policy]] = {}
    for (row, policy), (accuracy, tokens) in zip(tried, _as_submitted([p for _, p in tried], known, pools), strict=True):
        if row not in best or (accuracy, -tokens) > best[row][0]:
            best[row] = (accuracy, -tokens), policy
    return [(entry["method"], best[row][1].bind(known) if row in best else None) for row, entry in enumerate(methods)]


def _as_submitted(policies: list[Policy], known: Calibration, pools: dict[Unit, Pool]) -> list[tuple[float, float]]:
    """`measure` in the one order of submission; rules on samples that differ in their limit alone share a replay."""
    found: dict[int, tuple[float, float]] = {}
    alike: dict[str, list[int]] = {}
    for i, policy in enumerate(policies):
        if policy.unit is Unit.SAMPLE:
            alike.setdefault(repr(with_limit(policy, pools[Unit.SAMPLE].size)), []).append(i)
        else:
            found[i] = measure(policy.bind(known), pools, orders=1, seed=0)
    limits = Limits(pools[Unit.SAMPLE], orders=1, seed=0) if alike else None
    for rows in alike.values():
        sizes = np.array([policies[i].limit for i in rows])
        spent = limits.of([policies[rows[int(sizes.argmax())]].bind(known)], sizes)
        found |= dict(zip(rows, zip(spent.accuracy.mean(axis=1), spent.completion.mean(axis=1), strict=True), strict=True))
    return [found[i] for i in range(len(policies))]
