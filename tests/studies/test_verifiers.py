"""Two verifiers of the same samples: each is calibrated and replayed by itself, and what reads no scores stands once."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from itscale.cli import app
from itscale.data.records import FEATURES, POOL, PREDICTIONS, SCORES, Pool, Unit, read_pool, write_table
from itscale.errors import UserError
from pools import random_pool

METHODS = {
    "best_of_n": {"sweep": {"n": [2, 8]}},
    "self_consistency": {"sweep": {"n": [8]}},
    "score_threshold": {"sweep": {"n_max": [8]}, "grid": {"s_min": [0.3, 0.5, 0.7, 0.9]}},
    "optscale": {"sweep": {"n_max": [8]}, "grid": {"s_min": [0.5, 0.7], "alpha": [0.8], "n0": [1.0]}},
    "optscale_predicted": {"settings": {"n_max": 8, "s_min": 0.7, "alpha": 0.8}},
    "dsc": {"settings": {"n_max": 8}},
    "dsc_oracle": {"settings": {"n_max": 8}},
    "mr_thinking": {"sweep": {"rounds": [4]}},
    "best_scored_round": {"sweep": {"n": [4]}},
}
COMPARE = {"strata": 2, "strength": 10.0, "calibration_orders": 3}


def frame(pool: Pool) -> pd.DataFrame:
    """A pool as the table that it is read from."""
    rows, size = pool.cluster.shape
    chain = np.zeros(rows, int) if pool.unit is Unit.SAMPLE else np.arange(rows) - np.searchsorted(pool.problem, pool.problem)
    column = np.tile(np.arange(size), rows)
    table = {field.name: "" if pa.types.is_string(field.type) else None for field in POOL} | {
        "problem_id": np.repeat(np.array(pool.problem_ids)[pool.problem], size),
        "chain": np.repeat(chain, size),
        "round": column if pool.unit is Unit.ROUND else 0,
        "sample": 0 if pool.unit is Unit.ROUND else column,
        "seed": 0,
        "verdict": np.where(pool.correct.ravel(), "correct", "wrong"),
        "score_mean": pool.score.ravel(),
        "score_last": pool.score.ravel(),
        "cluster": pool.cluster.ravel(),
    }
    counts = {n: getattr(pool, n).ravel() for n in POOL.names if n.endswith("_tokens")}
    return pd.DataFrame(table | counts)


@pytest.fixture
def folder(tmp_path):
    """Pools of both kinds; the verifier `twin` says what theirs does, `contrary` the reverse."""
    pools = {"parallel": random_pool(1, 12, 8), "chain": random_pool(2, 24, 4, Unit.ROUND, 2)}
    for kind, pool in pools.items():
        table = frame(pool)
        write_table(tmp_path / kind / "pool.parquet", table, POOL)
        write_table(tmp_path / kind / "scores_twin.parquet", table.sample(frac=1, random_state=0), SCORES)
        write_table(tmp_path / kind / "scores_contrary.parquet", table.assign(score_mean=1 - table["score_mean"]), SCORES)
    rng = np.random.default_rng(3)
    predicted = {"problem_id": pools["parallel"].problem_ids, "predictor_tokens": 9} | {
        name: rng.uniform(0.1, 0.9, 12) for name in FEATURES
    }
    write_table(tmp_path / "predictions.parquet", pd.DataFrame(predicted), PREDICTIONS)
    return tmp_path


def run(folder, command: str, *arguments: object) -> None:
    files = ["--parallel", folder / "parallel/pool.parquet", "--chain", folder / "chain/pool.parquet"]
    options = [*files, "--predictions", folder / "predictions.parquet", "--seed", 1, *arguments]
    done = CliRunner().invoke(app, [*command.split(), *map(str, options)], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def replayed(folder, *verifiers: str) -> dict[str, pd.DataFrame]:
    names = [f"--verifier={name}" for name in verifiers]
    record = folder / "calibration.json"
    asked = ["--methods", json.dumps(METHODS), "--compare", json.dumps(COMPARE)]
    run(folder, "calibrate", *names, *asked, "--out", record)
    run(folder, "replay", *names, "--benchmark", "b", "--calibration", record, "--orders", 8, "--out", folder / "tables")
    published = "config/published.csv"
    main = folder / "tables" / "main.csv"
    options = ["--benchmark", "b", "--calibration", record, "--orders", 8, "--main", main, "--published", published]
    run(folder, "step optscale", *names, *options, "--out", folder / "tables")
    return {path.stem: pd.read_csv(path, keep_default_na=False) for path in (folder / "tables").glob("*.csv")}


@pytest.mark.slow
def test_a_verifier_that_says_the_same_is_worth_the_same(folder):
    tables = replayed(folder, "first", "twin")
    main = tables["main"]
    of = {name: set(main.loc[main["verifier"] == name, "slug"]) for name in ("first", "twin", "none")}
    assert of["none"] == {"self_consistency", "mr_thinking"}
    # What is predicted of the first verifier's scores says nothing of another's.
    assert of["first"] - of["twin"] == {"optscale_predicted", "dsc"}
    assert of["twin"] == {"best_of_n", "score_threshold", "optscale", "dsc_oracle", "best_scored_round"}
    for name, keys in {
        "main": ["slug", "budget"],
        "stops": ["slug", "budget", "samples", "reason"],
        "curves": ["method", "n"],
        "frontier": ["method", "budget"],
        "selection": ["slug", "budget", "protocol"],
        "versus": ["slug", "rival", "budget"],
    }.items():
        table = tables[name].set_index(keys)
        twin = table[table["verifier"] == "twin"].drop(columns="verifier")
        first = table[table["verifier"] == "first"].drop(columns="verifier")
        assert len(twin) and not table.set_index("verifier", append=True).index.duplicated().any(), name
        pd.testing.assert_frame_equal(twin.sort_index(), first.loc[first.index.isin(twin.index)].sort_index())
    assert (tables["curves"]["verifier"] == "none").sum() == 2 * 4  # self-consistency and pass@N at 1, 2, 4, 8


@pytest.mark.slow
def test_a_verifier_is_read_where_its_rules_are_and_nowhere_else(folder):
    alone, both = replayed(folder, "first")["main"], replayed(folder, "first", "contrary")["main"]
    rows = both[both["verifier"] != "contrary"].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, alone)
    best = both[(both["slug"] == "best_of_n") & (both["budget"] == 8)].set_index("verifier")["accuracy"]
    pool = read_pool(folder / "parallel/pool.parquet", Unit.SAMPLE)
    lowest = np.where((pool.cluster >= 0) & ~np.isnan(pool.score), pool.score, np.inf).argmin(axis=1)
    assert best["contrary"] == pytest.approx(pool.correct[np.arange(pool.rows), lowest].mean(), abs=1e-5)
    assert best["contrary"] < best["first"]


def test_scores_take_the_place_of_the_pools_own(folder):
    own = read_pool(folder / "chain/pool.parquet", Unit.ROUND)
    other = read_pool(folder / "chain/pool.parquet", Unit.ROUND, folder / "chain/scores_contrary.parquet")
    np.testing.assert_allclose(other.score, 1 - own.score)
    np.testing.assert_array_equal(replace(other, score=own.score).cluster, own.cluster)
    lacking = frame(random_pool(1, 12, 8)).iloc[1:]
    write_table(folder / "parallel/scores_short.parquet", lacking, SCORES)
    with pytest.raises(UserError, match=r"1 sample\(s\) are on one side only, the first is \('p0', 0, 0, 0\)"):
        read_pool(folder / "parallel/pool.parquet", Unit.SAMPLE, folder / "parallel/scores_short.parquet")


def test_a_verifier_that_was_not_calibrated_with_is_named(folder):
    from itscale.studies.calibrate import of_verifier

    with pytest.raises(UserError, match="the calibration knows twin verifier beside the first, not 'weak'"):
        of_verifier({"others": {"twin": {}}}, "weak")
