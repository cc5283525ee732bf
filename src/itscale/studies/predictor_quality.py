"""Is the predictor worth its tokens? Its correlations and errors on held-out labels, beside what anyone can do without it."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.stats import pearsonr, rankdata, spearmanr
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline

from itscale.data.records import Problem
from itscale.models.labels import Labels
from itscale.theory.intervals import mean_interval

_RESAMPLES = 500


def baselines(questions: list[str], labels: np.ndarray, held_out: list[str]) -> dict[str, np.ndarray]:
    """Predictions for held-out questions by three who know nothing of language models.

    The training questions' mean; a line through the length of the prompt (characters); TF-IDF of words, pairs of words and
    characters with ridge regression, whose penalty is chosen by leave-one-out on the training questions.
    """
    length = np.array([len(q) for q in questions], float)
    line = np.polyfit(length, labels, 1) if np.ptp(length) > 0 else np.array([0.0, labels.mean()])
    found = {
        "mean of the training questions": np.full(len(held_out), labels.mean()),
        "length of the prompt": np.polyval(line, [len(q) for q in held_out]),
    }
    tfidf = make_pipeline(
        TfidfVectorizer(analyzer=_terms, sublinear_tf=True, min_df=2 if len(questions) > 20 else 1),
        RidgeCV(alphas=np.logspace(-2, 3, 11)),
    )
    return {**found, "TF-IDF + ridge": tfidf.fit(questions, labels).predict(held_out)}


def _terms(question: str) -> list[str]:
    """Words, pairs of neighbouring words, and sequences of up to three characters."""
    words = question.lower().split()
    pairs = [" ".join(p) for p in pairwise(words)]
    return [*words, *pairs, *(question[i : i + n] for n in (1, 2, 3) for i in range(len(question) - n + 1))]


def bootstrap(statistic: Callable[..., float], *columns: np.ndarray) -> tuple[float, float]:
    """95 % interval of a statistic of columns [P], rows resampled; NaN where most resamples do not define it, or all agree."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(columns[0]), (_RESAMPLES, len(columns[0])))
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.array([statistic(*(column[r] for column in columns)) for r in rows])
    if np.isnan(values).mean() > 0.5:
        return float("nan"), float("nan")
    low, high = np.nanquantile(values, [0.025, 0.975])
    return (float(low), float(high)) if low < high else (float("nan"), float("nan"))


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) > 0 and np.ptp(y) > 0 else float("nan")


def _rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman, ranked within what is given: a resample has ties that the questions have not."""
    return _correlation(rankdata(x), rankdata(y))


def spearman_gain(prediction: np.ndarray, baseline: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Spearman of the prediction minus that of the baseline, with the interval of the difference; questions resampled as pairs.

    Over the questions that have all three. NaN for a constant, which has no order.
    """
    columns = np.stack([prediction, baseline, label]).astype(float)
    columns = columns[:, np.isfinite(columns).all(axis=0)]

    def gain(mine: np.ndarray, other: np.ndarray, truth: np.ndarray) -> float:
        return _rank_correlation(mine, truth) - _rank_correlation(other, truth)

    constant = columns.shape[1] < 2 or (np.ptp(columns, axis=1) == 0).any()
    value, (low, high) = (np.nan, (np.nan, np.nan)) if constant else (gain(*columns), bootstrap(gain, *columns))
    return {"spearman_gain": value, "spearman_gain_low": low, "spearman_gain_high": high}


def score(prediction: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Spearman, Pearson and mean absolute error with intervals over questions; NaN correlations for a constant."""
    row: dict[str, float] = {}
    constant = np.ptp(prediction) == 0 or np.ptp(label) == 0
    for name, exact, statistic in (("spearman", spearmanr, _rank_correlation), ("pearson", pearsonr, _correlation)):
        value = np.nan if constant else exact(prediction, label).statistic
        low, high = (np.nan, np.nan) if constant else bootstrap(statistic, prediction, label)
        row |= {name: float(value), f"{name}_low": low, f"{name}_high": high}
    return row | mean_interval(np.abs(prediction - label)).columns("mae")


def quality(
    training: tuple[list[Problem], Labels], held_out: tuple[list[Problem], Labels], predictions: pd.DataFrame, benchmark: str
) -> pd.DataFrame:
    """A row per head and predictor: ours and the baselines, on a benchmark's labels (which no decision ever sees).

    `spearman_gain` of a baseline's row is how far ours is ahead of it (NaN in our own row).
    """
    table = predictions.set_index("problem_id")
    train_row = {problem: i for i, problem in enumerate(training[1].problem_ids)}
    test_row = {problem: i for i, problem in enumerate(held_out[1].problem_ids)}
    rows = []
    for head in training[1].value:
        kept = [p for p in held_out[0] if held_out[1].count[head][test_row[p.problem_id]] > 0]
        seen = [p for p in training[0] if training[1].count[head][train_row[p.problem_id]] > 0]
        # A transition out of a state that no chain was ever in has no label: nothing to learn from, or to assess by.
        if table[head].isna().all() or len(kept) < 2 or len(seen) < 2:
            continue
        label = held_out[1].value[head][[test_row[p.problem_id] for p in kept]]
        mine = {"predictor": table.loc[[p.problem_id for p in kept], head].to_numpy(float)}
        others = baselines(
            [p.question for p in seen],
            training[1].value[head][[train_row[p.problem_id] for p in seen]],
            [p.question for p in kept],
        )
        for name, prediction in {**mine, **others}.items():
            row = {"benchmark": benchmark, "head": head, "predictor": name, "questions": len(kept)}
            gain = spearman_gain(mine["predictor"], prediction if name in others else np.full(len(kept), np.nan), label)
            rows.append({**row, **score(prediction, label), **gain})
    return pd.DataFrame(rows)


def labels_beside(labels: dict[str, np.ndarray], predictions: pd.DataFrame, benchmark: str) -> pd.DataFrame:
    """A row per question and head: prediction and label; `labels` are {head: [P]} in the order of the predictions (NaN: none)."""
    frames = [
        pd.DataFrame(
            {"benchmark": benchmark, "problem_id": predictions["problem_id"], "head": head, "prediction": predictions[head]}
        ).assign(label=values)
        for head, values in labels.items()
        if predictions[head].notna().any()
    ]
    return pd.concat(frames, ignore_index=True).dropna(subset=["label"])
