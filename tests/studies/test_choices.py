"""What a calibration's table and sentences say."""

import pandas as pd
import pytest

from itscale.data.records import Unit
from itscale.policies import make_policy
from itscale.studies.calibrate import _at_an_end, calibrate
from itscale.studies.choices import chosen_table, sentences, with_promises
from itscale.studies.compare import compare
from itscale.studies.methods import Method
from pools import KNOWN, random_pool

POOLS = {Unit.SAMPLE: random_pool(1, rows=12)}
METHODS = [
    Method("ASC", "asc", sweep={"n_max": [8, 16]}, grid={"threshold": [0.8, 0.95, 0.99]}),
    Method("posterior", "vote_posterior", sweep={"n_max": [8, 16]}, grid={"eps": [0.3, 0.05, 0.0001]}),
]


def test_few_questions_are_said_and_promises_stand_beside_what_was_measured():
    entries = calibrate(METHODS, POOLS, KNOWN, orders=4, seed=0)
    table = chosen_table({"verifier": "own", "methods": entries, "others": {}})
    assert len(table) == 4 and table["unanswered"].between(0.1, 4).all() and (table["cut_off"] == 0).all()
    assert table["promised_error"].notna().sum() == 2
    few = table[table["verdict"] == "too few questions to tell"]
    assert len(few) and (few["excluded"] > 0.01).all()
    assert any(f"{len(few)} of 4 choices" in sentence for sentence in sentences(table))
    policies = [(e["method"], make_policy(e["policy"], **e["settings"], **e["hyperparameters"]).bind(KNOWN)) for e in entries]
    _, stops, _ = compare(policies, POOLS, benchmark="b", orders=4, seed=0)
    told = with_promises(stops, entries)
    assert len(told) == len(stops) and (told["promised_error"].notna() == (told["method"] == "posterior")).all()
    for entry in entries[2:]:
        rows = told[(told["method"] == "posterior") & (told["budget"] == entry["settings"]["n_max"])]
        assert (rows["promised_error"] == entry["hyperparameters"]["eps"]).all()


def test_a_broken_promise_and_the_end_of_a_grid_are_sentences():
    row = {"verifier": "own", "method": "M", "settings": "n_max=8", "chosen": "eps=0.1", "edge": "eps", "verdict": "x"}
    broken = row | {"promised_error": 0.1, "measured_error": 0.3, "measured_error_low": 0.2, "measured_error_high": 0.4}
    unsure = broken | {"edge": "", "measured_error_low": 0.05}
    kept = unsure | {"measured_error": 0.08}
    found = sentences(pd.DataFrame([broken, unsure, kept]))
    assert len(found) == 3 and "widen it" in found[0] and "30.0 % [20.0, 40.0]" in found[1]
    assert "the interval holds the promise" in found[2] and "the interval" not in found[1]
    (both,) = sentences(pd.DataFrame([kept | {"edge": "s_min, alpha", "chosen": "s_min=0.8 alpha=0.8"}]))
    assert both == "M (n_max=8): s_min, alpha are at ends of their grids (s_min=0.8 alpha=0.8): widen them."


@pytest.mark.parametrize(
    ("name", "value", "values", "at_an_end"),
    [
        ("eps", 0.2, [0.2, 0.1, 0.05], True),
        ("eps", 0.1, [0.2, 0.1, 0.05], False),
        ("eps", 0.05, [0.2, 0.05], False),  # two values are no grid that ends
        ("lead", 2, [2, 3, 4], False),  # a lead of 1 is one vote
        ("lead", 4, [2, 3, 4], True),
        ("cost", 0.0, [0.0, 0.001, 0.01], False),  # nothing is cheaper than nothing
        ("share", 1.0, [0.6, 0.8, 1.0], False),
        ("s_min", "90%", ["80%", "90%", "95%"], False),
    ],
)
def test_a_choice_at_the_end_of_its_grid_is_one_beyond_which_others_would_do(name, value, values, at_an_end):
    assert _at_an_end(name, value, values) is at_an_end
