"""Generated pools of any shape: what is measured on where no sampled pool is at hand. They prove speed, nothing else."""

import numpy as np

from itscale.data.records import Pool, Unit


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
