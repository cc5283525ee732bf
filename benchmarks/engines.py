"""Sampled tokens per second of each engine on the toy language model, and of the transformers engine on a real one by batch.

Needs results with models/language_model and problems/test.parquet (--results). An engine that is not installed is left out
and named. Tokens are those of completions, as the engine counts them; opening the engine is timed apart. Where ITSCALE_REAL_MODEL
names a folder, its model draws with top_p 0.95 in batches of 1, 16, 64, 128 and 256 (8 questions, prompts included): tokens per
second of the clock and of processor time (what idle cores would give), and the share of a step that drawing from logits takes.
"""

from harness import Measurement, Options, run  # before torch: it sets the number of threads

import importlib.util
import os
import time
from pathlib import Path

from itscale.engines import EngineSettings, open_engine, sampling
from itscale.engines import transformers as engine_module
from itscale.engines.protocol import Request, Sampling
from itscale.models.prompts import BOX
from itscale.data.records import read_problems

ENGINES = ("transformers", "vllm")
BATCHES = (1, 16, 64, 128, 256)
QUESTION = "A shop sells {} pens at 3 dollars each and gives back 7 dollars. How many dollars does it keep? Explain each step."


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
    folder = os.environ.get("ITSCALE_REAL_MODEL", "")
    if not Path(folder, "config.json").exists():
        print("ITSCALE_REAL_MODEL names no model folder: a real model is not measured")
        return found
    rates = [real_model(folder, batch, 8 if options.short else 64) for batch in BATCHES[: 2 if options.short else None]]
    best = max(rates, key=lambda m: m.value)
    return [*found, *rates, Measurement("real model, best batch", best.value, "tokens/s", "at least 300", best.details)]


def real_model(folder: str, batch: int, tokens: int) -> Measurement:
    """The transformers engine with `batch` samples in flight."""
    drawing = {"clock": 0.0, "processor": 0.0}

    def timed(*arguments):
        clock, processor = time.perf_counter(), time.process_time()
        try:
            return sampling.draw(*arguments)
        finally:
            drawing["clock"] += time.perf_counter() - clock
            drawing["processor"] += time.process_time() - processor

    engine_module.draw = timed
    settings = EngineSettings(folder, "transformers", batch, instruction=BOX)
    with open_engine(settings) as engine:
        asked = [
            Request(f"{i}", engine.encode(QUESTION.format(7 + i * 8 // batch), None), Sampling(0.7, 0.95, tokens), i)
            for i in range(batch)
        ]
        begun, busy = time.perf_counter(), time.process_time()
        engine.submit(asked)
        while engine.outstanding:
            engine.poll()
        took, processor, drawn = time.perf_counter() - begun, time.process_time() - busy, engine.usage().completion
    engine_module.draw = sampling.draw
    details = {
        "tokens": drawn,
        "seconds": took,
        "tokens_per_processor_second": drawn / processor,
        "share_of_drawing": drawing["processor"] / processor,
        "top_p": 0.95,
    }
    return Measurement(f"real model, {batch} in flight", drawn / took, "tokens/s", None, details)


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
