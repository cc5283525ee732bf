"""The command that writes the page about a finished run."""

from pathlib import Path
from typing import Annotated

import typer

from itscale.cli.options import Out, app, parse_json, parse_object, step


@app.command()
def report(
    figures: Annotated[
        str, typer.Option(help='Figures in their order and the table that each reads, as JSON: {"accuracy_n": "curves"}.')
    ],
    out: Out,
    results: Annotated[Path, typer.Option(help="Results of the run.")] = Path("results"),
    folder: Annotated[Path, typer.Option(help="Folder of the Snakefile.")] = Path(),
    configfile: Annotated[
        list[Path] | None, typer.Option(help="Configuration of the run; may be repeated, later over earlier.")
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="What the run made of these files, as JSON; without it they are read.")
    ] = None,
) -> None:
    """Write one self-contained HTML page: graph of the rules, figures, sortable tables, tokens and time, manifests."""
    from itscale.dag.planning import read_configuration
    from itscale.data.records import write_atomic
    from itscale.report.page import build

    files = configfile or [folder / "config" / "config.yaml"]
    ran = read_configuration(files) if config is None else parse_object(config, "--config")
    page = build(results, folder=folder, configfiles=files, config=ran, tables_of=parse_json(figures, "--figures")).encode()
    write_atomic(out, page)
    print(f"{out}: {len(page) / 1e6:.1f} MB")


@step.command()
def summary(
    main: Annotated[Path, typer.Option(help="The main table (CSV).")],
    page: Annotated[str, typer.Option(help="Where the page about the run is.")],
    out: Annotated[Path, typer.Option(help="File to write (Markdown).")],
    rounds: Annotated[Path | None, typer.Option(help="The table of methods over rounds (CSV).")] = None,
    real: Annotated[Path | None, typer.Option(help="What `itscale advise` answered about a real model's samples (CSV).")] = None,
) -> None:
    """Write what the run found: a few sentences and a table of a dozen rows."""
    from itscale.data.records import write_atomic
    from itscale.data.tables import read_csv
    from itscale.report.headline import headline, markdown

    found = headline(*(None if table is None else read_csv(table) for table in (main, rounds, real)))
    write_atomic(out, markdown(found, page).encode())
