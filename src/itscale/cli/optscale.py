"""Commands of the OptScale study: what is shown beyond the main table."""

from pathlib import Path
from typing import Annotated

import typer

from itscale.cli.comparison import Predictions, read_pools
from itscale.cli.options import Choices, Out, Problems, Seed, app
from itscale.errors import UserError


@app.command()
def optscale(
    benchmark: Annotated[str, typer.Option(help="Name of the benchmark, for the tables.")],
    calibration: Annotated[Path, typer.Option(help="What `itscale calibrate` wrote.")],
    parallel: Annotated[Path, typer.Option(help="Parallel pool of the benchmark.")],
    chain: Annotated[Path, typer.Option(help="Chain pool of the benchmark.")],
    main: Annotated[Path, typer.Option(help="The benchmark's main table, as `itscale replay` wrote it.")],
    published: Annotated[Path, typer.Option(help="Published figures, a row per method and budget.")],
    seed: Seed,
    out: Out,
    published_on: Annotated[
        str | None, typer.Option(help="Which published benchmark to show beside: MATH500, GSM8K, AIME24, ...; none without it.")
    ] = None,
    orders: Annotated[int, typer.Option(min=1, help="Random orders per problem; 1 is the order of submission.")] = 100,
    predictions: Predictions = None,
    same: Annotated[bool, typer.Option(help="The pool is of the published benchmark and model: show differences.")] = False,
    choices: Choices = None,
) -> None:
    """Bounds, reliability of the fitted confidence, the effect of selection, and the published table beside ours."""
    import pandas as pd

    from itscale.data.records import Unit
    from itscale.data.tables import read_csv, write_csv
    from itscale.studies import optscale as stage
    from itscale.studies.calibrate import frozen_policies, known_from_json, read_calibration, slugs_of
    from itscale.studies.methods import with_slugs

    frozen, pools, table = read_calibration(calibration, choices), read_pools(parallel, chain, predictions), read_csv(main)
    known, pool = known_from_json(frozen["known"]), pools[Unit.SAMPLE]
    budgets = sorted({int(n) for n in table.loc[table["unit"] == "sample", "budget"] if n <= pool.size})
    options = {"benchmark": benchmark, "orders": orders, "seed": seed}
    bounds = stage.bounds(pool, budgets, **options).assign(protocol="bound")
    found = {
        "frontier": pd.concat([table[table["unit"] == "sample"], bounds], ignore_index=True),
        "reliability": stage.reliability(pool, known, **options),
        "versus": stage.versus(frozen_policies(frozen), pools, **options),
        "selection": stage.selection(frozen, frozen_policies(frozen), pools, **options),
    }
    for name, rows in found.items():
        write_csv(out / f"{name}.csv", with_slugs(rows, slugs_of(frozen)))
    figures = read_csv(published)
    if published_on is not None and f"{published_on}_accuracy" not in figures.columns:
        raise UserError(f"{published} has no column '{published_on}_accuracy': choose a benchmark that it has.")
    write_csv(out / "published.csv", stage.beside_published(table, figures, published_on, same).assign(benchmark=benchmark))


@app.command()
def optscale_theory(
    seed: Seed,
    out: Out,
    rows: Annotated[int, typer.Option(min=1, help="Simulated questions per pair (mu, sigma).")] = 1000,
    n_max: Annotated[int, typer.Option(min=1, help="Largest number of samples.")] = 64,
) -> None:
    """N* over (mu, sigma), and how often the best score reaches s_min, parameters known and estimated (simulated)."""
    from itscale.data.tables import write_csv
    from itscale.studies import optscale as stage

    write_csv(out / "number_of_samples.csv", stage.number_of_samples(0.9, 0.9, n_max))
    write_csv(out / "reached_confidence.csv", stage.reached_confidence(rows=rows, seed=seed, n_max=n_max))


@app.command()
def predictor_quality(
    benchmark: Annotated[str, typer.Option(help="Name of the benchmark, for the tables.")],
    problems: Problems,
    parallel: Annotated[Path, typer.Option(help="Parallel pool of the benchmark: its labels, for this table only.")],
    predictions: Annotated[Path, typer.Option(help="What `itscale predict` wrote for it.")],
    training_problems: Annotated[Path, typer.Option(help="The problems that the predictor was trained on.")],
    training_parallel: Annotated[Path, typer.Option(help="Their parallel pool.")],
    out: Out,
    chain: Annotated[Path | None, typer.Option(help="Chain pool of the benchmark.")] = None,
    training_chain: Annotated[Path | None, typer.Option(help="Chain pool of the training problems.")] = None,
) -> None:
    """Correlations and errors of the predictor on held-out labels, beside the mean, the prompt's length, and TF-IDF + ridge."""
    import numpy as np

    from itscale.data.records import PREDICTIONS, read_table
    from itscale.data.tables import write_csv
    from itscale.models.predictor import labelled
    from itscale.studies.predictor_quality import labels_beside, quality

    held_out, table = labelled(problems, parallel, chain), read_table(predictions, PREDICTIONS)
    training = labelled(training_problems, training_parallel, training_chain)
    found = quality(training, held_out, table, benchmark)
    write_csv(out / "predictor_quality.csv", found)
    labels = held_out[1]
    row = {problem: i for i, problem in enumerate(labels.problem_ids)}
    rows = [row[problem] for problem in table["problem_id"]]
    truth = {h: np.where(labels.count[h] > 0, labels.value[h], np.nan)[rows] for h in labels.value}
    write_csv(out / "predictor_labels.csv", labels_beside(truth, table, benchmark))
    shown = ["head", "predictor", "spearman", "pearson", "mae", "spearman_gain", "spearman_gain_low", "spearman_gain_high"]
    print(found[shown].to_string(index=False) if len(found) else "no labels to assess a prediction by")
