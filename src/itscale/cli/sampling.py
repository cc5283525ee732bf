"""The command that draws, grades and scores in one go: from questions to a pool that `itscale advise` reads."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from itscale.cli.drawing import USUAL, Drawing, drawing_settings, remedy, with_drawing
from itscale.cli.options import (
    AllowUnanswered,
    AnswerFormat,
    Comparison,
    GoldList,
    ReadCutOff,
    Seed,
    StepBreak,
    app,
    parse_step_break,
)
from itscale.errors import UserError

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

SAMPLE = """Draw samples of a model for your questions, grade them, and score them if there is a verifier: a pool.

```
itscale sample --model http://127.0.0.1:8000/v1 --problems my.jsonl -n 16 --out pools/mine
itscale sample --model Qwen/Qwen2.5-0.5B-Instruct --problems my.jsonl -n 16 --max-tokens 1024 --out pools/qwen
itscale advise --pool pools/mine
```

my.jsonl holds one {"question": ..., "answer": ...} a line. With --rounds each of the -n is a chain of so many rounds, of which
each sees the last one's answer. A model of the hub is taken at its newest revision, which is printed and kept; the same command
goes on with that one. What was stopped or killed continues when it is called again.
"""


@app.command(help=SAMPLE)
@with_drawing
def sample(
    model: Annotated[str, typer.Option(help="Address of an OpenAI-compatible server (URL#MODEL), model folder, or hub id.")],
    problems: Annotated[Path, typer.Option(help="Questions with their gold answers: .jsonl, or a table of problems (.parquet).")],
    out: Annotated[Path, typer.Option(help="Folder to write: problems, samples, scores, grades and pool.")],
    n: Annotated[int, typer.Option("-n", "--samples", min=1, help="Samples of each question, or chains with --rounds.")] = 16,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each chain; 1 draws parallel samples.")] = 1,
    verifier: Annotated[Path | None, typer.Option(help="Process reward model folder; without it there are no scores.")] = None,
    verifier_batch_size: Annotated[int, typer.Option(min=1, help="Solutions per forward pass of the verifier.")] = 64,
    step_break: StepBreak = '"\\n"',
    revision: Annotated[str | None, typer.Option(help="Commit of a model of the hub (40 digits), else its newest.")] = None,
    given: Drawing = USUAL,
    answer: AnswerFormat = "auto",
    compare: Comparison = "auto",
    read_cut_off: ReadCutOff = False,
    gold_list: GoldList = None,
    allow_unanswered: AllowUnanswered = False,
    seed: Seed = 0,
) -> None:
    """See SAMPLE."""
    from dataclasses import asdict

    from itscale.cli.pools import graded, unanswered, write_grades
    from itscale.data.journal import fingerprint
    from itscale.data.pools import joined
    from itscale.data.records import (
        CUT_OFF,
        POOL,
        SAMPLES,
        SCORES,
        manifest_path,
        read_json,
        read_table,
        write_blocks,
        write_problems,
    )
    from itscale.data.records import write_table as write
    from itscale.drivers.generate import Plan, generate_shard
    from itscale.engines import is_address, open_engine
    from itscale.grading.settings import Grading
    from itscale.models.hub import weights_digest
    from itscale.sources.samples import read_questions

    grading, questions = Grading(answer, compare, read_cut_off), read_questions(problems, gold_list)
    if not all(problem.answer for problem in questions):
        raise UserError(f"{problems}: a question has no gold answer, and a pool needs verdicts: add a column `answer`.")
    served = is_address(model)
    source = {"model": model}
    if revision is not None and (served or Path(model).is_dir()):
        raise UserError(f"--revision is a model's of the hub, which {model} is not: leave it out.")
    if not served and not Path(model).is_dir():
        source["revision"] = resolved(model, revision, out)
        typer.echo(f"{model} at revision {source['revision']}")
        model = str(out / "model")
    settings, drawing = drawing_settings(model, given, answer)
    kind = {"kind": "chain", "chains": n, "rounds": rounds} if rounds > 1 else {"kind": "parallel", "samples": n}
    plan = Plan(**kind, sampling=drawing, seed=seed, answer=answer, read_cut_off=read_cut_off)
    meta = {**source, "drawn_with": settings.identity()}
    files = {name: out / f"{name}.parquet" for name in ("problems", "samples", "scores", "grades", "pool")}
    identity = fingerprint([asdict(plan), [asdict(p) for p in questions], meta])
    if not drawn(files["samples"], identity):
        write_problems(files["problems"], questions, {"questions": problems.name})
        with open_engine(settings) as opened:
            generate_shard(questions, opened, plan, files["samples"], {**meta, "run": identity})
    samples = read_table(files["samples"], SAMPLES)
    if verifier is None:
        scores = samples[list(SCORES.names[:4])].assign(score_mean=float("nan"), score_last=float("nan"), verifier_tokens=0)
        write(files["scores"], scores, SCORES)
    else:
        from itscale.models.verifier import score_table

        pieces, partial = parse_step_break(step_break), Path(f"{files['scores']}.partial")
        by = {"verifier": str(verifier), "weights": weights_digest(verifier), "step_break": pieces}
        by["samples"] = read_json(manifest_path(files["samples"]))["sha256"]
        if not scored(files["scores"], by):
            scores, windows = score_table(samples, questions, verifier, verifier_batch_size, pieces, partial)
            write(files["scores"], scores, SCORES, {**by, **windows})
            partial.unlink()
    grades = graded(samples, questions, grading)
    write_grades(files["grades"], grades, grading)
    parts = {name: files[name] for name in ("samples", "grades", "scores")}
    details = {name: read_json(manifest_path(path)) for name, path in parts.items()}
    write_blocks(files["pool"], joined(**parts), POOL, lambda: details)
    typer.echo(f"{files['pool']}: {len(questions)} problems, {len(samples)} samples")
    cut = int((samples["finish_reason"] == CUT_OFF).sum())
    if cut:
        typer.echo(f"{cut} of {len(samples)} samples were cut off{remedy(cut, len(samples))}")
    if sentence := unanswered(samples, grades, grading):
        typer.echo(f"itscale: {sentence}", err=True)
        raise typer.Exit(0 if allow_unanswered else 1)
    typer.echo(f"next: itscale advise --pool {out}")


def resolved(model: str, revision: str | None, out: Path) -> str:
    """The revision of a model of the hub: as asked, as kept from before, else the newest; its files are linked in `out`/model.

    Raises:
        UserError: it is no hub id, or the hub says no.
    """
    from itscale.data.records import read_json, write_json
    from itscale.models.hub import ModelSource, fetch_model, newest_revision, patiently

    if not _HUB_ID.fullmatch(model):
        raise UserError(
            f"--model {model} is no folder: give one, a hub id (OWNER/NAME), or the address of a server (http://...)."
        )
    kept = out / "model.json"
    known: dict[str, Any] = read_json(kept) if kept.exists() else {}
    if known and (known.get("model") != model or revision not in (None, known.get("revision"))):
        raise UserError(f"{out} holds samples of {known.get('model')} at {known.get('revision')}: give another --out.")
    found = revision or known.get("revision") or patiently(lambda: newest_revision(model, "--model"))
    patiently(lambda: fetch_model(ModelSource(model, found), "--model", out / "model"))
    write_json(kept, {"model": model, "revision": found})
    return found


def scored(scores: Path, by: dict[str, Any]) -> bool:
    """Whether scores are there that were made so, of these very samples."""
    from itscale.data.records import manifest_path, read_json

    there = manifest_path(scores)
    return there.exists() and by.items() <= read_json(there).items()


def drawn(samples: Path, identity: str) -> bool:
    """Whether the samples of this very run are there.

    Raises:
        UserError: those of another run are, which are not for us to overwrite.
    """
    from itscale.data.records import manifest_path, read_json

    if not manifest_path(samples).exists():
        return False
    if read_json(manifest_path(samples)).get("run") != identity:
        raise UserError(f"{samples} holds the samples of another run: give another folder with --out.")
    return True
