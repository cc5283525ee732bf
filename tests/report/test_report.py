"""The page about a run: every number against the files it came from, gaps named, and a real browser that opens it offline."""

import re
import shutil
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from browser import opened
from checkout import checkout
from itscale.dag.planning import read_configuration
from itscale.data.records import PREDICTIONS, SAMPLES, SCORES, Problem, write_json, write_problems, write_table
from itscale.figures import accuracy_n, accuracy_tokens
from itscale.report import evidence, graph
from itscale.report.page import MAX_ROWS, build, with_intervals

ROOT = Path(__file__).resolve().parents[2]
TABLES_OF = {"accuracy_tokens": "main", "accuracy_n": "curves", "arrival_order": "arrival"}


def main_table() -> pd.DataFrame:
    rows = []
    for method, accuracies in {"best-of-N": (0.31, 0.4, 0.45), "ESC & co. <b>": (0.05, 0.2, 0.41)}.items():
        for budget, accuracy in zip((1, 4, 16), accuracies, strict=True):
            row = {"benchmark": "test", "method": method, "verifier": "own", "unit": "sample", "family": "best_of_n"}
            row |= {"budget": budget, "problems": 12, "samples_drawn": budget / 2, "unanswered": 0.0, "cut_off": 0.0}
            for name, value in {"accuracy": accuracy, "completion_tokens": 90.0 * budget, "total_tokens": 200.0 * budget}.items():
                row |= {name: value, f"{name}_low": 0.9 * value, f"{name}_high": 1.1 * value}
            row |= {f"accuracy_difference{end}": 0.0 for end in ("", "_low", "_high")}
            rows.append({**row, "stops": "budget spent 100 %"})
    return pd.DataFrame(rows)


def samples(rows: int) -> pd.DataFrame:
    columns = {field.name: "x" if pa.types.is_string(field.type) else 0 for field in SAMPLES}
    return pd.DataFrame({name: [value] * rows for name, value in columns.items()}).assign(sample=np.arange(rows))


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "results"
    tables = folder / "tables"
    (tables / "test").mkdir(parents=True)
    main = main_table()
    curves = main.rename(columns={"budget": "n"}).drop(columns=["family", "stops"])
    main.to_csv(tables / "main.csv", index=False)
    main.to_csv(tables / "test" / "main.csv", index=False)
    curves.to_csv(tables / "curves.csv", index=False)
    pd.DataFrame({"x": range(MAX_ROWS + 7)}).to_csv(tables / "long.csv", index=False)
    accuracy_tokens.draw(main, "test", folder / "figures" / "accuracy_tokens.pdf")
    accuracy_n.draw(curves, "test", folder / "figures" / "accuracy_n.pdf")

    usage = {"prompt": 100, "cached_prompt": 7, "completion": 2000, "aborted": 30}
    meta = {"model": "models/tiny", "engine": "TransformersEngine", "versions": {"torch": "9.8"}, "plan": {"seed": 41}}
    pool = folder / "pools" / "test" / "parallel"
    write_table(pool / "samples" / "0.parquet", samples(3), SAMPLES, {**meta, "usage": usage})
    write_table(pool / "samples.parquet", samples(3), SAMPLES, {"shards": [{**meta, "usage": usage}, {**meta, "usage": usage}]})
    scores = samples(3)[["problem_id", "chain", "round", "sample"]].assign(
        score_mean=0.5, score_last=0.5, verifier_tokens=[5, 6, 7]
    )
    write_table(pool / "scores.parquet", scores, SCORES, {"verifier": "models/assess", "tokens_read": 12})
    predictions = pd.DataFrame({name: [0.5, 0.5] for name in PREDICTIONS.names}).assign(
        problem_id=["a", "b"], predictor_tokens=[11, 12]
    )
    write_table(folder / "predictions" / "test.parquet", predictions, PREDICTIONS)
    write_problems(folder / "problems" / "test.parquet", [Problem("a", "1+1", "2")], {"seed": 41})
    ledger = {"prompt": 1, "cached_prompt": 2, "completion": 3, "training": 4}
    write_json(folder / "testtime" / "ttrl-1" / "run.json", {"ledger": ledger, "evaluation_tokens": 5})
    for job, seconds, memory in (("samples/a", 10.0, 100.0), ("samples/b", 20.5, "-"), ("replay", 1.5, 50.0)):
        path = folder / "timings" / f"{job}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:00\t{memory}\n")
    return folder


@pytest.fixture(scope="module")
def page(results, tmp_path_factory) -> Path:
    folder = checkout(tmp_path_factory.mktemp("home"))
    files = [ROOT / "config" / "config.yaml", ROOT / "config" / "test.yaml"]
    text = build(results, folder=folder, files=files, config=read_configuration(files), tables_of=TABLES_OF)
    path = results.parent / "report.html"
    path.write_text(text)
    return path


def test_tokens_are_added_up_by_rule(results):
    counts = evidence.token_counts(results)
    assert counts.loc["samples", ["prompt", "cached_prompt", "completion", "aborted", "all"]].tolist() == [
        200,
        14,
        4000,
        60,
        4246,
    ]
    assert counts.loc["scores", "verifier"] == 12 and counts.loc["predictions", "predictor"] == 23
    assert counts.loc["testtime", ["prompt", "completion", "training", "evaluation", "all"]].tolist() == [1, 3, 4, 5, 11]
    assert "live" not in counts.index


def test_times_are_added_up_by_rule(results):
    times = evidence.by_rule(evidence.job_times(results / "timings"))
    assert times.index.tolist() == ["samples", "replay"]
    assert times.loc["samples"].tolist() == [2, 30.5, 0.1]  # 100 MiB


def test_manifests_name_what_made_each_table(results):
    rows = evidence.manifests(results).set_index("table")
    assert set(rows.index) == {str(p.relative_to(results)) for p in results.rglob("*.parquet")}
    pool = rows.loc["pools/test/parallel/samples.parquet"]
    assert pool[["made by", "model", "versions", "seed"]].tolist() == ["TransformersEngine", "models/tiny", "torch 9.8", "41"]
    assert len(pool["SHA-256"]) == 64
    assert rows.loc["pools/test/parallel/scores.parquet", "made by"] == "models/assess"
    assert rows.loc["problems/test.parquet", "seed"] == "41"


def test_intervals_become_one_column():
    table = pd.DataFrame({"n": [1, 2], "low": [7, 8], "x": [0.25, 3], "x_low": [0.125, np.nan], "x_high": [0.5, np.nan]})
    assert with_intervals(table).to_dict("list") == {"n": [1, 2], "low": [7, 8], "x": ["0.25 [0.125, 0.5]", "3"]}


def test_the_page_names_what_the_run_lacks(page):
    text = page.read_text()
    missing = text[text.index('id="missing"') : text.index("</aside>")]
    assert "figure arrival_order" in missing and "table arrival.csv" in missing
    assert "accuracy_n" not in missing and "token counts" not in missing


def test_the_page_holds_every_table_once_and_no_address(page):
    text = page.read_text()
    assert re.findall(r'<table id="table-([^"]*)"', text) == [
        "comparison-main", "curves", "long", "main", "cost-tokens", "cost-times", "provenance-manifests"
    ]  # fmt: skip
    assert f"The first {MAX_ROWS} of {MAX_ROWS + 7} rows" in text
    assert not [address for address in re.findall(r'(?:src|href)="([^"]*)"', text) if not address.startswith(("data:", "#"))]
    assert "ESC &amp; co. &lt;b&gt;" in text and "co. <b>" not in text


def test_the_graph_shows_each_rule_below_what_it_reads(page):
    text = page.read_text()
    boxes, labels, _ = drawing(text[text.index("<svg") : text.index("</svg>") + 6])
    assert {"problems", "samples", "pool", "calibration", "figures"} <= set(labels)
    height = dict(zip(labels, (y for _, y, _ in boxes), strict=True))
    assert height["problems"] < height["samples"] < height["pool"] < height["calibration"] < height["figures"]


def drawing(svg: str) -> tuple[list[tuple[float, float, float]], list[str], int]:
    """Boxes (x, y, width) and their labels in the same order, and the number of lines."""
    root = ET.fromstring(svg)
    boxes = [(float(r.get("x")), float(r.get("y")), float(r.get("width"))) for r in root.iter("rect")]
    return boxes, [t.text for t in root.iter("text") if t.get("class") != "note"], len(list(root.iter("path")))


@pytest.mark.parametrize("seed", range(5))
def test_boxes_stand_apart_and_implied_links_are_left_out(seed):
    random = nx.gnp_random_graph(14, 0.3, seed=seed, directed=True)
    acyclic = nx.DiGraph([(f"<{u}>", f"<{v}>") for u, v in random.edges if u < v])
    boxes, labels, lines = drawing(graph.draw(acyclic, {"<3>": "2 jobs"}))
    assert sorted(labels) == sorted(acyclic)
    assert lines == nx.transitive_reduction(acyclic).number_of_edges()
    height = dict(zip(labels, (y for _, y, _ in boxes), strict=True))
    assert all(height[u] < height[v] for u, v in acyclic.edges)
    for y in {y for _, y, _ in boxes}:
        row = sorted((x, width) for x, other, width in boxes if other == y)
        assert all(x + width < following for (x, width), (following, _) in pairwise(row))


def test_merged_rules_keep_their_links():
    one = graph.merged(nx.DiGraph([("table", "figure_a"), ("table", "figure_b"), ("figure_a", "all")]), "figure_", "figures")
    assert set(one.edges) == {("table", "figures"), ("figures", "all")}


def test_a_browser_opens_it_without_network_and_sorts_its_tables(page):
    with opened(page) as (view, heard):
        pictures = view.locator("figure img")
        assert pictures.count() == 2
        for picture in pictures.all():
            picture.scroll_into_view_if_needed()
            assert picture.is_visible() and picture.evaluate("image => image.complete && image.naturalWidth") > 300
        assert view.locator("svg").first.bounding_box()["height"] > 200

        table = view.locator("#table-comparison-main")
        accuracy = table.get_by_role("button", name="accuracy (%)")
        column = view.locator("#table-comparison-main td:nth-child(8)")
        for order, expected in (("ascending", [5, 20, 31, 40, 41, 45]), ("descending", [45, 41, 40, 31, 20, 5])):
            accuracy.click()
            assert [float(cell.split()[0]) for cell in column.all_inner_texts()] == expected
            assert table.locator(f"th[aria-sort={order}]").inner_text().startswith("accuracy")
        table.get_by_role("button", name="method").click()
        assert table.locator("td:nth-child(2)").all_inner_texts() == 3 * ["best-of-N"] + 3 * ["ESC & co. <b>"]

        view.locator("summary", has_text="long").click()
        long = view.locator("#table-long")
        for _ in range(2):
            long.get_by_role("button", name="x").click()
        assert long.locator("td").first.inner_text() == str(MAX_ROWS - 1)
        assert heard == [page.resolve().as_uri()]


def test_a_run_without_anything_gives_a_page_that_says_so(tmp_path):
    (tmp_path / "results" / "tables").mkdir(parents=True)
    shutil.copytree(ROOT / "workflow" / "report", tmp_path / "workflow" / "report")
    text = build(tmp_path / "results", folder=tmp_path, files=[], config={"seed": 0}, tables_of=TABLES_OF)
    for gap in ("figure accuracy_n", "times by rule", "token counts", "manifests", "graph of the rules"):
        assert gap in text[text.index('id="missing"') : text.index("</aside>")]
