"""The live driver: decisions as in a replay, every token counted, nothing used after the stop; on stored samples and real engines."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from itscale.driver import Solved
from itscale.engines.replaying import ReplayingEngine
from itscale.errors import UserError
from itscale.grading import Comparer
from itscale.live import Run, solve
from itscale.policies import make_policy
from itscale.policies.protocol import Reason
from itscale.records import FEATURES, Pool, Problem, Unit
from itscale.replay import Outcomes, replay
from itscale.verifier import Scores
from pools import KNOWN, random_pool
from test_policies import CASES

REASONS = list(Reason)


class StoredScores:
    """The verifier scores of a table of samples, by their text."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._of = {row.text: (row.score_mean, row.score_last, row.verifier_tokens) for row in table.itertuples()}

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


@pytest.fixture(scope="module")
def comparer():
    with Comparer(5.0) as opened:
        yield opened


def bound(name, options):
    return make_policy(name, **options).bind(KNOWN)


LIVE = [(name, options) for name, options in CASES if not getattr(bound(name, options), "replay_only", False)]


def stored_pool(policy, seed: int = 0) -> Pool:
    rounds = policy.unit is Unit.ROUND
    pool = random_pool(seed, rows=24, unit=policy.unit, chains=2 if rounds else 1)
    cached = np.minimum(pool.cached_prompt_tokens, pool.prompt_tokens)
    rng = np.random.default_rng(seed)
    features = {name: rng.random(len(pool.problem_ids))[pool.problem] for name in policy.needs_features}
    return replace(pool, cached_prompt_tokens=cached, features=features, predictor_tokens=7 + pool.problem)


def drive(policy, pool: Pool, comparer, *, slots=10, arrival="length", seed=0, **options) -> tuple[Run, ReplayingEngine]:
    table = table_of(pool)
    problems = [Problem(i, f"question {i}", "unknown") for i in pool.problem_ids]
    first = np.searchsorted(pool.problem, np.arange(len(problems)))
    predictions = pd.DataFrame({"problem_id": pool.problem_ids, "predictor_tokens": pool.predictor_tokens[first]})
    for name in FEATURES:
        predictions[name] = pool.features[name][first] if name in pool.features else np.nan
    engine = ReplayingEngine(table, slots, arrival, seed)
    verifier = StoredScores(table) if policy.needs_scores else None
    chains = pool.rows // len(problems)
    run = solve(
        problems, engine, policy, chains=chains, comparer=comparer, verifier=verifier, predictions=predictions, **options
    )
    return run, engine


def columns(row: Solved) -> list[str]:
    return [sample.completion.text.split("\n")[0] for sample in row.samples]


def assert_same_decisions(run: Run, outcomes: Outcomes) -> None:
    for i, row in enumerate(run.rows):
        expected = int(outcomes.used[i]), int(outcomes.column[i]), REASONS[outcomes.reason[i]]
        assert (len(row.samples), row.column, row.reason) == expected, i
        assert columns(row) == [f"row {i}, column {k}" for k in range(len(row.samples))]


@pytest.mark.parametrize("look_ahead", [0, 5])
@pytest.mark.parametrize("arrival", ["length", "submission", "reverse", "random"])
@pytest.mark.parametrize(("name", "options"), LIVE)
def test_decisions_are_those_of_a_replay_whatever_arrives_first(name, options, arrival, look_ahead, comparer):
    policy = bound(name, options)
    pool = stored_pool(policy)
    run, engine = drive(policy, pool, comparer, arrival=arrival, look_ahead=look_ahead)
    outcomes = replay(policy, pool, orders=1)
    assert_same_decisions(run, outcomes)
    ledger, usage = run.ledger, engine.usage()
    assert ledger.completion == outcomes.ledger.completion.sum()
    assert ledger.predictor == np.sum(outcomes.ledger.predictor)
    assert (ledger.prompt, ledger.cached_prompt) == (usage.prompt, usage.cached_prompt)
    assert ledger.completion + ledger.speculative == usage.completion
    assert ledger.aborted == usage.aborted
    assert ledger.verifier >= outcomes.ledger.verifier.sum()
    if look_ahead == 0:
        assert (ledger.speculative, ledger.aborted) == (0, 0)
        assert ledger.verifier == outcomes.ledger.verifier.sum()
        assert ledger.total == np.sum(outcomes.ledger.total)
    else:
        assert all(row.speculative + row.aborted <= look_ahead for row in run.rows)
