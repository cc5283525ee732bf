"""Budget forcing beside re-answering: equal total tokens, paired by question."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from itscale.data.records import POOL, Unit, write_table
from itscale.errors import UserError
from itscale.studies.chains.forcing import FORCED, REANSWERED, beside
from pools import random_pool
from studies.test_confidence_scores import run
from studies.test_verifiers import frame

CHAINS = random_pool(2, 60, 4, Unit.ROUND, 2)
SAMPLES = random_pool(1, 30, 16)


def test_equal_chains_differ_in_nothing_and_the_last_round_is_the_answer():
    table = beside(CHAINS, CHAINS, SAMPLES, benchmark="b").set_index(["kind", "rule", "rounds"])
    assert (table["minus_reanswering"].abs() < 1e-9).all()
    for rounds in range(1, 5):
        row = table.loc[(FORCED, "last answer", rounds)]
        assert row["accuracy"] == pytest.approx(CHAINS.correct[:, rounds - 1].mean())
        assert row["gain"] == pytest.approx(CHAINS.correct[:, rounds - 1].mean() - CHAINS.correct[:, 0].mean())
        paid = (CHAINS.prompt_tokens - CHAINS.cached_prompt_tokens + CHAINS.completion_tokens)[:, :rounds].sum(axis=1).mean()
        assert row["total_tokens"] == pytest.approx(paid)


def test_dearer_chains_are_held_against_more_rounds():
    """With twice the tokens a round, two forced rounds cost as much as four rounds of re-answering."""
    ten, none = np.full_like(CHAINS.prompt_tokens, 10), np.zeros_like(CHAINS.prompt_tokens)
    cheap = replace(CHAINS, prompt_tokens=ten, completion_tokens=ten, cached_prompt_tokens=none)
    dear = replace(cheap, prompt_tokens=2 * ten, completion_tokens=2 * ten)
    table = beside(dear, cheap, None, benchmark="b").set_index(["kind", "rule", "rounds"])
    last = {n: CHAINS.correct[:, n - 1].mean() for n in (1, 2, 4)}
    assert table.loc[(FORCED, "last answer", 2), "minus_reanswering"] == pytest.approx(last[2] - last[4])
    assert table.loc[(FORCED, "last answer", 1), "minus_reanswering"] == pytest.approx(last[1] - last[2])
    assert table.loc[(REANSWERED, "last answer", 2), "minus_reanswering"] == pytest.approx(0.0)
    assert "minus_votes" not in table


def test_the_command_writes_both_tables_and_refuses_other_questions(tmp_path):
    for name, pool in {"forced": CHAINS, "again": CHAINS, "parallel": SAMPLES}.items():
        write_table(tmp_path / name / "pool.parquet", frame(pool), POOL)
    options = ["--benchmark", "b", "--forced", tmp_path / "forced/pool.parquet", "--reanswered", tmp_path / "again/pool.parquet"]
    run("step", "forcing", *options, "--parallel", tmp_path / "parallel/pool.parquet", "--out", tmp_path / "forcing.csv")
    table = pd.read_csv(tmp_path / "forcing.csv")
    assert set(table["kind"]) == {FORCED, REANSWERED} and table["minus_votes"].notna().all()
    assert "| budget forcing" in (tmp_path / "forcing.md").read_text()
    with pytest.raises(UserError, match="different questions"):
        beside(CHAINS, random_pool(2, 20, 4, Unit.ROUND, 2), None, benchmark="b")
