"""Sampled tokens per second of each engine on the toy language model, on the test questions.

Needs results with models/language_model and problems/test.parquet (--results). An engine that is not installed is left out
and named. Tokens are those of completions, as the engine counts them; opening the engine is timed apart.
"""

from harness import Measurement, Options, run  # before torch: it sets the number of threads

import importlib.util
import os
import time

from itscale.engines import EngineSettings, open_engine
from itscale.engines.protocol import Request, Sampling
from itscale.data.records import read_problems

ENGINES = ("transformers", "vllm")


def measure(options: Options) -> list[Measurement]:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    problems = read_problems(options.results / "problems" / "test.parquet")
    samples = 1 if options.short else 16
    found = []
    for name in ENGINES:
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed: not measured")
            continue
        start = time.perf_counter()
        settings = EngineSettings(str(options.results / "models" / "language_model"), name, batch_size=384)
        with open_engine(settings) as engine:
            opened = time.perf_counter() - start
            draw(engine, problems[:8], 1, seed=1)  # warm up
            before, start = engine.usage(), time.perf_counter()
            draw(engine, problems, samples, seed=2)
            took = time.perf_counter() - start
            tokens = engine.usage().completion - before.completion
        details = {
            "completions": len(problems) * samples,
            "tokens": tokens,
            "seconds": took,
            "opening_s": opened,
            "batch_size": 384,
        }
        found.append(Measurement(f"sampling with {name}", tokens / took, "tokens/s", None, details))
    return found


def draw(engine, problems, samples: int, seed: int) -> None:
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=96)
    engine.submit(
        [
            Request(f"{seed}-{p.problem_id}-{s}", engine.encode(p.question, None), sampling, 1000 * seed + s)
            for p in problems
            for s in range(samples)
        ]
    )
    while engine.outstanding:
        engine.poll()


if __name__ == "__main__":
    run(__doc__, measure)
