"""A model's confidence in the place of a verifier: the map to [0, 1], and rows of its own in the tables."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from typer.testing import CliRunner

from itscale.cli import app
from itscale.data.records import POOL, Unit, read_pool, write_table
from itscale.errors import UserError
from itscale.policies.frozen import known_from_json
from itscale.policies.markovscale import fit_score_map
from itscale.studies.confidence import fit_score, live_score, made_with
from pools import random_pool
from studies.test_verifiers import COMPARE, frame

METHODS = {
    "best_of_n": {"sweep": {"n": [8]}},
    "self_consistency": {"sweep": {"n": [8]}},
    "cisc": {"settings": {"n": 8}, "grid": {"temperature": [0.1, 1.0]}},
    "deepconf": {"settings": {"n": 8}},
    "optscale": {"settings": {"n_max": 8, "s_min": 0.7, "alpha": 0.8}},
}


def test_the_map_is_isotonic_in_the_middle_of_its_steps_and_strictly_rising_within_its_ends():
    pool = random_pool(3, rows=200)
    pool = replace(pool, score=12 + 30 * pool.score)
    found = fit_score_map(pool)
    known = (pool.cluster >= 0) & ~np.isnan(pool.score)
    score, correct = pool.score[known], pool.correct[known]
    reference = IsotonicRegression().fit(score, correct)
    middle = found.knots[2:-2]
    assert found.of(middle) == pytest.approx(reference.predict(middle), abs=1e-9)
    x = np.linspace(score.min(), score.max(), 500)
    assert (np.diff(found.of(x)) > 0).all() and 0 <= found.of(x).min() and found.of(x).max() <= 1
    assert found.of(np.array([-1e9, 1e9])).tolist() == found.of(x)[[0, -1]].tolist() and np.isnan(found.of(np.array([np.nan])))


@pytest.fixture
def folder(tmp_path):
    """Pools whose confidence rises with their score."""
    for kind, pool in {"parallel": random_pool(1, 30, 8), "chain": random_pool(2, 24, 4, Unit.ROUND, 2)}.items():
        table = frame(pool)
        write_table(tmp_path / kind / "pool.parquet", table.assign(conf_tail=20 * table["score_mean"] ** 3 + 5), POOL)
    return tmp_path


def run(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.mark.slow
def test_a_confidence_has_rows_of_its_own_and_costs_no_verifier(folder):
    pools = ["--parallel", folder / "parallel" / "pool.parquet", "--chain", folder / "chain" / "pool.parquet", "--seed", 0]
    names = ["--verifier", "own", "--verifier", "conf_tail"]
    calibration = folder / "calibration.json"
    run("calibrate", *pools, *names, "--methods", json.dumps(METHODS), "--compare", json.dumps(COMPARE), "--out", calibration)
    assert len(json.loads(calibration.read_text())["others"]["conf_tail"]["known"]["score_map"]["knots"]) > 2
    run("replay", "--benchmark", "b", "--calibration", calibration, *pools, *names, "--orders", 4, "--out", folder / "tables")
    main = pd.read_csv(folder / "tables" / "main.csv").set_index(["slug", "verifier"])
    assert set(main.index) == {("self_consistency", "none"), *((s, v) for s in METHODS for v in ("own", "conf_tail"))} - {
        ("self_consistency", v) for v in ("own", "conf_tail")
    }
    for column in ("accuracy", "completion_tokens"):  # the same order of samples, so that the best is the same
        assert main.loc[("best_of_n", "own"), column] == pytest.approx(main.loc[("best_of_n", "conf_tail"), column])
    assert main.loc[("best_of_n", "own"), "verifier_tokens"] > 0 == main.loc[("best_of_n", "conf_tail"), "verifier_tokens"]


def test_a_confidence_that_was_not_kept_is_said_in_a_sentence(folder):
    with pytest.raises(UserError, match="holds no conf_min: draw its samples with"):
        read_pool(folder / "parallel" / "pool.parquet", Unit.SAMPLE, confidence="conf_min")


def test_a_calibration_keeps_the_map_that_live_runs_score_by(folder):
    """Scores that were made of the confidence beside them, and another confidence that is mapped anew."""
    for kind in ("parallel", "chain"):
        path = folder / kind / "pool.parquet"
        table = pd.read_parquet(path)
        rank = fit_score(table["conf_tail"].to_numpy(), "rank")
        table = table.assign(score_mean=rank.of(table["conf_tail"].to_numpy()), conf_min=-table["conf_tail"])
        write_table(path, table, POOL)
    pools, calibration = ["--parallel", folder / "parallel" / "pool.parquet", "--seed", 0], folder / "calibration.json"
    names = ["--verifier", "conf_tail", "--verifier", "conf_min"]
    methods = json.dumps({"best_of_n": {"sweep": {"n": [8]}}})
    run("calibrate", *pools, *names, "--methods", methods, "--compare", json.dumps(COMPARE), "--out", calibration)
    record, table = json.loads(calibration.read_text()), pd.read_parquet(folder / "parallel" / "pool.parquet")
    first = live_score(record, None)
    assert first.column == "conf_tail" and live_score(made_with(record, "conf_tail"), "conf_tail").column == "conf_tail"
    assert first.score_map.of(table["conf_tail"].to_numpy()).tolist() == pytest.approx(table["score_mean"].tolist(), nan_ok=True)
    other = live_score(made_with(record, "conf_min"), "conf_min").score_map
    assert other.knots.tolist() == known_from_json(record["others"]["conf_min"]["known"]).score_map.knots.tolist()
    with pytest.raises(UserError, match="not 'logprob_mean': calibrate with its scores"):
        made_with(record, "logprob_mean")
    with pytest.raises(UserError, match="has no map from conf_tail"):
        live_score({**record, "known": {}}, None)
    assert live_score({"verifier": "own", "known": {}}, None) is None and live_score(None, None) is None


def test_confidence_becomes_its_rank_among_the_calibration_samples():
    rank = fit_score(np.array([-3.0, -1.0, -1.0, np.nan, -2.0]), "rank")
    # Of four samples: below -3 none, the tie of -1 shares the last two places.
    assert rank.of(np.array([-9.0, -3.0, -2.0, -1.5, -1.0, 0.0])) == pytest.approx([0.125, 0.125, 0.375, 0.5625, 0.75, 0.75])
    assert np.isnan(rank.of(np.array([np.nan]))).all()


def test_or_how_often_such_samples_are_correct():
    values, correct = np.array([-4.0, -3.0, -2.0, -1.0]), np.array([False, True, False, True])
    assert fit_score(values, "isotonic", correct).of(np.array([-4.0, -3.0, -2.5, -1.0])) == pytest.approx([0, 0.5, 0.5, 1])


def test_a_pool_without_confidence_and_an_unknown_map_are_refused():
    with pytest.raises(UserError, match="have no confidence"):
        fit_score(np.array([np.nan]), "rank")
    with pytest.raises(UserError, match="choose rank or isotonic"):
        fit_score(np.array([1.0]), "logistic")


@given(st.lists(st.floats(-9, 0), min_size=1, max_size=30), st.lists(st.floats(-10, 1), min_size=2, max_size=20))
def test_both_maps_rise_and_stay_within_0_and_1(values, wanted):
    rng = np.random.default_rng(len(values))
    for how in ("rank", "isotonic"):
        scores = fit_score(np.array(values), how, rng.random(len(values)) < 0.5).of(np.sort(wanted))
        assert (np.diff(scores) >= -1e-12).all() and 0 <= scores.min() and scores.max() <= 1
