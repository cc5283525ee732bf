"""The code of docs/public_pools.md, on files of the released shapes made by hand; and its tables, on pools of our own."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from itscale.cli import app
from itscale.data.records import POOL, write_table
from pools import random_pool
from studies.test_verifiers import frame

ROOT = Path(__file__).parents[2]
CONSOL, DYLAN = re.findall(r"```python\n(.*?)```", (ROOT / "docs/public_pools.md").read_text(), re.DOTALL)


def run_block(code: str, folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    exec(compile(code, "public_pools.md", "exec", dont_inherit=True), {"__name__": "example"})


def test_consols_votes_become_rows_with_question_and_gold(tmp_path, monkeypatch):
    lines = [{"question": f"question {i}", "answer": f"work\n#### {i}"} for i in range(3)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder = tmp_path / "consol/resources/experiment_output/gsm/gpt4omini-gsm-vote"
    folder.mkdir(parents=True)
    with open(folder / "2.csv", "w", newline="") as file:
        rows = csv.DictWriter(file, ["answer", "token_usage"])
        rows.writeheader()
        rows.writerows([{"answer": "2", "token_usage": 130}, {"answer": "7", "token_usage": 90}])
    run_block(CONSOL, tmp_path, monkeypatch)
    done = CliRunner().invoke(app, ["import", "gsm8k_votes.jsonl", "--out", "pool"])
    assert done.exit_code == 0, done.output
    pool = pd.read_parquet("pool/pool.parquet")
    assert pool["verdict"].tolist() == ["correct", "wrong"] and pool["completion_tokens"].tolist() == [130, 90]


def agent(*said: str) -> list[dict[str, str]]:
    turns = [{"role": "system", "content": "It's a debate."}]
    for text in said:
        turns += [{"role": "user", "content": "Problem"}, {"role": "assistant", "content": text}]
    return turns


def test_dylans_debates_become_chains_of_two_rounds(tmp_path, monkeypatch):
    folder = tmp_path / "DyLAN/exp/MATH/CoT"
    folder.mkdir(parents=True)
    open_question = "Problem: an example\nAnswer: 1\n\nPlease solve the problem below.\nProblem: What is 1+1?\nAnswer:"
    debate = [agent("\\boxed{3}", "\\boxed{2}"), agent("\\boxed{2}", "\\boxed{2}", "\\boxed{9}"), agent("\\boxed{4}", "no")]
    settled = [agent("\\boxed{5}")] * 3
    content = {
        open_question: [[*debate, agent("\\boxed{3}")], "2", 1, "Algebra"],
        "Problem: 2+3?\nAnswer:": [settled, "5", 1, "Algebra"],
    }
    (folder / "algebra_1_2_4_3.json").write_text(json.dumps(content))
    run_block(DYLAN, tmp_path, monkeypatch)
    done = CliRunner().invoke(app, ["import", "dylan_rounds.jsonl", "--out", "pool"])
    assert done.exit_code == 0, done.output
    pool = pd.read_parquet("pool/pool.parquet").sort_values(["chain", "round"])
    assert pool["problem_id"].unique().tolist() == ["algebra_1_2_4_3-0"]  # the other found its consensus in round one
    assert pool[["chain", "round"]].to_numpy().tolist() == [[c, r] for c in range(3) for r in range(2)]
    assert pool["verdict"].tolist() == ["wrong", "correct", "correct", "correct", "wrong", "unanswered"]


@pytest.mark.slow
def test_the_tables_of_a_pool_are_made_from_its_two_halves(tmp_path):
    for name, seed in (("calibration", 1), ("test", 2)):
        write_table(tmp_path / name / "pool.parquet", frame(random_pool(seed, 40, 8)), POOL)
    command = [sys.executable, ROOT / "docs/measure_pools.py", tmp_path, "--orders", "2"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rules, total, choices = said.strip().split("\n\n")
    assert "| ASC " in rules and "threshold=0.95" in rules and "OptScale^0 (paper)" in rules
    assert int(total.splitlines()[2].split("|")[1]) == len(choices.splitlines()) - 2
    assert {"40 (calibration)", "40 (test)"} == {line.split("|")[1].strip() for line in choices.splitlines()[2:]}
