"""The paper's configuration without the network: local folders with the hub's files and columns, and models of each family."""

import json
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from transformers import AutoTokenizer

from checkout import checkout
from itscale.dag.planning import job_counts, pool_costs, read_configuration
from itscale.data.records import FEATURES, POOL, Unit, read_json, read_pool, read_problems, read_table
from itscale.studies.methods import read_methods
from standins import language_model, reward_model

ROOT = Path(__file__).resolve().parents[2]
PAPER = ["config/config.yaml", "config/paper.yaml"]
ONE_GPU = [*PAPER, "config/one_gpu.yaml"]


@pytest.mark.parametrize("files", [["config/config.yaml"], PAPER, ONE_GPU], ids=["default", "paper", "one GPU"])
def test_every_configuration_builds_its_graph_without_a_network(files, home):
    counts = job_counts([home / f for f in files], home)
    assert counts["samples"] >= 9 and counts["total"] == sum(n for rule, n in counts.items() if rule != "total")


def test_budget_forcing_of_a_real_study_draws_its_chains_and_nothing_else(home):
    for kind in ("parallel", "chain"):  # the finished study's
        file = home / "results/laptop/qwen_coder_0_5b/pools/gsm8k" / kind / "pool.parquet"
        file.parent.mkdir(parents=True)
        file.touch()
    files = [home / "config" / name for name in ("config.yaml", "laptop.yaml", "budget_forcing.yaml")]
    counts = job_counts(files, home, ["forcing"])
    assert counts["samples"] == counts["pool"] == 2 and counts["forced_chains"] == counts["markovscale_analysis"] == 1
    assert not {"predictor", "train_on_votes", "live_run", "replay"} & counts.keys()


SHIPPED = {
    "default": ["config/config.yaml"],
    "test": ["config/config.yaml", "config/test.yaml"],
    "paper": PAPER,
    "one GPU": ONE_GPU,
    "official": ["config/config.yaml", "config/official_pools.yaml"],
}
RELEASED = {"parallel": {"samples": 64}, "chain": {"rounds": 8}}  # what the authors' files hold


@pytest.mark.parametrize("files", SHIPPED.values(), ids=SHIPPED)
def test_no_method_asks_for_more_than_the_pools_of_its_configuration_have(files):
    config = read_configuration([ROOT / f for f in files])
    methods = {name: entry for name, entry in config["methods"].items() if entry}
    pools = {**config["pools"], **dict.fromkeys(config["official"], RELEASED)}
    for benchmark in {*config["compare"]["benchmarks"], "calibration"}:
        sizes = {Unit.SAMPLE: pools[benchmark]["parallel"]["samples"], Unit.ROUND: pools[benchmark]["chain"]["rounds"]}
        for method in read_methods(methods):
            for settings in method.variants():
                for _, policy in method.candidates(settings):
                    assert policy.limit <= sizes[policy.unit], (benchmark, method.name, settings)
                    assert config["predictor"] is not None or not set(policy.needs_features) & set(FEATURES), method.name


@pytest.fixture(scope="module")
def planned(tmp_path_factory) -> str:
    """What a dry run of the paper's configuration says, with the commands of its jobs."""
    asked = ["--dry-run", "--printshellcmds", "--configfile", *PAPER, "--", "optscale", "optpo", "live"]
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *asked]
    folder = checkout(tmp_path_factory.mktemp("planned") / "home")
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=True).stdout


def test_live_runs_of_the_paper_use_its_engine_and_verifier(planned):
    line = shlex.split(next(line for line in planned.splitlines() if "itscale step live" in line))
    given = {name: json.loads(line[line.index(name) + 1]) for name in ("--engine", "--scoring", "--options")}
    config = read_configuration([ROOT / f for f in PAPER])
    assert given["--engine"] == {**config["engine"], "max_model_len": 20000}
    assert given["--scoring"] == config["verifier"] == {"batch_size": 8, "step_break": "\n\n"}
    assert given["--options"]["engines"] == ["vllm"]
    job = planned[planned.index("rule live_run:") :]
    assert "gpu=1" in job and "mem_mb=128000" in job


def test_a_benchmark_that_is_not_compared_is_refused(home, tmp_path):
    overlay = {"compare": {"benchmarks": ["math500"]}, "markovscale": {"benchmarks": ["math500", "gsm8k"]}}
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    asked = ["--dry-run", "--configfile", *PAPER, str(tmp_path / "overlay.yaml"), "--", "markovscale"]
    done = subprocess.run([sys.executable, "-m", "snakemake", *asked], cwd=home, capture_output=True, text=True, timeout=600)
    assert done.returncode != 0 and "'gsm8k' is named in markovscale.benchmarks" in done.stdout + done.stderr


def test_jobs_ask_for_what_their_texts_and_answers_need(planned):
    def needs(rule, **wildcards):
        wanted = ", ".join(f"{name}={value}" for name, value in wildcards.items())
        job = next(j for j in planned.split("\n\n") if re.search(rf"^rule {rule}:", j, re.M) and wanted in j)
        return {name: int(value) for name, value in re.findall(r"(mem_mb|runtime|gpu|cpus_per_task|work_minutes)=(\d+)", job)}

    # 4,000 questions x 16 samples x 3,500 tokens, which are gathered a block at a time; the verifier reads 15,000 a second, the
    # questions' 200 too. Everything is taken twice, and half an hour to load a model.
    tokens = 4000 * 16 * (3500 + 200)
    assert needs("gather", benchmark="predictor_train", kind="parallel")["mem_mb"] == 1000
    both = 2 * (30 + math.ceil(2 * tokens / 15000 / 60))
    assert needs("scores", benchmark="predictor_train")["runtime"] == both
    drawn = needs("samples", benchmark="math500", kind="parallel", shard=0)
    minutes = 30 + math.ceil(2 * 500 * 64 * 3500 / 16 / 2500 / 60)
    assert drawn == {"mem_mb": 64000, "runtime": minutes, "work_minutes": minutes, "gpu": 1, "cpus_per_task": 3}
    # 80 steps of 8 prompts with up to 64 rollouts, evaluations of 30 questions x 16 before and after every tenth step, of 40 more
    # before and by the last and the best weights; as long again for updates.
    rollouts = 80 * 8 * 64 + 16 * (9 * 30 + 3 * 40)
    training = needs("train_on_votes", run="optpo", seed=1)
    assert training["runtime"] == 30 + math.ceil(2 * 2 * rollouts * 3072 / 2500 / 60) and training["mem_mb"] == 128000
    # Published figures stand beside ours where there are any; four options are m = 4.
    studies = re.findall(r"itscale step optscale --benchmark (\w+) .*", planned)
    lines = dict(zip(studies, re.findall(r".*itscale step optscale --benchmark \w+ .*", planned), strict=True))
    assert "--published-on=AIME24 --same" in lines["aime24"] and "--published-on" not in lines["gpqa"]
    assert "--choices=4" in lines["gpqa"] and "--choices" not in lines["math500"]


def test_the_documented_table_is_what_jobs_ask_for(home):
    cluster = pytest.importorskip("itscale.dag.cluster")
    pytest.importorskip("snakemake_executor_plugin_slurm")
    profile = Path("profiles/slurm")
    partitions = cluster.read_partitions(home / cluster.read_settings(home / profile).partitions)
    targets = ["optscale", "markovscale", "optpo_full", "live"]
    requests = cluster.planned([home / f for f in PAPER], home, profile, targets, None)
    assert cluster.problems(requests, cluster.read_settings(home / profile), partitions, None) == []
    text = (ROOT / "docs/cluster.md").read_text()
    said = {
        row[0]: row[1:] for row in re.findall(r"^\| `(\w+)` \| " + r" \| ".join(["([^|]+)"] * 6) + r" \|$", text, re.MULTILINE)
    }
    rows = (list(row.values()) for row in cluster.table(requests, partitions))
    assert said == {rule: tuple(f"{v:g}" if isinstance(v, float) else str(v) for v in rest) for rule, *rest in rows}


def test_everything_of_the_hub_is_pinned_to_a_commit():
    config = read_configuration([ROOT / f for f in ONE_GPU])
    models = [*config["models"]["generators"].values(), config["models"]["verifier"], config["models"]["backbone"]]
    for source in [*config["datasets"].values(), *models]:
        assert len(bytes.fromhex(source["revision"])) == 20, source["path"]


def test_a_plan_is_what_the_pools_add_up_to():
    costs = {(c.benchmark, c.kind): c for c in pool_costs(read_configuration([ROOT / f for f in PAPER]))}
    math = costs["math500", "parallel"]
    assert math.samples == 500 * 64 and math.tokens == 500 * 64 * 3500
    assert math.drawing_gpu_hours == pytest.approx(500 * 64 * 3500 / 2500 / 3600)
    assert costs["aime24", "chain"].samples == 30 * 8 * 8
    assert len(costs) == 2 * 9


def questions(numbers: range) -> list[str]:
    return [f"{10 + i}+{i % 7}-{i % 5}" for i in numbers]


@pytest.fixture
def offline(home):
    """A copy of the repository, and beside it folders in place of everything that paper.yaml takes from the hub."""
    hub = home / "hub"
    table = pd.DataFrame({"problem": questions(range(4)), "answer": ["1", "2", "3", "4"], "level": [1, 2, 3, 4]})
    table = table.assign(solution="", subject="", unique_id="")
    (hub / "MATH-500").mkdir(parents=True)
    table.to_json(hub / "MATH-500" / "test.jsonl", orient="records", lines=True)
    subjects = yaml.safe_load((ROOT / "config/paper.yaml").read_text())["datasets"]["calibration"]["name"]
    card = ["---", "configs:"]
    for i, subject in enumerate(subjects):
        card += [f"- config_name: {subject}", f"  data_files: [{{split: train, path: {subject}/train-*}}]"]
        rows = {
            "problem": questions(range(10 * i, 10 * i + 6)),
            "level": "Level 1",
            "type": subject,
            "solution": "so $\\boxed{7}$",
        }
        (hub / "hendrycks_math" / subject).mkdir(parents=True)
        pd.DataFrame(rows).to_parquet(hub / "hendrycks_math" / subject / "train-00000-of-00001.parquet")
    (hub / "hendrycks_math" / "README.md").write_text("\n".join([*card, "---", ""]))
    language_model(hub / "qwen2", "qwen2")
    language_model(hub / "llama", "llama")
    reward_model(hub / "prm", published=True, window=128)
    drawn = {
        "parallel": {"samples": 3, "shards": 2},
        "chain": {"chains": 1, "rounds": 2, "shards": 1},
        "sampling": {"max_tokens": 60},
    }
    overlay = {
        "results": "results/paper",
        "datasets": {
            "math500": {"path": str(hub / "MATH-500")},
            "calibration": {"path": str(hub / "hendrycks_math"), "take": 4},
        },
        "models": {
            "generators": {
                "deepseek_7b": {"path": str(hub / "qwen2"), "max_model_len": 512},
                "llama_8b": {"path": str(hub / "llama"), "max_model_len": 512},
            },
            "verifier": {"path": str(hub / "prm")},
        },
        "verifier": {"step_break": "\n"},
        "pools": {"math500": drawn, "calibration": drawn},
        # Of the methods those that so few samples and rounds allow.
        "methods": dict.fromkeys(read_configuration([home / "config" / "config.yaml"])["methods"], None)
        | {"best_of_n": {"sweep": {"n": [1, 3]}}, "vote_lead": {"sweep": {"n_max": [3]}}},
        "live": {"methods": ["vote_lead"], "budget": 3},
        "compare": {"benchmarks": ["math500"]},
        "markovscale": {"benchmarks": ["math500"]},
    }
    (home / "local.yaml").write_text(yaml.safe_dump(overlay))
    return home


@pytest.mark.parametrize(("engine", "generator"), [("vllm", "deepseek_7b"), ("transformers", "llama_8b")])
def test_the_paper_path_runs_on_stand_ins(offline, engine, generator):
    if engine == "vllm":
        pytest.importorskip("vllm")
    chosen = {"engine": {"name": engine, "batch_size": 16}, "models": {"generator": generator}}
    if engine == "vllm":  # whose start is long; the shards of the other engine are put together
        chosen["pools"] = {"math500": {"parallel": {"shards": 1}}}
    (offline / "chosen.yaml").write_text(yaml.safe_dump(chosen))
    results = Path("results/paper") / generator
    target = results / "pools" / "math500" / "parallel" / "pool.parquet"
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "--configfile", *PAPER, "local.yaml", "chosen.yaml"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    targets = [str(target), str(results / "problems" / "calibration.parquet")]
    done = subprocess.run([*command, "--", *targets], cwd=offline, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]

    problems = read_problems(offline / results / "problems" / "math500.parquet")
    assert [p.question for p in problems] == questions(range(4)) and [p.level for p in problems] == ["1", "2", "3", "4"]
    training = read_problems(offline / results / "problems" / "calibration.parquet")
    assert len(training) == 4 and not {p.question for p in training} & {p.question for p in problems}
    assert {p.answer for p in training} == {"7"}
    table = read_table(offline / target, POOL)
    assert len(table) == 12 and table["completion_tokens"].between(1, 60).all()
    # The instruction of paper.yaml stands in every prompt.
    tokenizer = AutoTokenizer.from_pretrained(offline / "hub" / {"deepseek_7b": "qwen2", "llama_8b": "llama"}[generator])
    instruction = yaml.safe_load((ROOT / "config/paper.yaml").read_text())["engine"]["instruction"]
    for p in problems:
        lengths = []
        for turn in (p.question, p.question + instruction):
            chat = [{"role": "user", "content": turn}]
            text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            lengths.append(len(tokenizer(text, add_special_tokens=False)["input_ids"]))
        assert lengths[0] < lengths[1]
        assert set(table.loc[table["problem_id"] == p.problem_id, "prompt_tokens"]) == {lengths[1]}
    pool = read_pool(offline / target, Unit.SAMPLE)
    assert pool.rows == 4 and pool.size == 3
    manifest = read_json((offline / target).with_suffix(".json"))
    shard = manifest["samples"].get("shards", [manifest["samples"]])[0]  # a single shard is the pool itself
    assert shard["engine"].lower().startswith(engine)
    assert {"temperature": 0.7, "top_p": 0.95, "max_tokens": 60}.items() <= shard["plan"]["sampling"].items()
    assert manifest["scores"]["window"] == 128
