"""Full disks, damaged files and models, problems that do not fit, a lack of memory, wrong settings: a sentence for each."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cases
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from cases import CONFIGURATION, DISK, MODELS, QUESTIONS, TABLES
from commands import drawing, grading, scoring, training
from safetensors.torch import load_file, save_file
from stored import table_of

from itscale.data.records import (
    POOL,
    SAMPLES,
    SCORES,
    Problem,
    read_json,
    read_table,
    sort_by_key,
    write_json,
    write_problems,
    write_table,
)
from pools import random_pool
from processes import Done, itscale

ROOT = Path(__file__).resolve().parents[2]


def refused(case: cases.Case, done: Done) -> None:
    """The user sees the case's sentence and nothing more (but for progress bars and the command's usage)."""
    assert done.code in (1, 2) and case.matches(done.said), done.said
    assert "Traceback" not in done.said
    sentences = [line for line in done.said.splitlines() if line.startswith("itscale: ")]
    assert len(sentences) == 1 or done.code == 2, done.said


# Disks.


def test_generation_on_a_full_disk_goes_on_with_space(made, own, small_disk, tmp_path):
    out, ballast = small_disk / "samples.parquet", small_disk / "ballast"
    ballast.write_bytes(b"x" * ((2 << 20) - (16 << 10)))
    done = itscale(tmp_path, *drawing(own, out))
    refused(DISK["full disk"], done)
    partial = Path(f"{out}.partial")
    kept = partial.read_bytes().count(b"\n")
    assert kept > 4 and sorted(p.name for p in small_disk.iterdir()) == ["ballast", partial.name]
    ballast.unlink()
    assert itscale(tmp_path, *drawing(own, out)).code == 0
    assert read_table(out, SAMPLES)["text"].tolist() == read_table(made / "samples.parquet", SAMPLES)["text"].tolist()


def test_no_model_folder_is_left_on_a_full_disk(made, small_disk, tmp_path):
    (small_disk / "ballast").write_bytes(b"x" * ((2 << 20) - (64 << 10)))
    done = itscale(tmp_path, *training("language model", made, small_disk / "lm"))
    refused(DISK["full disk, model"], done)
    assert not (small_disk / "lm").exists()


def test_a_read_only_disk(made, small_disk, tmp_path):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    refused(DISK["read-only"], itscale(tmp_path, *drawing(made, small_disk / "results" / "samples.parquet")))
    refused(DISK["read-only"], itscale(tmp_path, "step", "gather", made / "samples.parquet", "--out", small_disk / "x.parquet"))


# Files.


def damage(own: Path, name: str) -> list[object]:
    """Do one kind of damage, and the arguments of a command that meets it."""
    samples, manifest, mine = own / "samples.parquet", own / "samples.json", own / "mine.parquet"
    grade = grading(own, own / "grades.parquet")
    into = ["--out", own / "pool"]
    match name:
        case "truncated table":
            samples.write_bytes(samples.read_bytes()[:-50])
            return grade
        case "torn manifest":
            manifest.write_text(manifest.read_text()[:-20])
            return grade
        case "no hash":
            manifest.write_text('{"rows": 3}')
            return grade
        case "torn partial" | "other partial":
            out = own / "more.parquet"
            partial = Path(f"{out}.partial")
            partial.write_text('{"fingerprint": "of another plan"}\n')
            if name == "torn partial":
                # Of this plan, with a damaged row: the fingerprint is what a run that fails at its end leaves behind.
                partial.unlink()
                (own / "more.json").mkdir()
                assert itscale(own, *drawing(own, out)).code == 1
                rows = partial.read_bytes().splitlines(keepends=True)
                rows[2] = rows[2][:10] + b"\n"
                partial.write_bytes(b"".join(rows))
            return drawing(own, out)
        case "other weights":
            (own / "scores.json").mkdir()  # the table cannot be finished
            assert itscale(own, *scoring(own, own / "scores.parquet")).code == 1
            weights = load_file(own / "prm" / "model.safetensors")
            save_file({name: 1.01 * w for name, w in weights.items()}, own / "prm" / "model.safetensors", {"format": "pt"})
            return scoring(own, own / "scores.parquet")
        case "own Parquet":
            mine.write_bytes(samples.read_bytes()[:-50])
            return ["import", mine, *into]
        case "missing column":
            rows = {"problem_id": ["a"], "question": ["1+1"], "text": ["\\boxed{2}"], "completion_tokens": [3]}
            pd.DataFrame(rows).to_parquet(mine)
            return ["import", mine, *into]
        case "not UTF-8":
            (own / "mine.jsonl").write_bytes('{"question": "naïve"}\n'.encode("latin-1"))
            return ["import", own / "mine.jsonl", *into]
        case "a folder":
            return ["import", own / "lm", *into]
        case "a file":
            return [*grade[:-1], own / "problems.parquet" / "grades.parquet"]
        case "no calibration":
            pools = ["--parallel", samples, "--chain", samples]
            return ["replay", "--benchmark", "b", "--calibration", manifest, *pools, "--seed", "0", "--out", own / "tables"]
        case "empty CSV":
            (own / "main.csv").write_text("")
            return ["step", "markdown", "--table", own / "main.csv", "--out", own / "main.md"]
    raise ValueError(name)


@pytest.mark.parametrize("name", [name for name, case in TABLES.items() if not case.test])
def test_a_damaged_file_is_named_and_left_alone(name, own):
    command = damage(own, name)
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file() and not path.name.startswith("said")}
    refused(TABLES[name], itscale(own, *command))
    after = {path: path.read_bytes() for path in own.rglob("*") if path.is_file() and not path.name.startswith("said")}
    assert before == after


# Models and memory.


def test_a_generation_job_names_what_its_model_lacks(own):
    (own / "lm" / "tokenizer.json").unlink()
    refused(MODELS["tokenizer"], itscale(own, *drawing(own, own / "more.parquet")))


def test_a_prediction_names_what_its_model_lacks(own):
    shutil.copytree(own / "lm", own / "predictor" / "backbone")
    (own / "predictor" / "backbone" / "model.safetensors").unlink()
    (own / "predictor" / "predictor.json").write_text('{"settings": {}}')
    files = ["--problems", own / "problems.parquet", "--out", own / "predictions.parquet"]
    refused(MODELS["predictor"], itscale(own, "predict", "--model", own / "predictor", *files))


def test_weights_of_nan_make_no_scores(own):
    weights = load_file(own / "prm" / "model.safetensors")
    name = next(name for name in weights if name.startswith("score"))
    save_file({**weights, name: torch.full_like(weights[name], np.nan)}, own / "prm" / "model.safetensors", {"format": "pt"})
    refused(MODELS["NaN weights"], itscale(own, *scoring(own, own / "scores.parquet")))
    assert not (own / "scores.parquet").exists()


def long_question(own: Path) -> None:
    write_problems(own / "problems.parquet", [Problem("long", "+".join(["1"] * 240), "240")])


def test_a_batch_that_does_not_fit_into_memory_is_halved(own):
    long_question(own)
    one, two = own / "one.parquet", own / "two.parquet"
    few = {"samples": 768, "sampling": {"max_tokens": 2}}
    assert itscale(own, *drawing(own, one, batch=96, **few)).code == 0
    done = itscale(own, *drawing(own, two, batch=768, **few), memory=240 << 20)
    assert done.code == 0 and MODELS["out of memory"].matches(done.said), done.said
    sizes = [int(n) for n in re.findall(r"going on with (\d+)", done.said)]
    # Half of those that are under way when it does not fit: all of the 768, or less what had ended by then.
    assert sizes == sorted(sizes, reverse=True) and 0 < sizes[0] <= 384 and len(set(sizes)) == len(sizes)
    first, second = read_table(one, SAMPLES), read_table(two, SAMPLES)
    assert first["text"].tolist() == second["text"].tolist()


def test_one_request_that_does_not_fit_into_memory_is_said(own):
    write_problems(own / "problems.parquet", [Problem("long", "+".join(["1"] * 60_000), "0")])
    config = json.loads((own / "lm" / "config.json").read_text())
    (own / "lm" / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 1 << 18}))
    done = itscale(own, *drawing(own, own / "more.parquet", samples=2), memory=300 << 20)
    refused(MODELS["one too large"], done)


# Problems and samples.


def test_what_has_no_step_has_no_score(own):
    table = read_table(own / "samples.parquet", SAMPLES)
    table.loc[5, "text"] = ""
    write_table(own / "samples.parquet", table, SAMPLES)
    done = itscale(own, *scoring(own, own / "scores.parquet"))
    assert done.code == 0 and QUESTIONS["no score"].matches(done.said), done.said
    empty = sort_by_key(table)["text"].str.strip() == ""
    assert empty[5] and (sort_by_key(read_table(own / "scores.parquet", SCORES))["score_mean"].isna() == empty).all()
    pool = random_pool(3)
    unscored = table_of(pool).assign(seed=0, answer="", cluster=pool.cluster.ravel(), verdict="wrong", score_mean=np.nan)
    write_table(own / "pool.parquet", unscored, POOL)
    assert (done := itscale(own, "advise", "--pool", own / "pool.parquet", "--accuracy", 0.5)).code == 0, done.said


def strike(own: Path, name: str) -> list[object]:
    """Make problems or samples that do not fit, and the arguments of a command that meets them."""
    samples, problems = own / "samples.parquet", own / "problems.parquet"
    grade = grading(own, own / "grades.parquet")
    match name:
        case "empty benchmark":
            write_problems(problems, [])
            return drawing(own, own / "more.parquet")
        case "nothing left":
            (own / "bench").mkdir()
            rows = pd.DataFrame({"question": ["12+3*2", "13 +3*2"], "answer": ["1", "2"]})
            rows.iloc[:1].to_parquet(own / "bench" / "test-00000-of-00001.parquet")
            source = json.dumps({"path": str(own / "bench")})
            return ["dataset", "--source", source, "--label", "b", "--out", own / "b.parquet", "--exclude", problems]
        case "twins":
            write_problems(problems, [Problem("p0", "1+1", "2"), Problem("p0", "1+2", "3")])
            return grade
        case "a shard twice":
            return ["step", "gather", samples, samples, "--out", own / "all.parquet"]
        case "a shard missing":
            manifest = read_json(samples.with_suffix(".json"))
            write_json(samples.with_suffix(".json"), {**manifest, "plan": {**manifest["plan"], "shards": 2}})
            return ["step", "gather", samples, "--out", own / "all.parquet"]
        case "shards of two pools":
            manifest, table = read_json(samples.with_suffix(".json")), read_table(samples, SAMPLES)
            other = table.assign(problem_id="q" + table["problem_id"])
            plan = {**manifest["plan"], "seed": manifest["plan"]["seed"] + 1}
            write_table(own / "other.parquet", other, SAMPLES, {"drawn_with": manifest["drawn_with"], "plan": plan})
            return ["step", "gather", samples, own / "other.parquet", "--out", own / "all.parquet"]
        case "strangers":
            write_problems(problems, [Problem("q0", "1+1", "2")])
            return grade
        case "overlap":
            write_problems(own / "other.parquet", [Problem("x0", "12+3*2 ", "1")])
            files = ["--problems", problems, "--untouched", own / "other.parquet", "--calibration", samples]
            return ["train-on-votes", "--name", "run", "--model", own / "lm", *files, "--seed", "0", "--out", own / "run"]
        case "100 kB":
            write_problems(problems, [Problem("long", "1+" * 50_000 + "1", "2")])
            return drawing(own, own / "more.parquet", samples=1)
    raise ValueError(name)


@pytest.mark.parametrize("name", [name for name, case in QUESTIONS.items() if not case.test and name != "no score"])
def test_problems_and_samples_that_do_not_fit_are_refused(name, own):
    refused(QUESTIONS[name], itscale(own, *strike(own, name)))


def test_a_question_in_any_language_goes_through(own):
    write_problems(own / "problems.parquet", [Problem("ünï-цод", "Wie viel ist 1+1? 二足す二は？ \u202e\x00", "2")])
    done = itscale(own, *drawing(own, own / "samples.parquet", samples=2))
    assert done.code == 0, done.said
    for step in (scoring(own, own / "scores.parquet"), grading(own, own / "grades.parquet")):
        assert (done := itscale(own, *step)).code == 0, done.said
    assert sort_by_key(read_table(own / "samples.parquet", SAMPLES))["problem_id"].tolist() == ["ünï-цод"] * 2


# Settings.

SETTINGS = {
    "setting's type": ["step", "train-language-model", "p.parquet", "--seed", "1", "--settings", '{"steps": "many"}'],
    "negative": ["step", "train-language-model", "p.parquet", "--seed", "1", "--settings", '{"steps": -5}'],
    "infinity": ["step", "train-language-model", "p.parquet", "--seed", "1", "--settings", '{"learning_rate": Infinity}'],
    "no object": ["step", "train-language-model", "p.parquet", "--seed", "1", "--settings", "3"],
    "share": ["generate", "--plan", '{"kind": "parallel", "sampling": {"top_p": 0}}', "--model", "m", "--problems", "p.parquet"],
    "option": ["predict", "--model", "m", "--problems", "p.parquet", "--batch-size", "0"],
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_wrong_setting_is_named(name, made, tmp_path):
    where = {"p.parquet": made / "problems.parquet", "m": made / "lm"}
    command = [where.get(word, word) for word in SETTINGS[name]]
    command += ["--seed", "0"] if command[0].startswith("train") else []
    refused(CONFIGURATION[name], itscale(tmp_path, *command, "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "overlay"),
    [
        ("wrong type", {"compare": {"orders": "many"}}),
        ("calibration compared", {"compare": {"benchmarks": ["test", "calibration"]}}),
    ],
)
def test_a_wrong_configuration_is_refused_before_anything_runs(name, overlay, home, tmp_path):
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(overlay))
    files = ["config/config.yaml", str(tmp_path / "wrong.yaml")]
    command = [sys.executable, "-m", "snakemake", "-n", "--configfile", *files]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and CONFIGURATION[name].matches(done.stdout + done.stderr), done.stderr


# The table itself.


def test_the_page_holds_the_table():
    assert cases.page() in (ROOT / "docs" / "faults.md").read_text()


def test_every_test_that_is_named_is_there():
    for part in cases.PARTS.values():
        for case in part.values():
            if case.test:
                file, _, test = case.test.partition("::")
                assert f"def {test}(" in next((ROOT / "tests").rglob(file)).read_text(), case.test
