"""What the documentation says can be run is run, its links lead somewhere, and its plan is the planner's."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from itscale.cli import app
from itscale.dag.planning import job_counts, pool_costs, read_configuration
from itscale.data.records import Problem, read_problems
from itscale.drivers.replay import replay
from itscale.policies import POLICIES, Rule, make_policy
from itscale.policies.protocol import Reason
from itscale.studies.methods import read_methods
from pools import KNOWN, random_pool

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
EXTENDING = (ROOT / "docs" / "extending.md").read_text()


def block(title: str) -> str:
    """The code block of extending.md that begins with a comment."""
    return re.search(rf"```\w+\n(# {re.escape(title)}\n.*?)```", EXTENDING, re.DOTALL)[1]


def run_block(title: str) -> dict:
    """The names that a Python block defines."""
    names = {"__name__": "example"}
    exec(compile(block(title), title, "exec", dont_inherit=True), names)
    return names


@pytest.fixture
def streak(monkeypatch):
    names = run_block("src/itscale/policies/streak.py")
    monkeypatch.setitem(POLICIES, "streak", eval(re.search(r"`(Rule\(.*?\))`", EXTENDING)[1], {"Rule": Rule, **names}))


def test_the_policy_of_the_page_does_what_it_says(streak):
    pool = random_pool(3, rows=40, size=16)
    outcomes = replay(make_policy("streak", n_max=12, run=3).bind(KNOWN), pool, orders=1)
    for row, clusters in enumerate(pool.cluster.tolist()):
        ends = (n for n in range(3, 13) if clusters[n - 1] >= 0 and len(set(clusters[n - 3 : n])) == 1)
        expected = next(ends, None)
        assert outcomes.drawn[row] == (expected or 12)
        assert list(Reason)[outcomes.reason[row]] is (Reason.UNANIMOUS if expected else Reason.LIMIT)
    assert (outcomes.drawn < 12).any() and (outcomes.drawn == 12).any()


def test_its_configuration_is_a_method_with_a_grid(streak):
    (method,) = read_methods(yaml.safe_load(block("streak.yaml"))["methods"])
    assert [variant["n_max"] for variant in method.variants()] == [16, 64]
    assert len(method.candidates({"n_max": 16})) == 4


@pytest.mark.slow
def test_the_engine_of_the_page_is_stopped_by_a_policy(capsys):
    names = run_block("src/itscale/engines/function.py")
    exec(compile(block("use an engine from Python"), "use", "exec", dont_inherit=True), names)
    assert capsys.readouterr().out.strip() == str(names["run"].answers)
    assert list(names["run"].answers.values()) == ["4"]
    assert 3 <= names["engine"].usage().completion / 3 <= 16 and names["engine"].outstanding == 0


def test_the_benchmark_of_the_page_becomes_problems(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_folder").mkdir()
    (tmp_path / "my_folder" / "test.jsonl").write_text(re.search(r"```json\n(.*?)```", EXTENDING, re.DOTALL)[1])
    source = re.search(r"--source '(.*?)'\n", EXTENDING)[1]
    done = CliRunner().invoke(app, ["dataset", "--label", "mine", "--out", "mine.parquet", "--source", source])
    assert done.exit_code == 0, done.output
    assert read_problems(tmp_path / "mine.parquet") == [
        Problem("mine-0000", "What is 6 times 7?", "42", "easy"),
        Problem("mine-0001", "What is 10 minus 3?", "7", "easy"),
    ]
    config = yaml.safe_load(block("mine.yaml"))["datasets"]["mine"]
    stated = {key: value for key, value in config.items() if key not in ("questions", "answer_tokens")}
    assert stated == json.loads(source)


@pytest.mark.slow
@pytest.mark.parametrize("title", ["streak.yaml", "mine.yaml"])
def test_configurations_of_the_page_fit_the_schema(title, home, tmp_path):
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    (tmp_path / title).write_text(block(title))
    config = read_configuration([ROOT / "config" / "config.yaml", ROOT / "config" / "paper.yaml", tmp_path / title])
    assert list(Draft202012Validator(schema).iter_errors(config)) == []
    if title == "mine.yaml":
        assert [c.samples for c in pool_costs(config) if c.benchmark == "mine"] == [128, 128]
        files = [ROOT / "config/config.yaml", ROOT / "config/paper.yaml", tmp_path / title]
        counts = job_counts(files, home)
        assert counts["replay"] == 1 and counts["train_on_votes"] == 2


@pytest.mark.slow
def test_the_plan_counts_the_jobs_of_its_targets_and_generator(home):
    files = [f"--configfile={ROOT / 'config' / name}" for name in ("paper.yaml", "one_gpu.yaml")]
    done = CliRunner().invoke(app, ["plan", *files, "--folder", str(home), "optscale", "markovscale"])
    assert done.exit_code == 0, done.output
    assert "replay" in done.output and "train_on_votes" not in done.output and "Test-time" not in done.output
    assert re.search(r"^all +58400 +41\.8 +2\.9 +", done.output, re.M), done.output
    whole = CliRunner().invoke(app, ["plan", *files[:1], "--folder", str(home), "--generator", "qwq_32b", "optpo"])
    assert "2 train_on_votes" in whole.output and "Test-time training: 2 runs of at most 80 steps of 8 prompts" in whole.output
    assert "Generator qwq_32b" in whole.output


def test_the_plans_in_the_guide_are_the_planner_s():
    rows = re.findall(
        r"^\| (`.*?`) \| `(\w+)` \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", (ROOT / "docs/reproducing.md").read_text(), re.M
    )
    assert len(rows) == 5
    for files, generator, *figures in rows:
        config = read_configuration([ROOT / "config" / f for f in ["config.yaml", *re.findall(r"`(.*?)`", files)]])
        config["models"]["generator"] = generator
        costs = pool_costs(config)
        totals = [sum(c.samples for c in costs), sum(c.tokens for c in costs) / 1e6]
        totals += [sum(c.drawing_gpu_hours for c in costs), sum(c.scoring_gpu_hours for c in costs)]
        assert [int(f) for f in figures] == np.round(totals).astype(int).tolist()


def test_every_page_is_in_the_index_and_every_link_leads_somewhere():
    index = (ROOT / "docs" / "README.md").read_text()
    assert [p.name for p in DOCS if p.name != "README.md" and f"]({p.name})" not in index] == []
    for page in [*DOCS, ROOT / "README.md", ROOT / "config" / "README.md", ROOT / "docs" / "reference" / "README.md"]:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert link.startswith("http") or (page.parent / link).exists(), (page.name, link)


def test_the_picture_of_the_house_shows_its_imports_and_the_page_its_rooms(tmp_path):
    subprocess.run([sys.executable, ROOT / "docs" / "draw_house.py", tmp_path / "house.svg"], check=True, timeout=120)
    assert (tmp_path / "house.svg").read_text() == (ROOT / "docs" / "house.svg").read_text()
    rooms = {path.parent.name for path in (ROOT / "src" / "itscale").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)/` \|", (ROOT / "docs" / "house.md").read_text(), re.M)) == rooms
