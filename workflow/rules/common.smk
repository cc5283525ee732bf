"""Names that every rule file uses. What follows from the configuration is worked out and tested in src/itscale/dag/."""

import json
import math
import shlex
import time
from functools import cache, partial

from itscale.dag import attempts, cluster, resources
from itscale.dag.choices import (
    SPLITS,
    asked_option,
    compared_scores,
    confidence_options,
    dataset_source,
    drawing_plan,
    grading_of,
    grading_options,
    kept_out,
    options_of,
    price_option,
    published_on,
    rate_settings,
    import_options,
    read_choices,
    repeated,
    run_evaluation,
    run_settings,
    said_of_shard,
    served_model,
    source_of,
    trained_runs,
    verifiers_of,
)
from itscale.dag.rerun import command_files, files_of

from snakemake.logging import logger

try:
    CHOICES = read_choices(config)
except UserError as error:
    raise WorkflowError(str(error)) from None

TOY, RESULTS, GPUS, ENGINE = CHOICES.toy, CHOICES.results, CHOICES.gpus, CHOICES.engine
GENERATOR, VERIFIER = CHOICES.generator, CHOICES.verifier
# A real model that transformers draws from, without a GPU.
ON_CPU = not TOY and config["engine"]["name"] == "transformers"
ENV = "../../envs/cpu.yaml" if TOY else "../../envs/vllm.yaml"


# What the run has; rules and figures that need what is not there are left out.
KINDS = CHOICES.kinds
PARALLEL, CHAINS = "parallel" in KINDS, "chain" in KINDS
SCORED, PREDICTS = CHOICES.scored, CHOICES.predicts
# What scores samples, where not their own log-probabilities do: a reward model, or the model that draws is asked.
SCORING_MODEL = "language_model" if CHOICES.asked else "reward_model"
# The priority of jobs that the end of a run waits for: trainings fill the cores that they leave.
FIRST = 1
TRAINS = CHOICES.trains
# Released and imported pools come with what they have; imported problems lie beside their samples.
IMPORTED = [
    name
    for name in ("calibration", *config["imported"])
    if source_of(CHOICES, name) is not None
]
BROUGHT = [*config["official"], *IMPORTED]
NOT_BROUGHT = "".join(f"(?!{name}$)" for name in BROUGHT) + "[a-z_0-9]+"


wildcard_constraints:
    verifier="[a-z]+",
    benchmark="[a-z_0-9]+",
    kind="parallel|chain",
    shard="[0-9]+",


SOURCES = shlex.quote(f"{workflow.basedir}/src")


# Rules that run under --use-conda find the package here without an installation. A rule is one process of one thread, unless
# it sets more.
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH={SOURCES} TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1; "
    "exec >/dev/null; "  # what a command prints is in its log; the terminal has a line a job
)


# The table that each figure reads; a figure reads nothing else. Each rule file adds its own.
TABLE_OF = {
    "accuracy_tokens": "main",
    **(
        {"savings": "main", "samples_drawn": "stops", "accuracy_n": "curves"}
        if PARALLEL
        else {}
    ),
    **(
        {"score_fit": "scores", "fit_calibration": "fit_calibration"}
        if PARALLEL and SCORED
        else {}
    ),
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


def pools_of(benchmark):
    """The pools of a benchmark by their kind, as inputs of a rule."""
    return {kind: pool(benchmark, kind) for kind in KINDS}


def pools_option(wildcards, input):
    return [f"--{kind}={input[kind]}" for kind in KINDS]


def samples_of(benchmark, kind):
    name = "samples/0" if CHOICES.shards(benchmark, kind) == 1 else "samples"
    return f"{RESULTS}/pools/{benchmark}/{kind}/{name}.parquet"


def samples(wildcards):
    return samples_of(wildcards.benchmark, wildcards.kind)


def each_kind(name):
    """A file of each of a benchmark's pools."""
    return expand(
        f"{RESULTS}/pools/{{{{benchmark}}}}/{{kind}}/{name.replace('{', '{{').replace('}', '}}')}",
        kind=KINDS,
    )


def all_samples(wildcards):
    return [samples_of(wildcards.benchmark, kind) for kind in KINDS]


def imported_files(wildcards):
    """Files that a pool is imported from, and that of their questions."""
    source = source_of(CHOICES, wildcards.benchmark)
    files = source["samples" if wildcards.kind == "parallel" else "chains"]
    return [*files, *([source["problems"]] if "problems" in source else [])]


# Made by `itscale import`; where confidence is the score, scores and pool are made as for any other pool.
IMPORTED_FILES = [
    f"{table}.{suffix}"
    for table in (
        "problems",
        "samples",
        "grades",
        *(["scores", "pool"] if CHOICES.confidence is None else []),
    )
    for suffix in ("parquet", "json")
]


def problems_at(benchmark, kind):
    """The problems of a pool: imported with it, or the benchmark's."""
    if benchmark in BROUGHT:
        return f"{RESULTS}/pools/{benchmark}/{kind}/problems.parquet"
    return f"{RESULTS}/problems/{benchmark}.parquet"


def problems_of(wildcards):
    return problems_at(wildcards.benchmark, wildcards.kind)


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
    if not PREDICTS:
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
    runs, seeds = trained_runs(CHOICES, full=wildcards.set == "optpo_full")
    return expand(f"{RESULTS}/testtime/{{run}}-{{seed}}/run.json", run=runs, seed=seeds)


def folders_of_runs(wildcards, input):
    return [os.path.dirname(run) for run in input.runs]


# What a job says that begins.


def drawing(wildcards):
    return said_of_shard(
        CHOICES, wildcards.benchmark, wildcards.kind, int(wildcards.shard)
    )


# Options of commands.


def optional(option, path):
    """An option of a file that may be missing."""
    return [f"{option}={path}"] if path else []


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
    return [f"--verifier={name}" for name in compared_scores(CHOICES, benchmark)]


# What jobs ask for, where it is not the profile's default.

STARTED = time.time()


def on_slurm():
    return "slurm" in type(workflow.executor_settings).__module__


@cache
def partitions():
    """The partitions that the executor chooses from; none where it chooses none."""
    file = getattr(
        workflow.executor_settings, "partition_config", None
    ) or os.environ.get("SNAKEMAKE_SLURM_PARTITIONS")
    try:
        return cluster.read_partitions(file) if file else []
    except UserError as error:
        raise WorkflowError(str(error)) from None


def limit(what, rulename, wildcards):
    """The most memory or time that a partition gives to a job with the GPUs of a rule, or those of `set-resources` for it."""
    if not partitions():
        return math.inf
    most = cluster.largest if what == "memory" else cluster.longest
    of = workflow.get_rule(rulename).resources
    given = dict(
        input=[],
        attempt=1,
        threads=1,
        rulename=rulename,
        async_run=workflow.async_run,
    )
    asked = {
        name: of[name].evaluate(wildcards, **given).value
        for name in ("gpu", "gres")
        if name in of
    }
    return most(partitions(), cluster.Request(rulename, asked).gpus)


def raised(what, needed):
    """An amount of memory or time, or a function of the wildcards: doubled when a job comes back that had too little of it."""

    def amount(wildcards, attempt, rulename):
        first = needed(wildcards) if callable(needed) else needed
        if attempt == 1:
            return first
        failed = attempts.Failures(attempt - 1, attempt - 1)
        if on_slurm():
            failed = attempts.failures_in(
                attempts.folder_of(rulename, wildcards), STARTED
            )
        most = limit(what, rulename, wildcards)
        return resources.doubled(first, getattr(failed, what), most)

    return amount


more, longer = partial(raised, "memory"), partial(raised, "time")


def in_pieces(needed):
    """Minutes of a job that goes on where it was killed: as many as its partition gives at once. `work_minutes` are all of them."""

    def runtime(wildcards, attempt, rulename):
        first = min(needed(wildcards), limit("time", rulename, wildcards))
        return raised("time", first)(wildcards, attempt, rulename)

    return dict(runtime=runtime, work_minutes=needed)


def on_gpus(count):
    """GPUs of one node, and cores for the engine's processes.

    Partitions tell jobs without GPUs by their `tasks`, of which these have none (profiles/slurm/partitions.yaml).
    """
    if not count:
        return dict(gpu=0)
    return dict(gpu=count, tasks=0, cpus_per_task=resources.cpus_beside(count))


def of_pool(needed, *least):
    """An amount that depends on the pool that a rule's wildcards name."""
    return lambda wildcards: needed(
        CHOICES, wildcards.benchmark, wildcards.kind, *least
    )


def of_benchmark(needed):
    """The same of all of a benchmark's pools, one after the other."""
    return lambda wildcards: sum(
        needed(CHOICES, wildcards.benchmark, kind) for kind in KINDS
    )


# A cluster is asked before anything is queued, and says why jobs failed.


def prepare_cluster():
    """Refuse what cannot run, and submit no more jobs at once than the cluster takes."""
    asked = [
        cluster.Request(job.rule.name, dict(job.resources.items()), job.threads)
        for job in workflow.dag.needrun_jobs()
        if not job.is_local
    ]
    said = workflow.executor_settings
    settings = cluster.Settings(
        said.partition_config,
        workflow.nodes,
        workflow.execution_settings.retries,
        said.status_command,
    )
    there = cluster.read_cluster()
    if found := cluster.problems(asked, settings, partitions(), there):
        raise WorkflowError("\n".join(found))
    jobs = cluster.submitted_at_once(asked, settings, there)
    if jobs < settings.jobs:
        logger.warning(
            f"The cluster takes {jobs} more jobs of yours: no more are in the queue at a time (jobs: {settings.jobs})."
        )
        for available in (
            workflow.scheduler.global_resources,
            workflow.scheduler.resources,
        ):
            available["_nodes"] = jobs


def explain_failures():
    """The end of each failed job's log: what SLURM and the command said last.

    After Ctrl-C the executor cancels what is in the queue, and then submits what it had begun to: that is cancelled here.
    """
    cluster.cancel(workflow.scheduler._executor.run_uuid)
    for log, lines in attempts.last_lines(attempts.LOGS, STARTED):
        logger.error("\n".join([f"The end of {log}:", *lines]))
