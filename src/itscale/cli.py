"""`itscale <command>`: one subcommand behind each rule of the workflow, usable without Snakemake.

What a command needs is imported inside it, so that `--help` and the light commands start at once.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from itscale.errors import UserError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__.splitlines()[0])

Out = Annotated[Path, typer.Option(help="File (or folder) to write.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
Problems = Annotated[Path, typer.Option(help="Problems, a table that `itscale problems` wrote.")]
Samples = Annotated[Path, typer.Option(help="Samples, a table that `itscale generate` wrote.")]


def _json(text: str, option: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{option} is not valid JSON ({error.msg}, position {error.pos}): quote it as one argument.") from None


def _settings(cls: type, text: str, option: str, **given: Any) -> Any:
    """An instance of a settings class from JSON and what is given beside it; an unknown key is named."""
    return _build(cls, {**_json(text, option), **given}, option)


def _build(cls: type, values: dict[str, Any], option: str) -> Any:
    from dataclasses import fields

    known = [f.name for f in fields(cls)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise UserError(f"{option} has the unknown key {unknown[0]!r}: it takes {', '.join(known)}.")
    return cls(**values)


@app.command()
def problems(seed: Seed, out: Out, settings: Annotated[str, typer.Option(help="BenchmarkSettings as JSON.")] = "{}") -> None:
    """Make the tiny world's benchmarks: test, calibration, shifted and the predictor's splits, disjoint by text."""
    from itscale.records import write_problems
    from itscale.tinyworld.world import BenchmarkSettings, build_benchmarks

    for split, members in build_benchmarks(seed, _settings(BenchmarkSettings, settings, "--settings")).items():
        write_problems(out / f"{split}.parquet", members, {"seed": seed, "split": split})
        print(f"{split}: {len(members)} problems")


@app.command()
def train_language_model(
    problems: Annotated[list[Path], typer.Argument(help="Benchmarks whose questions the corpus must not contain.")],
    seed: Seed,
    out: Out,
    settings: Annotated[str, typer.Option(help="LanguageModelSettings as JSON.")] = "{}",
) -> None:
    """Train the tiny world's causal language model into a Hugging Face folder."""
    from itscale.records import read_problems
    from itscale.tinyworld.language_model import LanguageModelSettings, train

    exclude = {p.question for path in problems for p in read_problems(path)}
    train(out, seed, _settings(LanguageModelSettings, settings, "--settings"), exclude)


@app.command()
def train_reward_model(
    model: Annotated[Path, typer.Option(help="Language model folder to start from.")],
    problems: Problems,
    samples: Samples,
    seed: Seed,
    out: Out,
    settings: Annotated[str, typer.Option(help="RewardModelSettings as JSON.")] = "{}",
) -> None:
    """Train the tiny world's process reward model on solutions whose step truth the generator knows."""
    from itscale.records import SAMPLES, read_problems, read_table
    from itscale.tinyworld.reward_model import RewardModelSettings, train

    chosen = _settings(RewardModelSettings, settings, "--settings")
    train(out, model, read_table(samples, SAMPLES), read_problems(problems), seed, chosen)


@app.command()
def generate(
    plan: Annotated[str, typer.Option(help="The plan as JSON: kind, samples or chains and rounds, shards, seed, sampling.")],
    model: Annotated[Path, typer.Option(help="Model folder (or hub id at a pinned revision).")],
    problems: Problems,
    out: Out,
    shard: Annotated[int, typer.Option(help="Which part of the problems, from 0.")] = 0,
    engine: Annotated[str, typer.Option(help="EngineSettings as JSON, but for the model.")] = "{}",
) -> None:
    """Draw parallel samples or sequential chains; a killed job resumes where it stopped."""
    from itscale.engines import EngineSettings, open_engine
    from itscale.engines.protocol import Sampling
    from itscale.generate import Plan, generate_shard
    from itscale.records import read_problems

    values = _json(plan, "--plan")
    sampling = _build(Sampling, values.get("sampling", {}), "--plan sampling")
    chosen = _build(Plan, {**values, "sampling": sampling, "shard": shard}, "--plan")
    settings = _settings(EngineSettings, engine, "--engine", model=str(model))
    with open_engine(settings) as opened:
        generate_shard(read_problems(problems), opened, chosen, out, {"model": str(model)})


@app.command()
def gather(shards: Annotated[list[Path], typer.Argument(help="Sample tables of all shards.")], out: Out) -> None:
    """Put the shards of one pool together."""
    import pandas as pd

    from itscale.records import SAMPLES, manifest_path, read_json, read_table, sort_by_key, write_table

    table = sort_by_key(pd.concat([read_table(path, SAMPLES) for path in shards], ignore_index=True))
    write_table(out, table, SAMPLES, {"shards": [read_json(manifest_path(path)) for path in shards]})
    print(f"{out}: {len(table)} samples, {table['completion_tokens'].sum()} completion tokens")


@app.command()
def score(
    model: Annotated[Path, typer.Option(help="Process reward model folder.")],
    problems: Problems,
    samples: Samples,
    out: Out,
    batch_size: Annotated[int, typer.Option(help="Solutions per forward pass.")] = 64,
) -> None:
    """Score every step of every sample with a process reward model."""
    from itscale.records import SAMPLES, SCORES, read_problems, read_table, write_table
    from itscale.verifier import score_table

    scores = score_table(read_table(samples, SAMPLES), read_problems(problems), model, batch_size)
    write_table(out, scores, SCORES, {"verifier": str(model)})


@app.command()
def grade(
    problems: Problems,
    samples: Samples,
    out: Out,
    time_limit: Annotated[float, typer.Option(help="Seconds that one comparison may take.")] = 5.0,
) -> None:
    """Extract answers, cluster them without sight of the gold answer, and compare each cluster with it."""
    from itscale.grading import grade_table
    from itscale.records import GRADES, SAMPLES, read_problems, read_table, write_table

    grades = grade_table(read_table(samples, SAMPLES), read_problems(problems), time_limit)
    write_table(out, grades, GRADES, {"time_limit_s": time_limit})
    print(grades["verdict"].value_counts().to_string())


@app.command()
def pool(
    samples: Samples,
    grades: Annotated[Path, typer.Option(help="What `itscale grade` wrote.")],
    scores: Annotated[Path, typer.Option(help="What `itscale score` wrote.")],
    out: Out,
) -> None:
    """Join samples, grades and scores into a pool."""
    from itscale.records import GRADES, POOL, SAMPLES, SCORES, join_by_key, manifest_path, read_json, read_table, write_table

    table = read_table(samples, SAMPLES)
    for path, schema in ((grades, GRADES), (scores, SCORES)):
        table = join_by_key(table, read_table(path, schema), str(path))
    parts = {"samples": samples, "grades": grades, "scores": scores}
    write_table(out, table, POOL, {name: read_json(manifest_path(path)) for name, path in parts.items()})


@app.command()
def benchmark(
    source: Annotated[str, typer.Option(help="BenchmarkSource as JSON: path, split, revision, and the columns' names.")],
    label: Annotated[str, typer.Option(help="Name of the benchmark, the prefix of its problems' ids.")],
    out: Out,
    exclude: Annotated[list[Path] | None, typer.Option(help="Problems that must not come again; may be repeated.")] = None,
) -> None:
    """Read a benchmark from the hub (pinned revision) or from a local folder."""
    from itscale.benchmarks import BenchmarkSource, load_benchmark, normalise
    from itscale.records import read_problems, write_problems

    seen = frozenset(normalise(p.question) for path in exclude or () for p in read_problems(path))
    found = load_benchmark(_settings(BenchmarkSource, source, "--source"), label, seen)
    write_problems(out, found, {"source": _json(source, "--source")})
    print(f"{out}: {len(found)} problems")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Scored samples, .jsonl or .parquet, one row a sample.")],
    out: Annotated[Path, typer.Option(help="Folder to write: problems, samples, scores, grades and pool.")],
    columns: Annotated[str, typer.Option(help='Names of columns as JSON, ours to yours: {"text": "output"}.')] = "{}",
    time_limit: Annotated[float, typer.Option(help="Seconds that one comparison may take.")] = 5.0,
) -> None:
    """Read anyone's scored samples, grade them, and write a pool that every method can be replayed on.

    Columns: problem_id, question, gold, text, completion_tokens; and where there are: sample, score_mean, score_last,
    prompt_tokens, cached_prompt_tokens, verifier_tokens, finish_reason.
    """
    from itscale.importing import import_samples
    from itscale.records import SAMPLES, SCORES, write_problems, write_table

    if not file.exists():
        raise UserError(f"{file} does not exist: give the file of your samples.")
    found, samples, scores = import_samples(file, _json(columns, "--columns"))
    write_problems(out / "problems.parquet", found, {"imported": file.name})
    write_table(out / "samples.parquet", samples, SAMPLES, {"imported": file.name})
    write_table(out / "scores.parquet", scores, SCORES, {"imported": file.name})
    grade(out / "problems.parquet", out / "samples.parquet", out / "grades.parquet", time_limit)
    pool(out / "samples.parquet", out / "grades.parquet", out / "scores.parquet", out / "pool.parquet")
    print(f"{out / 'pool.parquet'}: {len(found)} problems, {len(samples)} samples")


@app.command()
def calibrate(
    parallel: Annotated[Path, typer.Option(help="Parallel pool of the calibration split.")],
    chain: Annotated[Path, typer.Option(help="Chain pool of the calibration split.")],
    methods: Annotated[str, typer.Option(help="The configuration's methods as JSON.")],
    compare: Annotated[str, typer.Option(help="The configuration's section `compare` as JSON.")],
    seed: Seed,
    out: Out,
) -> None:
    """Choose every knob on the calibration split and write down what was tried."""
    from itscale import calibrate as stage
    from itscale.methods import read_methods
    from itscale.records import Unit, read_pool, write_json

    options = _json(compare, "--compare")
    pools = {Unit.SAMPLE: read_pool(parallel, Unit.SAMPLE), Unit.ROUND: read_pool(chain, Unit.ROUND)}
    known = stage.known_from_pools(pools, strata=options["strata"], strength=options["strength"])
    chosen = stage.calibrate(
        read_methods(_json(methods, "--methods")), pools, known, orders=options["calibration_orders"], seed=seed
    )
    write_json(out, {"criterion": stage.CRITERION, "known": stage.known_to_json(known), "methods": chosen})


@app.command()
def compare(
    benchmark: Annotated[str, typer.Option(help="Name of the benchmark, for the tables.")],
    calibration: Annotated[Path, typer.Option(help="What `itscale calibrate` wrote.")],
    calibration_chain: Annotated[Path, typer.Option(help="Chain pool of the calibration split.")],
    parallel: Annotated[Path, typer.Option(help="Parallel pool of the benchmark.")],
    chain: Annotated[Path, typer.Option(help="Chain pool of the benchmark.")],
    seed: Seed,
    out: Out,
    orders: Annotated[int, typer.Option(help="Random orders per problem; 1 is the order of submission.")] = 100,
) -> None:
    """Replay every method, knobs frozen, over a benchmark and write its tables."""
    from itscale import compare as stage
    from itscale.calibrate import frozen_policies, known_from_json
    from itscale.records import Unit, read_json, read_pool
    from itscale.tables import write_csv

    frozen = read_json(calibration)
    pools = {Unit.SAMPLE: read_pool(parallel, Unit.SAMPLE), Unit.ROUND: read_pool(chain, Unit.ROUND)}
    main, stops = stage.compare(frozen_policies(frozen), pools, benchmark=benchmark, orders=orders, seed=seed)
    known = known_from_json(frozen["known"])
    write_csv(out / "main.csv", main)
    write_csv(out / "stops.csv", stops)
    write_csv(out / "curves.csv", stage.accuracy_curves(pools[Unit.SAMPLE], benchmark=benchmark, orders=orders, seed=seed))
    observed, fitted = pools[Unit.ROUND], read_pool(calibration_chain, Unit.ROUND)
    write_csv(out / "rounds.csv", stage.accuracy_rounds(observed, fitted, known, benchmark=benchmark))
    write_csv(out / "scores.csv", stage.score_fits(pools[Unit.SAMPLE], benchmark=benchmark))


@app.command()
def concat(tables: Annotated[list[Path], typer.Argument(help="The same table of several benchmarks.")], out: Out) -> None:
    """Put the same table of several benchmarks under each other."""
    from itscale import tables as stage

    stage.write_csv(out, stage.concat(tables))


@app.command()
def markdown(table: Annotated[Path, typer.Option(help="The main table (CSV).")], out: Out) -> None:
    """Write the main table for people."""
    import pandas as pd

    from itscale import tables as stage
    from itscale.records import write_atomic

    text = stage.markdown(pd.read_csv(table))
    write_atomic(out, text.encode())
    print(text)


@app.command()
def world(
    test: Annotated[Path, typer.Option(help="Parallel pool of the test split.")],
    chain: Annotated[Path, typer.Option(help="Chain pool of the test split.")],
    shifted: Annotated[Path, typer.Option(help="Parallel pool of the shifted benchmark.")],
    out: Out,
) -> None:
    """Measure the tiny world against the bands that make it worth studying."""
    from itscale.records import Unit, read_pool
    from itscale.tables import write_csv
    from itscale.tinyworld.world import measure

    table = measure(read_pool(test, Unit.SAMPLE), read_pool(chain, Unit.ROUND), read_pool(shifted, Unit.SAMPLE))
    write_csv(out, table)
    print(table.to_string(index=False))


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help="Which figure, by the name of its module.")],
    table: Annotated[Path, typer.Option(help="The table (CSV) that it reads.")],
    benchmark: Annotated[str, typer.Option(help="The benchmark to show.")],
    out: Out,
) -> None:
    """Draw one figure from one table, as PDF and PNG."""
    import importlib
    import pkgutil

    import pandas as pd

    from itscale import figures

    names = sorted(m.name for m in pkgutil.iter_modules(figures.__path__) if m.name != "style")
    if name not in names:
        raise UserError(f"There is no figure {name!r}: choose one of {', '.join(names)}.")
    importlib.import_module(f"itscale.figures.{name}").draw(pd.read_csv(table), benchmark, out)


def main() -> None:
    """Run the command line; a UserError is printed as its one sentence and ends with status 1."""
    try:
        app()
    except UserError as error:
        print(f"itscale: {error}", file=sys.stderr)
        sys.exit(1)
