"""What a rule depends on: a command's sources are the modules that a process which runs it has loaded."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from itscale.dag.rerun import PACKAGE, command_files, files_of

ROOT = Path(__file__).resolve().parents[2]
# Runs a command and tells which modules of the package it has loaded beyond those that any start loads.
CALL = """
import json, sys
from itscale.cli import app
before = set(sys.modules)
try:
    app(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
print("LOADED " + json.dumps([m for m in sys.modules.keys() - before if m.startswith("itscale.")]))
"""


def loaded(*arguments: object) -> set[str]:
    done = subprocess.run([sys.executable, "-c", CALL, *map(str, arguments)], capture_output=True, text=True, check=True)
    return set(json.loads(re.search("LOADED (.*)", done.stdout)[1]))


def names(files: list[Path]) -> set[str]:
    parts = (path.relative_to(PACKAGE.parent).with_suffix("").parts for path in files)
    return {".".join(p[:-1] if p[-1] == "__init__" else p) for p in parts}


@pytest.mark.slow
def test_a_command_depends_on_what_it_loads_and_on_its_own_file(tmp_path):
    table = tmp_path / "a.csv"
    pd.DataFrame({"benchmark": ["b"], "x": [1.0]}).to_csv(table, index=False)
    runs = {
        "concat": ("--out", tmp_path / "out.csv", table),
        "problems": ("--seed", 0, "--out", tmp_path / "problems"),
        "optscale-theory": ("--seed", 0, "--rows", 5, "--n-max", 4, "--out", tmp_path / "theory"),
    }
    for command, arguments in runs.items():
        found = names(command_files(command))
        assert loaded("step", command, *arguments) <= found, command
    assert "itscale.cli.comparison" in names(command_files("concat"))
    assert not {"itscale.drivers.replay", "itscale.studies.calibrate"} & names(command_files("concat"))
    # What a function of another command file imports belongs to it too.
    assert {"itscale.cli.comparison", "itscale.data.records"} <= names(command_files("markovscale"))
    with pytest.raises(ValueError, match="no command 'nothing'"):
        command_files("nothing")


def test_files_of_a_module_hold_what_it_imports_in_turn():
    assert {"itscale.theory.truncnormal", "itscale.policies.optscale", "itscale.policies"} <= names(files_of("itscale.policies"))


def test_every_rule_depends_on_the_command_that_it_calls():
    called = 0
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        for block in re.split(r"\n(?=\s*(?:use )?rule\b)", path.read_text()):
            for name in re.findall(r"python -m itscale (?:step )?([a-z-]+)", block):
                assert f'command("{name}")' in block, (path.name, name)
                called += 1
    assert called > 25
