"""The samples that come with the package: numbers of a real model, and no texts."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from itscale.cli.advising import example

SHIPPED = Path(example()).parent
POOLS = sorted(path.parent.relative_to(SHIPPED).as_posix() for path in SHIPPED.rglob("pool.parquet"))


def test_they_are_small():
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) <= 600_000
    assert POOLS == ["calibration/chain", "calibration/parallel", "chain", "parallel"]


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_holds_numbers_and_says_where_they_come_from(pool):
    columns = set(pq.read_schema(SHIPPED / pool / "pool.parquet").names)
    assert {"problem_id", "answer", "verdict", "completion_tokens", "finish_reason"} <= columns
    texts = pq.read_table(SHIPPED / pool / "pool.parquet", columns=["text"] if "text" in columns else [])
    assert all(not text for column in texts.columns for text in column.to_pylist())
    drawn = json.loads((SHIPPED / pool / "pool.json").read_text())["samples"]
    assert "dequantised" in drawn["model"] and "AMX" in drawn["machine"] and drawn["drawn_with"]["name"] == "transformers"
