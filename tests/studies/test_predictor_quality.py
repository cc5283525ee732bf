"""The quality table: baselines that do what they say, correlations and errors against SciPy and by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr

from itscale.data.records import FEATURES, Problem
from itscale.models.labels import Labels
from itscale.studies.predictor_quality import baselines, quality, score, spearman_gain


def questions(count, seed):
    """Questions whose length and whose word for the operation both matter."""
    rng = np.random.default_rng(seed)
    word = rng.choice(["add", "multiply"], count)
    length = rng.integers(3, 30, count)
    text = [f"{w} {' '.join(['x'] * n)} {seed}-{i}" for i, (w, n) in enumerate(zip(word, length, strict=True))]
    label = np.clip(0.9 - 0.01 * length - 0.3 * (word == "multiply") + rng.normal(0, 0.02, count), 0, 1)
    return text, label


def test_baselines_are_a_mean_a_line_and_a_ridge():
    (seen, label), (asked, truth) = questions(200, 0), questions(100, 1)
    found = baselines(seen, label, asked)
    assert (found["mean of the training questions"] == label.mean()).all()
    slope, start = np.polyfit([len(q) for q in seen], label, 1)
    assert found["length of the prompt"] == pytest.approx([slope * len(q) + start for q in asked])
    # The operation is in the words, so that only TF-IDF can see it.
    rho = {name: spearmanr(values, truth).statistic for name, values in found.items() if np.ptp(values) > 0}
    assert rho["TF-IDF + ridge"] > rho["length of the prompt"] > 0.2


def test_scores_are_scipys_with_intervals_around_them():
    rng = np.random.default_rng(0)
    label = rng.random(80)
    prediction = label + rng.normal(0, 0.2, 80)
    row = score(prediction, label)
    assert row["spearman"] == pytest.approx(spearmanr(prediction, label).statistic)
    assert row["pearson"] == pytest.approx(pearsonr(prediction, label).statistic)
    assert row["mae"] == pytest.approx(np.abs(prediction - label).mean())
    assert all(row[f"{name}_low"] < row[name] < row[f"{name}_high"] for name in ("spearman", "pearson", "mae"))
    constant = score(np.full(80, 0.5), label)
    assert np.isnan(constant["spearman"]) and constant["mae"] > 0


@pytest.mark.slow
def test_quality_has_a_row_per_head_and_predictor_and_leaves_out_what_has_no_label():
    (seen, label), (asked, truth) = questions(60, 2), questions(40, 3)
    training = [Problem(f"t{i}", q, "") for i, q in enumerate(seen)]
    held_out = [Problem(f"h{i}", q, "") for i, q in enumerate(asked)]
    count = np.where(np.arange(40) < 10, 0, 5)  # ten questions never left the state
    labels = Labels(
        tuple(p.problem_id for p in training), {"score_mean": label, "a": label}, {"score_mean": np.ones(60), "a": np.ones(60)}
    )
    truths = Labels(
        tuple(p.problem_id for p in held_out), {"score_mean": truth, "a": truth}, {"score_mean": np.ones(40), "a": count}
    )
    table = pd.DataFrame({name: np.nan for name in FEATURES}, index=range(40))
    table = table.assign(problem_id=[p.problem_id for p in held_out], score_mean=truth, a=1 - truth)
    found = quality((training, labels), (held_out, truths), table, "b").set_index(["head", "predictor"])
    assert len(found) == 2 * 4
    ahead = found.loc[("score_mean", "length of the prompt")]
    assert ahead["spearman_gain"] == pytest.approx(1 - ahead["spearman"])
    assert found.loc[("a", "length of the prompt"), "spearman_gain_high"] < 0  # that prediction is the wrong way round
    assert found["spearman_gain"].isna().groupby("predictor").all()[["predictor", "mean of the training questions"]].all()
    assert found.loc[("score_mean", "predictor"), "spearman"] == 1 and found.loc[("a", "predictor"), "spearman"] == -1
    assert found.loc[("score_mean", "predictor"), "questions"] == 40 and found.loc[("a", "predictor"), "questions"] == 30


def test_a_gain_is_the_paired_difference_of_ranks_of_each_resample():
    rng = np.random.default_rng(4)
    label = rng.random(120)
    noise = rng.normal(0, 0.3, 120)
    near, far = label + noise, label + noise + rng.normal(0, 0.05, 120)  # two predictors that err alike
    row = spearman_gain(near, far, label)
    rho = [spearmanr(p, label).statistic for p in (near, far)]
    assert row["spearman_gain"] == pytest.approx(rho[0] - rho[1])
    drawn = rng.integers(0, 120, (600, 120))
    gains = [spearmanr(near[r], label[r]).statistic - spearmanr(far[r], label[r]).statistic for r in drawn]
    ends = row["spearman_gain_low"], row["spearman_gain_high"]
    assert ends == pytest.approx(np.quantile(gains, [0.025, 0.975]), abs=0.012)
    alone = score(near, label)
    assert ends[1] - ends[0] < 0.6 * (alone["spearman_high"] - alone["spearman_low"])  # what both err alike cancels
    missing = np.where(np.arange(120) < 5, np.nan, far)
    assert spearman_gain(near, missing, label) == spearman_gain(near[5:], far[5:], label[5:])
    assert np.isnan(spearman_gain(near, np.zeros(120), label)["spearman_gain"])
