"""Which policy, with which hyperparameters? Answered from a calibration file, or from a stored pool for a wanted accuracy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from itscale.data.records import Pool, Unit
from itscale.drivers.expectation import question_means
from itscale.drivers.replay import replay
from itscale.errors import UserError
from itscale.policies import make_policy
from itscale.policies.calibration import Calibration
from itscale.policies.protocol import Policy
from itscale.studies.calibrate import frozen_policies, known_from_pools
from itscale.studies.methods import Method
from itscale.theory.intervals import SHARE, mean_interval


def named_policy(name: str, settings: dict[str, Any], calibration: dict[str, Any] | None) -> Policy:
    """A policy ready to run: with the hyperparameters of a calibration file where there is one, else with the usual ones.

    Args:
        name: of a policy, or of a method of the calibration file; of several budgets the last is taken.
        settings: win over what the calibration file or the usual settings say.
        calibration: content of what `itscale calibrate` wrote.

    Raises:
        UserError: there is no such policy or setting, or the policy needs a calibration that nobody gives.
    """
    if calibration is None:
        policy = make_policy(name, **settings)
        return _refuse_unbound(name, policy.bind(Calibration()))
    found = [
        (entry, policy)
        for entry, (method, policy) in zip(calibration["methods"], frozen_policies(calibration), strict=True)
        if name in (method, entry["slug"], entry["policy"])
        and settings.items() <= {**entry["settings"], **entry["hyperparameters"]}.items()
    ]
    if not found:
        methods = ", ".join(dict.fromkeys(entry["method"] for entry in calibration["methods"]))
        raise UserError(f"the calibration has no method {name!r} with these settings: it has {methods}.")
    return found[-1][1]


def _refuse_unbound(name: str, policy: Policy) -> Policy:
    """Policies say that they need a calibration when they first decide; here that is before anything is drawn."""
    pool = Pool(
        policy.unit,
        problem=np.zeros(1, np.int64),
        problem_ids=("p",),
        cluster=np.zeros((1, policy.limit), np.int64),
        correct=np.zeros((1, policy.limit), bool),
        score=np.linspace(0.1, 0.2, policy.limit)[None],
        **dict.fromkeys(
            ("completion_tokens", "prompt_tokens", "cached_prompt_tokens", "verifier_tokens"),
            np.ones((1, policy.limit), np.int64),
        ),
        features=dict.fromkeys(policy.needs_features, np.full(1, 0.5)),
    )
    try:
        replay(policy, pool, orders=1)
    except (ValueError, AttributeError) as error:
        raise UserError(f"policy {name!r} needs statistics of a calibration split ({error}): give --calibration.") from None
    return policy


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy with its settings, and what replays of it gave per problem when bound without that problem's fold [P]."""

    method: str
    settings: dict[str, Any]
    policy: Policy
    accuracy: np.ndarray  # [folds, P], bound to the other folds
    tokens: np.ndarray  # [folds, P]


def usual_methods(pool: Pool) -> list[Method]:
    """What to try on a pool: fixed N in powers of two, and the adaptive rules up to the pool's size."""
    budgets = [2**i for i in range(pool.size.bit_length()) if 2**i <= pool.size]
    if pool.unit is Unit.ROUND:
        rounds = {"rounds": list(range(1, pool.size + 1))}
        return [Method("MR-Thinking", "mr_thinking", grid=rounds), Method("MarkovScale gate", "markovscale_gate", grid=rounds)]
    large = [n for n in budgets if n >= 4] or budgets
    scores = [0.5, 0.7, 0.8, 0.9, 0.95, 0.98]
    own = {"s_min": scores[2:], "alpha": [0.5, 0.8, 0.95], "n_max": large}
    return [
        Method("best-of-N", "best_of_n", grid={"n": budgets}),
        Method("self-consistency", "self_consistency", grid={"n": budgets}),
        Method("score threshold", "score_threshold", grid={"s_min": scores, "n_max": large}),
        Method("OptScale^0 (ours)", "optscale", grid=own),
        Method("OptPO vote lead", "vote_lead", grid={"lead": [2, 3, 4, 5, 6, 8], "n_max": large}),
    ]


def advise(
    pool: Pool, methods: list[Method], accuracy: float, *, folds: int = 5, orders: int = 10, seed: int = 0
) -> pd.DataFrame:
    """The cheapest setting that reaches an accuracy on a stored pool, over all methods (first row) and of each.

    Settings are chosen on all problems; what they promise is measured by cross-fitting: chosen (and bound) on the other folds,
    replayed on the fold that was left out, so that no problem has a say in its own setting. Cheapest: fewest completion tokens.

    Returns:
        Rows with advice (`cheapest of all`, or the method that the row is about), method, settings, reached (was the accuracy
        reached on all problems at the choice), and per question accuracy and completion_tokens, each with _low and _high (95 %
        over problems; held out).

    Raises:
        UserError: no method can run on the pool, or it has too few problems.
    """
    problems = len(pool.problem_ids)
    folds = min(folds, problems // 2)
    if folds < 2:
        raise UserError(f"a pool of {problems} problem(s) cannot be split to check an advice: give one of at least 4.")
    fold = np.random.default_rng(seed).permutation(problems) % folds
    outside = [pool.subset(fold[pool.problem] != k) for k in range(folds)]
    known = [known_from_pools({part.unit: part}, strata=4, strength=10.0) for part in (*outside, pool)]
    scored = not np.isnan(pool.score).all()
    candidates = []
    for method in methods:
        for settings in method.variants():
            for chosen, policy in method.candidates(settings):
                usable = (
                    policy.unit is pool.unit and policy.limit <= pool.size and set(policy.needs_features) <= set(pool.features)
                )
                if usable and (scored or not policy.needs_scores):
                    candidates.append(_candidate(method.name, {**settings, **chosen}, policy, pool, known, orders, seed))
    if not candidates:
        raise UserError("none of the methods can be replayed on this pool: give others with --methods.")
    names = dict.fromkeys(c.method for c in candidates)
    rows = [_row("cheapest of all", candidates, accuracy, fold)]
    return pd.DataFrame(rows + [_row(name, [c for c in candidates if c.method == name], accuracy, fold) for name in names])


def _candidate(
    method: str, settings: dict[str, Any], policy: Policy, pool: Pool, known: list[Calibration], orders: int, seed: int
) -> Candidate:
    measured: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    bound = [policy.bind(part) for part in known]
    for each in bound:
        if id(each) not in measured:  # a rule that needs no calibration is bound to itself
            outcomes = replay(each, pool, orders=orders, seed=seed)
            found = question_means(each, pool, outcomes)
            measured[id(each)] = (found.accuracy, found.ledger.completion)
    accuracy, tokens = (np.stack([measured[id(each)][part] for each in bound]) for part in range(2))
    return Candidate(method, settings, bound[-1], accuracy, tokens)


def _choose(candidates: list[Candidate], fold: int, rows: np.ndarray, accuracy: float) -> tuple[Candidate, bool]:
    """The fewest tokens on some problems among those that reach the accuracy there; the most accurate where none does."""
    reached = [c for c in candidates if c.accuracy[fold][rows].mean() >= accuracy]
    if reached:
        return min(reached, key=lambda c: c.tokens[fold][rows].mean()), True
    return max(candidates, key=lambda c: (c.accuracy[fold][rows].mean(), -c.tokens[fold][rows].mean())), False


def _row(name: str, candidates: list[Candidate], accuracy: float, fold: np.ndarray) -> dict[str, Any]:
    folds = len(candidates[0].accuracy) - 1
    held_accuracy, held_tokens = np.zeros(len(fold)), np.zeros(len(fold))
    for k in range(folds):
        chosen, _ = _choose(candidates, k, fold != k, accuracy)
        inside = fold == k
        held_accuracy[inside], held_tokens[inside] = chosen.accuracy[k][inside], chosen.tokens[k][inside]
    final, reached = _choose(candidates, folds, np.ones(len(fold), bool), accuracy)
    row: dict[str, Any] = {"advice": name, "method": final.method, "settings": final.settings, "reached": reached}
    return row | mean_interval(held_accuracy, SHARE).columns("accuracy") | mean_interval(held_tokens).columns("completion_tokens")
