"""The table of all rules, made by the commands that the workflow calls."""

import json

import numpy as np
import pandas as pd
import pytest

from itscale.data.records import POOL, Unit, write_table
from pools import random_pool
from studies.test_confidence_scores import run
from studies.test_verifiers import COMPARE, frame

METHODS = {
    "self_consistency": {"sweep": {"n": [4, 8]}},
    "vote_lead": {"settings": {"n_max": 8, "lead": 2}},
    "vote_bayes": {"sweep": {"n_max": [4, 8]}, "grid": {"eps": [0.3, 0.1]}},
    "best_of_n": {"sweep": {"n": [8]}},
}


def test_every_rule_stands_once_a_benchmark_with_what_it_needs_promises_saves_and_loses(tmp_path):
    for kind, pool in {"parallel": random_pool(1, 30, 8), "chain": random_pool(2, 24, 4, Unit.ROUND, 2)}.items():
        write_table(tmp_path / kind / "pool.parquet", frame(pool), POOL)
    pools = ["--parallel", tmp_path / "parallel/pool.parquet", "--chain", tmp_path / "chain/pool.parquet", "--seed", 0]
    calibration, chosen, tables = tmp_path / "calibration.json", tmp_path / "calibration.csv", tmp_path / "tables"
    options = ["--methods", json.dumps(METHODS), "--compare", json.dumps(COMPARE), "--table", chosen, "--out", calibration]
    run("calibrate", *pools, *options)
    run("replay", "--benchmark", "b", "--calibration", calibration, *pools, "--orders", 4, "--out", tables)
    run("step", "rule-table", "--main", tables / "main.csv", "--chosen", chosen, "--out", tables / "rules.csv")
    table = pd.read_csv(tables / "rules.csv", keep_default_na=False, na_values=[""]).set_index("slug")
    main = pd.read_csv(tables / "main.csv").query("budget == 8").set_index("slug")
    assert set(table.index) == set(METHODS) and (table["limit"] == "8 samples").all()
    assert table["saving"].is_monotonic_decreasing
    lead, whole = (main.loc[name, "completion_tokens"] for name in ("vote_lead", "self_consistency"))
    assert table.loc["vote_lead", "saving"] == pytest.approx(1 - lead / whole, abs=0.02)  # N in expectation, saving in orders
    assert table.loc["self_consistency", "saving"] == 0
    assert table.loc["vote_lead", "difference"] == pytest.approx(main.loc["vote_lead", "accuracy_difference"], abs=1e-5)
    assert table["needs"].dropna().to_dict() == {"vote_bayes": "calibration", "best_of_n": "verifier"}
    assert table.loc["vote_bayes", "promised_error"] in (0.1, 0.3) and np.isnan(table.loc["vote_lead", "promised_error"])
    assert table.loc["vote_bayes", "measured_error_low"] <= table.loc["vote_bayes", "measured_error"]
    text = (tables / "rules.md").read_text()
    assert text.startswith("# Which rule?") and "## b" in text and "| Bayes vote" in text and "nan" not in text.split()
    assert (table["unanswered"] > 0).all() and (table["cut_off"] == 0).all()
