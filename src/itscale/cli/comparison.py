"""Commands that compare methods: calibration, replays, tables and figures."""

from pathlib import Path
from typing import Annotated

import typer

from itscale.cli.options import Choices, Out, Seed, app, parse_object, settings_of
from itscale.errors import UserError

PriceOption = Annotated[
    str, typer.Option("--price", help="Dollars per million tokens as JSON: prompt, cached, completion; gives a column `dollars`.")
]
Predictions = Annotated[Path | None, typer.Option(help="Predicted parameters of this benchmark (`itscale predict`).")]


def read_pools(parallel: Path, chain: Path, predictions: Path | None) -> dict:
    """Both pools of a benchmark by their unit, with predicted features where there are any."""
    from itscale.data.records import PREDICTIONS, Unit, read_pool, read_table, with_predictions

    pools = {Unit.SAMPLE: read_pool(parallel, Unit.SAMPLE), Unit.ROUND: read_pool(chain, Unit.ROUND)}
    if predictions is None:
        return pools
    table = read_table(predictions, PREDICTIONS)
    return {unit: with_predictions(pool, table) for unit, pool in pools.items()}


@app.command()
def calibrate(
    parallel: Annotated[Path, typer.Option(help="Parallel pool of the calibration split.")],
    chain: Annotated[Path, typer.Option(help="Chain pool of the calibration split.")],
    methods: Annotated[str, typer.Option(help="The configuration's methods as JSON.")],
    compare: Annotated[str, typer.Option(help="The configuration's section `compare` as JSON.")],
    seed: Seed,
    out: Out,
    predictions: Predictions = None,
) -> None:
    """Choose every hyperparameter on the calibration split and write down what was tried."""
    from itscale.data.records import write_json
    from itscale.studies import calibrate as stage
    from itscale.studies.methods import read_methods

    options = parse_object(compare, "--compare", "strata", "strength", "calibration_orders")
    pools = read_pools(parallel, chain, predictions)
    known = stage.known_from_pools(pools, strata=options["strata"], strength=options["strength"])
    chosen = stage.calibrate(
        read_methods(parse_object(methods, "--methods")), pools, known, orders=options["calibration_orders"], seed=seed
    )
    write_json(out, {"criterion": stage.CRITERION, "known": stage.known_to_json(known), "methods": chosen})


@app.command()
def replay(
    benchmark: Annotated[str, typer.Option(help="Name of the benchmark, for the tables.")],
    calibration: Annotated[Path, typer.Option(help="What `itscale calibrate` wrote.")],
    parallel: Annotated[Path, typer.Option(help="Parallel pool of the benchmark.")],
    chain: Annotated[Path, typer.Option(help="Chain pool of the benchmark.")],
    seed: Seed,
    out: Out,
    orders: Annotated[int, typer.Option(min=1, help="Random orders per problem; 1 is the order of submission.")] = 100,
    predictions: Predictions = None,
    protocol: Annotated[
        str,
        typer.Option(help="calibrated, or published: chosen on this benchmark itself, one order, as the papers do."),
    ] = "calibrated",
    choices: Choices = None,
    price: PriceOption = "",
) -> None:
    """Replay every method, hyperparameters frozen, over a benchmark and write its tables."""
    from itscale.data.ledger import Price
    from itscale.data.records import Unit
    from itscale.data.tables import write_csv
    from itscale.studies import compare as stage
    from itscale.studies.calibrate import choose_published, frozen_policies, read_calibration, slugs_of
    from itscale.studies.methods import with_slugs

    frozen = read_calibration(calibration, choices)
    pools = read_pools(parallel, chain, predictions)
    if protocol not in ("calibrated", "published"):
        raise UserError(f"the protocol {protocol!r} is not known: choose calibrated or published.")
    policies = frozen_policies(frozen)
    if protocol == "published":
        chosen = choose_published(frozen, pools)
        policies = [(name, best or policy) for (name, policy), (_, best) in zip(policies, chosen, strict=True)]
        orders = 1
    paid = settings_of(Price, price, "--price") if price else None
    main, stops = stage.compare(policies, pools, benchmark=benchmark, orders=orders, seed=seed, price=paid)
    main["protocol"] = protocol
    curves = stage.accuracy_curves(pools[Unit.SAMPLE], benchmark=benchmark)
    for name, table in (("main", main), ("stops", stops), ("curves", curves)):
        write_csv(out / f"{name}.csv", with_slugs(table, slugs_of(frozen)))
    write_csv(out / "scores.csv", stage.score_fits(pools[Unit.SAMPLE], benchmark=benchmark))


@app.command()
def compare(
    reference: Annotated[Path, typer.Argument(help="Folder of the reference tables, docs/reference.")],
    tables: Annotated[Path, typer.Argument(help="Folder of the rerun's tables, results/tables.")],
) -> None:
    """Tell whether a rerun's tables agree with reference tables within both their intervals; status 1 if any number does not.

    A folder of several references (docs/reference: one a type of processor, on which the toy task comes out alike) is
    compared one by one; the rerun agrees if it agrees with one of them, and disagreements are listed with the nearest.

    Two means with 95 % intervals disagree when they lie further apart than sqrt(h1² + h2²), h1 and h2 being the
    half-widths that face each other. Of two runs that share nothing but the truth, one number in twenty disagrees by
    chance; reruns share their questions, so that fewer do.
    """
    from itscale.studies.agreement import disagreements, references

    results = {folder: disagreements(folder, tables) for folder in references(reference)}
    nearest = min(results, key=lambda folder: len(results[folder][1]))
    for line in results[nearest][1]:
        print(line)
    for folder, (count, found) in results.items():
        print(f"{folder}: {count} numbers with an interval compared, {len(found)} disagreements.")
    if results[nearest][1]:
        raise typer.Exit(1)


@app.command()
def concat(tables: Annotated[list[Path], typer.Argument(help="The same table of several benchmarks.")], out: Out) -> None:
    """Put the same table of several benchmarks under each other."""
    from itscale.data import tables as stage

    stage.write_csv(out, stage.concat(tables))


@app.command()
def markdown(table: Annotated[Path, typer.Option(help="The main table (CSV).")], out: Out) -> None:
    """Write the main table for people."""
    from itscale.data import tables as stage
    from itscale.data.records import write_atomic

    text = stage.markdown(stage.read_csv(table))
    write_atomic(out, text.encode())
    print(text)


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

    from itscale import figures
    from itscale.data.tables import read_csv

    names = sorted(m.name for m in pkgutil.iter_modules(figures.__path__) if m.name != "style")
    if name not in names:
        raise UserError(f"There is no figure {name!r}: choose one of {', '.join(names)}.")
    read = read_csv(table)
    if "benchmark" in read and benchmark not in set(read["benchmark"]):
        raise UserError(f"{table} has no benchmark {benchmark!r}: it has {', '.join(map(str, read['benchmark'].unique()))}.")
    importlib.import_module(f"itscale.figures.{name}").draw(read, benchmark, out)
