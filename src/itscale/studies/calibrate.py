"""Choose every hyperparameter on the calibration split by one stated criterion, and write down what was tried.

Criterion (docs/optscale.md): the fewest completion tokens among the settings whose accuracy is within
one point of the same family's fixed N (best-of-N, self-consistency, or the whole chain); if none is, the most accurate.
"""

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from itscale.data.records import Pool, Unit, read_json
from itscale.drivers.replay import replay
from itscale.errors import UserError
from itscale.policies import make_policy
from itscale.policies.calibration import Calibration, known_of_votes
from itscale.policies.consistency import measure_difficulty
from itscale.policies.markovscale import fit_first_score, fit_strata
from itscale.policies.optscale import average_moments, score_quantiles
from itscale.policies.protocol import Policy, depends_on_verifier
from itscale.policies.rounds import fit_rounds
from itscale.studies.methods import Method

TOLERANCE = 0.01
CRITERION = (
    "fewest completion tokens among the settings whose accuracy on the calibration split is within 1 point of the same "
    "family's fixed N; the most accurate where none is"
)
# What "the whole budget" means in each family, and the setting that holds the budget.
REFERENCES = {"best_of_n": "n", "self_consistency": "n", "mr_thinking": "rounds"}


def reference(policy: Policy) -> Policy:
    """The fixed-budget policy of the same family with the same limit."""
    return make_policy(policy.family, **{REFERENCES[policy.family]: policy.limit})


def measure(policy: Policy, pools: dict[Unit, Pool], orders: int, seed: int) -> tuple[float, float]:
    """Mean accuracy and mean completion tokens of a bound policy on the calibration pools."""
    outcomes = replay(policy, pools[policy.unit], orders=orders, seed=seed)
    return float(outcomes.correct.mean()), float(np.mean(outcomes.ledger.completion))


def calibrate(
    methods: list[Method], pools: dict[Unit, Pool], known: Calibration, *, orders: int, seed: int
) -> list[dict[str, Any]]:
    """One record per method and swept variant: the chosen hyperparameters, every candidate's measurement, the reference's.

    Returns:
        JSON-ready records with keys method, slug, policy, settings, hyperparameters, reference_accuracy, within_tolerance,
        candidates.
    """
    records = []
    for method in methods:
        for settings in method.variants():
            candidates = method.candidates(settings)
            record: dict[str, Any] = {
                "method": method.name,
                "slug": method.slug,
                "policy": method.policy,
                "settings": settings,
            }
            if len(candidates) == 1:
                records.append({**record, "hyperparameters": candidates[0][0], "candidates": []})
                continue
            full, _ = measure(reference(candidates[0][1]), pools, orders, seed)
            tried = []
            for chosen, policy in candidates:
                accuracy, tokens = measure(policy.bind(known), pools, orders, seed)
                tried.append({"hyperparameters": chosen, "accuracy": accuracy, "completion_tokens": tokens})
            near = [t for t in tried if t["accuracy"] >= full - TOLERANCE]
            best = min(near, key=lambda t: t["completion_tokens"]) if near else max(tried, key=lambda t: t["accuracy"])
            records.append(
                {
                    **record,
                    "hyperparameters": best["hyperparameters"],
                    "reference_accuracy": full,
                    "within_tolerance": bool(near),
                    "candidates": tried,
                }
            )
    return records


def for_verifier(methods: list[Method], pools: dict[Unit, Pool]) -> list[Method]:
    """The methods that another verifier changes and that can run on these pools: the others stand in the tables already."""
    policies = {method.slug: method.candidates(method.variants()[0])[0][1] for method in methods}
    oracle = {"oracle_score_mean"}

    def runs(policy: Policy) -> bool:
        return set(policy.needs_features) <= set(pools[policy.unit].features) | oracle

    return [m for m in methods if depends_on_verifier(policies[m.slug]) and runs(policies[m.slug])]


def known_from_pools(pools: dict[Unit, Pool], *, strata: int, strength: float) -> Calibration:
    """What the calibration split says beforehand; a part is None where the kind of pool that it needs is missing."""
    samples, rounds = pools.get(Unit.SAMPLE), pools.get(Unit.ROUND)
    voted = known_of_votes(samples.cluster) if samples else Calibration()
    return replace(
        voted,
        moments=average_moments(samples) if samples else None,
        scores=score_quantiles(samples) if samples else None,
        difficulty=measure_difficulty(samples) if samples else None,
        strata=fit_strata(rounds, strata) if rounds else None,
        first_score=fit_first_score(rounds, strength) if rounds else None,
        rounds=fit_rounds(rounds, strata) if rounds else None,
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


def known_to_json(known: Calibration) -> dict[str, Any]:
    """The calibration split's statistics as JSON values."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(v) for name, v in value.items()}
        # JSON knows no NaN.
        return np.where(np.isnan(value), None, value).tolist() if isinstance(value, np.ndarray) else value

    return plain(asdict(known))


def known_from_json(values: dict[str, Any]) -> Calibration:
    """The reverse of `known_to_json`.

    Raises:
        UserError: a part lacks a value, or has one that is not known: another version wrote it.
    """

    def part(kind: type, content: dict[str, Any] | None) -> Any:
        if content is None:
            return None
        if np.ndarray in get_args(kind):
            return np.asarray(content, float)
        cls = next(c for c in get_args(kind) if c is not type(None))
        types = get_type_hints(cls)
        if strange := sorted(set(content) ^ {f.name for f in fields(cls)}):
            raise UserError(
                f"the calibration's {cls.__name__} does not agree on {strange[0]!r}: another version wrote it, run "
                "`itscale calibrate` anew."
            )
        return cls(**{k: np.asarray(v, float) if types[k] is np.ndarray else v for k, v in content.items()})

    hints = get_type_hints(Calibration)
    return Calibration(**{f.name: part(hints[f.name], values.get(f.name)) for f in fields(Calibration)})


def frozen_policies(record: dict[str, Any]) -> list[tuple[str, Policy]]:
    """(method, bound policy) of every row of a calibration file, hyperparameters as chosen there."""
    known = known_from_json(record["known"])
    return [
        (entry["method"], make_policy(entry["policy"], **entry["settings"], **entry["hyperparameters"]).bind(known))
        for entry in record["methods"]
    ]


def slugs_of(record: dict[str, Any]) -> dict[str, str]:
    """The slug of each method of a calibration file by its name."""
    return {entry["method"]: entry["slug"] for entry in record["methods"]}


def choose_published(record: dict[str, Any], pools: dict[Unit, Pool]) -> list[tuple[str, Policy | None]]:
    """(method, bound policy) with the hyperparameters that are best on these pools themselves: the papers' protocol, not ours.

    The most accurate candidate in the one order of submission, ties to the fewest completion tokens. A method without
    candidates has None.
    """
    known = known_from_json(record["known"])
    chosen: list[tuple[str, Policy | None]] = []
    for entry in record["methods"]:
        best, policy = None, None
        for candidate in entry["candidates"]:
            tried = make_policy(entry["policy"], **entry["settings"], **candidate["hyperparameters"]).bind(known)
            accuracy, tokens = measure(tried, pools, orders=1, seed=0)
            if best is None or (accuracy, -tokens) > best:
                best, policy = (accuracy, -tokens), tried
        chosen.append((entry["method"], policy))
    return chosen
