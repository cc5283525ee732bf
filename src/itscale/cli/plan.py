"""The command that says what a configuration will cost before anything runs."""

from collections import Counter
from pathlib import Path
from textwrap import fill
from typing import Annotated

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
) -> None:
    """Print jobs, tokens, GPU-hours and disk of a configuration, from the lengths and speeds that it states; run nothing."""
    from itscale.dag.planning import disk_gb, job_counts, pool_costs, read_configuration, workflow_folder

    folder = workflow_folder() if folder is None else folder
    default = folder / "config" / "config.yaml"
    given = [file if file.exists() or file.is_absolute() else folder / file for file in configfile or []]
    files = [default, *(f for f in given if f.resolve() != default.resolve())]
    config = read_configuration(files)
    counts = job_counts(files, folder, targets, generator)
    jobs: Counter[str] = Counter()
    for rule, count in counts.items():
        if rule not in ("all", "total"):
            jobs["figures" if rule.startswith("figure_") else rule] += count
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
    print(f"\nGenerator {config['models']['generator']}, assumed lengths and speeds (none of them measured here):")
    print(f"{'pool':32s}{'samples':>10s}{'M tokens':>10s}{'GPU-hours, drawing':>20s}{'scoring':>10s}")
    for c in costs:
        label = f"{c.benchmark}, {c.kind}"
        print(f"{label:32s}{c.samples:10d}{c.tokens / 1e6:10.1f}{c.drawing_gpu_hours:20.1f}{c.scoring_gpu_hours:10.1f}")
    drawing, scoring = sum(c.drawing_gpu_hours for c in costs), sum(c.scoring_gpu_hours for c in costs)
    samples, tokens = sum(c.samples for c in costs), sum(c.tokens for c in costs)
    print(f"{'all':32s}{samples:10d}{tokens / 1e6:10.1f}{drawing:20.1f}{scoring:10.1f}")
    models, pools = disk_gb(config, costs)
    print(f"\n{drawing + scoring:.0f} GPU-hours; disk: models {models:.0f} GB, results {pools:.1f} GB.")
    print("Beside that: grading (CPU), the predictor's training (one GPU, hours), calibration and replays (CPU, minutes).")
    if training := sum(counts.get(rule, 0) for rule in ("train_on_votes", "try_learning_rate")):
        steps, prompts = (config["testtime"]["settings"][key] for key in ("steps", "prompts"))
        print(
            f"Test-time training: {training} runs of {steps} steps of {prompts} prompts, one GPU each; the pools are not its own."
        )
    if counts.get("live_run"):
        print(f"Live: {config['live']['problems']} questions by {len(config['live']['methods'])} methods and their fixed N.")
