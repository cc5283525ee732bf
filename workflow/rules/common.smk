"""Names that every rule file uses. What follows from the configuration is worked out and tested in src/itscale/dag/."""

import json

from itscale.dag import resources
from itscale.dag.choices import (
    SPLITS,
    dataset_source,
    drawing_plan,
    grading_of,
    grading_options,
    kept_out,
    options_of,
    price_option,
    published_on,
    rate_settings,
    read_choices,
    repeated,
    run_settings,
    verifiers_of,
)
from itscale.dag.rerun import command_files, files_of

try:
    CHOICES = read_choices(config)
except UserError as error:
    raise WorkflowError(str(error)) from None

TOY, RESULTS, GPUS, ENGINE = CHOICES.toy, CHOICES.results, CHOICES.gpus, CHOICES.engine
GENERATOR, VERIFIER = CHOICES.generator, CHOICES.verifier
ENV = "../../envs/cpu.yaml" if TOY else "../../envs/vllm.yaml"


KINDS = ["parallel", "chain"]
# Released pools come with their scores.
NOT_OFFICIAL = "".join(f"(?!{name}$)" for name in config["official"]) + "[a-z_0-9]+"


wildcard_constraints:
    verifier="[a-z]+",
    benchmark="[a-z_0-9]+",
    kind="parallel|chain",
    shard="[0-9]+",


# Rules that run under --use-conda find the package here without an installation. A rule is one process of one thread, unless
# it sets more.
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH={workflow.basedir}/src TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1; "
    "exec >/dev/null; "  # what a command prints is in its log; the terminal has a line a job
)


# The table that each figure reads; a figure reads nothing else. Each rule file adds its own.
TABLE_OF = {
    "savings": "main",
    "accuracy_tokens": "main",
    "accuracy_n": "curves",
    "samples_drawn": "stops",
    "score_fit": "scores",
}
# Figures of long runs, which a bare `snakemake` does not make.
ON_REQUEST = set()


# What a command and what a figure is made of.


def command(name):
    return [os.path.relpath(path) for path in command_files(name)]


def modules(*names):
    return [
        os.path.relpath(path)
        for path in files_of(*(f"itscale.{name}" for name in names))
    ]


# Where files lie.


def model(name):
    return f"{RESULTS}/models/{name}"


def problems(*benchmarks):
    return expand(f"{RESULTS}/problems/{{name}}.parquet", name=benchmarks)


def pool(benchmark, kind):
    return f"{RESULTS}/pools/{benchmark}/{kind}/pool.parquet"


def samples_of(benchmark, kind):
    name = "samples/0" if CHOICES.shards(benchmark, kind) == 1 else "samples"
    return f"{RESULTS}/pools/{benchmark}/{kind}/{name}.parquet"


def samples(wildcards):
    return samples_of(wildcards.benchmark, wildcards.kind)


def both_kinds(name):
    return expand(
        f"{RESULTS}/pools/{{{{benchmark}}}}/{{kind}}/{name.replace('{', '{{').replace('}', '}}')}",
        kind=KINDS,
    )


def both_samples(wildcards):
    return [samples_of(wildcards.benchmark, kind) for kind in KINDS]


def problems_of(wildcards):
    if wildcards.benchmark in config["official"]:
        return (
            f"{RESULTS}/pools/{wildcards.benchmark}/{wildcards.kind}/problems.parquet"
        )
    return f"{RESULTS}/problems/{wildcards.benchmark}.parquet"


def shards(wildcards):
    count = CHOICES.shards(wildcards.benchmark, wildcards.kind)
    folder = f"{RESULTS}/pools/{wildcards.benchmark}/{wildcards.kind}/samples"
    return expand(f"{folder}/{{shard}}.parquet", shard=range(count))


def other_scores(benchmark):
    return expand(
        f"{RESULTS}/pools/{benchmark}/{{kind}}/scores_{{verifier}}.parquet",
        kind=KINDS,
        verifier=verifiers_of(CHOICES, benchmark)[1:],
    )


def predictions(benchmark):
    if config["predictor"] is None:
        return []
    return f"{RESULTS}/predictions/{benchmark}.parquet"


def tables(*names):
    return expand(f"{RESULTS}/tables/{{name}}.csv", name=names)


def tables_of(section, *names):
    return expand(
        f"{RESULTS}/tables/{{benchmark}}/{{name}}.csv",
        benchmark=config[section]["benchmarks"],
        name=names,
    )


def folders_of(section):
    return [f"{RESULTS}/tables/{name}" for name in config[section]["benchmarks"]]


def figures(*names):
    return expand(f"{RESULTS}/figures/{{name}}.pdf", name=names)


def training_runs(wildcards):
    full = wildcards.set == "optpo_full"
    return expand(
        f"{RESULTS}/testtime/{{run}}-{{seed}}/run.json",
        run=list(config["testtime"]["runs"]) if full else config["testtime"]["default"],
        seed=config["testtime"]["seeds"] if full else config["testtime"]["seeds"][:1],
    )


def folders_of_runs(wildcards, input):
    return [os.path.dirname(run) for run in input.runs]


# What a job says that begins.


def drawing(wildcards):
    of = config["pools"].get(wildcards.benchmark, {}).get(wildcards.kind, {})
    count = CHOICES.shards(wildcards.benchmark, wildcards.kind)
    part = f", shard {int(wildcards.shard) + 1} of {count}" if count > 1 else ""
    names = ("samples",) if wildcards.kind == "parallel" else ("chains", "rounds")
    counts = [f"{of.get(n)} {n if of.get(n) != 1 else n[:-1]}" for n in names]
    return f"{wildcards.benchmark}{part}: {' of '.join(counts)} a question"


# Options of commands.


def folder(wildcards, output):
    return os.path.dirname(output[0])


def kept_out_of(benchmark):
    try:
        return kept_out(CHOICES, benchmark)
    except UserError as error:
        raise WorkflowError(str(error)) from None


def predictions_option(wildcards, input):
    return repeated("--predictions", [input.predictions] if input.predictions else [])


def verifiers_option(benchmark):
    return [f"--verifier={name}" for name in verifiers_of(CHOICES, benchmark)]


# What jobs ask for, where it is not the profile's default.


def more(amount):
    return lambda wildcards, attempt: resources.scaled(amount, attempt)


def of_pool(needed, *least):
    return lambda wildcards, attempt: resources.scaled(
        needed(CHOICES, wildcards.benchmark, wildcards.kind, *least), attempt
    )


def of_benchmark(needed):
    return lambda wildcards, attempt: resources.scaled(
        sum(needed(CHOICES, wildcards.benchmark, kind) for kind in KINDS), attempt
    )
