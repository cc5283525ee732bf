"""The command behind the MarkovScale analysis: is it Markov, how well is it forecast, and what do its rules make of it."""

from pathlib import Path
from typing import Annotated

import typer

from itscale.cli.comparison import Predictions, read_pools
from itscale.cli.options import Out, OutFolder, Problems, Seed, step


@step.command()
def markovscale(
    benchmark: Annotated[str, typer.Option(help="Name of the benchmark, for the tables.")],
    calibration: Annotated[Path, typer.Option(help="What `itscale calibrate` wrote.")],
    chain: Annotated[Path, typer.Option(help="Chain pool of the benchmark.")],
    problems: Problems,
    seed: Seed,
    out: OutFolder,
    parallel: Annotated[Path | None, typer.Option(help="Parallel pool of the same problems.")] = None,
    predictions: Predictions = None,
    replicates: Annotated[int, typer.Option(min=1, help="Parametric bootstrap samples of the tests of the theory.")] = 400,
) -> None:
    """Hold the two-state chain against labelled chains, and replay every sequential method beside parallel ones.

    Writes to the folder OUT: methods.csv (accuracy, tokens, and parallel methods at as many tokens), stops.csv, tokens.csv
    (both kinds), rounds.csv (observed and predicted accuracy per round and level), chain_fits.csv (the chain's rates and the
    tests), questions.csv, forecasts.csv, reliability.csv and traces.csv. Labels are read for measuring only: every rule was
    frozen before.
    """
    import pandas as pd
    import pyarrow as pa

    from itscale.data.records import POOL, Unit, read_problems, read_table
    from itscale.data.tables import OWN, write_csv
    from itscale.policies import make_policy
    from itscale.policies.frozen import frozen_policies, known_from_json
    from itscale.policies.rounds import Filter
    from itscale.studies.calibrate import read_calibration, slugs_of, within_sizes
    from itscale.studies.chains import comparison, tables
    from itscale.studies.methods import with_slugs

    pools = read_pools(parallel, chain, predictions)
    frozen, _ = within_sizes(read_calibration(calibration), pools)
    known = known_from_json(frozen["known"])
    policies = [(name, policy) for name, policy in frozen_policies(frozen) if policy.unit is Unit.ROUND]
    methods, stops, curves = comparison.compare_rounds(policies, pools, benchmark=benchmark, verifier=frozen.get("verifier", OWN))
    chains = pools[Unit.ROUND]
    asked = read_problems(problems)
    labels = {problem.problem_id: problem.level for problem in asked}
    found = {
        "methods": methods,
        "stops": stops,
        "tokens": pd.concat([curves.assign(kind="parallel"), methods.assign(kind="rounds")], join="inner"),
        **tables.validation_tables(chains, labels, known, benchmark=benchmark, replicates=replicates, seed=seed),
    }
    if known.rounds is not None:
        filters = [policy for _, policy in policies if isinstance(policy, Filter)]
        shown = filters[0] if filters else make_policy("markovscale_filter", rounds=chains.size).bind(known)
        found["reliability"] = tables.reliability(chains, known, shown, benchmark=benchmark)
        answers = read_table(chain, pa.schema([POOL.field(name) for name in ("problem_id", "chain", "round", "answer")]))
        found["traces"] = tables.traces(chains, known, shown, benchmark=benchmark, answers=answers, problems=asked)
    for name, table in found.items():
        write_csv(out / f"{name}.csv", with_slugs(table, slugs_of(frozen)))
    print(found["chain_fits"].iloc[-1].to_string())


@step.command()
def forcing(
    benchmark: Annotated[str, typer.Option(help="Name of the benchmark, for the table.")],
    forced: Annotated[Path, typer.Option(help="Chain pool drawn with `engine.prompt: forced`.")],
    reanswered: Annotated[Path, typer.Option(help="Chain pool of the same questions, drawn as usual.")],
    out: Annotated[Path, typer.Option(help="File to write (.csv; beside it .md for people).")],
    parallel: Annotated[Path | None, typer.Option(help="Parallel pool of the same questions.")] = None,
) -> None:
    """Budget forcing beside re-answering, and beside votes, at equal total tokens."""
    from itscale.data.records import Unit, read_pool, write_atomic
    from itscale.data.tables import write_csv
    from itscale.studies.chains.forcing import beside, forcing_markdown

    chains = [read_pool(path, Unit.ROUND) for path in (forced, reanswered)]
    samples = read_pool(parallel, Unit.SAMPLE) if parallel is not None else None
    table = beside(*chains, samples, benchmark=benchmark)
    write_csv(out, table)
    text = forcing_markdown(table)
    write_atomic(out.with_suffix(".md"), text.encode())
    print(text)


@step.command()
def markovscale_markdown(table: Annotated[Path, typer.Option(help="The table of methods (CSV).")], out: Out) -> None:
    """Write the table of sequential methods for people."""
    from itscale.data.records import write_atomic
    from itscale.data.tables import read_csv
    from itscale.studies.chains.comparison import markdown

    text = markdown(read_csv(table))
    write_atomic(out, text.encode())
    print(text)
