"""Paths and helpers that every rule file uses."""

import json
import sys

import grimp

RESULTS = config["results"]
# A method that an overlaid configuration sets to null is left out.
METHODS = {name: method for name, method in config["methods"].items() if method}
SPLITS = ["test", "calibration", "shifted", "predictor_train", "predictor_validation"]
ENV = "../../envs/cpu.yaml"


# grimp finds the package as Python does.
sys.path.insert(0, str(Path(workflow.basedir, "src")))
IMPORTS = grimp.build_graph("itscale", cache_dir=None)


wildcard_constraints:
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
    "samples_used": "stops",
    "score_fit": "scores",
}
# Figures of long runs, which a bare `snakemake` does not make.
ON_REQUEST = set()


def figures(*names):
    return expand(f"{RESULTS}/figures/{{name}}.pdf", name=names)


def modules(*names):
    """Source files that a command depends on: the named modules and all that they import."""
    files = set()
    for name in names:
        for module in {f"itscale.{name}"} | IMPORTS.find_upstream_modules(
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


def published_on(benchmark):
    """Options that name the published benchmark to show beside ours; the tiny world's is not the published one."""
    found = config["compare"]["published"].get(benchmark)
    return f"--published-on {found} --same" if found else "--published-on MATH500"
