"""Commands that compare methods: calibration, replays, tables and figures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from itscale.cli.options import Choices, Out, OutFolder, Seed, app, parse_object, settings_of, step
from itscale.errors import UserError

PriceOption = Annotated[
    str, typer.Option("--price", help="Dollars per million tokens as JSON: prompt, cached, completion; gives a column `dollars`.")
]
Predictions = Annotated[Path | None, typer.Option(help="Predicted parameters of this benchmark (`itscale predict`).")]


Verifiers = Annotated[
    list[str] | None,
    typer.Option(
        "--verifier",
        help="Name of the verifier whose scores the pools hold, for the tables. Given again: of another, whose scores lie beside "
        "each pool as scores_NAME.parquet, or the name of a confidence (conf_tail, logprob_mean, ...), a column of the pools.",
    ),
]


def read_pools(parallel: Path | None, chain: Path | None, predictions: Path | None, verifier: str | None = None) -> dict:
    """The pools of a benchmark by their unit, with predicted features where there are any.

    With the scores of another `verifier` what is predicted of the pools' own scores is left out. It may be the name of a
    confidence, a column of the pools, which then is the score as it stands.
    """
    from dataclasses import replace

    from itscale.data.records import CONFIDENCE, PREDICTIONS, Unit, fewer, read_pool, read_table, with_predictions

    given = {Unit.SAMPLE: parallel, Unit.ROUND: chain}
    files = {unit: path for unit, path in given.items() if path is not None}
    if not files:
        raise UserError("there is no pool to read: give --parallel, --chain, or both.")
    if verifier in CONFIDENCE:
        pools = {unit: read_pool(path, unit, confidence=verifier) for unit, path in files.items()}
    else:
        others = {u: None if verifier is None else path.with_name(f"scores_{verifier}.parquet") for u, path in files.items()}
        pools = {unit: read_pool(path, unit, others[unit]) for unit, path in files.items()}
    for pool in pools.values():
        if said := fewer(pool):
            print(said)
    if predictions is not None:
        table = read_table(predictions, PREDICTIONS)
        pools = {unit: with_predictions(pool, table) for unit, pool in pools.items()}
    if verifier is None:
        return pools
    kept = {unit: {n: v for n, v in p.features.items() if not n.startswith("score")} for unit, p in pools.items()}
    return {unit: replace(pool, features=kept[unit]) for unit, pool in pools.items()}


@dataclass(frozen=True, slots=True)
class Condition:
    """A verifier's name, what was calibrated with its scores, and the pools with its scores."""

    verifier: str
    frozen: dict[str, Any]
    pools: dict


def conditions(
    verifiers: list[str] | None, frozen: dict[str, Any], parallel: Path | None, chain: Path | None, predictions: Path | None
) -> list[Condition]:
    """One condition a verifier, that of the pools' own scores first; without rules that a pool is too small for (said)."""
    from itscale.data.tables import OWN
    from itscale.policies.frozen import known_from_json
    from itscale.studies.calibrate import of_verifier, within_sizes
    from itscale.studies.confidence import mapped

    first, *others = verifiers or [OWN]
    pools = read_pools(parallel, chain, predictions)
    frozen, lost = within_sizes(frozen, pools)
    if lost:
        print(f"left out, since these pools have fewer: {', '.join(lost)}")
    return [
        Condition(first, frozen, pools),
        *(
            Condition(
                name,
                known := of_verifier(frozen, name),
                mapped(read_pools(parallel, chain, predictions, name), known_from_json(known["known"]).score_map),
            )
            for name in others
        ),
    ]


@app.command()
def calibrate(
    methods: Annotated[str, typer.Option(help="The configuration's methods as JSON.")],
    compare: Annotated[str, typer.Option(help="The configuration's section `compare` as JSON.")],
    seed: Seed,
    out: Out,
    parallel: Annotated[Path | None, typer.Option(help="Parallel pool of the calibration split.")] = None,
    chain: Annotated[Path | None, typer.Option(help="Chain pool of the calibration split.")] = None,
    predictions: Predictions = None,
    verifier: Verifiers = None,
    table: Annotated[Path | None, typer.Option(help="File of what was chosen, one row a choice (CSV).")] = None,
) -> None:
    """Choose every hyperparameter on the calibration split and write down what was tried."""
    import dataclasses

    from itscale.data.records import CONFIDENCE, write_json
    from itscale.data.tables import OWN, write_csv
    from itscale.policies.calibration import ScoreMap
    from itscale.policies.frozen import known_to_json
    from itscale.studies import calibrate as stage
    from itscale.studies.choices import chosen_table, sentences
    from itscale.studies.confidence import map_of, map_within, mapped
    from itscale.studies.criterion import EXPLAINED, Criterion
    from itscale.studies.methods import left_out_sentence, read_methods, within_pools

    options = parse_object(compare, "--compare", "strata", "strength", "calibration_orders")
    wanted = read_methods(parse_object(methods, "--methods"))
    asked = options.get("criterion", Criterion.INTERVAL)
    if asked not in list(Criterion):
        raise UserError(f"the criterion {asked!r} is not known: choose {' or '.join(Criterion)}.")
    criterion = Criterion(asked)

    def calibrated(pools: dict, methods: list, score_map: ScoreMap | None = None) -> dict[str, Any]:
        known = stage.known_from_pools(pools, strata=options["strata"], strength=options["strength"])
        known = dataclasses.replace(known, score_map=score_map)
        chosen = stage.calibrate(methods, pools, known, orders=options["calibration_orders"], seed=seed, criterion=criterion)
        return {"known": known_to_json(known), "methods": chosen}

    first, *names = verifier or [OWN]
    pools = read_pools(parallel, chain, predictions)
    kept, left_out = within_pools(wanted, pools)
    if not kept:
        raise UserError(f"no method is left for these pools: {left_out_sentence(left_out)}.")
    if left_out:
        print(left_out_sentence(left_out))
    # Scores that were made of a confidence: the map is kept for live runs.
    own_map = map_within(parallel or chain, first) if first in CONFIDENCE else None
    record = {"criterion": EXPLAINED[criterion], "verifier": first, "left_out": left_out, **calibrated(pools, kept, own_map)}
    others = {}
    for name in names:
        pools = read_pools(parallel, chain, predictions, name)
        score_map = map_of(pools) if name in CONFIDENCE else None
        pools = mapped(pools, score_map)
        others[name] = calibrated(pools, stage.for_verifier(wanted, pools), score_map)
    record["others"] = others
    write_json(out, record)
    chosen = chosen_table(record)
    if table is not None:
        write_csv(table, chosen)
    for sentence in sentences(chosen):
        typer.echo(sentence)


@app.command()
def replay(
    benchmark: Annotated[str, typer.Option(help="Name of the benchmark, for the tables.")],
    calibration: Annotated[Path, typer.Option(help="What `itscale calibrate` wrote.")],
    seed: Seed,
    out: OutFolder,
    parallel: Annotated[Path | None, typer.Option(help="Parallel pool of the benchmark.")] = None,
    chain: Annotated[Path | None, typer.Option(help="Chain pool of the benchmark.")] = None,
    orders: Annotated[int, typer.Option(min=1, help="Random orders per problem; 1 is the order of submission.")] = 100,
    predictions: Predictions = None,
    protocol: Annotated[
        str,
        typer.Option(help="calibrated, or published: chosen on this benchmark itself, one order, as the papers do."),
    ] = "calibrated",
    choices: Choices = None,
    price: PriceOption = "",
    verifier: Verifiers = None,
) -> None:
    """Replay every method, hyperparameters frozen, over a benchmark and write its tables."""
    import pandas as pd

    from itscale.data.ledger import Price
    from itscale.data.records import Unit
    from itscale.data.tables import NONE, write_csv
    from itscale.policies.frozen import frozen_policies
    from itscale.studies import compare as stage
    from itscale.studies.calibrate import choose_published, read_calibration, slugs_of
    from itscale.studies.choices import with_promises
    from itscale.studies.densities import fit_calibration
    from itscale.studies.methods import with_slugs

    if protocol not in ("calibrated", "published"):
        raise UserError(f"the protocol {protocol!r} is not known: choose calibrated or published.")
    paid = settings_of(Price, price, "--price") if price else None
    record = read_calibration(calibration, choices)
    tables: dict[str, list[pd.DataFrame]] = {"main": [], "stops": [], "curves": [], "scores": [], "fit_calibration": []}
    accuracy = []
    for condition in conditions(verifier, record, parallel, chain, predictions):
        frozen, pools, label = condition.frozen, condition.pools, {"benchmark": benchmark, "verifier": condition.verifier}
        policies = frozen_policies(frozen)
        if not policies:
            raise UserError(f"no calibrated method fits the pools of {benchmark}: draw as many samples as for calibration.")
        if protocol == "published":
            chosen = choose_published(frozen, pools)
            policies = [(name, best or policy) for (name, policy), (_, best) in zip(policies, chosen, strict=True)]
            orders = 1
        main, stops, right = stage.compare(policies, pools, orders=orders, seed=seed, price=paid, **label)
        accuracy.append(right)
        if protocol == "calibrated":
            stops = with_promises(stops, frozen["methods"])
        found = {"main": main.assign(protocol=protocol), "stops": stops}
        if Unit.SAMPLE in pools:
            curves = stage.accuracy_curves(pools[Unit.SAMPLE], **label)
            if tables["curves"]:  # what needs no verifier is there already
                curves = curves[curves["verifier"] != NONE]
            found |= {"curves": curves, "scores": stage.score_fits(pools[Unit.SAMPLE], **label)}
            found["fit_calibration"] = fit_calibration(pools[Unit.SAMPLE], **label)
        for name, table in found.items():
            tables[name].append(table)
    for name, parts in tables.items():
        if filled := [part for part in parts if len(part)] or parts[:1]:
            write_csv(out / f"{name}.csv", with_slugs(pd.concat(filled, ignore_index=True), slugs_of(record)))
    whole = pd.concat(tables["main"], ignore_index=True)
    against = stage.against_fixed(whole, pd.concat(accuracy, ignore_index=True))
    write_csv(out / "baselines.csv", with_slugs(against, slugs_of(record)))


@app.command()
def compare(
    reference: Annotated[Path, typer.Argument(help="Folder of the reference tables, docs/reference.")],
    tables: Annotated[Path, typer.Argument(help="Folder of the rerun's tables, results/tables.")],
) -> None:
    """Tell whether a rerun's tables agree with reference tables within both their intervals; status 1 if not.

    Two means with 95 % intervals differ when they lie further apart than sqrt(h1² + h2²), h1 and h2 being the half-widths that
    face each other. Of two runs that share nothing but the truth, one number in twenty differs by chance; reruns share their
    questions and models, so that fewer do.
    """
    from itscale.studies.agreement import agreement

    found = agreement(reference, tables)
    for line in (*found.one_sided, *found.differing):
        print(line)
    print(found.sentence(reference, tables))
    if found.differing or found.one_sided:
        raise typer.Exit(1)


@step.command()
def concat(tables: Annotated[list[Path], typer.Argument(help="The same table of several benchmarks.")], out: Out) -> None:
    """Put the same table of several benchmarks under each other."""
    from itscale.data import tables as stage

    stage.write_csv(out, stage.concat(tables))


@step.command()
def collect(
    folders: Annotated[list[Path], typer.Argument(help="Folders of tables, one a benchmark.")],
    name: Annotated[list[str], typer.Option(help="Name of a table that each of them holds; repeat it.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    prefix: Annotated[str, typer.Option(help="What the written tables' names begin with.")] = "",
) -> None:
    """Put the tables of several benchmarks under each other, a file a table."""
    from itscale.data import tables as stage

    for each in name:
        stage.write_csv(out / f"{prefix}{each}.csv", stage.concat([folder / f"{each}.csv" for folder in folders]))


@step.command()
def rule_table(
    main: Annotated[Path, typer.Option(help="The main table of all benchmarks (CSV).")],
    chosen: Annotated[Path, typer.Option(help="What the calibration chose, a table of `itscale calibrate`.")],
    out: Annotated[Path, typer.Option(help="File to write (.csv; beside it .md for people).")],
) -> None:
    """Put all rules in one table: needs, promise and what was measured of it, saving, and loss."""
    from itscale.data.records import write_atomic
    from itscale.data.tables import read_csv, write_csv
    from itscale.studies import ruletable

    table = ruletable.rule_table(read_csv(main), read_csv(chosen))
    write_csv(out, table)
    text = ruletable.rule_markdown(table)
    write_atomic(out.with_suffix(".md"), text.encode())
    print(text)


@step.command()
def at_budget(
    benchmark: Annotated[str, typer.Option(help="Name of the benchmark, for the table.")],
    calibration: Annotated[Path, typer.Option(help="What `itscale calibrate` wrote.")],
    seed: Seed,
    out: Annotated[Path, typer.Option(help="File to write (.csv; beside it .md for people).")],
    calibration_parallel: Annotated[Path | None, typer.Option(help="Parallel pool of the calibration split.")] = None,
    calibration_chain: Annotated[Path | None, typer.Option(help="Chain pool of the calibration split.")] = None,
    calibration_predictions: Predictions = None,
    parallel: Annotated[Path | None, typer.Option(help="Parallel pool of the benchmark.")] = None,
    chain: Annotated[Path | None, typer.Option(help="Chain pool of the benchmark.")] = None,
    predictions: Predictions = None,
    answers: Annotated[list[int] | None, typer.Option(help="Budgets, in mean answers; without it 1, 2, 4 and 8.")] = None,
    orders: Annotated[int, typer.Option(min=1, help="Random orders per problem on the benchmark.")] = 64,
    calibration_orders: Annotated[int, typer.Option(min=1, help="And on the calibration split.")] = 10,
    choices: Choices = None,
    verifier: Verifiers = None,
) -> None:
    """Turn every rule's price or threshold on the calibration split until it spends a budget; measure it on the benchmark."""
    import pandas as pd

    from itscale.data.records import write_atomic
    from itscale.data.tables import write_csv
    from itscale.policies.frozen import known_from_json
    from itscale.studies import budgets
    from itscale.studies.calibrate import read_calibration

    record = read_calibration(calibration, choices)
    theirs = conditions(verifier, record, calibration_parallel, calibration_chain, calibration_predictions)
    ours = conditions(verifier, record, parallel, chain, predictions)
    parts: list[pd.DataFrame] = []
    for before, after in zip(theirs, ours, strict=True):
        known = known_from_json(before.frozen["known"])
        slugs = [slug for slug in budgets.DIALS if not parts or budgets.reads_scores(slug)]
        wanted = {"answers": answers or budgets.ANSWERS, "slugs": slugs}
        priced = budgets.price_rules(before.pools, known, orders=calibration_orders, seed=seed, **wanted)
        label = {"benchmark": benchmark, "verifier": after.verifier}
        parts.append(budgets.at_budget(priced, after.pools, orders=orders, seed=seed, **label))
    table = pd.concat(parts, ignore_index=True)
    write_csv(out, table)
    text = budgets.budget_markdown(table)
    write_atomic(out.with_suffix(".md"), text.encode())
    print(text)


@step.command()
def markdown(
    table: Annotated[Path, typer.Option(help="The main table (CSV).")],
    out: Out,
    calibration: Annotated[Path | None, typer.Option(help="What `itscale calibrate` wrote: it names what was left out.")] = None,
    rounds: Annotated[Path | None, typer.Option(help="The table of methods over rounds (CSV).")] = None,
) -> None:
    """Write the main table for people."""
    from itscale.data import tables as stage
    from itscale.data.records import write_atomic
    from itscale.studies.calibrate import read_calibration
    from itscale.studies.chains.comparison import equal_tokens
    from itscale.studies.methods import left_out_sentence

    text = stage.markdown(stage.read_csv(table), equal_tokens(stage.read_csv(rounds)) if rounds is not None else "")
    if calibration is not None and (sentence := left_out_sentence(read_calibration(calibration).get("left_out", {}))):
        text += f"\n{sentence[0].upper()}{sentence[1:]}.\n"
    write_atomic(out, text.encode())
    print(text)


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help="Which figure, by the name of its module.")],
    table: Annotated[Path, typer.Option(help="The table (CSV) that it reads.")],
    benchmark: Annotated[str, typer.Option(help="The benchmark to show.")],
    out: Out,
) -> None:
    """Draw one figure from one table, as PDF and PNG, with its caption beside it as text."""
    draw_figure(name, table, benchmark, out)


@step.command()
def figures(
    drawn: Annotated[list[str], typer.Argument(help="Figures to draw, as NAME=TABLE.")],
    benchmark: Annotated[str, typer.Option(help="The benchmark to show.")],
    out: Annotated[Path, typer.Option(help="Folder to write: NAME.pdf, NAME.png and NAME.txt of each.")],
) -> None:
    """Draw several figures in one process: most of what one takes is the start."""
    for each in drawn:
        name, _, table = each.partition("=")
        draw_figure(name, Path(table), benchmark, out / f"{name}.pdf")


def draw_figure(name: str, table: Path, benchmark: str, out: Path) -> None:
    """One figure from one table.

    Raises:
        UserError: there is no such figure, or the table does not have the benchmark.
    """
    import importlib
    import pkgutil

    from itscale import figures
    from itscale.data.tables import read_csv
    from itscale.figures.style import draw_nothing

    names = sorted(m.name for m in pkgutil.iter_modules(figures.__path__) if m.name != "style")
    if name not in names:
        raise UserError(f"There is no figure {name!r}: choose one of {', '.join(names)}.")
    read = read_csv(table)
    if not len(read):
        sentence = f"Nothing to show: {table.name} of this run has no rows (too few samples, or no scores)."
        print(sentence)
        draw_nothing(out, sentence)
        return
    if "benchmark" in read and benchmark not in set(read["benchmark"]):
        raise UserError(f"{table} has no benchmark {benchmark!r}: it has {', '.join(map(str, read['benchmark'].unique()))}.")
    importlib.import_module(f"itscale.figures.{name}").draw(read, benchmark, out)
