"""Commands of the OptScale study: what is shown beyond the main table."""

from pathlib import Path
from typing import Annotated

import typer

from itscale.cli.comparison import Predictions, Verifiers, conditions
from itscale.cli.options import Choices, OutFolder, Problems, Seed, step
from itscale.errors import UserError


@step.command()
def optscale(
    benchmark: Annotated[str, typer.Option(help="Name of the benchmark, for the tables.")],
    calibration: Annotated[Path, typer.Option(help="What `itscale calibrate` wrote.")],
    parallel: Annotated[Path, typer.Option(help="Parallel pool of the benchmark.")],
    main: Annotated[Path, typer.Option(help="The benchmark's main table, as `itscale replay` wrote it.")],
    published: Annotated[Path, typer.Option(help="Published figures, a row per method and budget.")],
    seed: Seed,
    out: OutFolder,
    chain: Annotated[Path | None, typer.Option(help="Chain pool of the benchmark.")] = None,
    published_on: Annotated[
        str | None, typer.Option(help="Which published benchmark to show beside: MATH500, GSM8K, AIME24, ...; none without it.")
    ] = None,
    orders: Annotated[int, typer.Option(min=1, help="Random orders per problem; 1 is the order of submission.")] = 100,
    predictions: Predictions = None,
    same: Annotated[bool, typer.Option(help="The pool is of the published benchmark and model: show differences.")] = False,
    choices: Choices = None,
    verifier: Verifiers = None,
) -> None:
    """Bounds, reliability of the fitted confidence, the effect of selection, and the published table beside ours."""
    import pandas as pd

    from itscale.data.records import Unit
    from itscale.data.tables import NONE, read_csv, write_csv
    from itscale.policies.frozen import frozen_policies, known_from_json
    from itscale.policies.protocol import depends_on_verifier
    from itscale.studies import optscale as stage
    from itscale.studies.calibrate import read_calibration, slugs_of
    from itscale.studies.methods import with_slugs

    record, table = read_calibration(calibration, choices), read_csv(main)
    own = conditions(verifier, record, parallel, chain, predictions)
    unscored = [(name, policy) for name, policy in frozen_policies(own[0].frozen) if not depends_on_verifier(policy)]
    found: dict[str, list[pd.DataFrame]] = {"frontier": [table[table["unit"] == "sample"]]}
    for condition in own:
        pools, policies = condition.pools, frozen_policies(condition.frozen)
        known, pool = known_from_json(condition.frozen["known"]), pools[Unit.SAMPLE]
        budgets = sorted({int(n) for n in table.loc[table["unit"] == "sample", "budget"] if n <= pool.size})
        options = {"benchmark": benchmark, "orders": orders, "seed": seed}
        rivals = policies if condition is own[0] else [*unscored, *policies]
        replays = stage.Replays(pools, orders, seed)
        bounds = stage.bounds(pool, budgets, **options, verifier=condition.verifier).assign(protocol="bound")
        parts = {
            "frontier": bounds if condition is own[0] else bounds[bounds["verifier"] != NONE],
            "reliability": stage.reliability(pool, known, **options).assign(verifier=condition.verifier),
            "versus": stage.versus(rivals, replays, benchmark=benchmark).assign(verifier=condition.verifier),
            "selection": stage.selection(condition.frozen, policies, replays, benchmark=benchmark, verifier=condition.verifier),
        }
        for name, rows in parts.items():
            found.setdefault(name, []).append(rows)
    for name, rows in found.items():
        write_csv(out / f"{name}.csv", with_slugs(pd.concat(rows, ignore_index=True), slugs_of(record)))
    figures = read_csv(published)
    if published_on is not None and f"{published_on}_accuracy" not in figures.columns:
        raise UserError(f"{published} has no column '{published_on}_accuracy': choose a benchmark that it has.")
    ours = table[table["verifier"].isin([own[0].verifier, NONE])]
    beside = stage.beside_published(ours, figures, published_on, same).assign(benchmark=benchmark)
    write_csv(out / "published.csv", with_slugs(beside, slugs_of(record)))


@step.command()
def optscale_theory(
    seed: Seed,
    out: OutFolder,
    rows: Annotated[int, typer.Option(min=1, help="Simulated questions per pair (mu, sigma).")] = 1000,
    n_max: Annotated[int, typer.Option(min=1, help="Largest number of samples.")] = 64,
) -> None:
    """N* over (mu, sigma), and how often the best score reaches s_min, parameters known and estimated (simulated)."""
    from itscale.data.tables import write_csv
    from itscale.studies import optscale as stage

    write_csv(out / "number_of_samples.csv", stage.number_of_samples(0.9, 0.9, n_max))
    write_csv(out / "reached_confidence.csv", stage.reached_confidence(rows=rows, seed=seed, n_max=n_max))


@step.command()
def predictor_quality(
    benchmark: Annotated[str, typer.Option(help="Name of the benchmark, for the tables.")],
    problems: Problems,
    parallel: Annotated[Path, typer.Option(help="Parallel pool of the benchmark: its labels, for this table only.")],
    predictions: Annotated[Path, typer.Option(help="What `itscale predict` wrote for it.")],
    training_problems: Annotated[Path, typer.Option(help="The problems that the predictor was trained on.")],
    training_parallel: Annotated[Path, typer.Option(help="Their parallel pool.")],
    out: OutFolder,
    chain: Annotated[Path | None, typer.Option(help="Chain pool of the benchmark.")] = None,
    training_chain: Annotated[Path | None, typer.Option(help="Chain pool of the training problems.")] = None,
) -> None:
    """Correlations and errors of the predictor on held-out labels, beside the mean, the prompt's length, and TF-IDF + ridge."""
    import numpy as np

    from itscale.data.records import PREDICTIONS, read_table
    from itscale.data.tables import write_csv
    from itscale.models.labels import labelled
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
