"""What a configuration will cost before anything runs: tokens, GPU-hours and disk from the speeds and lengths it states.

Nothing here is measured: the mean length of an answer and the tokens a second of a job are assumptions of the configuration
(`datasets.{name}.questions`, `.answer_tokens`; `models.*.tokens_per_second`, `.size_gb`), and the plan is as good as they are.
"""

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from snakemake.utils import update_config

from itscale.dag.choices import Choices
from itscale.errors import UserError
from itscale.models.footprint import Shape, training_memory
from itscale.policies import find_rule

# A sample's text lies in a shard, in the gathered samples and in the pool, zstd-compressed: about 1.5 bytes a token each.
_BYTES_PER_TOKEN = 3 * 1.5
PROMPT_TOKENS = 200


@dataclass(frozen=True, slots=True)
class PoolCost:
    """One pool: samples, the tokens they are expected to have, and GPU-hours of drawing and of scoring them."""

    benchmark: str
    kind: str
    samples: int
    tokens: float
    drawing_gpu_hours: float
    scoring_gpu_hours: float


def workflow_folder() -> Path:
    """The folder of the Snakefile: the working directory, one above it, or the sources that this package runs from.

    Raises:
        UserError: there is none.
    """
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[3]):
        if (folder / "Snakefile").exists() and (folder / "config" / "config.yaml").exists():
            return folder
    raise UserError(f"{here} is not in a checkout of the repository, which holds the workflow: give its folder with --folder.")


def read_configuration(files: list[Path]) -> dict[str, Any]:
    """The configuration files laid over each other, as Snakemake does.

    Raises:
        UserError: a file is missing or is not YAML.
    """
    merged: dict[str, Any] = {}
    for file in files:
        try:
            layer = yaml.safe_load(file.read_text()) or {}
        except FileNotFoundError:
            raise UserError(f"{file} does not exist: give the path of a configuration.") from None
        except yaml.YAMLError as error:
            raise UserError(f"{file} is not valid YAML ({str(error).splitlines()[0]}): correct it.") from None
        update_config(merged, layer)
    return merged


def samples_of(pool: dict[str, int], questions: int) -> int:
    """Samples of a pool (`pools.{name}.{kind}` of the configuration) of so many questions."""
    return questions * pool.get("samples", 1) * pool.get("chains", 1) * pool.get("rounds", 1)


def pool_costs(config: dict[str, Any]) -> list[PoolCost]:
    """What each pool that the comparison needs will cost.

    Raises:
        UserError: a benchmark or model does not state what the plan reckons with; the message names the key.
    """
    models = config["models"]
    generator = _of(models.get("generators", {}), models.get("generator"), "models.generators")
    speed = _of(generator, "tokens_per_second", f"models.generators.{models['generator']}")
    choices = Choices(config)
    read = choices.scored and choices.confidence is None
    verifying = _of(choices.verifier, "tokens_per_second", "models.verifier") if read else math.inf
    training = ["predictor_train", "predictor_validation"] if choices.predicts else []
    costs = []
    for name in [*config["compare"]["benchmarks"], "calibration", *training]:
        source = _of(config["datasets"], name, "datasets")
        questions, length = (_of(source, key, f"datasets.{name}") for key in ("questions", "answer_tokens"))
        for kind in choices.kinds_of(name):
            of = _of(config["pools"], name, "pools")[kind]
            samples = samples_of(of, questions)
            tokens = float(samples * length)
            hours = tokens / speed * generator.get("gpus", 1) / 3600, (tokens + samples * PROMPT_TOKENS) / verifying / 3600
            costs.append(PoolCost(name, kind, samples, tokens, *hours))
    return costs


def run_tokens(config: Mapping[str, Any], name: str) -> int:
    """Tokens at most of a run of test-time training, votes and evaluations; 0 for a length not stated."""
    testtime = config["testtime"]
    own = testtime["runs"][name]
    settings, evaluation = {"vote": {}, **testtime["settings"], **own}, {**testtime["evaluation"], **own.get("evaluation", {})}
    votes = settings["vote"].get("n_max", settings["vote"].get("n", 0))
    evaluations = 1 + math.ceil(settings["steps"] / evaluation["every"])
    tokens = 0
    # The untouched benchmark is answered before, and by the last and the best weights.
    for split, times in (("trained", evaluations), ("untouched", min(evaluations, 3))):
        source = config["datasets"].get(testtime[split], {})
        answers = source.get("questions", 0) * evaluation["samples"] * times
        if split == "trained":
            answers += settings["steps"] * settings["prompts"] * votes
        tokens += answers * min(source.get("answer_tokens", 0), testtime["sampling"]["max_tokens"])
    return tokens


def run_trained_tokens(config: Mapping[str, Any], name: str) -> int:
    """Completion tokens that the steps of a run of test-time training learn from; 0 for a length not stated."""
    testtime = config["testtime"]
    settings = {"vote": {}, **testtime["settings"], **testtime["runs"][name]}
    length = min(config["datasets"].get(testtime["trained"], {}).get("answer_tokens", 0), testtime["sampling"]["max_tokens"])
    return settings["steps"] * settings["prompts"] * _kept(settings) * length


def _kept(settings: Mapping[str, Any]) -> int:
    """Rollouts of a prompt that a step learns from, at most."""
    vote = settings["vote"]
    return settings["group"] if settings.get("retain", "first") == "first" else vote.get("n_max", vote.get("n", 0))


def trainings(counts: Mapping[str, int]) -> int:
    """Runs of test-time training among so many jobs of each rule."""
    return sum(counts.get(rule, 0) for rule in ("train_on_votes", "try_learning_rate"))


def training_tokens(config: dict[str, Any], runs: int) -> float | None:
    """Tokens at most of so many runs of test-time training, rollouts and evaluations; None where a length is not stated."""
    testtime, datasets = config["testtime"], config["datasets"]
    if not all({"questions", "answer_tokens"} <= set(datasets.get(testtime[key], {})) for key in ("trained", "untouched")):
        return None
    return runs * _mean_run(config, runs, run_tokens)


def _mean_run(config: dict[str, Any], runs: int, tokens: Callable[[Mapping[str, Any], str], int]) -> float:
    testtime = config["testtime"]
    names = list(testtime["default"] if runs == len(testtime["default"]) else testtime["runs"])
    return sum(tokens(config, name) for name in names) / len(names)


def live_tokens(config: Mapping[str, Any]) -> int:
    """Tokens at most of the live study: each of its methods, and each family's fixed N, draws up to the limit."""
    live, benchmark = config["live"], config["compare"]["benchmarks"][0]
    families = {rule.policy.family for name in live["methods"] if (rule := find_rule(name))}
    answers = live["problems"] * live["budget"] * (len(live["methods"]) + len(families)) * len(live["engines"])
    return answers * config["datasets"].get(benchmark, {}).get("answer_tokens", 0)


def whole_hours(
    config: dict[str, Any], costs: list[PoolCost], counts: Mapping[str, int], cores: int
) -> tuple[dict[str, float], list[str]]:
    """Hours by part of a run on so many cores without a GPU, of jobs that are not done; and the keys that a part lacks.

    Pools are drawn and scored by as many jobs at once, each at the generator's speed; a training and the live study have all
    cores to themselves. `trained_tokens_per_second` is that of all cores.
    """
    name = config["models"]["generator"]
    model = config["models"]["generators"][name]
    together = model["tokens_per_second"] * cores
    parts: dict[str, float] = {}
    missing: list[str] = []
    if counts.get("samples"):
        parts["drawing"] = sum(c.drawing_gpu_hours for c in costs) / cores
    if counts.get("scores"):
        parts["scoring"] = sum(c.scoring_gpu_hours for c in costs) / cores
    if runs := trainings(counts):
        drawn, speed = training_tokens(config, runs), model.get("trained_tokens_per_second")
        if drawn is None or not speed:
            missing.append(f"models.generators.{name}.trained_tokens_per_second")
        else:
            seconds = drawn / together + runs * _mean_run(config, runs, run_trained_tokens) / speed
            parts["training on votes"] = seconds / 3600
    if counts.get("live_run"):
        parts["live"] = live_tokens(config) / together / 3600
    return parts, missing


def run_memory(config: dict[str, Any], run: str) -> dict[str, float] | None:
    """GB by part that a run of test-time training takes at its highest point, the engine beside it included.

    None where the generator's `shape` is not stated, or the run takes no step.

    Raises:
        UserError: the shape lacks a width.
    """
    testtime, name = config["testtime"], config["models"]["generator"]
    model = config["models"]["generators"][name]
    settings = {**testtime["settings"], **model.get("training", {}), **testtime["runs"][run]}
    if "shape" not in model or settings.get("steps") == 0:
        return None
    shape = Shape.read(model["shape"], f"models.generators.{name}.shape")
    rows = settings["prompts"] * _kept(settings)
    lora, gpu = settings.get("lora"), testtime.get("gpu_gb")
    parts = training_memory(
        shape,
        rows=min(settings.get("rows_per_pass") or rows, rows),
        prompt=PROMPT_TOKENS,
        completion=testtime["sampling"]["max_tokens"],
        algorithm=settings.get("algorithm", "grpo"),
        mixed=settings.get("precision", "float32") == "mixed",
        checkpointing=settings.get("gradient_checkpointing", False),
        rank=lora["rank"] if lora else None,
        reference=settings.get("kl", 1e-3) > 0,
        eight_bit=settings.get("optimizer", "adamw") == "adamw_8bit",
        gpu=gpu is not None or config["engine"]["name"] != "transformers",
    )
    engine = testtime["gpu_memory"] * gpu if gpu else 2 * shape.parameters / 1e9
    return {**{part: size / 1e9 for part, size in parts.items()}, "engine": engine}


def disk_gb(config: dict[str, Any], costs: list[PoolCost]) -> tuple[float, float]:
    """GB of the models' files (in the hub's cache) and of the pools (in the results)."""
    models = config["models"]
    used = [models["generators"][models["generator"]], models.get("verifier", {}), models.get("backbone", {})]
    return sum(m.get("size_gb", 0.0) for m in used), sum(c.tokens for c in costs) * _BYTES_PER_TOKEN / 1e9


def job_counts(files: list[Path], folder: Path, targets: list[str] | None = None, generator: str | None = None) -> dict[str, int]:
    """Jobs by rule, from a dry run of the workflow in `folder` for `targets` (all by default) and the generator, if one is named.

    Raises:
        UserError: the dry run fails; the message is its last line.
    """
    chosen = [] if generator is None else ["--config", f"models={{generator: {generator}}}"]
    done = call_snakemake(files, folder, "--dry-run", "--quiet", "rules", *chosen, targets=targets or [])
    lines = (done.stdout + done.stderr).splitlines()
    if "Job stats:" not in lines:
        return {}
    counts = {}
    for line in lines[lines.index("Job stats:") + 3 :]:
        if not line.strip():
            break
        rule, count = line.split()
        counts[rule] = int(count)
    return counts


def rule_graph(files: list[Path], folder: Path) -> list[tuple[str, str]]:
    """Which rule reads what which rule makes: pairs (maker, reader) over the default target, from Snakemake itself.

    Raises:
        UserError: the workflow cannot be planned; the message is Snakemake's last line.
    """
    dot = call_snakemake(files, folder, "--rulegraph", "dot").stdout
    names = dict(re.findall(r'^\s*(\d+)\[label = "([^"]+)"', dot, re.MULTILINE))
    return [(names[maker], names[reader]) for maker, reader in re.findall(r"^\s*(\d+) -> (\d+)", dot, re.MULTILINE)]


def call_snakemake(
    files: list[Path],
    folder: Path,
    *options: str,
    targets: list[str] | None = None,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess:
    """A call of Snakemake that runs no job; a UserError holds the last line of one that fails."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        *options,
        "--configfile",
        *(str(f.resolve()) for f in files),
        "--",
        *(targets or []),
    ]
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"the workflow cannot be planned: {_reason(done.stdout + done.stderr)}")
    return done


def _reason(said: str) -> str:
    """Why Snakemake stopped, out of all that it said."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.lstrip().startswith('File "')]
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if re.match(r"\w+(Error|Exception)\b", line):
            return after if line.endswith(":") or " in file " in line else line
    return lines[-1] if lines else "Snakemake said nothing"


def _of(section: dict[str, Any], key: Any, where: str) -> Any:
    if key not in section:
        raise UserError(f"{where} in the configuration lacks {key!r}, which the plan reckons with: state it.")
    return section[key]
