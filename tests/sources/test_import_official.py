"""The released pools, built in their schema: what is tolerated, what is refused, and the whole flow on them."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from itscale.cli import app
from itscale.data.records import Unit, read_any_pool
from itscale.errors import UserError
from itscale.sources.official import import_official

ROOT = Path(__file__).parents[2]


def written(folder, name, questions, n, seed, key="problem", kind="parallel"):
    """A prompt file and a completion pool with questions of different difficulty, blank completions and a few odd keys."""
    rng = np.random.default_rng(seed)
    prompts, entries = [], []
    for i in range(questions):
        answer = (37 * i + 11) % 1000
        skill = rng.random()
        right = rng.random(n) < skill
        values = np.where(right, answer, rng.integers(0, 4, n) + 1000)
        texts = [f"Step by step.</think> So it is $\\boxed{{{v}}}$." for v in values]
        for blank in np.flatnonzero(rng.random(n) < 0.02):
            texts[blank] = ""
        scores = np.clip(rng.normal(0.5 + 0.3 * right, 0.15), 0, 1).round(4).tolist()
        prompts.append({key: f"{name} question {i}?", "answer": str(answer), "id": i + 60, "url": "x"})
        entries.append(
            {
                "id": i,
                "output": texts[0],
                "n": n,
                "score": {
                    "problem": [f"{name} question {i}?"],
                    "completions": [texts],
                    "scores": [scores],
                    "last_scores": [scores[::-1]],
                    "pred": [texts[0]],
                    "completion_tokens": [rng.integers(50, 400, n).tolist()],
                },
            }
        )
    return dump(folder / f"{name}_prompts.json", prompts), dump(folder / f"{name}_{kind}.json", entries)


def dump(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def files(tmp_path):
    return written(tmp_path, "mini", 4, 6, 0)


def changed(path, change):
    content = json.loads(path.read_text())
    change(content)
    return dump(path, content)


def test_a_packed_pool_with_a_byte_order_mark_is_the_same(files, tmp_path):
    prompts, pool = files
    packed = tmp_path / "pool.json.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + pool.read_bytes()))
    plain, same = (import_official(path, prompts, "mini", Unit.SAMPLE)[1] for path in (pool, packed))
    pd.testing.assert_frame_equal(plain, same)
    told = [
        "import",
        str(packed),
        "--format",
        "optscale",
        "--problems",
        str(prompts),
        "--score",
        "sigmoid",
        "--out",
        str(tmp_path / "x"),
    ]
    with pytest.raises(UserError, match="leave out --score"):
        app(told, standalone_mode=False)


@pytest.mark.parametrize("unit", [Unit.SAMPLE, Unit.ROUND])
def test_a_pool_keeps_its_order_and_numbers(files, unit):
    prompts, pool = files
    problems, samples, scores, left_out = import_official(pool, prompts, "mini", unit)
    assert [p.problem_id for p in problems] == [f"mini-{i:04d}" for i in range(4)] and not left_out
    column = "sample" if unit is Unit.SAMPLE else "round"
    released = json.loads(pool.read_text())
    for i, entry in enumerate(released):
        mine = samples["problem_id"] == f"mini-{i:04d}"
        assert samples.loc[mine, column].tolist() == list(range(6))
        assert samples.loc[mine, "text"].tolist() == entry["score"]["completions"][0]
        assert samples.loc[mine, "completion_tokens"].tolist() == entry["score"]["completion_tokens"][0]
        assert scores.loc[mine, "score_mean"].tolist() == entry["score"]["scores"][0]
        assert scores.loc[mine, "score_last"].tolist() == entry["score"]["last_scores"][0]


def test_what_the_released_readers_tolerate_is_tolerated(files):
    prompts, pool = files

    def relax(entries):
        for entry in entries:
            del entry["id"], entry["n"], entry["score"]["last_scores"], entry["score"]["problem"]
            entry["score"]["scores"][0][0] = 1  # an integer
            entry["score"]["completions"][0][1] = ""

    changed(pool, relax)
    changed(prompts, lambda rows: [r.update(question=r.pop("problem"), answer=f"so it is\n#### {r['answer']}") for r in rows])
    problems, samples, scores, _ = import_official(pool, prompts, "mini", Unit.SAMPLE)
    assert all(p.answer.isdigit() for p in problems)
    assert scores["score_last"].isna().all() and (samples["text"] == "").sum() >= 4


def cut(name):
    return lambda entries: entries[2]["score"][name][0].pop()


BAD = {
    "6 scores": (cut("completions"), "entry 2 is misaligned \\(5 completions, 6 scores"),
    "tokens": (cut("completion_tokens"), "entry 2 is misaligned"),
    "empty": (lambda e: e[2]["score"].update(completions=[[""] * 6]), "entry 2 has no completion that is not empty"),
    "none": (lambda e: e[2]["score"].update(completions=[]), "entry 2 has no list within a list `completions`"),
    "text": (lambda e: e[2]["score"]["scores"][0].__setitem__(3, "0.5"), "entry 2 has a score 3 that is no number \\('0.5'\\)"),
    "null": (lambda e: e[2]["score"]["scores"][0].__setitem__(3, None), "entry 2 has a score 3 that is no number"),
    "nan": (lambda e: e[2]["score"]["scores"][0].__setitem__(3, float("nan")), "entry 2 has a score 3 that is no number"),
    "range": (lambda e: e[2]["score"]["last_scores"][0].__setitem__(0, 1.2), "entry 2 has a last score 0 outside 0 to 1"),
    "order": (lambda e: e[2]["score"].update(problem=["Another question"]), "entry 2 is about another question"),
    "count": (lambda e: e[2]["score"]["completion_tokens"][0].__setitem__(0, -1), "entry 2 has completion tokens 0"),
    "size": (
        lambda e: [e[2]["score"][n][0].pop() for n in ("completions", "scores", "last_scores", "completion_tokens")],
        "entry 2 has 5 completions where those before it have 6",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_misalignment_is_an_error_with_the_index_or_listed(files, case):
    change, message = BAD[case]
    prompts, pool = files
    changed(pool, change)
    with pytest.raises(UserError, match=message):
        import_official(pool, prompts, "mini", Unit.SAMPLE)
    problems, samples, _, left_out = import_official(pool, prompts, "mini", Unit.SAMPLE, skip_bad=True)
    assert [p.problem_id for p in problems] == ["mini-0000", "mini-0001", "mini-0003"]  # positions stay
    assert len(samples) == 18 and len(left_out) == 1 and "entry 2" in left_out[0]


def test_another_number_of_entries_is_never_skipped(files):
    prompts, pool = files
    changed(pool, lambda entries: entries.pop())
    with pytest.raises(UserError, match=r"has 3 entries and .* 4 prompts"):
        import_official(pool, prompts, "mini", Unit.SAMPLE, skip_bad=True)


@pytest.mark.slow
def test_the_whole_flow_runs_on_released_pools(home, tmp_path):
    """A pool of AIME's size and a larger one, parallel and sequential, from their JSON to tables and figures, without a GPU."""
    config = yaml.safe_load((ROOT / "config" / "official_pools.yaml").read_text())
    sizes = {"calibration": (40, 16), "aime24": (30, 64), "math500": (150, 64)}
    for seed, (name, (questions, n)) in enumerate(sizes.items()):
        for kind in ("parallel", "chain"):
            key = "question" if name == "aime24" else "problem"
            prompts, pool = written(tmp_path, name, questions, 8 if kind == "chain" else n, seed, key, kind)
            config["official"][name] |= {"prompts": str(prompts), kind: str(pool)}
    config["results"] = str(tmp_path / "results")
    config["compare"] |= {"orders": 2, "calibration_orders": 1, "simulated": 20}
    config["markovscale"] |= {"replicates": 20}
    # The file's own list of methods, with smaller grids; only fixed N at more than the calibration split's 16 samples.
    methods = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["methods"]
    for name, method in methods.items():
        if name not in config["methods"]:
            config["methods"][name] = {"grid": {key: values[:1] for key, values in method.get("grid", {}).items()}}
            if "n_max" in method.get("sweep", {}):
                config["methods"][name]["sweep"] = {"n_max": [16]}
    config["methods"]["optscale_paper"]["grid"] = {"s_min": [0.8, 0.9], "alpha": [0.9]}
    overlay = tmp_path / "official.yaml"
    overlay.write_text(yaml.safe_dump(config))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    # A part of the target `optscale`: all that reads pools.
    wanted = [f"{config['results']}/{name}" for name in ("tables/main.md", "tables/published.csv", "figures/selection.pdf")]
    command = [sys.executable, "-m", "snakemake", *wanted, "--cores", "2", "--configfile", "config/config.yaml", str(overlay)]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    tables = tmp_path / "results" / "tables"
    main = pd.read_csv(tables / "main.csv")
    assert set(main["benchmark"]) == {"aime24", "math500"} and set(main["problems"]) == {30, 150}
    assert set(main["slug"]) == {name for name in methods if config["methods"][name] is not None}
    published = pd.read_csv(tables / "published.csv")
    row = published[(published["benchmark"] == "math500") & (published["method"] == "best-of-N") & (published["budget"] == 64)]
    ours = main[(main["benchmark"] == "math500") & (main["method"] == "best-of-N") & (main["budget"] == 64)]
    assert row["difference"].item() == pytest.approx(100 * ours["accuracy"].item() - row["published_accuracy"].item(), abs=0.01)
    assert 0.5 < ours["accuracy"].item() < 1
    assert (tmp_path / "results" / "figures" / "selection.pdf").stat().st_size > 5000
    assert {folder.name for folder in (tmp_path / "results" / "pools").iterdir()} == set(sizes)  # no model draws
    assert set(pd.read_csv(tables / "markovscale_methods.csv")["benchmark"]) == {"aime24", "math500"}
    assert "A real model (" not in (tmp_path / "results" / "SUMMARY.md").read_text()  # of another model's samples


def test_a_released_pool_is_imported_as_samples_of_anybody(tmp_path):
    prompts, pool = written(tmp_path, "mini", 8, 6, 0)
    _, rounds = written(tmp_path, "mini", 8, 6, 0, kind="chain")
    for form, file, kind in (("optscale", pool, "parallel"), ("optscale-rounds", rounds, "chain")):
        given = ["import", file, "--format", form, "--problems", prompts, "--out", tmp_path / "mine" / kind]
        app([*map(str, given)], standalone_mode=False)
    samples, chains = (read_any_pool(tmp_path / "mine" / kind) for kind in ("parallel", "chain"))
    assert (samples.unit, chains.unit) == (Unit.SAMPLE, Unit.ROUND) and samples.problem_ids == chains.problem_ids
    assert (samples.correct == chains.correct).all() and 0 < samples.correct.mean() < 1
    released = json.loads(pool.read_text())[3]["score"]
    assert samples.score[3].tolist() == pytest.approx(released["scores"][0], abs=1e-6)
    with pytest.raises(UserError, match="give that with --problems"):
        app(["import", str(pool), "--format", "optscale", "--out", str(tmp_path / "other")], standalone_mode=False)
