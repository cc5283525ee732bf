"""Replay of every method over 100 orders of the test pool on one core, and one OptScale decision for 1,000 prefixes.

All times are processor times of one thread, so that what else the machine does counts for little.

Needs a finished run of the workflow (--results): its test pools and predictions, and the methods with their hyperparameters as
calibration.json has frozen them. "Every method" is each method once, at its largest budget; every row of the main table is
timed as well.
"""

from harness import Measurement, Options, processor_seconds, run, spread  # before numpy: it sets the number of threads

import time
from functools import partial

import numpy as np

from itscale.policies.frozen import frozen_policies, known_from_json
from itscale.policies import make_policy
from itscale.policies.protocol import Batch
from itscale.data.records import PREDICTIONS, Pool, Unit, read_json, read_pool, read_table, with_predictions
from itscale.drivers.replay import replay

PREFIXES = 1000


def measure(options: Options) -> list[Measurement]:
    frozen = read_json(options.results / "calibration.json")
    folder = options.results / "pools" / "test"
    predictions = read_table(options.results / "predictions" / "test.parquet", PREDICTIONS)
    pools = {
        unit: with_predictions(read_pool(folder / kind / "pool.parquet", unit), predictions)
        for unit, kind in ((Unit.SAMPLE, "parallel"), (Unit.ROUND, "chain"))
    }
    orders = 10 if options.short else 100
    rows, largest = [], {}
    for method, policy in frozen_policies(frozen):
        start = time.process_time()
        replay(policy, pools[policy.unit], orders=orders)
        took = time.process_time() - start
        rows.append({"method": method, "budget": policy.limit, "seconds": round(took, 4)})
        if policy.limit >= largest.get(method, (0, 0.0))[0]:
            largest[method] = (policy.limit, took)
    shape = {"problems": len(pools[Unit.SAMPLE].problem_ids), "samples": pools[Unit.SAMPLE].size, "orders": orders}
    every = sum(took for _, took in largest.values())
    decision = decision_times(pools[Unit.SAMPLE], known_from_json(frozen["known"]), 5 if options.short else 200)
    return [
        Measurement("replay of every method at its largest budget", every, "s", "at most 5", {**shape, "rows": rows}),
        Measurement("replay of every row of the main table", sum(r["seconds"] for r in rows), "s", None, shape),
        *(
            Measurement(
                f"one OptScale decision ({variant}), {PREFIXES} prefixes",
                1e3 * float(np.median(times)),
                "ms",
                goal,
                spread(times),
            )
            for variant, goal, times in decision
        ),
    ]


def decision_times(pool: Pool, known, repeats: int) -> list[tuple[str, str | None, list[float]]]:
    """(variant, goal, seconds of each call of `step`) on random prefixes of random orders, 2 samples to the whole pool."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, pool.rows, PREFIXES)
    order = np.argsort(rng.random((PREFIXES, pool.size)), axis=1)
    n = rng.integers(2, pool.size + 1, PREFIXES)
    shown = np.arange(pool.size) < n[:, None]

    def column(values: np.ndarray, hidden: float) -> np.ndarray:
        return np.where(shown, values[rows[:, None], order], hidden)

    batch = Batch(n, column(pool.cluster, -1), column(pool.score, np.nan), column(pool.completion_tokens, 0))
    found = []
    for variant, goal in (("ours", "at most 5"), ("paper", None)):
        settings = {"s_min": 0.9, "alpha": 0.95, "n_max": pool.size, "variant": variant, "peek": 5}
        policy = make_policy("optscale", **settings).bind(known)
        step = partial(policy.step, policy.init(PREFIXES), batch, np.zeros(PREFIXES, np.int64))
        found.append((variant, goal, processor_seconds(step, repeats)))
    return found


if __name__ == "__main__":
    run(__doc__, measure)
