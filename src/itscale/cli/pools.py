"""Commands that make pools: benchmarks, samples, scores, grades, and imports."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from itscale.cli.options import (
    AllowUnanswered,
    AnswerFormat,
    Comparison,
    GoldList,
    Out,
    Problems,
    ReadCutOff,
    Samples,
    StepBreak,
    TimeLimit,
    app,
    build,
    parse_json,
    parse_object,
    parse_step_break,
    settings_of,
)
from itscale.errors import UserError


@app.command()
def generate(
    plan: Annotated[str, typer.Option(help="The plan as JSON: kind, samples or chains and rounds, shards, seed, sampling.")],
    model: Annotated[str, typer.Option(help="Model folder, or address of an OpenAI-compatible server (URL#MODEL).")],
    problems: Problems,
    out: Out,
    shard: Annotated[int, typer.Option(min=0, help="Which part of the problems, from 0.")] = 0,
    engine: Annotated[str, typer.Option(help="EngineSettings as JSON, but for the model.")] = "{}",
) -> None:
    """Draw parallel samples or sequential chains; a killed job resumes where it stopped."""
    from itscale.data.records import read_problems
    from itscale.drivers.generate import Plan, generate_shard
    from itscale.engines import EngineSettings, open_engine
    from itscale.engines.protocol import Sampling

    values = parse_object(plan, "--plan", "kind")
    sampling = build(Sampling, values.get("sampling", {}), "--plan sampling")
    chosen = build(Plan, {**values, "sampling": sampling, "shard": shard}, "--plan")
    settings = settings_of(EngineSettings, engine, "--engine", model=model)
    with open_engine(settings) as opened:
        generate_shard(read_problems(problems), opened, chosen, out, {"model": model, "drawn_with": settings.identity()})


@app.command()
def gather(shards: Annotated[list[Path], typer.Argument(help="Sample tables of all shards.")], out: Out) -> None:
    """Put the shards of one pool together."""
    from itscale.data.pools import gathered
    from itscale.data.records import SAMPLES, manifest_path, read_json, write_blocks

    manifests = [read_json(manifest_path(path)) for path in shards]
    refuse_mixture(dict(zip(map(str, shards), manifests, strict=True)))
    write_blocks(out, gathered(shards), SAMPLES, lambda: {"shards": manifests})
    used = sum(found["usage"]["completion"] for found in manifests)
    print(f"{out}: {read_json(manifest_path(out))['rows']} samples, {used} completion tokens")


def refuse_mixture(manifests: dict[str, dict]) -> None:
    """Refuse shards (manifests by path) that are not one pool's: of other settings or another model, or not all of them.

    Raises:
        UserError: the first shard that differs from the one before it, or the first that is missing.
    """
    drawn = {path: {**found["plan"], "shard": None, "drawn_with": found.get("drawn_with")} for path, found in manifests.items()}
    for one, two in pairwise(drawn):
        if unlike := [key for key in drawn[one] if drawn[one][key] != drawn[two].get(key)]:
            raise UserError(f"{one} and {two} differ in {unlike[0]}: give the shards of one pool, or draw them anew.")
    first = next(iter(manifests.values()))["plan"]
    if missing := set(range(first["shards"])) - {found["plan"]["shard"] for found in manifests.values()}:
        raise UserError(f"shard {min(missing)} of {first['shards']} is not among {', '.join(manifests)}: give all shards.")


@app.command()
def score(
    model: Annotated[Path, typer.Option(help="Process reward model folder.")],
    problems: Problems,
    samples: Annotated[list[Path], typer.Option(help="Samples, a table that `itscale generate` wrote; repeat it for more.")],
    out: Annotated[list[Path], typer.Option(help="File to write, one for each of --samples in their order.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Solutions per forward pass.")] = 64,
    step_break: StepBreak = '"\\n"',
) -> None:
    """Score every step of every sample with a process reward model; long solutions are scored in windows.

    A killed job resumes where it stopped.
    """
    from itscale.data.records import SAMPLES, SCORES, read_problems, read_table, write_table
    from itscale.models.verifier import score_table

    if len(samples) != len(out):
        raise UserError(f"there are {len(samples)} --samples and {len(out)} --out: give one file to write for each.")
    pieces, questions = parse_step_break(step_break), read_problems(problems)
    for drawn, written in zip(samples, out, strict=True):
        partial = Path(f"{written}.partial")
        scores, windows = score_table(read_table(drawn, SAMPLES), questions, model, batch_size, pieces, partial)
        write_table(written, scores, SCORES, {"verifier": str(model), "step_break": pieces, **windows})
        partial.unlink()


@app.command()
def grade(
    problems: Problems,
    samples: Samples,
    out: Out,
    answer: AnswerFormat = "auto",
    compare: Comparison = "auto",
    read_cut_off: ReadCutOff = False,
    time_limit: TimeLimit = 5.0,
) -> None:
    """Find answers, cluster them without sight of the gold answer, and compare each with it."""
    from itscale.data.records import SAMPLES, read_problems, read_table
    from itscale.grading.settings import Grading

    grading = Grading(answer, compare, read_cut_off, time_limit)
    table = read_table(samples, SAMPLES)
    grades = graded(table, read_problems(problems), grading)
    write_grades(out, grades, grading)
    if sentence := unanswered(table, grades, grading):
        typer.echo(f"itscale: {sentence}", err=True)


def graded(samples, problems, grading):
    """The grades of samples; how many have which verdict, and how many were cut off, is printed."""
    from itscale.data.records import CUT_OFF
    from itscale.grading.clusters import grade_table

    grades = grade_table(samples, problems, grading)
    counts = grades["verdict"].value_counts().to_dict() | {"cut off": int((samples["finish_reason"] == CUT_OFF).sum())}
    print(f"{len(grades)} samples: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    return grades


def write_grades(out: Path, grades, grading) -> None:
    """The table of grades; its manifest says how they were made."""
    from dataclasses import asdict

    from itscale.data.records import GRADES, write_table

    write_table(out, grades, GRADES, {"grading": asdict(grading)})


def unanswered(samples, grades, grading) -> str | None:
    """What to say of a pool of which more than half has no answer."""
    from itscale.data.records import sort_by_key
    from itscale.grading.unanswered import unanswered_sentence

    texts = sort_by_key(samples)
    return unanswered_sentence(list(zip(texts["text"], texts["finish_reason"], grades["answer"], strict=True)), grading)


@app.command()
def pool(
    samples: Samples,
    grades: Annotated[Path, typer.Option(help="What `itscale grade` wrote.")],
    scores: Annotated[Path, typer.Option(help="What `itscale score` wrote.")],
    out: Out,
) -> None:
    """Join samples, grades and scores into a pool."""
    from itscale.data.pools import joined
    from itscale.data.records import POOL, manifest_path, read_json, write_blocks

    parts = {"samples": samples, "grades": grades, "scores": scores}
    write_blocks(
        out,
        joined(samples, grades, scores),
        POOL,
        lambda: {name: read_json(manifest_path(path)) for name, path in parts.items()},
    )


@app.command()
def fetch_model(
    source: Annotated[str, typer.Option(help="ModelSource as JSON: path, and for the hub the revision.")],
    what: Annotated[str, typer.Option(help="What the model is for, for the messages.")],
    out: Out,
) -> None:
    """Make a model of the hub (pinned revision, hashes compared) or of a local folder a folder of the results."""
    from itscale.models.hub import ModelSource, fetch_model

    fetch_model(settings_of(ModelSource, source, "--source"), what, out)
    print(f"{out}: {', '.join(sorted(file.name for file in out.iterdir()))}")


@app.command()
def dataset(
    source: Annotated[str, typer.Option(help="DatasetSource as JSON: path, split, revision, and the columns' names.")],
    label: Annotated[str, typer.Option(help="Name of the benchmark, the prefix of its problems' ids.")],
    out: Out,
    exclude: Annotated[list[Path] | None, typer.Option(help="Problems that must not come again; may be repeated.")] = None,
) -> None:
    """Read a benchmark from the hub (pinned revision) or from a local folder."""
    from itscale.data.records import read_problems, write_problems
    from itscale.sources.datasets import DatasetSource, normalise, read_dataset

    seen = frozenset(normalise(p.question) for path in exclude or () for p in read_problems(path))
    found = read_dataset(settings_of(DatasetSource, source, "--source"), label, seen)
    write_problems(out, found, {"source": parse_json(source, "--source")})
    print(f"{out}: {len(found)} problems")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Scored samples, .jsonl or .parquet, one row a sample.")],
    out: Annotated[Path, typer.Option(help="Folder to write: problems, samples, scores, grades and pool.")],
    columns: Annotated[str, typer.Option(help='Names of columns as JSON, ours to yours: {"text": "output"}.')] = "{}",
    answer: AnswerFormat = "auto",
    compare: Comparison = "auto",
    read_cut_off: ReadCutOff = False,
    gold_list: GoldList = None,
    allow_unanswered: AllowUnanswered = False,
    time_limit: TimeLimit = 5.0,
) -> None:
    """Read anyone's scored samples, grade them, and write a pool that every method can be replayed on.

    Columns: problem_id, question, gold, text, completion_tokens; and where there are: sample, score_mean, score_last,
    prompt_tokens, cached_prompt_tokens, verifier_tokens, finish_reason.
    """
    from itscale.data.records import SAMPLES, SCORES, write_problems, write_table
    from itscale.grading.settings import Grading
    from itscale.sources.samples import import_samples

    grading = Grading(answer, compare, read_cut_off, time_limit)
    if not file.exists():
        raise UserError(f"{file} does not exist: give the file of your samples.")
    found, samples, scores = import_samples(file, parse_object(columns, "--columns"), gold_list)
    grades = graded(samples, found, grading)
    if sentence := unanswered(samples, grades, grading):
        if not allow_unanswered:
            raise UserError(f"{file}: {sentence}")
        typer.echo(f"itscale: {file}: {sentence}", err=True)
    write_problems(out / "problems.parquet", found, {"imported": file.name})
    write_table(out / "samples.parquet", samples, SAMPLES, {"imported": file.name})
    write_table(out / "scores.parquet", scores, SCORES, {"imported": file.name})
    write_grades(out / "grades.parquet", grades, grading)
    pool(out / "samples.parquet", out / "grades.parquet", out / "scores.parquet", out / "pool.parquet")
    print(f"{out / 'pool.parquet'}: {len(found)} problems, {len(samples)} samples")


@app.command("import-official")
def import_official(
    completions: Annotated[Path, typer.Argument(help="A completion pool as OptScale's authors released it (scored_*.json).")],
    prompts: Annotated[Path, typer.Argument(help="The prompt file that it is aligned with, by position.")],
    label: Annotated[str, typer.Option(help="Name of the benchmark, the prefix of its problems' ids.")],
    out: Annotated[Path, typer.Option(help="Folder to write: problems, samples and scores, for `grade` and `pool`.")],
    kind: Annotated[str, typer.Option(help="parallel (samples) or chain (rounds of re-answering).")] = "parallel",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad entries out and list them.")] = False,
) -> None:
    """Read the released OptScale pools: every method can then be replayed on the authors' own samples, without a GPU."""
    from itscale.data.records import SAMPLES, SCORES, Unit, write_problems, write_table
    from itscale.sources.official import import_official as stage

    if kind not in ("parallel", "chain"):
        raise UserError(f"the kind {kind!r} is not known: choose parallel or chain.")
    unit = Unit.SAMPLE if kind == "parallel" else Unit.ROUND
    found, samples, scores, left_out = stage(completions, prompts, label, unit, skip_bad=skip_bad)
    meta = {"imported": completions.name, "left_out": left_out}
    write_problems(out / "problems.parquet", found, meta)
    write_table(out / "samples.parquet", samples, SAMPLES, meta)
    write_table(out / "scores.parquet", scores, SCORES, meta)
    for message in left_out:
        print(f"left out: {message}")
    print(f"{out}: {len(found)} problems, {len(samples)} samples, {len(left_out)} entries left out")
