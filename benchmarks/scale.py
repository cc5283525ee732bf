"""The papers' size: every method on five benchmarks, 1,919 problems x 64 samples x 100 orders, and the DAG of config/paper.yaml.

Pools of that shape are generated (benchmarks/generated.py: they prove speed, nothing else); the methods and their grids are
those of config/config.yaml (--short: with config/test.yaml over it), calibrated on 300 generated problems. What `itscale
replay` does for each benchmark is done here, one benchmark after the other in one process and one thread: on two cores
Snakemake runs two benchmarks at a time.
Needs no results.
"""

from harness import ROOT, Measurement, Options, peak_memory_gb, run  # before numpy: it sets the number of threads

import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from generated import generated_pool

from itscale.studies import calibrate as calibration
from itscale.studies import compare
from itscale.studies.methods import read_methods
from itscale.dag.planning import job_counts, read_configuration
from itscale.policies.frozen import frozen_policies, known_to_json
from itscale.policies.protocol import Policy
from itscale.data.records import Unit

BENCHMARKS = {"math500": 500, "gsm8k": 1319, "aime24": 30, "aime25": 30, "amc23": 40}
CHAINS, ROUNDS = 8, 8


def measure(options: Options) -> list[Measurement]:
    samples, orders, share = (64, 3, 0.02) if options.short else (64, 100, 1.0)
    files = [ROOT / "config" / name for name in ("config.yaml", *(["test.yaml"] if options.short else []))]
    config = read_configuration(files)
    sizes = {name: max(4, round(share * problems)) for name, problems in BENCHMARKS.items()}

    frozen, calibrating = calibrated(config, max(20, round(300 * share)), samples, 1 if options.short else 10)
    rows, wall, busy = [], 0.0, 0.0
    for seed, (name, problems) in enumerate(sizes.items(), start=1):
        pools = both_pools(problems, samples, seed)
        took, used = timed(partial(analyse, frozen, pools, name, orders))
        wall, busy = wall + took, busy + used
        rows.append({"benchmark": name, "problems": problems, "seconds": round(took, 2), "processor_s": round(used, 2)})
    shape = {"problems": sum(sizes.values()), "samples": samples, "orders": orders, "rows of the main table": len(frozen)}
    graph, graph_busy = timed(lambda: job_counts([ROOT / "config" / "config.yaml", ROOT / "config" / "paper.yaml"], ROOT))
    return [
        Measurement("replay of every method on five benchmarks", wall, "s", "at most 300", {**shape, "benchmarks": rows}),
        Measurement("the same, processor time", busy, "s"),
        Measurement("calibration of every grid", calibrating[0], "s", None, {"processor_s": calibrating[1]}),
        Measurement("peak memory of the process", peak_memory_gb(), "GB", "at most 4"),
        Measurement("DAG of config/paper.yaml (dry run)", graph, "s", "at most 10", {"processor_s": graph_busy}),
    ]


def both_pools(problems: int, samples: int, seed: int) -> dict[Unit, Any]:
    return {
        Unit.SAMPLE: generated_pool(problems, samples, seed=seed),
        Unit.ROUND: generated_pool(problems, ROUNDS, seed=1000 + seed, unit=Unit.ROUND, chains=CHAINS),
    }


def calibrated(
    config: dict[str, Any], problems: int, samples: int, orders: int
) -> tuple[list[tuple[str, Policy]], tuple[float, float]]:
    """Every row of the main table with the hyperparameters that were chosen, and the time that took."""
    pools = both_pools(problems, samples, 0)
    known = calibration.known_from_pools(pools, strata=config["compare"]["strata"], strength=config["compare"]["strength"])
    methods = read_methods(config["methods"])
    chosen: list[Any] = []
    took = timed(lambda: chosen.extend(calibration.calibrate(methods, pools, known, orders=orders, seed=0)))
    frozen = frozen_policies({"known": known_to_json(known), "methods": chosen})
    return frozen, took


def analyse(policies: list[tuple[str, Policy]], pools: dict[Unit, Any], benchmark: str, orders: int) -> None:
    """What `itscale replay` does for a benchmark, but for reading and writing files."""
    compare.compare(policies, pools, benchmark=benchmark, orders=orders, seed=0)
    compare.accuracy_curves(pools[Unit.SAMPLE], benchmark=benchmark)
    compare.score_fits(pools[Unit.SAMPLE], benchmark=benchmark)


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall-clock and processor seconds of a call, those of the processes it started included."""
    start, before = time.perf_counter(), _processor()
    work()
    return time.perf_counter() - start, _processor() - before


def _processor() -> float:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


if __name__ == "__main__":
    run(__doc__, measure)
