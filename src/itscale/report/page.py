"""The page itself: what is there is shown, what is not is named; one HTML file that needs nothing else."""

import base64
import json
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import jinja2
import networkx as nx
import pandas as pd
import yaml
from PIL import Image

from itscale.dag.planning import rule_graph
from itscale.data.records import read_json
from itscale.data.tables import read_csv, readable
from itscale.errors import UserError
from itscale.figures.style import DPI
from itscale.report import evidence, graph
from itscale.report.choices import points
from itscale.report.headline import NAMES, Headline, headline, table
from itscale.report.questions import questions

MAX_ROWS = 500
_FIRST = ("savings",)  # the figure of the summary
_ASSETS = ("dataTables.dataTables.min.css", "plotly-basic.min.js", "dataTables.min.js", "dataTables.buttons.min.js")
_WIDTH = 1400  # pixels of a picture in the page; the files are larger
_PER_INCH = 96  # of a screen: letters have the same size in all figures


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture as a data URI, its width on a screen (pixels), what it shows, and the table that it was drawn from."""

    name: str
    caption: str
    uri: str
    width: int
    table: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table for people: cells as text, at most MAX_ROWS rows of `total`."""

    name: str
    columns: list[str]
    rows: list[list[str]]
    total: int
    path: str = ""


def build(results: Path, *, folder: Path, configfiles: list[Path], config: dict[str, Any], tables_of: dict[str, str]) -> str:
    """The page about the run in `results`.

    Args:
        folder: of the Snakefile; its workflow/report holds the captions (NAME.rst) and the page's template.
        configfiles: configuration files of the run, from which the graph of its rules is made.
        config: what they say together.
        tables_of: the table (without .csv) that each figure reads.

    Raises:
        UserError: `results` is not there.
    """
    if not (results / "tables").is_dir():
        raise UserError(f"{results} holds no folder tables: run the workflow first, or name its results with --results.")
    captions = folder / "workflow" / "report"
    missing: list[str] = []
    figures = [figure for name in tables_of if (figure := _figure(results, name, captions, tables_of[name], missing))]
    tables = [_table(read_csv(path), path.relative_to(results)) for path in _table_files(results)]
    missing += [
        f"table {name}.csv" for name in dict.fromkeys(tables_of.values()) if not (results / f"tables/{name}.csv").exists()
    ]
    main, baselines, chains = (
        _present(results / "tables" / f"{name}.csv") for name in ("main", "baselines", "markovscale_methods")
    )
    jobs = evidence.job_times(results / "timings")
    calibration = results / "calibration.json"
    record = read_json(calibration) if calibration.exists() else None
    real = _present(results / "real_model" / "answers.csv")
    found = headline(main, chains, real) if main is not None else None
    browsed: dict[str, Any] = {}
    if main is not None:
        try:
            browsed = questions(results, main["benchmark"].iloc[0], record, found.rows)
        except UserError as error:  # ragged, or of another version
            missing.append(f"the questions, one by one ({error})")
    by_rule = evidence.by_rule(jobs) if len(jobs) else pd.DataFrame()
    if by_rule.empty:
        missing.append("times by rule (timings/)")
    tokens = evidence.token_counts(results)
    if tokens.empty:
        missing.append("token counts (pools/)")
    manifests = evidence.manifests(results)
    if manifests.empty:
        missing.append("manifests (pools/, problems/, predictions/)")
    elif unstated := int((manifests["table"].str.contains("samples") & (manifests["versions"] == "")).sum()):
        missing.append(f"versions of the engine in {unstated} manifests of samples (an older run did not write them)")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return template.from_string((captions / "page.html.j2").read_text()).render(
        introduction=_caption(captions, "workflow"),
        facts=_facts(main, by_rule, tokens, config, folder),
        missing=missing,
        graph=_graph(configfiles, folder, by_rule, missing),
        first=[f for f in figures if f.name in _FIRST],
        main=_as_text("comparison-main", readable(main), "tables/main.csv") if main is not None else None,
        summary=_summary(found),
        names=NAMES,
        points=_json(points(main, record, str(calibration), baselines) if main is not None else []),
        questions=_json(browsed),
        assets={name: _asset(name) for name in _ASSETS},
        figures=[f for f in figures if f.name not in _FIRST],
        tables=tables,
        times=_as_text("cost-times", by_rule.reset_index()),
        tokens=_as_text("cost-tokens", tokens.reset_index()),
        manifests=_as_text("provenance-manifests", manifests),
        environment=evidence.environment(),
        configuration=yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=120),
        configfiles=[str(f) for f in configfiles],
        max_rows=MAX_ROWS,
    )


def _present(path: Path) -> pd.DataFrame | None:
    """A table, None where the run has not made it."""
    return read_csv(path) if path.exists() else None


def _figure(results: Path, name: str, captions: Path, table: str, missing: list[str]) -> Figure | None:
    path = results / "figures" / f"{name}.png"
    if not path.exists():
        missing.append(f"figure {name} (snakemake {results}/figures/{name}.pdf makes it)")
        return None
    with Image.open(path) as picture:
        width = round(picture.width * _PER_INCH / DPI)
    uri = "data:image/png;base64," + base64.b64encode(_smaller(path)).decode()
    text = path.with_suffix(".txt")
    caption = " ".join(text.read_text().split()) if text.exists() else _caption(captions, name)
    return Figure(name, caption, uri, width, f"tables/{table}.csv")


def _smaller(path: Path) -> bytes:
    """A picture with at most 256 colours and _WIDTH pixels across, as PNG."""
    with Image.open(path) as picture:
        drawn = picture.convert("RGB")
    if drawn.width > _WIDTH:
        drawn = drawn.resize((_WIDTH, round(drawn.height * _WIDTH / drawn.width)), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    drawn.quantize(256).save(buffer, "PNG")  # optimised, it would be a tenth smaller and take three times as long
    return buffer.getvalue()


def _asset(name: str) -> str:
    return (files("itscale.report") / "assets" / name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """JSON that can stand in a script element: nothing in it ends the element or begins a comment."""
    return json.dumps(value, ensure_ascii=True).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _summary(found: Headline | None) -> dict[str, Any] | None:
    if found is None:
        return None
    shown = table(found)
    return {"sentences": found.sentences, "columns": list(shown.columns), "rows": shown.to_numpy().tolist()}


def _caption(folder: Path, name: str) -> str:
    path = folder / f"{name}.rst"
    return " ".join(path.read_text().split()) if path.exists() else ""


def _table_files(results: Path) -> list[Path]:
    """Every CSV that is not a part of another: tables/BENCHMARK/* are put together in tables/."""
    parts = {path.stem for path in (results / "problems").glob("*.parquet")}
    found = sorted((results / "tables").rglob("*.csv"))
    return [path for path in found if path.relative_to(results / "tables").parts[0] not in parts]


def _table(frame: pd.DataFrame, path: Path) -> Table:
    return _as_text(str(path.relative_to("tables").with_suffix("")), with_intervals(frame), str(path))


def with_intervals(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns NAME, NAME_low and NAME_high as one column of cells `mean [low, high]`."""
    columns: dict[str, pd.Series] = {}
    for name in frame.columns:
        ends = (f"{name}_low", f"{name}_high")
        if name.removesuffix("_low").removesuffix("_high") != name and name.rsplit("_", 1)[0] in frame:
            continue
        if all(end in frame for end in ends):
            cells = zip(*(frame[column].map(_cell) for column in (name, *ends)), strict=True)
            columns[name] = pd.Series([f"{mean} [{low}, {high}]" if low else mean for mean, low, high in cells])
        else:
            columns[name] = frame[name]
    return pd.DataFrame(columns)


def _as_text(name: str, frame: pd.DataFrame, path: str = "") -> Table:
    rows = frame.head(MAX_ROWS).map(_cell).to_numpy().tolist() if len(frame) else []
    return Table(name, [str(c) for c in frame.columns], rows, len(frame), path)


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _facts(
    main: pd.DataFrame | None, by_rule: pd.DataFrame, tokens: pd.DataFrame, config: dict[str, Any], folder: Path
) -> dict[str, str]:
    """The few numbers above everything else."""
    facts = {"report made": datetime.now(UTC).isoformat(sep=" ", timespec="minutes"), "seed": str(config["seed"])}
    revision = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=folder, capture_output=True, text=True, check=False)
    if revision.returncode == 0:
        facts["code now"] = revision.stdout.strip()
    if main is not None:
        sizes = main.groupby("benchmark", sort=False)["problems"].max()
        facts["benchmarks"] = ", ".join(f"{name} ({count} questions)" for name, count in sizes.items())
        facts["methods"] = f"{main['method'].nunique()} in {len(main)} rows"
    if len(tokens):
        facts["tokens counted"] = f"{tokens['all'].sum() / 1e6:.1f} million"
    if len(by_rule):
        facts["jobs"] = f"{by_rule['jobs'].sum()}, {by_rule['seconds'].sum() / 60:.0f} minutes added up"
    return facts


def _graph(configfiles: list[Path], folder: Path, by_rule: pd.DataFrame, missing: list[str]) -> str:
    """The rules with the time of each; named as missing where the workflow cannot be read."""
    try:
        rules = rule_graph(configfiles, folder)
    except UserError as error:
        missing.append(f"graph of the rules ({error})")
        return ""
    rules = graph.merged(nx.DiGraph(rules), "figures_", "figures")
    rules.remove_nodes_from([node for node in ("all",) if node in rules])
    notes = {row.Index: f"{row.jobs} job{'s' if row.jobs > 1 else ''}, {row.seconds:.0f} s" for row in by_rule.itertuples()}
    return graph.draw(rules, notes)
