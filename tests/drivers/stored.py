"""The live driver on the samples of a stored pool, whose verifier is a table."""

from dataclasses import replace

import numpy as np
import pandas as pd

from itscale.data.records import CONFIDENCE, FEATURES, Pool, Problem, Unit
from itscale.drivers.driver import Solved
from itscale.drivers.live import Run, solve
from itscale.drivers.replay import Outcomes
from itscale.engines.replaying import ReplayingEngine
from itscale.models.scores import Scores
from itscale.policies import make_policy
from itscale.policies.protocol import Reason
from pools import KNOWN, random_pool

REASONS = list(Reason)


class StoredScores:
    """The verifier scores of a table of samples, by their text."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._of = {"": (np.nan, np.nan, 0)}  # what failed has no text, and so no score
        self._of |= {row.text: (row.score_mean, row.score_last, row.verifier_tokens) for row in table.itertuples()}

    def score(self, questions, texts):
        found = np.array([self._of[text] for text in texts], float).reshape(-1, 3)
        return Scores(found[:, 0], found[:, 1], found[:, 2].astype(int))


def table_of(pool: Pool) -> pd.DataFrame:
    """A pool's samples as a table: texts whose boxed answers have the pool's clusters."""
    chain = np.arange(pool.rows) - np.searchsorted(pool.problem, pool.problem)
    rows = []
    for i in range(pool.rows):
        for k in range(pool.size):
            boxed = f"\\boxed{{{pool.cluster[i, k]}}}" if pool.cluster[i, k] >= 0 else "nothing"
            number = (0, k) if pool.unit is Unit.SAMPLE else (k, 0)
            rows.append(
                {
                    "problem_id": pool.problem_ids[pool.problem[i]],
                    "chain": int(chain[i]),
                    "round": number[0],
                    "sample": number[1],
                    "text": f"row {i}, column {k}\n{boxed}",
                    "finish_reason": "stop",
                    "prompt_tokens": int(pool.prompt_tokens[i, k]),
                    "cached_prompt_tokens": int(pool.cached_prompt_tokens[i, k]),
                    "completion_tokens": int(pool.completion_tokens[i, k]),
                    "score_mean": pool.score[i, k],
                    "score_last": pool.score[i, k],
                    "verifier_tokens": int(pool.verifier_tokens[i, k]),
                }
            )
    return pd.DataFrame(rows)


def bound(name, options):
    return make_policy(name, **options).bind(KNOWN)


def stored_pool(policy, seed: int = 0) -> Pool:
    rounds = policy.unit is Unit.ROUND
    pool = random_pool(seed, rows=24, unit=policy.unit, chains=2 if rounds else 1)
    cached = np.minimum(pool.cached_prompt_tokens, pool.prompt_tokens)
    rng = np.random.default_rng(seed)
    features = {name: rng.random(len(pool.problem_ids))[pool.problem] for name in policy.needs_features}
    return replace(pool, cached_prompt_tokens=cached, features=features, predictor_tokens=7 + pool.problem)


def drive(policy, pool: Pool, comparer, *, engine=ReplayingEngine, arrival="length", **options) -> tuple[Run, ReplayingEngine]:
    table = table_of(pool)
    if (own := options.get("confidence")) is not None:  # of which the pool's scores are made
        table[list(CONFIDENCE)] = 0.0
        table[own.column] = pool.score.ravel()
        pool = replace(pool, score=own.score_map.of(pool.score))
    problems = [Problem(i, f"question {i}", "unknown") for i in pool.problem_ids]
    first = np.searchsorted(pool.problem, np.arange(len(problems)))
    predictions = pd.DataFrame({"problem_id": pool.problem_ids, "predictor_tokens": pool.predictor_tokens[first]})
    for name in FEATURES:
        predictions[name] = pool.features[name][first] if name in pool.features else np.nan
    opened = engine(table, 10, arrival)
    verifier = StoredScores(table) if policy.needs_scores and "confidence" not in options else None
    chains = pool.rows // len(problems)
    run = solve(problems, opened, policy, chains=chains, comparer=comparer, verifier=verifier, predictions=predictions, **options)
    return run, opened


def columns(row: Solved) -> list[str]:
    return [sample.text.split("\n")[0] for sample in row.samples]


def assert_same_decisions(run: Run, outcomes: Outcomes) -> None:
    for i, row in enumerate(run.rows):
        expected = int(outcomes.drawn[i]), int(outcomes.column[i]), REASONS[outcomes.reason[i]]
        assert (len(row.samples), row.column, row.reason) == expected, i
        assert columns(row) == [f"row {i}, column {k}" for k in range(len(row.samples))]
