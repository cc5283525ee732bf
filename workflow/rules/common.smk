"""Paths and helpers that every rule file uses."""

import json

RESULTS = config["results"]
SPLITS = ["test", "calibration", "shifted", "predictor_train", "predictor_validation"]
FIGURES = [
    "accuracy_tokens",
    "accuracy_n",
    "accuracy_round",
    "samples_used",
    "score_fit",
]
ENV = "../../envs/cpu.yaml"


wildcard_constraints:
    benchmark="[a-z_0-9]+",
    kind="parallel|chain",
    shard="[0-9]+",


# Rules that run under --use-conda find the package here without an installation.
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH={workflow.basedir}/src; export TOKENIZERS_PARALLELISM=false; "
)


def modules(*names):
    """Source files that a command depends on: the named modules and all that they import."""
    import grimp

    graph = _graph()
    files = set()
    for name in names:
        for module in {f"itscale.{name}"} | graph.find_upstream_modules(
            f"itscale.{name}"
        ):
            path = Path(workflow.basedir, "src", *module.split("."))
            found = (
                path.with_suffix(".py")
                if path.with_suffix(".py").exists()
                else path / "__init__.py"
            )
            files.add(os.path.relpath(found))
    return sorted(files)


def _graph():
    import sys
    import grimp

    source = str(Path(workflow.basedir, "src"))
    if source not in sys.path:
        sys.path.insert(0, source)
    return grimp.build_graph("itscale", cache_dir=None)


def pool(benchmark, kind):
    return f"{RESULTS}/pools/{benchmark}/{kind}/pool.parquet"


def plan(wildcards):
    return json.dumps(
        {
            **config["pools"][wildcards.benchmark][wildcards.kind],
            "kind": wildcards.kind,
            "seed": config["seed"],
            "sampling": config["sampling"],
        }
    )


def shards(wildcards):
    count = config["pools"][wildcards.benchmark][wildcards.kind]["shards"]
    return expand(
        f"{RESULTS}/pools/{{b}}/{{k}}/samples/{{shard}}.parquet",
        b=wildcards.benchmark,
        k=wildcards.kind,
        shard=range(count),
    )
