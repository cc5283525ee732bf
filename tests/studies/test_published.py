"""What published figures can bear, against numbers worked out by hand and by simulation."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from itscale.data.tables import read_csv
from itscale.studies.published import QUESTIONS, band, differences, rounds_against_chain, two_state
from itscale.theory.markov import accuracy_at

CONFIG = Path(__file__).resolve().parents[2] / "config"


def test_the_curve_is_that_of_a_two_state_chain():
    # p0 = 0.5, a = 0.1, b = 0.3: pi = 0.75, lambda = 0.6, so the second round is at 0.75 - 0.6 * 0.25 = 0.6.
    chain = two_state(0.5, 0.6, 0.75)
    assert chain.pace == pytest.approx(0.6)
    assert chain.at(np.arange(1, 9)) == pytest.approx(accuracy_at(0.5, 0.1, 0.3, np.arange(8)))
    assert two_state(0.5, 0.2, 0.55).pace == 0  # no chain leads there


def test_the_band_holds_runs_of_its_own():
    low, high = band(np.array([0.6]), 30)
    runs = np.random.default_rng(0).binomial(30, 0.6, 20000) / 30
    assert 0.93 < ((runs >= low[0]) & (runs <= high[0])).mean() < 0.99


def test_nearly_all_of_re_answering_comes_with_one_re_answer():
    table = rounds_against_chain(read_csv(CONFIG / "published_rounds.csv"))
    assert set(table["benchmark"]) == set(QUESTIONS) and len(table) == 35
    late = table[table["round"] > 1]
    # AIME24 at 64 is the highest of 64 rounds, and within the band of 30 questions all the same.
    assert ((late["published"] >= late["low"] - 1e-9) & (late["published"] <= late["high"] + 1e-9)).all()
    gained = (
        late[late["round"] == 2].set_index("benchmark")["two_state"]
        - table[table["round"] == 1].set_index("benchmark")["published"]
    )
    assert gained["MATH500"] == pytest.approx(2.4) and gained["GSM8K"] == pytest.approx(1.44)


def test_differences_are_held_against_the_noise_of_their_questions():
    columns = {f"{name}_accuracy": [50.0, 60.0] for name in QUESTIONS}
    found = differences(pd.DataFrame({"method": ["best-of-N", "mine"], "budget": 8, **columns})).set_index("benchmark")
    # 1.96 sqrt((0.25 + 0.24) / n): 6.1 points of 500 questions, 25.0 of 30.
    assert found.loc["MATH500", "noise"] == pytest.approx(6.136, abs=1e-3) and found.loc["AIME24", "noise"] == pytest.approx(
        25.05, abs=0.01
    )
    assert found["independent"].to_dict() == {"MATH500": True, "GSM8K": True, "AIME24": False, "AIME25": False, "AMC23": False}
    assert found["questions"].to_dict() == {"MATH500": 50, "GSM8K": 132, "AIME24": 3, "AIME25": 3, "AMC23": 4}
    assert not found.loc["AMC23", "paired"] and found.loc["MATH500", "paired"]


def test_the_published_rounds_are_those_that_were_released():
    released = CONFIG.parents[1] / "shared" / "official" / "published_curves.json"
    if not released.exists():
        pytest.skip("the released curves are not there")
    curves = json.loads(released.read_text())["datasets"]
    table = pd.read_csv(CONFIG / "published_rounds.csv").set_index("benchmark")
    assert len(table) == 5
    for name, row in table.iterrows():
        curve = dict(zip(curves[name]["mr_thinking"]["N"], 100 * np.array(curves[name]["mr_thinking"]["accuracy"]), strict=True))
        later = np.array([curve[n] for n in range(2, 65)])
        found = [curve[n] for n in (1, 2, 4, 8, 16, 32, 64)] + [later.mean(), later.std(ddof=1), later.min(), later.max()]
        assert row.loc["round_1":"max"].to_numpy(float) == pytest.approx(found, abs=0.006)
