"""Paths and helpers that every rule file uses."""

import json
import math
import sys

from snakemake.exceptions import WorkflowError

# Without benchmarks in the configuration, problems and models are those of the toy task.
TOY = not config["datasets"]
SPLITS = ["test", "calibration", "shifted", "predictor_train", "predictor_validation"]
if "calibration" in (
    *config["compare"]["benchmarks"],
    *config["markovscale"]["benchmarks"],
):
    raise WorkflowError(
        "calibration is among the benchmarks of compare or markovscale, and the hyperparameters are chosen on it: compare on "
        "others."
    )
if config["testtime"]["trained"] == config["testtime"]["untouched"]:
    raise WorkflowError(
        f"testtime.untouched is {config['testtime']['untouched']!r}, which is trained on: name another benchmark."
    )
# What is assessed; training splits keep clear of it.
EVALUATED = [*config["compare"]["benchmarks"], "calibration"]

if TOY:
    RESULTS, GENERATOR, ENV = config["results"], {}, "../../envs/cpu.yaml"
    EVALUATED.append("shifted")
else:
    known = config["models"].get("generators", {})
    if config["models"].get("generator") not in known:
        raise WorkflowError(
            f"models.generator is {config['models'].get('generator')!r}: choose one of {', '.join(known) or 'models.generators'}."
        )
    # Each generator has results of its own.
    RESULTS = f"{config['results']}/{config['models']['generator']}"
    GENERATOR = known[config["models"]["generator"]]
    ENV = "../../envs/vllm.yaml"
    for name in {*EVALUATED, "predictor_train", "predictor_validation"}:
        if name not in config["datasets"]:
            raise WorkflowError(
                f"benchmarks in the configuration lacks {name!r}: say where its questions come from."
            )
for name in EVALUATED:
    if name not in config["pools"] and name not in config["official"]:
        raise WorkflowError(
            f"pools in the configuration lacks {name!r}: say how many samples and rounds it has."
        )

GPUS = 0 if config["engine"]["name"] == "transformers" else GENERATOR.get("gpus", 1)
ENGINE = {
    **config["engine"],
    **{key: GENERATOR[key] for key in ("max_model_len",) if key in GENERATOR},
    **({"tensor_parallel": GPUS} if GPUS > 1 else {}),
}


from itscale.dag.choices import Choices, grading_of, grading_options
from itscale.dag.planning import samples_of
from itscale.dag.rerun import command_files, files_of

# The toy models, and where their weights are: in the package, or in a folder as toy_training leaves it.
TOY_MODELS = ["language_model", "reward_model", "weak_reward_model"]
TOY_WEIGHTS = config["toy_task"]["models"]
if TOY_WEIGHTS == "shipped":
    TOY_WEIGHTS = os.path.relpath(f"{workflow.basedir}/src/itscale/toytask/weights")
# What scores the samples: the first verifier's scores are the pools' own, others' lie beside them.
VERIFIERS = (
    ["good", "weak"]
    if TOY
    else [os.path.basename(config["models"]["verifier"]["path"])]
)


wildcard_constraints:
    verifier="[a-z]+",
    benchmark="[a-z_0-9]+",
    kind="parallel|chain",
    shard="[0-9]+",


# Rules that run under --use-conda find the package here without an installation.
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH={workflow.basedir}/src; export TOKENIZERS_PARALLELISM=false; "
)


# The table that each figure reads; a figure reads nothing else. Each rule file adds its own.
TABLE_OF = {
    "accuracy_tokens": "main",
    "accuracy_n": "curves",
    "samples_drawn": "stops",
    "score_fit": "scores",
}
# Figures of long runs, which a bare `snakemake` does not make.
ON_REQUEST = set()


def figures(*names):
    return expand(f"{RESULTS}/figures/{{name}}.pdf", name=names)


def command(name):
    """Source files that `itscale NAME` depends on."""
    return [os.path.relpath(path) for path in command_files(name)]


def modules(*names):
    """Source files of modules and of all that they import."""
    return [
        os.path.relpath(path)
        for path in files_of(*(f"itscale.{name}" for name in names))
    ]


def model(name):
    return f"{RESULTS}/models/{name}"


def verifiers_of(benchmark):
    """Names of the verifiers that a benchmark is compared with; the released pools have scores of their own, and no others."""
    if benchmark in config["official"]:
        return []
    return VERIFIERS[:1] if "calibration" in config["official"] else VERIFIERS


def verifiers_option(benchmark):
    return [f"--verifier={name}" for name in verifiers_of(benchmark)]


def other_scores(benchmark, *kinds):
    """The scores of a benchmark's other verifiers."""
    return expand(
        f"{RESULTS}/pools/{benchmark}/{{kind}}/scores_{{verifier}}.parquet",
        kind=kinds,
        verifier=verifiers_of(benchmark)[1:],
    )


def pool(benchmark, kind):
    return f"{RESULTS}/pools/{benchmark}/{kind}/pool.parquet"


def plan(wildcards):
    of = config["pools"][wildcards.benchmark]
    return json.dumps(
        {
            **of[wildcards.kind],
            "kind": wildcards.kind,
            "seed": config["seed"],
            "sampling": {**config["sampling"], **of.get("sampling", {})},
            **{
                key: value
                for key, value in grading_of(
                    Choices(config), wildcards.benchmark
                ).items()
                if key in ("answer", "read_cut_off")
            },
        }
    )


def more(amount):
    """An amount of a resource that doubles with each attempt: a job that broke its limit comes back with more."""
    return lambda wildcards, attempt: amount * 2 ** (attempt - 1)


def stated_tokens(benchmark, kind):
    """Completion tokens of a pool as the configuration states them; 0 where it does not."""
    of, source = config["pools"].get(benchmark), config["datasets"].get(benchmark, {})
    if of is None or not {"questions", "answer_tokens"} <= source.keys():
        return 0
    return samples_of(of[kind], source["questions"]) * source["answer_tokens"]


def minutes_at(tokens, model, least):
    """Minutes that a model needs for tokens at its stated speed, twice over for safety."""
    return max(least, int(2 * tokens / model.get("tokens_per_second", math.inf) / 60))


def minutes_to_draw(wildcards, attempt):
    """Run time of a shard from the stated lengths and speeds, at least two hours."""
    tokens = stated_tokens(wildcards.benchmark, wildcards.kind)
    count = config["pools"][wildcards.benchmark][wildcards.kind]["shards"]
    return minutes_at(tokens / count, GENERATOR, 120) * 2 ** (attempt - 1)


def minutes_to_score(wildcards, attempt):
    """Run time of scoring a pool, likewise; the verifier reads each answer and its question."""
    tokens = stated_tokens(wildcards.benchmark, wildcards.kind)
    verifier = config["models"].get("verifier", {})
    return minutes_at(tokens, verifier, 60 if TOY else 720) * 2 ** (attempt - 1)


def text_mb(least):
    """Memory of a rule that holds all texts of a pool, several times over; doubles with each attempt."""
    # Four bytes a token; Arrow, pandas and Python each have a copy.
    return lambda wildcards, attempt: (
        least + stated_tokens(wildcards.benchmark, wildcards.kind) * 16 // 1000**2
    ) * 2 ** (attempt - 1)


def shards(wildcards):
    count = config["pools"][wildcards.benchmark][wildcards.kind]["shards"]
    return expand(
        f"{RESULTS}/pools/{{b}}/{{k}}/samples/{{shard}}.parquet",
        b=wildcards.benchmark,
        k=wildcards.kind,
        shard=range(count),
    )


def published_on(benchmark):
    """Options that name the published benchmark to show beside ours, and say whether the two differ by the method alone."""
    found = config["compare"]["published"].get(
        benchmark, "MATH500" if TOY and benchmark not in config["official"] else None
    )
    if found is None:
        return ""
    ours = benchmark in config["official"] or GENERATOR.get("published", False)
    return f"--published-on {found}" + (" --same" if ours else "")


def choices_of(benchmark):
    """The option that says how many answers a multiple-choice question has; open answers have no such number."""
    wrong = config["datasets"].get(benchmark, {}).get("choices", [])
    return f"--choices {len(wrong) + 1}" if wrong else ""


def predictions(benchmark):
    """The predictions of a benchmark; none where the configuration has no predictor."""
    if config["predictor"] is None:
        return []
    return f"{RESULTS}/predictions/{benchmark}.parquet"


def predictions_option(wildcards, input):
    return f"--predictions {input.predictions}" if input.predictions else ""


def problems_of(wildcards):
    """The problems of a pool: imported with it, or the benchmark's."""
    if wildcards.benchmark in config["official"]:
        return (
            f"{RESULTS}/pools/{wildcards.benchmark}/{wildcards.kind}/problems.parquet"
        )
    return f"{RESULTS}/problems/{wildcards.benchmark}.parquet"


def before(wildcards):
    """Benchmarks whose questions a training split must not have: all that are assessed, and the training splits before it."""
    if wildcards.benchmark in config["compare"]["benchmarks"]:
        return []
    training = ["calibration", "predictor_train", "predictor_validation"]
    if wildcards.benchmark not in training:
        raise WorkflowError(
            f"{wildcards.benchmark!r} is named in markovscale.benchmarks or testtime, and not in compare.benchmarks, whose "
            "questions alone are kept out of what is trained on: compare it, or name another."
        )
    names = [
        *config["compare"]["benchmarks"],
        *training[: training.index(wildcards.benchmark)],
    ]
    return expand(f"{RESULTS}/problems/{{name}}.parquet", name=names)


TESTTIME = config["testtime"]


def minutes_to_train(wildcards, attempt):
    """Run time of test-time training from the stated lengths and speed: votes and evaluations, and as long again for updates."""
    settings, evaluation = TESTTIME["settings"], TESTTIME["evaluation"]
    limits = [
        {"vote": {}, **settings, **run}["vote"] for run in TESTTIME["runs"].values()
    ]
    votes = max(vote.get("n_max", vote.get("n", 0)) for vote in limits)
    tokens = 0
    for name in ("trained", "untouched"):
        source = config["datasets"].get(TESTTIME[name], {})
        answers = source.get("questions", 0) * evaluation["samples"]
        answers *= 2 + settings["steps"] // evaluation["every"]
        if name == "trained":
            answers += settings["steps"] * settings["prompts"] * votes
        tokens += answers * min(
            source.get("answer_tokens", 0), TESTTIME["sampling"]["max_tokens"]
        )
    return minutes_at(2 * tokens, GENERATOR, 240) * 2 ** (attempt - 1)


def training_runs(wildcards):
    full = wildcards.set == "optpo_full"
    return expand(
        f"{RESULTS}/testtime/{{run}}-{{seed}}/run.json",
        run=list(TESTTIME["runs"]) if full else TESTTIME["default"],
        seed=TESTTIME["seeds"] if full else TESTTIME["seeds"][:1],
    )


def learning_rate_runs():
    return expand(
        f"{RESULTS}/testtime/learning_rate/{{rate}}-{{seed}}/run.json",
        rate=TESTTIME["learning_rates"],
        seed=TESTTIME["seeds"][:1],
    )


def training_settings(wildcards):
    return json.dumps({**TESTTIME["settings"], **TESTTIME["runs"][wildcards.run]})


def rate_settings(wildcards):
    chosen = {**TESTTIME["settings"], **TESTTIME["runs"][TESTTIME["baseline"]]}
    return json.dumps(
        {
            **chosen,
            "learning_rate": float(wildcards.rate),
            "steps": TESTTIME["learning_rate_steps"],
        }
    )
