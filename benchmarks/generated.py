"""Generated pools of any shape: what is measured on where no sampled pool is at hand. They prove speed, nothing else."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from itscale.data.records import (
    BLOCK,
    FEATURES,
    GRADES,
    PREDICTIONS,
    SAMPLES,
    SCORES,
    Pool,
    Problem,
    Unit,
    write_blocks,
    write_problems,
    write_table,
)

# Of a token of English text.
CHARACTERS = 4


def generated_pool(problems: int, samples: int, *, seed: int = 0, unit: Unit = Unit.SAMPLE, chains: int = 1) -> Pool:
    """A pool with easy and hard problems, scores that favour correct answers, diffuse and clustered errors, and predictions.

    Rows are problems x chains; 3 % of the samples have no answer. Clusters are numbered in order of appearance, as the
    grader numbers them. Rounds of a chain are drawn independently.
    """
    rng = np.random.default_rng(seed)
    rows = problems * chains
    problem = np.repeat(np.arange(problems), chains)
    rate = rng.beta(0.8, 0.8, problems)
    own = rate[problem][:, None]
    correct = rng.random((rows, samples)) < own
    answer = np.where(correct, 0, np.minimum(rng.geometric(0.3, (rows, samples)), 21))
    answer[rng.random((rows, samples)) < 0.03] = -1
    # The rank of an answer's first appearance in its row is its cluster.
    first = np.stack([np.where((answer == a).any(axis=1), (answer == a).argmax(axis=1), samples) for a in range(22)], axis=1)
    rank = first.argsort(axis=1, kind="stable").argsort(axis=1)
    tokens = rng.integers(200, 1500, (rows, samples))
    predicted = {
        "score_mean": np.clip(0.45 + 0.4 * rate + rng.normal(0, 0.1, problems), 0.05, 0.95),
        "score_sd": rng.uniform(0.1, 0.2, problems),
        "p0": np.clip(rate + rng.normal(0, 0.1, problems), 0.02, 0.98),
        "a": rng.uniform(0.1, 0.5, problems),
        "b": rng.uniform(0.1, 0.5, problems),
    }
    return Pool(
        unit=unit,
        problem=problem,
        problem_ids=tuple(f"p{i:05d}" for i in range(problems)),
        cluster=np.where(answer >= 0, np.take_along_axis(rank, np.maximum(answer, 0), axis=1), -1),
        correct=correct & (answer >= 0),
        score=np.clip(rng.normal(0.45 + 0.25 * correct + 0.15 * own, 0.15), 0.001, 0.999),
        completion_tokens=tokens,
        prompt_tokens=np.full_like(tokens, 150),
        cached_prompt_tokens=np.zeros_like(tokens),
        verifier_tokens=tokens + 150,
        features={name: values[problem] for name, values in predicted.items()},
        predictor_tokens=np.full(rows, 150),
    )


def texts(count: int, tokens: int, seed: int = 0) -> Iterator[str]:
    """Texts of so many tokens each, pieces of one long row of words; each ends with its number."""
    rng = np.random.default_rng(seed)
    words = ["".join(map(chr, rng.integers(97, 123, n))) for n in rng.integers(2, 10, 5000)]
    length = tokens * CHARACTERS
    long = " ".join(words[i] for i in rng.integers(0, len(words), max(400_000, 2 * length)))
    for i, start in enumerate(rng.integers(0, len(long) - length, count)):
        yield f"{long[start : start + length]} {i}"


def write_generated(folder: Path, pool: Pool, tokens: int, seed: int = 0) -> None:
    """A generated pool as the tables that the workflow makes, each sample with a text of so many tokens.

    Writes problems, samples, grades, scores and predictions (.parquet, with manifests).
    """
    ids = np.array(pool.problem_ids)[pool.problem]
    chain = np.arange(pool.rows) - np.searchsorted(pool.problem, pool.problem)
    column = np.tile(np.arange(pool.size), pool.rows)
    keys = pd.DataFrame({"problem_id": np.repeat(ids, pool.size), "chain": np.repeat(chain, pool.size)})
    parallel = pool.unit is Unit.SAMPLE
    keys = keys.assign(round=0 if parallel else column, sample=column if parallel else 0)
    numbers = {name: getattr(pool, f"{name}_tokens").ravel() for name in ("prompt", "cached_prompt")}
    frame = keys.assign(seed=0, finish_reason="stop", completion_tokens=tokens)
    frame = frame.assign(**{f"{name}_tokens": values for name, values in numbers.items()})
    text = texts(len(frame), tokens, seed)
    blocks = (frame.iloc[i : i + BLOCK] for i in range(0, len(frame), BLOCK))
    kind = {"kind": "parallel", "samples": pool.size} if parallel else {"kind": "chain", "rounds": pool.size}
    meta = {"plan": {**kind, "shard": 0, "shards": 1}, "usage": {"completion": len(frame) * tokens}}
    samples = (block.assign(text=[next(text) for _ in range(len(block))]) for block in blocks)
    write_blocks(folder / "samples.parquet", samples, SAMPLES, lambda: meta)
    cluster, correct = pool.cluster.ravel(), pool.correct.ravel()
    answer = pd.Series(cluster).map(str).where(cluster >= 0, None)
    verdict = np.where(correct, "correct", np.where(cluster >= 0, "wrong", "unanswered"))
    write_table(folder / "grades.parquet", keys.assign(answer=answer, cluster=cluster, verdict=verdict), GRADES)
    score = pool.score.ravel()
    scores = keys.assign(score_mean=score, score_last=score, verifier_tokens=pool.verifier_tokens.ravel())
    write_table(folder / "scores.parquet", scores, SCORES)
    write_problems(folder / "problems.parquet", [Problem(i, f"question {i}", "0") for i in pool.problem_ids])
    first = np.searchsorted(pool.problem, np.arange(len(pool.problem_ids)))
    predicted = pd.DataFrame({"problem_id": pool.problem_ids, "predictor_tokens": 150})
    predicted = predicted.assign(**{name: pool.features[name][first] for name in FEATURES})
    write_table(folder / "predictions.parquet", predicted, PREDICTIONS)
