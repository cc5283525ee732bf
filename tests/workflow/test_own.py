"""config/own_samples.yaml on a file of somebody's samples, through the workflow."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd

from checkout import checkout


def test_samples_of_ones_own_become_the_tables_of_every_rule_that_they_allow(tmp_path):
    folder, rng = checkout(tmp_path), random.Random(0)
    with open(folder / "my_samples.jsonl", "w") as file:
        for i in range(40):
            ease = rng.random()
            for _ in range(6):
                answer = i if rng.random() < ease else rng.choice([100, 200, 300])
                row = {
                    "question": f"What is {i} + 0?",
                    "gold": str(i),
                    "text": f"We get \\boxed{{{answer}}}",
                    "completion_tokens": 9,
                }
                file.write(json.dumps(row) + "\n")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", "config/config.yaml", "config/own_samples.yaml"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    targets = ["--", "results/own_samples/tables/main.md"]
    done = subprocess.run([*command, *targets], cwd=folder, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "localrules" not in done.stdout + done.stderr  # Snakemake names rules that are asked for and not there
    tables = folder / "results" / "own_samples" / "tables"
    main = pd.read_csv(tables / "main.csv")
    assert {"self_consistency", "asc", "esc", "vote_lead"} <= set(main["slug"]) and set(main["verifier"]) == {"none"}
    assert main["budget"].max() == 6  # limits above the pool are lowered to it
    assert (main["benchmark"] == "mine").all() and 0 < main["problems"].iloc[0] < 40
    said = (tables / "main.md").read_text()
    assert "best_of_n" in said and "(no scores)" in said and "mr_thinking" in said and "(no chains)" in said
