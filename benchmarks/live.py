"""Live runs: what stopping early saves in tokens and on the clock, on vLLM and on transformers, and what the driver costs.

Needs results with models, problems/test.parquet, the test pool and calibration.json (--results). Per engine: every adaptive
method at its largest budget against the fixed N of its family, same questions, same seeds; milliseconds per decision and
per abort; and a fixed pool of N samples drawn as the released code does it, one call per sample index that waits for all
questions, against the driver. The order of arrival, and how full the driver keeps an engine, are studied on the stored pool.
"""

from harness import Measurement, Options, run  # before torch: it sets the number of threads

import importlib.util
import os
import time

from itscale.policies.frozen import frozen_policies
from itscale.engines import EngineSettings, open_engine
from itscale.engines.protocol import Request, Sampling
from itscale.engines.replaying import ReplayingEngine
from itscale.grading.comparison import Comparer
from itscale.drivers.live import solve
from itscale.studies.live import Bench, adaptive, arrival_bias, study
from itscale.policies import make_policy
from itscale.data.records import POOL, Unit, read_json, read_pool, read_problems, read_table
from itscale.models.verifier import Verifier

SAMPLING = Sampling(temperature=1.0, top_p=1.0, max_tokens=96)
METHODS = ("score threshold", "OptScale^0 (paper)", "OptScale^0 (ours)", "OptPO vote lead", "MarkovScale gate")


def measure(options: Options) -> list[Measurement]:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    pool = read_pool(options.results / "pools" / "test" / "parallel" / "pool.parquet", Unit.SAMPLE)
    frozen = frozen_policies(read_json(options.results / "calibration.json"))
    budget = 16 if options.short else pool.size
    policies = adaptive(frozen, [m for m in METHODS if any(m == name for name, _ in frozen)], budget)
    problems = read_problems(options.results / "problems" / "test.parquet")[: 8 if options.short else None]
    slots = 16 if options.short else 64
    verifier = Verifier(options.results / "models" / "reward_model", slots)
    found = _bias(pool, policies, 2 if options.short else 20)
    samples = read_table(options.results / "pools" / "test" / "parallel" / "pool.parquet", POOL)
    found += _in_steps(samples, problems, slots)
    for name in ("vllm", "transformers"):
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed: not measured")
            continue
        settings = EngineSettings(str(options.results / "models" / "language_model"), name, slots)
        with open_engine(settings) as engine:
            # A chain has one request at a time: of one a question, the engine would be half empty for much of a run.
            bench = Bench(engine, SAMPLING, verifier, chains=1 if options.short else 8)
            table = study(problems, policies, bench, name)
            print(table.to_string(float_format="%.3g"))
            for row in table[~table["method"].str.startswith("fixed ")].to_dict("records"):
                goal = "at least 0.85" if name == "vllm" else None
                what = f"{name}, {row['method']}, {row['budget']} {row['unit']}s"
                found.append(Measurement(f"time saved per token saved: {what}", row["wall_per_token"], "", goal, row))
            stops = table[table["abort_ms"].notna()]
            if len(stops):
                found.append(Measurement(f"abort, median: {name}", stops["abort_ms"].median(), "ms"))
                found.append(Measurement(f"abort, 95th percentile: {name}", stops["abort_ms_95"].max(), "ms"))
            found.append(Measurement(f"decision: {name}", table["decision_ms"].mean(), "ms"))
            found.append(_against_released(problems, bench, name, budget))
    return found


class Paced(ReplayingEngine):
    """Leaves the assessor the time that a real engine's step would."""

    def poll(self):
        time.sleep(0.002)
        return super().poll()


def _in_steps(samples, problems, slots: int) -> list[Measurement]:
    """Time saved per token saved where every step of the engine takes as long: on stored samples, so nothing else disturbs it."""
    found = []

    def draw(policy, prefetch: int) -> tuple[float, int]:
        engine = Paced(samples, slots)
        with Comparer() as comparer:  # a fresh one: no run finds the comparisons of another
            comparer.start()
            run = solve(problems, engine, policy, comparer=comparer, prefetch=prefetch)
        return engine.now, run.ledger.drawn

    steps, tokens = draw(make_policy("self_consistency", n=16), 0)
    for prefetch in (0, 2, 8):
        fewer_steps, fewer_tokens = draw(make_policy("vote_lead", lead=2, n_max=16), prefetch)
        saved, clock = 1 - fewer_tokens / tokens, 1 - fewer_steps / steps
        details = {"problems": len(problems), "slots": slots, "token_saving": saved, "step_saving": clock}
        what = f"steps saved per token saved: vote lead 2 of 16, prefetch {prefetch}"
        found.append(Measurement(what, clock / saved if saved else float("nan"), "", "at least 0.85", details))
    return found


def _bias(pool, policies, orders: int) -> list[Measurement]:
    table = arrival_bias(pool, policies, slots=pool.size, orders=orders, seed=0)
    return [
        Measurement(f"accuracy, arrival - submission: {row['method']}", 100 * row["accuracy_difference"], "points", None, row)
        for row in table.to_dict("records")
    ]


def _against_released(problems, bench: Bench, name: str, budget: int) -> Measurement:
    """Seconds of one engine call per sample index over seconds of the driver, for the same fixed pool."""
    engine = bench.engine
    if hasattr(engine, "drop_caches"):
        engine.drop_caches()
    prompts = {p.problem_id: engine.encode(p.question, None) for p in problems}
    start = time.perf_counter()
    for index in range(budget):
        engine.submit([Request(f"{p.problem_id}-{index}", prompts[p.problem_id], SAMPLING, index) for p in problems])
        while engine.outstanding:
            engine.poll()
    released = time.perf_counter() - start
    ours = bench.run(problems, make_policy("self_consistency", n=budget)).clock.total
    details = {"samples": budget, "problems": len(problems), "released_s": released, "ours_s": ours}
    return Measurement(f"one call per sample index / driver: {name}", released / ours, "times", None, details)


if __name__ == "__main__":
    run(__doc__, measure)
