"""The command line as people meet it: its first page, the list of policies, settings, and the plan from anywhere."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command
from typer.testing import CliRunner

from itscale.cli import app
from itscale.cli.options import GROUPS, parse_settings
from itscale.errors import UserError
from itscale.policies import POLICIES, make_policy

ROOT = Path(__file__).resolve().parents[2]


def said(*arguments: str, columns: int = 100) -> str:
    done = CliRunner().invoke(app, [*arguments], env={"COLUMNS": str(columns)})
    assert done.exit_code == 0, done.output
    return done.output


def test_the_first_page_shows_every_command_in_its_group_and_no_step():
    page = said("--help")
    groups = [group for group in GROUPS if re.search(rf"^╭─ {group} ─", page, re.M)]
    assert groups == list(GROUPS)
    assert "Commands" not in page
    shown = re.findall(r"^│ ([a-z][a-z-]+) {2,}\S", page, re.M)
    assert shown == [name for names in GROUPS.values() for name in names if name in get_command(app).commands]
    assert set(shown) == set(get_command(app).commands)


def test_steps_are_what_rules_call_and_rules_call_them_by_that_name():
    called = set()
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        called |= set(re.findall(r"python -m itscale step ([a-z-]+)", path.read_text()))
        for name in re.findall(r"python -m itscale (?!step )([a-z-]+)", path.read_text()):
            assert name in get_command(app).commands, (path.name, name)
    # toy-trial trains both models in one job.
    assert set(get_command(app).commands["step"].commands) - called == {"train-language-model", "train-reward-model"}


@pytest.mark.parametrize("columns", [60, 100, 160])
def test_help_wraps_at_the_width_of_the_terminal(columns, monkeypatch):
    """Prose fills its lines whatever the width of the source's lines: the next word never had room on the line before."""
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", columns)
    page = said("step", "training-tables", "--help", columns=columns)
    for name in ("import", "solve", "advise"):
        page += said(name, "--help", columns=columns)
    prose = [line.strip() for line in page.splitlines() if line.strip() and line[:2] == " " + line.strip()[:1]]
    assert len(prose) > 10
    for line, after in pairwise(prose):
        if not line.endswith((".", ":", "]", "[ARGS]...")) and not line.startswith("Usage"):
            assert len(line) + 1 + len(after.split()[0]) > columns - 2 or "itscale" in line + after, line


def test_version_and_completion():
    assert re.fullmatch(r"itscale \d+\.\d+\.\d+\S*\n", said("--version"))
    assert "--install-completion" in said("--help")


def test_every_policy_is_listed_with_source_needs_and_settings_that_make_it():
    listed = said("policies", columns=200)
    for slug, rule in POLICIES.items():
        (line,) = re.findall(rf"^{slug} +(.*)$", listed, re.M)
        assert line.startswith(f"{rule.name}. {rule.about}") and rule.source in line
        policy = make_policy(slug)  # every policy has defaults
        assert ("rounds" in rule.needs) == (str(policy.unit) == "round")
        assert not policy.needs_scores or "verifier" in rule.needs
        page = said("policies", rule.name, columns=200)
        for setting, usual in rule.usual.items():
            assert re.search(rf"^{setting} +\w+ +{usual}", page, re.M), (slug, setting)
            assert getattr(policy, setting) == usual
    assert "needs a verifier, a predictor and a calibration" in listed


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.one_of(st.integers(), st.booleans(), st.floats(0, 1))))
def test_settings_come_back_as_what_they_were(settings):
    words = [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in settings.items()]
    assert parse_settings(words) == settings


def test_a_setting_that_is_no_number_is_a_text_and_a_broken_one_is_named():
    assert parse_settings(["variant=paper", "options=null", "x=a=b"]) == {"variant": "paper", "options": None, "x": "a=b"}
    for word in ("lead", "=3"):
        with pytest.raises(UserError, match="is no KEY=VALUE"):
            parse_settings([word])


@pytest.mark.slow
def test_the_plan_works_anywhere_and_says_why_it_fails(tmp_path, monkeypatch, home):
    monkeypatch.chdir(tmp_path)
    assert "jobs that are not done yet" in said("plan", "live", "--folder", str(home))
    done = CliRunner().invoke(app, ["plan", "optscal", "--folder", str(home)])
    assert re.match(r"the workflow cannot be planned: (MissingRuleException: )?No rule to produce optscal", str(done.exception))
    done = CliRunner().invoke(app, ["plan", "--configfile", "config/paper.yaml", "--generator", "qwen"])
    assert str(done.exception).startswith("the workflow cannot be planned: models.generator is 'qwen': choose one of")
    (tmp_path / "itscale").mkdir()
    monkeypatch.setattr("itscale.dag.planning.__file__", str(tmp_path / "a" / "itscale" / "dag" / "planning.py"))
    with pytest.raises(UserError, match="is not in a checkout of the repository"):
        CliRunner().invoke(app, ["plan"], catch_exceptions=False)
