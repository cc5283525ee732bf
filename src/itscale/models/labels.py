"""What samples say of a question: the labels that the predictor learns and is assessed by."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from itscale.data.records import Pool, Problem, Unit, read_pool, read_problems
from itscale.theory import markov


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known of P questions: for each head its value [P] and the number [P] of observations behind it (0: none)."""

    problem_ids: tuple[str, ...]
    value: dict[str, np.ndarray]
    count: dict[str, np.ndarray]


def labels_of(parallel: Pool, chain: Pool | None = None) -> Labels:
    """Labels of the questions of a parallel pool, and of their chains where there are any.

    score_mean, score_sd: moments of a question's scores. p0: share of correct first answers, parallel ones and the chains'.
    a, b: shares of rounds that spoil a correct, repair a wrong answer.
    """
    count = (~np.isnan(parallel.score)).sum(axis=1)
    scored = np.where(count[:, None] > 0, parallel.score, 0.0)
    right, first = parallel.correct.sum(axis=1).astype(float), np.full(parallel.rows, parallel.size)
    moves = {name: (np.zeros(parallel.rows), np.zeros(parallel.rows)) for name in ("a", "b")}
    if chain is not None:
        index = {problem: i for i, problem in enumerate(parallel.problem_ids)}
        row = np.array([index[problem] for problem in chain.problem_ids])[chain.problem]

        def per(values: np.ndarray) -> np.ndarray:
            return np.bincount(row, weights=values, minlength=parallel.rows)

        right, first = right + per(chain.correct[:, 0]), first + per(np.ones(chain.rows))
        n_c, n_cw, n_w, n_wc = (per(c) for c in markov.transition_counts(chain.correct))
        moves = {"a": (n_cw, n_c), "b": (n_wc, n_w)}
    rates = {"p0": (right, first), **moves}
    ids = tuple(parallel.problem_ids[i] for i in parallel.problem)
    return Labels(
        ids,
        value={
            "score_mean": np.nanmean(scored, axis=1),
            "score_sd": np.nanstd(scored, axis=1),
            **{name: k / np.maximum(n, 1) for name, (k, n) in rates.items()},
        },
        count={"score_mean": count, "score_sd": count, **{name: n for name, (_, n) in rates.items()}},
    )


def labelled(problems: Path, parallel: Path, chain: Path | None) -> tuple[list[Problem], Labels]:
    """Problems, and the labels that their pools (of samples, and of chains where there are any) give them."""
    chains = read_pool(chain, Unit.ROUND) if chain is not None else None
    return read_problems(problems), labels_of(read_pool(parallel, Unit.SAMPLE), chains)
