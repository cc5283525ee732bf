"""mean@k, majority@k and pass@k of a model on a benchmark, per problem, so that runs can be compared as pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from itscale.data.records import Problem
from itscale.drivers.live import solve
from itscale.engines.protocol import Engine, Sampling
from itscale.grading.comparison import Comparer
from itscale.policies import make_policy
from itscale.testtime.rollouts import assess_votes

METRICS = ("mean", "majority", "pass")


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """`samples` of every problem; `every` so many steps on the trained benchmark, besides before and after."""

    samples: int = 16
    every: int = 10
    temperature: float = 1.0
    top_p: float = 1.0


def evaluate(
    problems: Sequence[Problem],
    engine: Engine,
    comparer: Comparer,
    settings: EvaluationSettings,
    max_tokens: int,
    seed: int,
) -> dict[str, Any]:
    """Per problem: the share of right samples, whether the plurality is right, whether any is; and the tokens of it all.

    The seeds of the samples do not depend on the step, so that two checkpoints are compared on the same random numbers.
    """
    run = solve(
        list(problems),
        engine,
        make_policy("self_consistency", n=settings.samples),
        sampling=Sampling(settings.temperature, settings.top_p, max_tokens),
        seed=seed,
        prefetch=0,
        comparer=comparer,
        allow_unanswered=True,
        background=False,
        shown=False,
    )
    votes = assess_votes(run.rows, comparer, None)
    return {
        "problem_id": [p.problem_id for p in problems],
        "mean": [float(v.correct.mean()) for v in votes],
        "majority": [float(v.correct[v.agrees].any()) for v in votes],
        "pass": [float(v.correct.any()) for v in votes],
        "tokens": int(run.ledger.prompt - run.ledger.cached_prompt + run.ledger.drawn),
    }


def merged(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One evaluation, of evaluations of parts of the problems."""
    values = {name: [value for part in parts for value in part[name]] for name in ("problem_id", *METRICS)}
    return {**values, "tokens": sum(part["tokens"] for part in parts)}


def averages(evaluation: dict[str, Any]) -> dict[str, float]:
    """Means over problems of every metric."""
    return {name: float(np.mean(evaluation[name])) for name in METRICS}
