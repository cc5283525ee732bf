"""What the rule files have to hold to, whatever a configuration says."""

import re
from pathlib import Path

RULES = sorted((Path(__file__).parents[2] / "workflow" / "rules").glob("*.smk"))


def test_what_a_configuration_says_is_quoted_in_every_command():
    assert len(RULES) > 8
    for file in RULES:
        shells = re.findall(r"    shell:\n((?: +\(?\".*\n)+)", file.read_text())
        bare = [found for shell in shells for found in re.findall(r"\{(?:params|input|output|log)\.?\w*\}", shell)]
        assert not bare, (file.name, bare)
