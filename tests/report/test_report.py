"""The page about a run: every number against the files it came from, gaps named, and a real browser that opens it offline."""

import re
import shlex
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
from itscale.cli.options import parse_settings
from itscale.dag.planning import read_configuration
from itscale.data.records import POOL, PREDICTIONS, SAMPLES, SCORES, Problem, write_json, write_problems, write_table
from itscale.figures import accuracy_n, accuracy_tokens
from itscale.policies import make_policy
from itscale.report import evidence, graph
from itscale.report.choices import command
from itscale.report.page import MAX_ROWS, build, with_intervals

ROOT = Path(__file__).resolve().parents[2]
_ENDS = (("_low", -0.001), ("_high", 0.001))
TABLES_OF = {"accuracy_tokens": "main", "accuracy_n": "curves", "arrival_order": "arrival"}


def main_table() -> pd.DataFrame:
    rows = []
    for method, accuracies in {"best-of-N": (0.31, 0.4, 0.45), "ESC & co. <b>": (0.05, 0.2, 0.41)}.items():
        for budget, accuracy in zip((1, 4, 16), accuracies, strict=True):
            row = {"benchmark": "test", "method": method, "verifier": "own", "unit": "sample", "family": "best_of_n"}
            row["slug"] = "best_of_n" if method == "best-of-N" else "mine"
            row |= {"budget": budget, "problems": 12, "samples_drawn": budget / 2, "unanswered": 0.0, "cut_off": 0.0}
            for name, value in {"accuracy": accuracy, "completion_tokens": 90.0 * budget, "total_tokens": 200.0 * budget}.items():
                row |= {name: value, f"{name}_low": 0.9 * value, f"{name}_high": 1.1 * value}
            for name in ("accuracy", "completion_tokens"):
                row |= {f"{name}_difference{end}": 0.0 for end in ("", "_low", "_high")}
            rows.append({**row, "stops": "budget spent 100 %"})
    return pd.DataFrame(rows)


def samples(rows: int) -> pd.DataFrame:
    columns = {field.name: "x" if pa.types.is_string(field.type) else 0 for field in SAMPLES}
    return pd.DataFrame({name: [value] * rows for name, value in columns.items()}).assign(sample=np.arange(rows))


def pooled() -> pd.DataFrame:
    """Two questions of four samples, with texts that a page must not take for markup."""
    columns = {field.name: None if pa.types.is_string(field.type) else 0 for field in POOL}
    table = pd.DataFrame({name: [value] * 8 for name, value in columns.items()})
    return table.assign(
        problem_id=np.repeat(["a", "hostile"], 4),
        sample=np.tile(np.arange(4), 2),
        text="</script><script>alert(2)</script><!-- so \\boxed{2}",
        finish_reason="stop",
        answer="<b>2</b>",
        verdict=["correct"] * 4 + ["correct", "wrong"] * 2,
        score_mean=0.5,
        completion_tokens=9,
    )


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
    (folder / "real_model").mkdir()
    answer = {"method": "ASC", "samples": 3.25, "saving": 0.41, "difference": -0.004}
    answer |= {f"{name}{end}": answer[name] + shift for name in ("saving", "difference") for end, shift in _ENDS}
    pd.DataFrame([answer]).to_csv(folder / "real_model" / "answers.csv", index=False)
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
    asked = [Problem("a", "1+1", "2"), Problem("hostile", "<img src=x onerror=alert(1)>", "2")]
    write_problems(folder / "problems" / "test.parquet", asked, {"seed": 41})
    write_table(pool / "pool.parquet", pooled(), POOL)
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
    text = build(results, folder=folder, configfiles=files, config=read_configuration(files), tables_of=TABLES_OF)
    path = results.parent / "report.html"
    path.write_text(text)
    return path


def test_the_summary_has_the_real_models_sentence_as_SUMMARY_has_it(page):
    where = "GSM8K, examples/gsm8k-qwen2.5-coder-0.5b, weights dequantised from 4 bits"
    assert f"<li>A real model ({where}): ASC draws 3.2 samples and saves 41 [41, 41] %" in page.read_text()


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
    markup = re.sub(r"<(script|style).*?</\1>", "", text, flags=re.S)
    assert not [address for address in re.findall(r'(?:src|href)="([^"]*)"', markup) if not address.startswith(("data:", "#"))]
    assert "ESC &amp; co. &lt;b&gt;" in markup and "co. <b>" not in text


def test_the_graph_shows_each_rule_below_what_it_reads(page):
    text = page.read_text()
    boxes, labels, _ = drawing(
        text[text.index('<svg class="rules"') : text.index("</svg>", text.index('<svg class="rules"')) + 6]
    )
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
    one = graph.merged(nx.DiGraph([("table", "figures_a"), ("table", "figures_b"), ("figures_a", "all")]), "figures_", "figures")
    assert set(one.edges) == {("table", "figures"), ("figures", "all")}


def test_a_browser_opens_it_without_network_and_sorts_its_tables(page):
    with opened(page) as (view, heard):
        pictures = view.locator("figure img")
        assert pictures.count() == 2
        for picture in pictures.all():
            picture.scroll_into_view_if_needed()
            picture.evaluate("image => image.decode()")
            assert picture.is_visible() and picture.evaluate("image => image.complete && image.naturalWidth") > 300

        table = view.locator("#table-comparison-main")
        column = table.locator("tbody td:nth-child(8)")
        for order, expected in (("ascending", [5, 20, 31, 40, 41, 45]), ("descending", [45, 41, 40, 31, 20, 5])):
            table.get_by_role("columnheader", name="accuracy (%)").click()
            head = table.locator(f"th[aria-sort={order}]")
            head.wait_for()
            assert head.inner_text().strip().startswith("accuracy")
            assert [float(cell.split()[0]) for cell in column.all_inner_texts()] == expected
        view.select_option("#method", "ESC & co. <b>")  # one rule, with a name that would be markup
        assert table.locator("tbody td:nth-child(2)").all_inner_texts() == 3 * ["ESC & co. <b>"]
        with view.expect_download() as download:
            view.locator("#table-comparison-main_wrapper").get_by_role("button", name="Download CSV").click()
        lines = Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()
        assert "ESC & co. <b>" in lines[1] and lines[0].startswith('"benchmark","method"')

        view.locator("summary", has_text="long").click()
        long = view.locator("#table-long")
        for order in ("ascending", "descending"):
            long.get_by_role("columnheader", name="x").click()
            long.locator(f"th[aria-sort={order}]").wait_for()
        assert long.locator("td").first.inner_text() == str(MAX_ROWS - 1)
        view.locator("summary", has_text="Graph of the workflow").click()
        assert view.locator("svg.rules").bounding_box()["height"] > 200
        assert heard == [page.resolve().as_uri()]


def test_the_frontier_and_the_choice_of_a_rule_are_those_of_the_main_table(page):
    main = main_table()
    with opened(page) as (view, heard):
        plot = view.locator("#plot")
        names = plot.evaluate("plot => plot.data.map(trace => trace.name)")
        assert {"best-of-N", "ESC & co. <b>"} <= set(names)
        shown = plot.evaluate("plot => plot.data.find(trace => trace.name === 'best-of-N').y")
        assert shown == pytest.approx((100 * main.loc[main["method"] == "best-of-N", "accuracy"]).tolist())
        view.select_option("#up", "accuracy_difference")
        assert plot.evaluate("plot => plot.data[0].y") == [0, 0, 0]
        rule = view.get_by_role("checkbox", name="ESC & co. <b>")
        rule.press("Space")
        assert plot.evaluate("plot => plot.data.map(trace => trace.name)") == ["best-of-N"]
        rule.press("Space")
        view.locator("#kinds input").first.press("Space")  # by keyboard
        assert plot.evaluate("plot => plot.data.filter(trace => trace.mode.includes('lines')).length") == 0
        # At least 35 %: best-of-4 has the fewest tokens of what reaches that and can be run.
        view.select_option("#have", "verifier")
        view.locator("#slider").evaluate("slider => { slider.value = 35; slider.dispatchEvent(new Event('input')); }")
        assert (
            view.locator("#answer p").inner_text().startswith("best-of-N, 4 (own): accuracy 40.0 % [36.0, 44.0], 360 completion")
        )
        assert view.locator("#answer pre").inner_text().startswith("itscale solve --policy best_of_n")
        view.select_option("#want", "tokens")
        view.locator("#slider").evaluate("slider => { slider.value = 100; slider.dispatchEvent(new Event('input')); }")
        assert view.locator("#answer p").inner_text().startswith("best-of-N, 1 (own)")
        assert heard == [page.resolve().as_uri()]


def test_single_questions_are_shown_as_text_and_fit_a_narrow_screen(page):
    with opened(page) as (view, heard):
        assert "1 questions" not in view.locator("#of").inner_text()
        assert view.locator("#question option").count() == 2
        view.locator("#search").fill("hostile")
        assert view.locator("#question option").all_inner_texts() == ["hostile: 50 % right, with texts"]
        view.select_option("#question", label="hostile: 50 % right, with texts")
        detail = view.locator("#detail")
        assert "<img src=x onerror=alert(1)>" in detail.inner_text() and detail.locator("img").count() == 0
        rows = detail.locator("table").last.locator("tbody tr").all_inner_texts()
        assert len(rows) == 4 and "</script>" in rows[0] and "correct" in rows[0] and "wrong" in rows[1]
        assert "<b>2</b>" in rows[0] and "0.5" in rows[0]
        view.set_viewport_size({"width": 420, "height": 800})
        view.wait_for_function("document.documentElement.scrollWidth <= 420", timeout=10_000)
        assert heard == [page.resolve().as_uri()]


def test_the_command_of_a_point_makes_the_policy_that_was_measured():
    calibration = {
        "verifier": "good",
        "methods": [
            {"method": "ASC", "settings": {"n_max": n}, "hyperparameters": {"threshold": t}} for n, t in ((8, 0.9), (16, 0.8))
        ],
        "others": {
            "weak": {"methods": [{"method": "score threshold", "settings": {"n_max": 16}, "hyperparameters": {"s_min": 0.7}}]}
        },
    }
    said = command({"method": "ASC", "slug": "asc", "budget": 16, "verifier": "none"}, calibration)
    words = shlex.split(said)
    settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert make_policy(words[words.index("--policy") + 1], **parse_settings(settings)) == make_policy(
        "asc", n_max=16, threshold=0.8
    )
    weak = command({"method": "score threshold", "slug": "score_threshold", "budget": 16, "verifier": "weak"}, calibration)
    assert "--set s_min=0.7" in weak and "--verifier" in weak
    assert (
        command({"method": "DSC (oracle, replay only)", "slug": "dsc_oracle", "budget": 8, "verifier": "good"}, calibration) == ""
    )


def test_a_run_without_anything_gives_a_page_that_says_so(tmp_path):
    (tmp_path / "results" / "tables").mkdir(parents=True)
    shutil.copytree(ROOT / "workflow" / "report", tmp_path / "workflow" / "report")
    text = build(tmp_path / "results", folder=tmp_path, configfiles=[], config={"seed": 0}, tables_of=TABLES_OF)
    for gap in ("figure accuracy_n", "times by rule", "token counts", "manifests", "graph of the rules"):
        assert gap in text[text.index('id="missing"') : text.index("</aside>")]
