"""Shards put together and pools joined, a block of rows at a time: texts pass through and are never held all at once."""

import heapq
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from itscale.data.records import (
    BLOCK,
    CONFIDENCE,
    GRADES,
    KEY,
    KEYS,
    POOL,
    SAMPLES,
    SCORES,
    join_by_key,
    manifest_path,
    read_blocks,
    read_json,
    read_table,
    write_table,
)
from itscale.errors import UserError


def gathered(shards: list[Path]) -> Iterator[pd.DataFrame]:
    """The samples of several shards (each in submission order) in submission order, in blocks.

    Raises:
        UserError: a sample is in two of the shards, or a shard is not in submission order.
    """
    rows = heapq.merge(*map(_rows, shards), key=_key)
    last = None
    while block := list(islice(rows, BLOCK)):
        for row in block:
            if last is not None and _key(row) <= last:
                if _key(row) == last:
                    raise UserError(f"sample {last} is in two of the shards: give every shard once.")
                raise UserError(f"the shards are not in submission order (sample {_key(row)}): give what `generate` wrote.")
            last = _key(row)
        yield pd.DataFrame(block, columns=SAMPLES.names)


def _rows(shard: Path) -> Iterator[tuple]:
    for block in read_blocks(shard, SAMPLES):
        yield from block.itertuples(index=False, name=None)


def _key(row: tuple) -> tuple:
    return row[: len(KEY)]


def joined(samples: Path, grades: Path, scores: Path | None = None) -> Iterator[pd.DataFrame]:
    """Samples with their grades and scores (schema POOL), in blocks; without a file of scores they have none.

    Raises:
        UserError: a sample is missing in one of the tables or comes twice.
    """
    keys = read_table(samples, KEYS)
    beside = keys
    for path, schema in ((grades, GRADES), (scores, SCORES)):
        if path is not None:
            beside = join_by_key(beside, read_table(path, schema), str(path))
    if scores is None:
        beside = beside.assign(score_mean=np.nan, score_last=np.nan, verifier_tokens=0)
    beside = keys.merge(beside, on=list(KEY), how="left").drop(columns=list(KEY))  # in the samples' order
    start = 0
    for block in read_blocks(samples, SAMPLES):
        part = beside.iloc[start : start + len(block)].reset_index(drop=True)
        start += len(block)
        yield pd.concat([block, part], axis=1)


# What rules, tables and figures read of a sample: no texts, no seeds.
_NUMBERS = (
    *KEY,
    *("finish_reason", "completion_tokens", "prompt_tokens", "cached_prompt_tokens", "verifier_tokens"),
    *("answer", "cluster", "verdict", "score_mean", "score_last", *CONFIDENCE),
)
_DIGITS = 4  # of scores


def write_numbers(pool: Path, out: Path) -> None:
    """A pool (or that of a folder) without its texts, small enough to pass on; scores are rounded to four digits.

    Raises:
        UserError: as `read_table`; `out` is the pool itself.
    """
    pool = pool / "pool.parquet" if pool.is_dir() else pool
    if out.resolve() == pool.resolve():
        raise UserError(f"{out} is the pool itself, whose texts would be lost: give another folder.")
    table = read_table(pool, pa.schema([POOL.field(name) for name in _NUMBERS])).round(_DIGITS)
    table = table.drop(columns=[name for name in CONFIDENCE if table[name].isna().all()])
    kept = {key: value for key, value in read_json(manifest_path(pool)).items() if key not in ("rows", "sha256")}
    write_table(out, table, pa.schema([POOL.field(name) for name in table.columns]), {**kept, "texts": False})
