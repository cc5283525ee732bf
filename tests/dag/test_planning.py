"""Why a workflow cannot be planned: Snakemake's reason, and nothing that stands around it."""

from pathlib import Path

import pytest

from itscale.dag.planning import job_counts
from itscale.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "config" / "config.yaml"]


def test_a_misspelt_target_is_the_reason():
    with pytest.raises(UserError, match=r"^the workflow cannot be planned: (MissingRuleException: )?No rule to produce optscal"):
        job_counts(FILES, ROOT, ["optscal"])


def test_a_misspelt_generator_is_the_reason():
    with pytest.raises(UserError, match=r"^the workflow cannot be planned: models.generator is 'qwen': choose one of"):
        job_counts([*FILES, ROOT / "config" / "paper.yaml"], ROOT, generator="qwen")
