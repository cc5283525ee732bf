"""Commands that make pools: datasets, samples, scores, grades, and imports."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from itscale.cli.drawing import EngineJson
from itscale.cli.options import (
    AllowUnanswered,
    AnswerFormat,
    Comparison,
    GoldList,
    OutFolder,
    OutTable,
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
    step,
)
from itscale.errors import UserError


@app.command()
def generate(
    plan: Annotated[str, typer.Option(help="The plan as JSON: kind, samples or chains and rounds, shards, seed, sampling.")],
    model: Annotated[str, typer.Option(help="Model folder, or address of an OpenAI-compatible server (URL#MODEL).")],
    problems: Problems,
    out: OutTable,
    shard: Annotated[int, typer.Option(min=0, help="Which part of the problems, from 0.")] = 0,
    engine: EngineJson = "{}",
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


@step.command()
def gather(shards: Annotated[list[Path], typer.Argument(help="Sample tables of all shards.")], out: OutTable) -> None:
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
    model: Annotated[Path, typer.Option(help="Process reward model folder; with --p-true the folder of the model that drew.")],
    problems: Problems,
    samples: Annotated[list[Path], typer.Option(help="Samples, a table that `itscale generate` wrote; repeat it for more.")],
    out: Annotated[list[Path], typer.Option(help="File to write, one for each of --samples in their order.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Solutions per forward pass.")] = 64,
    step_break: StepBreak = '"\\n"',
    p_true: Annotated[bool, typer.Option("--p-true", help="Ask the model that drew whether its answers are correct.")] = False,
    engine: EngineJson = "{}",
) -> None:
    """Score every step of every sample with a process reward model; long solutions are scored in windows.

    With --p-true the score is the probability of "Yes" that the model which drew the samples gives when it is asked whether its
    answer is correct; --engine says how its prompts are made, as for drawing. A killed job resumes where it stopped.
    """
    from itscale.data.records import SAMPLES, SCORES, read_problems, read_table, write_table
    from itscale.engines import EngineSettings
    from itscale.models.verifier import score_table

    prompts = settings_of(EngineSettings, engine, "--engine", model=str(model)).prompts if p_true else None
    if len(samples) != len(out):
        raise UserError(f"there are {len(samples)} --samples and {len(out)} --out: give one file to write for each.")
    pieces, questions = parse_step_break(step_break), read_problems(problems)
    for drawn, written in zip(samples, out, strict=True):
        partial = Path(f"{written}.partial")
        scores, windows = score_table(read_table(drawn, SAMPLES), questions, model, batch_size, pieces, partial, prompts)
        by = {"step_break": pieces} if prompts is None else {"confidence": "p_true"}
        write_table(written, scores, SCORES, {"verifier": str(model), **by, **windows})
        partial.unlink()


@step.command()
def score_confidence(
    calibration: Annotated[Path, typer.Option(help="Samples of the calibration split, to which the map is fitted.")],
    samples: Annotated[list[Path], typer.Option(help="Samples whose confidence becomes a score; repeat it for more.")],
    out: Annotated[list[Path], typer.Option(help="File to write, one for each of --samples in their order.")],
    confidence: Annotated[str, typer.Option(help="logprob_mean, conf_mean, conf_tail, conf_low10 or conf_min.")] = "logprob_mean",
    to_score: Annotated[
        str, typer.Option("--map", help="rank (among the calibration samples) or isotonic (how often such samples are correct).")
    ] = "rank",
    grades: Annotated[Path | None, typer.Option(help="Grades of the calibration samples, which --map isotonic reads.")] = None,
) -> None:
    """Make a model's own confidence a score in [0, 1], by a rising map that the calibration split decides."""
    from itscale.data.records import SCORES, read_confidence, read_correct, write_table
    from itscale.studies.confidence import fit_score

    if len(samples) != len(out):
        raise UserError(f"there are {len(samples)} --samples and {len(out)} --out: give one file to write for each.")
    if to_score == "isotonic" and grades is None:
        raise UserError("--map isotonic is fitted to verdicts: give the calibration samples' --grades.")
    known = read_confidence(calibration, confidence)[confidence].to_numpy()
    correct = read_correct(grades) if grades is not None and to_score == "isotonic" else None
    scored = fit_score(known, to_score, correct)
    for drawn, written in zip(samples, out, strict=True):
        table = read_confidence(drawn, confidence)
        scores = scored.of(table.pop(confidence).to_numpy())
        meta = {"confidence": confidence, "map": to_score, "fitted_to": len(known)}
        write_table(written, table.assign(score_mean=scores, score_last=scores, verifier_tokens=0), SCORES, meta)
        print(f"{written}: {len(scores)} scores from {confidence}, by {to_score} among {len(known)} calibration samples")


@app.command()
def grade(
    problems: Problems,
    samples: Samples,
    out: OutTable,
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


def graded(samples, problems, grading, answers=None, correct=None):
    """The grades of samples; how many have which verdict, and how many were cut off, is printed.

    `answers` are the samples' own, `correct` their own verdicts [samples] where there are no gold answers.
    """
    from itscale.data.records import CUT_OFF, Verdict
    from itscale.grading.clusters import grade_table

    grades = grade_table(samples, problems, grading, answers)
    if correct is not None and any(problem.answer for problem in problems):
        unlike = int(((grades["verdict"] == Verdict.CORRECT) != correct).sum())
        print(f"- gold answers decide; the verdicts of the file differ on {unlike} samples")
    elif correct is not None:
        told = [Verdict.CORRECT.value if right else Verdict.WRONG.value for right in correct]
        grades["verdict"] = grades["verdict"].where(grades["answer"].isna(), told)
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
    out: OutTable,
    scores: Annotated[Path | None, typer.Option(help="What `itscale score` wrote; without it samples have no scores.")] = None,
) -> None:
    """Join samples, grades and scores into a pool."""
    from itscale.data.pools import joined
    from itscale.data.records import POOL, manifest_path, read_json, write_blocks

    parts = {"samples": samples, "grades": grades, **({"scores": scores} if scores is not None else {})}
    write_blocks(
        out,
        joined(samples, grades, scores),
        POOL,
        lambda: {name: read_json(manifest_path(path)) for name, path in parts.items()},
    )


@app.command()
def slim(
    pool: Annotated[Path, typer.Option(help="Pool table, of parallel samples or of chains, or its folder.")], out: OutFolder
) -> None:
    """Write a pool without its texts, to pass on: question numbers, answers, verdicts, tokens and scores."""
    from itscale.data.pools import write_numbers

    out = out if out.suffix == ".parquet" else out / "pool.parquet"
    write_numbers(pool, out)
    typer.echo(f"{out}: {out.stat().st_size / 1000:.0f} kB")


@app.command()
def fetch_model(
    out: OutFolder,
    model: Annotated[str | None, typer.Option(help="A model of the hub, or a folder.")] = None,
    revision: Annotated[str | None, typer.Option(help="40 digits of a commit; without it the newest, which is printed.")] = None,
    source: Annotated[str | None, typer.Option(help="ModelSource as JSON in place of both: path, revision.")] = None,
    what: Annotated[str, typer.Option(help="What the model is for, for the messages.")] = "the model",
) -> None:
    """Make a model of the hub (hashes compared) or of a local folder a folder of the results.

    ```
    itscale fetch-model --model Qwen/Qwen2.5-0.5B-Instruct --out models/qwen
    ```
    """
    from itscale.models import hub

    if (model is None) == (source is None):
        raise UserError("which model? Give --model, or --source alone.")
    if revision is not None and (model is None or Path(model).is_dir()):
        raise UserError("--revision is a model's of the hub: leave it out for a folder, and write it into --source.")
    if model is None:
        wanted = settings_of(hub.ModelSource, source, "--source")
    elif Path(model).is_dir():
        wanted = hub.ModelSource(model)
    else:
        wanted = hub.ModelSource(model, revision or hub.patiently(lambda: hub.newest_revision(model, what)))
        print(f"{model} at revision {wanted.revision}")
    hub.patiently(lambda: hub.fetch_model(wanted, what, out))
    print(f"{out}: {', '.join(sorted(file.name for file in out.iterdir()))}")


@app.command()
def dataset(
    source: Annotated[str, typer.Option(help="DatasetSource as JSON: path, split, revision, and the columns' names.")],
    label: Annotated[str, typer.Option(help="Name of the dataset, the prefix of its problems' ids.")],
    out: OutTable,
    exclude: Annotated[list[Path] | None, typer.Option(help="Problems that must not come again; may be repeated.")] = None,
) -> None:
    """Read a dataset from the hub (pinned revision) or from a local folder."""
    from itscale.data.records import read_problems, write_problems
    from itscale.models.hub import patiently
    from itscale.sources.datasets import DatasetSource, normalise, read_dataset

    seen = frozenset(normalise(p.question) for path in exclude or () for p in read_problems(path))
    wanted = settings_of(DatasetSource, source, "--source")
    found = patiently(lambda: read_dataset(wanted, label, seen))
    write_problems(out, found, {"source": parse_json(source, "--source")})
    print(f"{out}: {len(found)} problems")


IMPORT = """Make anyone's samples a pool that every method can be replayed on.

```
itscale import samples.jsonl --out pools/mine
itscale import runs/*.csv.gz --column text=output --column gold=label --out pools/mine
itscale import samples_gsm8k.jsonl --format lm-eval --out pools/gsm8k
```

JSONL, JSON, CSV and Parquet, each also as .gz: one row a sample, or one row a question with lists. Needed are texts (`text`) or
extracted answers (`answer`), and gold answers (`gold`) or verdicts (`correct`). All else is optional: problem_id, question,
level, sample, chain, round, completion_tokens, prompt_tokens, cached_prompt_tokens, verifier_tokens, finish_reason,
score_mean, score_last (a list is one a step), logprob_mean, conf_mean, conf_tail, conf_low10, conf_min. Usual other names are
found by themselves, nested ones by a path (`--column question=doc.question`). What was guessed and dropped is printed.
"""


@app.command("import", help=IMPORT)
def import_(
    files: Annotated[
        list[Path], typer.Argument(help="Samples: .jsonl, .json, .csv, .parquet, each also as .gz; several are one.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write: problems, samples, scores, grades and pool.")],
    column: Annotated[
        list[str] | None,
        typer.Option(help="A column of yours as OURS=YOURS (text=output); OURS= leaves one out. Repeat it for more."),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="auto (guessed, and said), lm-eval, search-and-learn, inspect, feval-ttc, solve, columns; OptScale's released "
            "pools with their prompts as --problems: optscale (samples) or optscale-rounds.",
        ),
    ] = "auto",
    problems: Annotated[
        Path | None, typer.Option(help="Questions with their gold answers, where the samples come without (as for `solve`).")
    ] = None,
    score: Annotated[
        str, typer.Option(help="How scores become probabilities: identity (they are), sigmoid (of logits) or rank.")
    ] = "identity",
    steps: Annotated[str, typer.Option(help="The score of a list of scores, one a step: mean, min, last or prod.")] = "mean",
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Samples of each question to keep, questions of fewer left out; without it all."),
    ] = None,
    answer: AnswerFormat = "auto",
    compare: Comparison = "auto",
    read_cut_off: ReadCutOff = False,
    gold_list: GoldList = None,
    allow_unanswered: AllowUnanswered = False,
    time_limit: TimeLimit = 5.0,
    split: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=0.99, help="Keep one part of the questions, split by the hash of their text: this share of them."
        ),
    ] = None,
    part: Annotated[str, typer.Option(help="With --split, which part: calibration (the share) or test (the others).")] = "test",
) -> None:
    """See IMPORT."""
    import pandas as pd

    from itscale.data.records import KEY, POOL, SAMPLES, SCORES, manifest_path, read_json, write_problems, write_table
    from itscale.grading.settings import Grading
    from itscale.sources.official import FORMATS as RELEASED
    from itscale.sources.official import released
    from itscale.sources.samples import import_samples, part_of, read_questions

    grading = Grading(answer, compare, read_cut_off, time_limit)
    named = parse_columns(column or [])
    if part != "test" and split is None:
        raise UserError(f"--part {part} is a part of a split, and --split is not given: give the share, for example 0.5.")
    if form in RELEASED:
        told = {"--column": column, "--gold-list": gold_list, "--size": size}
        told |= {"--score": score != "identity", "--steps": steps != "mean"}
        if unread := [name for name, value in told.items() if value]:
            raise UserError(f"--format {form} is read as it was released: leave out {' and '.join(unread)}.")
        found = released(files, problems, form)
    else:
        asked = read_questions(problems, gold_list) if problems is not None else []
        found = import_samples(files, named, form=form, problems=asked, gold_list=gold_list, score=score, steps=steps, size=size)
    if split is not None:
        found = part_of(found, split, part)
    for note in found.notes:
        print(f"- {note}")
    grades = graded(found.samples, found.problems, grading, found.answers, found.correct)
    where = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    if sentence := unanswered(found.samples, grades, grading):
        if not allow_unanswered:
            raise UserError(f"{where}: {sentence}")
        typer.echo(f"itscale: {where}: {sentence}", err=True)
    refuse_drawn(out)
    meta = {"imported": [file.name for file in files], "notes": found.notes, "counted": found.counted}
    write_problems(out / "problems.parquet", found.problems, meta)
    write_table(out / "samples.parquet", found.samples, SAMPLES, meta)
    write_table(out / "scores.parquet", found.scores, SCORES, meta)
    write_grades(out / "grades.parquet", grades, grading)
    whole = pd.concat([found.samples, grades.drop(columns=list(KEY)), found.scores.drop(columns=list(KEY))], axis=1)
    parts = {name: read_json(manifest_path(out / f"{name}.parquet")) for name in ("samples", "grades", "scores")}
    write_table(out / "pool.parquet", whole, POOL, parts)
    print(f"{out / 'pool.parquet'}: {len(found.problems)} problems, {len(found.samples)} samples")


def refuse_drawn(out: Path) -> None:
    """Refuse to import over samples that were drawn.

    Raises:
        UserError: there are some.
    """
    from itscale.data.records import manifest_path, read_json

    there = manifest_path(out / "samples.parquet")
    if there.exists() and "imported" not in read_json(there):
        raise UserError(f"{out} holds samples that were drawn, which an import would overwrite: give another --out.")


def parse_columns(named: list[str]) -> dict[str, str]:
    """Our names of columns to those of a file, from OURS=YOURS; a UserError names what is of another form, or comes twice."""
    columns: dict[str, str] = {}
    for text in named:
        ours, equals, theirs = text.partition("=")
        if not equals or not ours:
            raise UserError(f"--column {text} is no OURS=YOURS: write text=output for texts in the column `output`.")
        if ours in columns:
            raise UserError(f"--column {ours} is given twice: give it once.")
        columns[ours] = theirs
    return columns


@app.command("import-official")
def import_official(
    completions: Annotated[Path, typer.Argument(help="A completion pool as OptScale's authors released it (scored_*.json).")],
    prompts: Annotated[Path, typer.Argument(help="The prompt file that it is aligned with, by position.")],
    label: Annotated[str, typer.Option(help="Name of the dataset, the prefix of its problems' ids.")],
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
