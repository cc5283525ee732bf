"""The whole workflow on config/test.yaml: everything for real, only smaller."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from browser import opened
from checkout import checkout
from itscale.dag.planning import read_configuration


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A copy of the repository."""
    return checkout(tmp_path_factory.mktemp("home"))


def snakemake(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--configfile", "config/config.yaml", "config/test.yaml", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    if check:
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done


@pytest.fixture(scope="module")
def results(folder) -> Path:
    """The results of a run from nothing."""
    snakemake(folder, "--cores", "2")
    return folder / "results" / "test"


def jobs(output: str) -> dict[str, int]:
    """The job counts of a dry run, by rule."""
    lines = output.split("Job stats:")[1].splitlines()[3:]
    counts = {}
    for line in lines:
        if not line.strip():
            break
        name, count = line.split()
        counts[name] = int(count)
    return counts


def test_main_table_holds_every_method(results):
    main = pd.read_csv(results / "tables" / "main.csv")
    calibration = json.loads((results / "calibration.json").read_text())
    assert set(main["method"]) == {entry["method"] for entry in calibration["methods"]}
    assert ((main["accuracy_low"] <= main["accuracy"]) & (main["accuracy"] <= main["accuracy_high"])).all()
    assert (main["total_tokens"] >= main["completion_tokens"]).all()
    fixed = main[main["method"] == "self-consistency"]
    assert fixed["samples_drawn"].tolist() == fixed["budget"].tolist()
    # The same samples, scored twice.
    assert set(main["verifier"]) == {"good", "weak", "none"} and not main.duplicated(["slug", "verifier", "budget"]).any()
    best = main[main["slug"] == "best_of_n"].pivot(index="budget", columns="verifier", values="completion_tokens")
    assert len(best) == 3 and (best["good"] == best["weak"]).all()


def test_pool_tokens_agree_with_the_table(results):
    pool = pd.read_parquet(results / "pools" / "test" / "parallel" / "pool.parquet")
    per_problem = pool.groupby("problem_id")["completion_tokens"].sum().mean()
    main = pd.read_csv(results / "tables" / "main.csv")
    full = main[(main["method"] == "self-consistency") & (main["budget"] == 16)]
    assert full["completion_tokens"].item() == pytest.approx(per_problem, rel=1e-5)


def test_every_figure_is_there_in_both_forms(results):
    names = {p.stem for p in (results / "figures").glob("*.pdf")}
    for other in ("png", "txt"):  # the caption
        assert names == {p.stem for p in (results / "figures").glob(f"*.{other}")}
    assert "paired" in (results / "figures" / "savings.txt").read_text()
    assert {"accuracy_tokens", "accuracy_n", "accuracy_round", "samples_drawn", "score_fit"} <= names


def test_a_second_run_has_nothing_to_do(folder, results):
    assert "Nothing to be done" in (out := snakemake(folder, "--cores", "1")).stdout + out.stderr


def test_one_figure_needs_one_job_even_without_the_pools(folder, results, tmp_path):
    figure = results / "figures" / "accuracy_n.pdf"
    figure.unlink()
    shutil.move(results / "pools", tmp_path / "pools")
    try:
        dry = snakemake(folder, "-n", str(figure.relative_to(folder)))
        assert jobs(dry.stdout + dry.stderr) == {"figures_comparison": 1, "total": 1}
        snakemake(folder, "--cores", "1", str(figure.relative_to(folder)))
        assert figure.stat().st_size > 1000
    finally:
        if not (results / "pools").exists():
            shutil.move(tmp_path / "pools", results / "pools")


@pytest.mark.parametrize(
    ("module", "rerun"),
    [
        ("figures/accuracy_n", {"figures_comparison", "page"}),
        (
            "studies/votes",
            {"vote_guarantees", "vote_study", "figures_votes", "page"},
        ),
    ],
)
def test_an_edited_module_reruns_what_depends_on_it(folder, results, module, rerun):
    source = folder / "src" / "itscale" / f"{module}.py"
    content = source.read_bytes()
    try:
        source.write_bytes(content + b"# edited\n")  # of a file that is only newer the content is compared
        dry = snakemake(folder, "-n")
    finally:
        source.write_bytes(content)
    assert set(jobs(dry.stdout + dry.stderr)) == {"all", "total"} | rerun


def test_report_is_one_self_contained_page(folder, results, tmp_path):
    page = tmp_path / "report.html"
    snakemake(folder, "--report", str(page))
    assert "Accuracy against completion tokens for every rule and limit" in page.read_text()


def test_the_page_about_the_run_holds_every_figure_and_opens_offline(folder, results):
    snakemake(folder, "--cores", "1", "page")
    page = results / "report.html"
    text = page.read_text()
    drawn = {p.stem for p in (results / "figures").glob("*.png")}
    assert drawn == {name for name in drawn if f'id="figure-{name}"' in text}
    missing = text[text.index('id="missing"') : text.index("</aside>")]
    assert re.findall(r"<li>(\w+ [^<\s]+)", missing) == [
        "figure training_algorithms",
        "table optpo_full/curves.csv",
    ]  # made on request
    assert page.stat().st_size < 10e6
    with opened(page) as (view, heard):
        assert view.locator("figure img").evaluate_all("images => images.every(i => i.complete && i.naturalWidth > 300)")
        assert heard == [page.resolve().as_uri()]


# Runs that differ from the others in one setting alone; tests/testtime trains with each.
ALIKE = re.compile(r" +(optpo_(all|rloo|sft|weighted|posterior|entropy|snr)|gold):")


@pytest.fixture
def fewer_runs(folder):
    """The configuration without runs that are alike."""
    files = {folder / "config" / name: (folder / "config" / name).read_text() for name in ("config.yaml", "test.yaml")}
    for path, text in files.items():
        path.write_text("".join(line for line in text.splitlines(keepends=True) if not ALIKE.match(line)))
    yield
    for path, text in files.items():
        path.write_text(text)


def test_optpo_full_asks_for_every_run_of_the_configuration(folder, results):
    dry = snakemake(folder, "-n", "optpo_full").stdout
    runs = read_configuration([folder / "config" / "config.yaml", folder / "config" / "test.yaml"])["testtime"]["runs"]
    assert len(runs) == 13 and set(re.findall(r"wildcards: run=(\w+), seed=1$", dry, re.M)) == set(runs) - {"ttrl", "optpo"}


def test_optpo_full_trains_its_runs(folder, results, fewer_runs):
    snakemake(folder, "--cores", "2", "optpo_full")
    summary = pd.read_csv(results / "tables" / "optpo_full" / "summary.csv")
    assert set(summary["run"]) >= {"ttrl", "optpo", "optpo_ppo", "optpo_certified", "untrained"}
    assert (summary["seeds"] == 1).all()
    rates = pd.read_csv(results / "tables" / "optpo_full" / "learning_rate.csv")
    assert rates["chosen"].sum() == 1
    assert (results / "figures" / "training_algorithms.png").stat().st_size > 10_000


def test_a_typo_in_the_configuration_is_named(folder, tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("samplign: {temperature: 1.0}\n")
    done = snakemake(folder, "--configfile", "config/config.yaml", str(wrong), "-n", check=False)
    assert done.returncode != 0
    said = (done.stdout + done.stderr).splitlines()
    assert sum("samplign is no key of the configuration: did you mean 'sampling'?" in line for line in said) == 1
    assert len(said) < 12, said
