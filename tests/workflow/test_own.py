"""config/own_samples.yaml on a file of somebody's samples, through the workflow."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml

from checkout import checkout


def snakemake(folder: Path, config: str, *targets: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", "config/config.yaml", config, "--", *targets]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done


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
    done = snakemake(folder, "config/own_samples.yaml", "results/own_samples/tables/main.md")
    assert "localrules" not in done.stdout + done.stderr  # Snakemake names rules that are asked for and not there
    tables = folder / "results" / "own_samples" / "tables"
    main = pd.read_csv(tables / "main.csv")
    assert {"self_consistency", "asc", "esc", "vote_lead"} <= set(main["slug"]) and set(main["verifier"]) == {"none"}
    assert main["budget"].max() == 6  # limits above the pool are lowered to it
    assert (main["benchmark"] == "mine").all() and 0 < main["problems"].iloc[0] < 40
    said = (tables / "main.md").read_text()
    assert "best_of_n" in said and "(no scores)" in said and "mr_thinking" in said and "(no chains)" in said


def test_two_pools_with_the_models_own_confidence_and_chains_become_all_that_a_run_has(tmp_path):
    """Named calibration and test pools, samples and chains, confidence as the score: the whole of a bare `snakemake`."""
    folder, rng = checkout(tmp_path), random.Random(1)
    for name, first in (("calibration", 0), ("mine", 100)):
        for kind, places in (
            ("samples", [(0, 0, n) for n in range(8)]),
            ("chains", [(n, t, 0) for n in range(2) for t in range(3)]),
        ):
            with open(folder / f"{name}_{kind}.jsonl", "w") as file:
                for i in range(first, first + 30):
                    ease = 0.2 + 0.7 * (i % 10) / 10
                    for chain, at, sample in places:
                        right = rng.random() < ease
                        answer = i if right else rng.choice([1000, 2000, 3000])
                        row = {"question": f"What is {i} + 0?", "gold": str(i), "text": f"So \\boxed{{{answer}}}", "chain": chain}
                        row |= {"round": at, "sample": sample, "completion_tokens": 9 + sample}
                        file.write(json.dumps(row | {"logprob_mean": rng.gauss(-0.1 if right else -0.4, 0.1)}) + "\n")
    config = yaml.safe_load((folder / "config/own_samples.yaml").read_text()) | {"verifier": {"confidence": "logprob_mean"}}
    config["imported"] = {n: {k: [f"{n}_{k}.jsonl"] for k in ("samples", "chains")} for n in ("calibration", "mine")}
    config["compare"] |= {"orders": 4, "calibration_orders": 2, "simulated": 20}
    config["markovscale"] |= {"replicates": 20}
    (folder / "both.yaml").write_text(yaml.safe_dump(config))
    snakemake(folder, "both.yaml")
    results = folder / "results" / "own_samples"
    main = pd.read_csv(results / "tables" / "main.csv").set_index("slug")
    assert {"optscale", "score_threshold", "cisc", "asc", "markovscale_zero", "mr_thinking"} <= set(main.index)
    assert set(main["problems"]) == {30} and main.loc[["optscale"], "verifier"].unique().tolist() == ["logprob_mean"]
    # Confidence tells right from wrong here: the most confident of eight is right more often than one.
    best = main.loc[["best_of_n"]].set_index("budget")["accuracy"]
    assert best[8] > best[1] + 0.2
    assert {"rules.csv", "at_budget.csv", "markovscale_methods.csv"} <= {path.name for path in (results / "tables").iterdir()}
    drawn = {path.stem for path in (results / "figures").glob("*.pdf")}
    assert {"accuracy_tokens", "savings", "score_fit", "accuracy_round", "frontier"} <= drawn
    assert not drawn & {"live_saving", "predictor_label"}  # nothing is drawn of these, and there is no predictor
    assert "30 questions (mine)" in (results / "SUMMARY.md").read_text() and (results / "report.html").stat().st_size > 10**5
