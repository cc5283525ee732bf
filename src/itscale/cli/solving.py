"""Commands for use outside the workflow: solve problems with a stopping rule, and ask which rule to take."""

import json
from pathlib import Path
from typing import Annotated

import typer

from itscale.cli.drawing import USUAL, Drawing, drawing_settings, remedy, with_drawing
from itscale.cli.options import (
    AllowUnanswered,
    AnswerFormat,
    Choices,
    Comparison,
    GoldList,
    GradingJson,
    ReadCutOff,
    Seed,
    Set,
    StepBreak,
    app,
    build,
    parse_object,
    parse_settings,
    parse_step_break,
    settings_of,
    step,
)
from itscale.errors import UserError

SOLVE = """Answer questions with a model, drawing no more samples than the policy needs.

```
itscale solve --model results/models/language_model --policy vote_lead --problems my.jsonl
itscale solve --model http://127.0.0.1:8000/v1 --policy optscale_paper --verifier prm --problems my.jsonl
```

my.jsonl holds one {"question": ...} a line, with "answer" where the gold answer is known (it is looked at after the run only).
A policy that reads scores takes its verifier from --verifier, or from a folder `reward_model` beside the model; with
--confidence the model's own confidence is the score. With --calibration the policy has the hyperparameters that the calibration
split chose, and the confidence the map to [0, 1] that it gave. A run that was stopped or killed
continues when it is called again, and one that is done says so; the key of a server comes from OPENAI_API_KEY.
"""


@app.command(help=SOLVE)
@with_drawing
def solve(
    model: Annotated[str, typer.Option(help="Model folder, or address of an OpenAI-compatible server (URL#MODEL).")],
    policy: Annotated[str, typer.Option(help="Name of a policy, or of a method of the calibration.")],
    problems: Annotated[Path, typer.Option(help="Questions: .jsonl, or a table of problems (.parquet).")],
    out: Annotated[Path, typer.Option(help="File of the answers, one JSON object a line.")] = Path("answers.jsonl"),
    settings: Set = None,
    calibration: Annotated[Path | None, typer.Option(help="What `itscale calibrate` wrote.")] = None,
    verifier: Annotated[Path | None, typer.Option(help="Process reward model folder.")] = None,
    verifier_batch_size: Annotated[int, typer.Option(min=1, help="Solutions per forward pass of the verifier.")] = 64,
    step_break: StepBreak = '"\\n"',
    confidence: Annotated[
        str | None,
        typer.Option(
            help="Score by the model's own confidence: logprob_mean, conf_mean, conf_tail, conf_low10, conf_min, or p_true "
            "(a model in a folder is asked). Without it the one that stands for a verifier in --calibration, if one does."
        ),
    ] = None,
    predictions: Annotated[Path | None, typer.Option(help="What the predictor says of these problems (.parquet).")] = None,
    given: Drawing = USUAL,
    chains: Annotated[int, typer.Option(min=1, help="Chains per question, for policies over rounds.")] = 1,
    prefetch: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Samples of one question that may be begun before they are asked for: faster, but some are drawn for nothing. "
            "Without it 8 for a local model, 0 for a server or where tokens have a price.",
        ),
    ] = None,
    answer: AnswerFormat = "auto",
    compare: Comparison = "auto",
    read_cut_off: ReadCutOff = False,
    gold_list: GoldList = None,
    allow_unanswered: AllowUnanswered = False,
    seed: Seed = 0,
) -> None:
    """See SOLVE."""
    from dataclasses import asdict, replace

    from itscale.data.journal import fingerprint
    from itscale.data.records import PREDICTIONS, manifest_path, read_json, read_table
    from itscale.drivers.live import Interrupted, refuse_scale, run_identity
    from itscale.drivers.live import solve as stage
    from itscale.engines import engine_name, is_address, open_engine
    from itscale.grading.settings import Grading
    from itscale.grading.unanswered import unanswered_sentence
    from itscale.models.hub import weights_digest
    from itscale.models.scores import P_TRUE
    from itscale.sources.samples import read_questions
    from itscale.studies.advice import named_policy
    from itscale.studies.calibrate import read_calibration
    from itscale.studies.confidence import live_score, made_with

    grading = Grading(answer, compare, read_cut_off)
    questions, partial = read_questions(problems, gold_list), Path(f"{out}.partial")
    refuse_place(out)
    if verifier is not None and confidence is not None:
        raise UserError("--verifier and --confidence are both given: one of them scores the samples.")
    record = made_with(readable(calibration, read_calibration), confidence)
    chosen = named_policy(policy, parse_settings(settings), record)
    own = live_score(record, confidence) if chosen.needs_scores and verifier is None else None
    served = is_address(model)
    asked = chosen.needs_scores and verifier is None and (confidence or (record or {}).get("verifier")) == P_TRUE
    if asked and served:
        raise UserError("p_true is asked of a model in a folder, and a server draws here: take conf_mean, or give a --verifier.")
    beside = Path(model) if asked else Path(model).parent / "reward_model"
    prm = verifier if verifier is not None or served else beside
    scorer, scored_with = None, {}
    if own is not None:
        refuse_scale(chosen, own)
        rising = own.score_map
        scored_with = {"confidence": own.column, "map": rising and fingerprint([rising.knots.tolist(), rising.value.tolist()])}
    elif chosen.needs_scores:
        if prm is None or not prm.exists():
            raise UserError(
                f"policy {policy!r} reads verifier scores: give the folder of a process reward model with --verifier, or take "
                "the model's own confidence with --confidence."
            )
        pieces = parse_step_break(step_break)
        by = {"confidence": P_TRUE} if asked else {"step_break": pieces}
        scored_with = {"verifier": str(prm), "weights": weights_digest(prm), **by}
    engine, drawing = drawing_settings(model, given, answer)
    drawing = replace(drawing, confidence=drawing.confidence or own is not None)
    meta = {"drawn_with": engine.identity(), "scored_with": scored_with}
    predicted = readable(predictions, lambda path: read_table(path, PREDICTIONS))
    if predictions is not None:
        meta["predicted_with"] = read_json(manifest_path(predictions))["sha256"]
    identity = run_identity(questions, chosen, drawing, seed, chains, grading, meta)
    if out.exists() and not partial.exists():  # with one, the run was killed before its record was written
        typer.echo(already_done(out, identity))
        return
    if "verifier" in scored_with:
        scorer = opened_verifier(prm, verifier_batch_size, scored_with.get("step_break"), engine.prompts)
    with open_engine(engine) as opened:
        try:
            run = stage(
                questions,
                opened,
                chosen,
                sampling=drawing,
                seed=seed,
                chains=chains,
                prefetch=0 if prefetch is None and engine.price is not None else prefetch,
                verifier=scorer,
                confidence=own,
                predictions=predicted,
                grading=grading,
                allow_unanswered=allow_unanswered,
                journal=partial,
                meta=meta,
            )
        except Interrupted as stopped:
            typer.echo(f"itscale: {stopped}: the same command continues.", err=True)
            raise typer.Exit(130) from None
    write_answers(out, run.rows)
    drawn, sentence = sum(len(row.samples) for row in run.rows), None
    if 2 * run.unanswered > drawn:
        sentence = unanswered_sentence(seen(run.rows), grading)
    meta["drawn_with"] |= {"name": engine_name(engine)}  # the one that ran, where `auto` was asked for
    under = run.conditions.record()
    write_record(out, run, {"run": identity, **meta, "sampling": asdict(drawing), "seed": seed, **under}, engine.price)
    partial.unlink()
    typer.echo(run.summary())
    if engine.price is not None:
        typer.echo(f"${engine.price.dollars(run.ledger):.4f}")
    typer.echo(stops(run.rows))
    if promise := promise_of(policy, chosen):
        typer.echo(promise)
    if all(problem.answer for problem in questions):
        typer.echo(accuracy(run.rows, grading))
    if run.unanswered or run.cut_off:
        todo = remedy(run.cut_off, drawn)
        typer.echo(f"{run.unanswered} of {drawn} samples have no answer, {run.cut_off} were cut off{todo}")
    typer.echo(f"{out}: {sum(row.answer is not None for row in run.rows)} of {len(run.rows)} answered")
    if sentence:
        typer.echo(f"itscale: {sentence}", err=True)
        raise typer.Exit(0 if allow_unanswered else 1)


def opened_verifier(folder: Path, batch_size: int, step_break: str | None, prompts):
    """What scores samples: a reward model that reads their steps, or, without a break of steps, the model that drew them."""
    if step_break is None:
        from itscale.models.selfasked import SelfAsked

        return SelfAsked(folder, batch_size, prompts)
    from itscale.models.verifier import Verifier

    return Verifier(folder, batch_size, step_break)


def seen(rows, most: int = 1000) -> list[tuple[str, str, str | None]]:
    """(text, finish reason, answer) of every sample; the texts of the first unanswered ones only, the others stay on disk."""
    found, left = [], most
    for sample in (sample for row in rows for sample in row.samples):
        wanted = sample.assessment.answer is None and left > 0
        left -= wanted
        found.append((sample.text if wanted else "", str(sample.completion.finish), sample.assessment.answer))
    return found


def refuse_place(out: Path) -> None:
    """Refuse a file for the answers beside which their record cannot be written.

    Raises:
        UserError: it is a folder, or the record would take its name, or another file's that is no record.
    """
    from itscale.data.records import manifest_path

    record = manifest_path(out)
    if out.is_dir():
        raise UserError(f"--out {out} is a folder: give the name of a file.")
    if record == out:
        raise UserError(f"--out {out} is the name that the record of the answers takes: give a name that ends with .jsonl.")
    if record.exists() and not is_record(record):
        raise UserError(f"the record of the answers would overwrite {record}: give another --out.")


def is_record(path: Path) -> bool:
    """Whether a file is what `write_record` wrote."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(found, dict) and "run" in found


def already_done(out: Path, identity: str) -> str:
    """What to say of answers that are there: that this run is done.

    Raises:
        UserError: they are another run's, which is not for us to overwrite.
    """
    from itscale.data.records import manifest_path, read_json

    if manifest_path(out).exists() and read_json(manifest_path(out)).get("run") == identity:
        return f"{out} holds the answers of this very run, which is done: give another --out, or another --seed, to draw anew."
    raise UserError(f"{out} is there already and does not hold the answers of this run: give another file with --out.")


def write_record(out: Path, run, record: dict, price) -> None:
    """What the answers come from and what they cost, in a .json file beside them."""
    from dataclasses import asdict

    from itscale.data.records import manifest_path, write_json
    from itscale.drivers.generate import loaded_versions

    record |= {"versions": loaded_versions(), "tokens": asdict(run.ledger), "failed": len(run.failures)}
    if price is not None:
        record["dollars"] = price.dollars(run.ledger)
    write_json(manifest_path(out), record)


def readable(path: Path | None, read):
    """What a file holds, None where no file is given."""
    return None if path is None else read(path)


def write_answers(out: Path, rows) -> None:
    """One JSON object a row: its answer, why it stopped, what it cost, and its samples."""
    from dataclasses import asdict

    from itscale.data.records import atomic_file

    with atomic_file(out) as file:
        for row in rows:
            samples = [
                {
                    "answer": s.assessment.answer,
                    "score": None if s.assessment.score != s.assessment.score else s.assessment.score,
                    "finish": str(s.completion.finish),
                    **({"failure": s.completion.failure} if s.completion.failure is not None else {}),
                    "completion_tokens": s.completion.completion_tokens,
                    **({"estimated": True} if s.completion.estimated else {}),
                    "text": s.text,
                }
                for s in row.samples
            ]
            record = {
                "problem_id": row.problem.problem_id,
                "chain": row.chain,
                "question": row.problem.question,
                "answer": row.answer,
                "reason": str(row.reason),
                "chosen": row.column,
                "tokens": asdict(row.ledger),
                "samples": samples,
            }
            # Half a surrogate pair is written as JSON's own escape.
            file.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")


def stops(rows) -> str:
    """How many rows stopped for each reason."""
    from collections import Counter

    return "; ".join(f"{reason}: {count}" for reason, count in Counter(str(row.reason) for row in rows).most_common())


def promise_of(name: str, policy) -> str:
    """What a rule promises of its own stops, and what was measured of such promises; nothing of a rule that promises nothing."""
    from itscale.policies import find_rule
    from itscale.studies.promise import promised_error

    promised, rule = promised_error(policy), find_rule(name)
    if promised is None or rule is None or not rule.measured:
        return ""
    return (
        f"of its own stops {100 * promised:g} % should miss the model's most frequent answer; "
        f"where 5 % should, {rule.measured} did (docs/optpo.md)"
    )


def accuracy(rows, grading) -> str:
    """Share of right answers with its interval over problems."""
    import numpy as np

    from itscale.drivers.driver import right_answers
    from itscale.grading.comparison import Comparer
    from itscale.theory.intervals import SHARE, mean_interval

    with Comparer(grading) as comparer:
        right = right_answers(rows, comparer)
    ids = dict.fromkeys(row.problem.problem_id for row in rows)
    share = [np.mean([r for row, r in zip(rows, right, strict=True) if row.problem.problem_id == i]) for i in ids]
    found = mean_interval(np.array(share), SHARE)
    counted = f"{len(ids)} problem{'s' if len(ids) > 1 else ''}"
    return f"accuracy {100 * found.mean:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}] of {counted}"


ADVISE = """Which stopping rule, with which settings, on your samples? All that they allow are tried at every number of them.

```
itscale advise
itscale advise --pool pools/mine --same-as self_consistency:16
itscale advise --pool pools/mine --accuracy 0.7
itscale advise --pool pools/mine --budget 1000
```

The first is about the example that comes with the package. The others ask for the accuracy of 16 votes with fewer tokens, for
70 % with the fewest, and for the most that 1000 tokens a question buy.

As accurate means: the paired 95 % interval of the difference lies above -1 point. A setting's numbers are those of all questions.
The best is chosen after seeing them, so that the last line of the table says what such a choice is worth on questions that had no
say in it. `--out FOLDER` writes the tables, a picture, and what `itscale solve --calibration FOLDER/advice.json` needs.
"""


@app.command(help=ADVISE)
def advise(
    pool: Annotated[
        Path | None,
        typer.Option(help="Pool of samples or of chains, or its folder, or a folder that holds both; else the example."),
    ] = None,
    same_as: Annotated[
        str | None, typer.Option(help="RULE:N, a fixed number of samples or rounds; else votes over all of the pool's.")
    ] = None,
    accuracy: Annotated[float | None, typer.Option(help="Wanted accuracy, between 0 and 1.")] = None,
    budget: Annotated[
        float | None, typer.Option(help="Completion tokens a question on average (dollars with --price; samples if counted).")
    ] = None,
    methods: Annotated[str, typer.Option(help="Methods to try as JSON, as in the configuration; without it all rules.")] = "",
    predictions: Annotated[Path | None, typer.Option(help="What the predictor says of the pool's problems (.parquet).")] = None,
    price: Annotated[str, typer.Option(help="Dollars per million tokens as JSON: prompt, cached, completion.")] = "",
    orders: Annotated[
        int | None, typer.Option(min=1, help="Random orders per problem; without it 2 to 10, fewer for more problems.")
    ] = None,
    thorough: Annotated[bool, typer.Option("--thorough", help="Try whole grids of the rules that take long.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the tables, the picture and the settings.")] = None,
    seed: Seed = 0,
) -> None:
    """See ADVISE."""
    from itscale.cli import advising
    from itscale.data.ledger import Price
    from itscale.studies.advice import Advisor, every_rule
    from itscale.studies.methods import read_methods

    where = advising.example() if pool is None else pool
    question = advising.question(same_as, accuracy, budget)
    found = advising.pools_at(where, predictions)
    tried = read_methods(parse_object(methods, "--methods")) if methods else every_rule(thorough=thorough)
    paid = settings_of(Price, price, "--price") if price else None
    advisor = Advisor(found.pools, tried, price=paid, orders=orders, seed=seed)
    advice = advisor.answer(question)
    typer.echo(advising.report(where, found, question, advisor, advice, out))
    if out is not None:
        written = advising.write(out, where.resolve().name, advice, advising.unit_of(found, advisor))
        typer.echo(f"\n{out}: {written}")


@step.command()
def live(
    model: Annotated[Path, typer.Option(help="Model folder.")],
    problems: Annotated[Path, typer.Option(help="Problems, a table that `itscale step problems` wrote.")],
    calibration: Annotated[Path, typer.Option(help="What `itscale calibrate` wrote.")],
    pool: Annotated[Path, typer.Option(help="Parallel pool of the same problems, for the order of arrival.")],
    options: Annotated[str, typer.Option(help="The configuration's section `live` as JSON.")],
    sampling: Annotated[str, typer.Option(help="Sampling as JSON.")],
    engine: Annotated[str, typer.Option(help="EngineSettings as JSON; name, batch_size and gpu_memory are those of `options`.")],
    seed: Seed,
    out: Annotated[Path, typer.Option(help="Folder to write: live.csv and arrival.csv.")],
    verifier: Annotated[
        Path | None,
        typer.Option(help="Process reward model folder; without it the calibration's confidence scores, if it has one."),
    ] = None,
    scoring: Annotated[
        str, typer.Option(help="How the verifier reads, as JSON: batch_size, step_break, and confidence (p_true: it is asked).")
    ] = "{}",
    predictions: Annotated[Path | None, typer.Option(help="What the predictor says of these problems (.parquet).")] = None,
    grading: GradingJson = "{}",
    choices: Choices = None,
    alone: Annotated[
        bool, typer.Option(help="Nothing else runs on this machine: the clock is read. Else only processor time is.")
    ] = True,
) -> None:
    """Run methods live against their fixed N; measure tokens, time, and the bias of the order of arrival."""
    from itscale.data.records import PREDICTIONS, Unit, read_pool, read_problems, read_table, with_predictions
    from itscale.data.tables import write_csv
    from itscale.engines import EngineSettings
    from itscale.engines.protocol import Sampling
    from itscale.grading.settings import Grading
    from itscale.models.scores import P_TRUE
    from itscale.policies.frozen import frozen_policies
    from itscale.studies.calibrate import read_calibration, slugs_of
    from itscale.studies.confidence import live_score
    from itscale.studies.live import adaptive, arrival_bias, study_engines
    from itscale.studies.methods import with_slugs

    predicted = readable(predictions, lambda path: read_table(path, PREDICTIONS))
    needed = ("methods", "budget", "problems", "engines", "batch_size", "prefetch", "gpu_memory")
    values = parse_object(options, "--options", *needed)
    reading = parse_object(scoring, "--scoring", *(["batch_size", "step_break"] if verifier is not None else []))
    given = {**parse_object(engine, "--engine"), "model": str(model)}
    given |= {key: values[key] for key in ("batch_size", "gpu_memory")}
    record = read_calibration(calibration, choices)
    slugs = slugs_of(record)
    names = {slug: name for name, slug in slugs.items()}
    stored = read_pool(pool, Unit.SAMPLE)
    budget = min(values["budget"], stored.size)
    called = {key.casefold(): name for slug, name in names.items() for key in (slug, name)}
    asked = {called.get(name.casefold(), name) for name in values["methods"]}
    own = live_score(record, None) if verifier is None else None
    scored = verifier is not None or own is not None
    frozen = [(name, policy) for name, policy in frozen_policies(record) if scored or not policy.needs_scores]
    if left := sorted(asked - {name for name, _ in frozen}):
        typer.echo(
            f"left out, since nothing scores samples while they are drawn or the calibration lacks them: {', '.join(left)}"
        )
    if not asked - set(left):
        raise UserError("no method of live.methods can run here: name one that counts votes, such as vote_lead.")
    chosen = adaptive(frozen, sorted(asked - set(left)), budget)
    drawing = build(EngineSettings, given, "--engine")
    pieces = None if reading.get("confidence") == P_TRUE else reading.get("step_break")
    table = study_engines(
        read_problems(problems)[: values["problems"]],
        chosen,
        engine=drawing,
        names=values["engines"],
        verifier=None if verifier is None else opened_verifier(verifier, reading["batch_size"], pieces, drawing.prompts),
        prefetch=values["prefetch"],
        sampling=settings_of(Sampling, sampling, "--sampling"),
        predictions=predicted,
        seed=seed,
        grading=settings_of(Grading, grading, "--grading"),
        alone=alone,
        confidence=own,
    )
    write_csv(out / "live.csv", with_slugs(table, slugs))
    stored = stored if predicted is None else with_predictions(stored, predicted)
    # ASC is what is deployed in order of arrival (its_hub's BetaSelfConsistency), so that it stands here in any case.
    asc = [(name, p) for name, p in frozen if slugs[name] == "asc" and p.limit == budget and (name, p) not in chosen]
    bias = arrival_bias(stored, [*chosen, *asc], slots=budget, orders=20, seed=seed)
    write_csv(out / "arrival.csv", with_slugs(bias, slugs))
    shown = [
        "engine",
        "method",
        "samples_drawn",
        "accuracy",
        "accuracy_difference",
        "tokens_drawn",
        "token_saving",
        *(["seconds", "wall_saving", "wall_per_token"] if alone else ["processor_seconds", "processor_saving"]),
    ]
    typer.echo(table[shown].to_string(index=False, float_format="%.3g"))
