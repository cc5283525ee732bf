"""The command that says what a configuration will cost before anything runs."""

import os
import sys
from collections import Counter
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any

import typer

from itscale.cli.options import app


@app.command()
def plan(
    targets: Annotated[
        list[str] | None, typer.Argument(help="What is to be made, as for snakemake: optscale markovscale; all by default.")
    ] = None,
    configfile: Annotated[
        list[Path] | None, typer.Option(help="Configuration laid over config/config.yaml; may be repeated.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of the Snakefile; without it, the folder here or the one that itscale runs from.")
    ] = None,
    generator: Annotated[str | None, typer.Option(help="Another of the configuration's generators.")] = None,
    cores: Annotated[
        int | None, typer.Option(min=1, help="As `snakemake --cores` has them, without a GPU; all of this machine by default.")
    ] = None,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="What SLURM jobs ask for, where they go, and what cannot run.")
    ] = False,
    profile: Annotated[Path, typer.Option(help="With --cluster: the profile, in the folder of the Snakefile.")] = Path(
        "profiles/slurm"
    ),
) -> None:
    """Print jobs, tokens, hours and disk of a configuration, from the lengths and speeds that it states; run nothing."""
    from itscale.dag.planning import (
        disk_gb,
        job_counts,
        pool_costs,
        read_configuration,
        training_tokens,
        trainings,
        whole_hours,
        workflow_folder,
    )

    folder = workflow_folder() if folder is None else folder
    default = folder / "config" / "config.yaml"
    given = [file if file.exists() or file.is_absolute() else folder / file for file in configfile or []]
    files = [default, *(f for f in given if f.resolve() != default.resolve())]
    if cluster:
        _print_cluster(files, folder, targets, generator, profile)
        return
    config = read_configuration(files)
    counts = job_counts(files, folder, targets, generator)
    jobs: Counter[str] = Counter()
    for rule, count in counts.items():
        if rule not in ("all", "total"):
            jobs["figures" if rule.startswith("figures_") else rule] += count
    total = sum(jobs.values())
    print(f"{total} {'job that is' if total == 1 else 'jobs that are'} not done yet{':' if jobs else '.'}")
    if jobs:
        print(
            fill(", ".join(f"{count} {rule}" for rule, count in jobs.items()), 100, initial_indent="  ", subsequent_indent="  ")
        )
    if not config["datasets"]:
        print("The toy task: no GPU, no download; what it takes was measured (README, results/timings/workflow.json).")
        return
    if generator is not None:
        config["models"]["generator"] = generator
    costs = pool_costs(config)
    print(f"\nGenerator {config['models']['generator']}, lengths and speeds as the configuration states them:")
    alone = config["engine"]["name"] == "transformers"  # its jobs ask for a core each and no GPU
    hours = "hours" if alone else "GPU-hours"
    print(f"{'pool':32s}{'samples':>10s}{'M tokens':>10s}{hours + ', drawing':>20s}{'scoring':>10s}")
    for c in costs:
        label = f"{c.benchmark}, {c.kind}"
        print(f"{label:32s}{c.samples:10d}{c.tokens / 1e6:10.1f}{c.drawing_gpu_hours:20.1f}{c.scoring_gpu_hours:10.1f}")
    drawing, scoring = sum(c.drawing_gpu_hours for c in costs), sum(c.scoring_gpu_hours for c in costs)
    samples, tokens = sum(c.samples for c in costs), sum(c.tokens for c in costs)
    print(f"{'all':32s}{samples:10d}{tokens / 1e6:10.1f}{drawing:20.1f}{scoring:10.1f}")
    models, pools = disk_gb(config, costs)
    needed = f"{drawing + scoring:.1f} hours on one core, as many jobs at once as --cores says" if alone else None
    print(f"\n{needed or f'{drawing + scoring:.0f} GPU-hours'}; disk: models {models:.0f} GB, results {pools:.1f} GB.")
    where = "CPU, minutes" if alone else "one GPU, hours"
    print(f"Beside that: grading (CPU), the predictor's training ({where}), calibration and replays (CPU, minutes).")
    if training := trainings(counts):
        steps, prompts = (config["testtime"]["settings"][key] for key in ("steps", "prompts"))
        drawn = training_tokens(config, training)
        cost = "" if drawn is None else f", at most {drawn / 1e6:.1f} M tokens"
        place = "" if alone else ", one GPU each"
        print(
            f"Test-time training: {training} runs of at most {steps} steps of {prompts} prompts{place}{cost}; the pools are not "
            "its own."
        )
        _print_memory(config)
    if counts.get("live_run"):
        print(f"Live: {config['live']['problems']} questions by {len(config['live']['methods'])} methods and their fixed N.")
    if alone:
        cores = cores or os.cpu_count() or 1
        parts, missing = whole_hours(config, costs, counts, cores)
        each = ", ".join(f"{part} {took:.1f}" for part, took in parts.items() if took >= 0.05)
        unknown = f"; not known: {' and '.join(missing)}" if missing else ""
        count = f"{cores} cores" if cores > 1 else "one core"
        hours = sum(parts.values())
        print(f"\nAll of it: about {hours:.1f} hours on {count} ({each or 'minutes'}{unknown}), and minutes for the rest.")


def _print_memory(config: dict[str, Any]) -> None:
    """What each run of test-time training takes of its GPU, by part."""
    from tabulate import tabulate

    from itscale.dag.planning import run_memory
    from itscale.models.footprint import RESERVE

    found = {run: parts for run in config["testtime"]["runs"] if (parts := run_memory(config, run)) is not None}
    if not found:
        print("Its memory is not known: state models.generators.{name}.shape, the widths of the model's config.json.")
        return
    gpu = config["testtime"].get("gpu_gb")
    columns = list(dict.fromkeys(part for parts in found.values() for part in parts))
    rows = []
    for run, parts in found.items():
        total = sum(parts.values())
        fits = {} if gpu is None else {"fits": "yes" if total <= (1 - RESERVE) * gpu else "NO"}
        rows.append({"GB": run, **{part: parts.get(part, 0.0) for part in columns}, "all": total, **fits})
    on = "" if gpu is None else f", of {(1 - RESERVE) * gpu:.0f} that a GPU of {gpu:g} GB has for tensors"
    print(f"Memory at the highest point of a training step{on} (docs/gpu.md says how far that is right):")
    print(tabulate(rows, headers="keys", floatfmt=".1f"))


def _print_cluster(files: list[Path], folder: Path, targets: list[str] | None, generator: str | None, profile: Path) -> None:
    """A table of the jobs and a sentence for each thing that cannot run; then the exit status is 1."""
    from tabulate import tabulate

    from itscale.dag.cluster import planned, problems, read_cluster, read_partitions, read_settings, submitted_at_once, table

    settings = read_settings(folder / profile)
    partitions = read_partitions(folder / settings.partitions)
    requests, there = planned(files, folder, profile, targets, generator), read_cluster()
    print(tabulate(table(requests, partitions), headers="keys", floatfmt="g"))
    jobs = submitted_at_once(requests, settings, there)
    print(f"\n{len(requests)} jobs, at most {jobs} in the queue at a time; rules of seconds run where Snakemake does.")
    if there is None:
        print("No SLURM answers here: partitions, accounts and limits of the cluster were not looked at.")
    found = problems(requests, settings, partitions, there)
    for sentence in found:
        print(f"- {sentence}", file=sys.stderr)
    if found:
        raise typer.Exit(1)


@app.command()
def partitions(
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("profiles/slurm/partitions.yaml"),
) -> None:
    """Write the partitions of the SLURM cluster that this machine belongs to, with their limits, for the profile."""
    from itscale.dag.cluster import partitions_file, read_cluster
    from itscale.errors import UserError

    if (there := read_cluster()) is None:
        raise UserError("no SLURM answers here (sinfo, scontrol): call this on a login node of the cluster.")
    out.write_text(partitions_file(there))
    print(f"{out}: {', '.join(there.offers)}; take out those that are not for you.")
