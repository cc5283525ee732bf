"""Commands of the toy task: its problems, its models, its measurement."""

from pathlib import Path
from typing import Annotated

import typer

from itscale.cli.options import Out, OutFolder, Problems, Samples, Seed, build, parse_object, settings_of, step


@step.command()
def problems(seed: Seed, out: OutFolder, settings: Annotated[str, typer.Option(help="SplitSettings as JSON.")] = "{}") -> None:
    """Make the toy task's splits: test, calibration, shifted and the predictor's splits, disjoint by text."""
    from itscale.data.records import write_problems
    from itscale.toytask.splits import SplitSettings, build_splits

    for split, members in build_splits(seed, settings_of(SplitSettings, settings, "--settings")).items():
        write_problems(out / f"{split}.parquet", members, {"seed": seed, "split": split})
        print(f"{split}: {len(members)} problems")


@step.command()
def toy_models(
    out: Annotated[Path, typer.Option(help="Folder to write: the language model, the reward model and the weak one in it.")],
    models: Annotated[
        str, typer.Option(help="`shipped`, or a folder with three models as `snakemake toy_training` leaves them.")
    ] = "shipped",
) -> None:
    """Copy the toy models that come with the package, or others, and compare every file's SHA-256."""
    from itscale.toytask.shipped import MODELS, WEIGHTS, unpack

    unpack(out, WEIGHTS if models == "shipped" else Path(models))
    print(f"{out}: {', '.join(MODELS)} ({models})")


@step.command()
def train_language_model(
    problems: Annotated[list[Path], typer.Argument(help="Benchmarks whose questions the corpus must not contain.")],
    seed: Seed,
    out: OutFolder,
    settings: Annotated[str, typer.Option(help="LanguageModelSettings as JSON.")] = "{}",
) -> None:
    """Train the toy task's causal language model into a Hugging Face folder."""
    from itscale.data.records import read_problems
    from itscale.toytask.language_model import LanguageModelSettings, train

    exclude = {p.question for path in problems for p in read_problems(path)}
    train(out, seed, settings_of(LanguageModelSettings, settings, "--settings"), exclude)


@step.command()
def train_reward_model(
    evaluated: Annotated[list[Path], typer.Argument(help="Benchmarks whose questions no generated solution may answer.")],
    model: Annotated[Path, typer.Option(help="Language model folder to start from.")],
    problems: Problems,
    samples: Samples,
    seed: Seed,
    out: OutFolder,
    settings: Annotated[str, typer.Option(help="RewardModelSettings as JSON.")] = "{}",
) -> None:
    """Train the toy task's process reward model on solutions whose step truth the generator knows."""
    from itscale.data.records import SAMPLES, read_problems, read_table
    from itscale.toytask.reward_model import RewardModelSettings, train

    chosen = settings_of(RewardModelSettings, settings, "--settings")
    exclude = {p.question for path in evaluated for p in read_problems(path)}
    train(out, model, read_table(samples, SAMPLES), read_problems(problems), seed, chosen, exclude)


@step.command()
def sanity_checks(
    test: Annotated[Path, typer.Option(help="Parallel pool of the test split.")],
    weak: Annotated[Path, typer.Option(help="The weak verifier's scores of it.")],
    chain: Annotated[Path, typer.Option(help="Chain pool of the test split.")],
    shifted: Annotated[Path, typer.Option(help="Parallel pool of the shifted questions.")],
    out: Out,
) -> None:
    """Measure the toy task against the sanity checks that make it worth studying."""
    from itscale.data.records import Unit, read_pool
    from itscale.data.tables import write_csv
    from itscale.toytask.sanity import measure

    pools = (read_pool(test, Unit.SAMPLE, scores) for scores in (None, weak))
    table = measure(*pools, read_pool(chain, Unit.ROUND), read_pool(shifted, Unit.SAMPLE))
    write_csv(out, table)
    print(table.to_string(index=False))


@step.command()
def toy_trial(
    seed: Seed,
    toy_task: Annotated[str, typer.Option(help="The configuration's section `toy_task` as JSON.")],
    pools: Annotated[str, typer.Option(help="The configuration's section `pools` as JSON.")],
    sampling: Annotated[str, typer.Option(help="The configuration's section `sampling` as JSON.")],
    engine: Annotated[str, typer.Option(help="The configuration's section `engine` as JSON.")],
    folder: Annotated[
        Path, typer.Option(help="Where models and samples lie until the trial is done; a killed one goes on from it.")
    ],
    models: Annotated[Path, typer.Option(help="Folder to write the three models to.")],
    out: Out,
) -> None:
    """Make and measure a whole toy task from another seed."""
    from itscale.data.tables import write_csv
    from itscale.engines import EngineSettings
    from itscale.engines.protocol import Sampling
    from itscale.toytask.language_model import LanguageModelSettings
    from itscale.toytask.reward_model import RewardModelSettings
    from itscale.toytask.splits import SplitSettings
    from itscale.toytask.trial import plans_of, trial

    parts = parse_object(toy_task, "--toy-task")
    classes = {"problems": SplitSettings, "language_model": LanguageModelSettings, "reward_model": RewardModelSettings}
    settings = [build(cls, parts.get(name, {}), f"--toy-task {name}") for name, cls in classes.items()]
    plans = plans_of(parse_object(pools, "--pools"), settings_of(Sampling, sampling, "--sampling"), seed)
    chosen = settings_of(EngineSettings, engine, "--engine", model="")
    table = trial(seed, folder, models, *settings, plans, chosen)
    write_csv(out, table)
    print(table.to_string(index=False))
