"""Test-time training: where its wall time goes, and the engine's throughput while votes stop at different times.

Needs results with models/language_model, problems/shifted.parquet and the calibration pool (--results). The full batch is as
many requests of the same questions at once as the engine has slots, drawn to the end (an engine that decodes a batch as a whole
has no fuller one); a vote's throughput counts used completion tokens only (with prefetch, samples that were begun and not
needed are drawn too: the details say how many). Both are drawn in turn, and medians are compared.
"""

from harness import Measurement, Options, run  # before torch: it sets the number of threads

import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median

from itscale.engines import EngineSettings, open_engine
from itscale.engines.protocol import Sampling
from itscale.grading.comparison import Comparer
from itscale.drivers.live import solve
from itscale.policies import make_policy
from itscale.policies.calibration import Calibration
from itscale.data.records import Unit, read_pool, read_problems
from itscale.testtime.evaluation import EvaluationSettings
from itscale.testtime.settings import RunSettings
from itscale.testtime.train import Job, train
from itscale.theory.voting import estimate_model

SLOTS = 384
SAMPLING = Sampling(max_tokens=96)
VOTE = {"policy": "vote_posterior", "eps": 0.05, "n_min": 16, "n_max": 32}


def measure(options: Options) -> list[Measurement]:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = options.results / "models" / "language_model"
    problems = read_problems(options.results / "problems" / "shifted.parquet")
    pool = options.results / "pools" / "calibration" / "parallel" / "pool.parquet"
    known = Calibration(votes=estimate_model(read_pool(pool, Unit.SAMPLE).cluster))
    settings = EngineSettings(str(model), "transformers", batch_size=SLOTS)
    return throughput(problems, settings, known, options.short) + shares(problems, settings, known, model, options.short)


def throughput(problems, settings: EngineSettings, known: Calibration, short: bool) -> list[Measurement]:
    """A full batch of some questions, and votes on the same that stop at different times, in chunks and with prefetch."""
    found = []
    with open_engine(settings) as engine, Comparer() as comparer:

        def draw(number: int, policy, prefetch: int = 0) -> tuple[float, int, int]:
            start = time.perf_counter()
            chosen = problems[: min(number, len(problems))]
            done = solve(
                chosen, engine, policy, sampling=SAMPLING, prefetch=prefetch, comparer=comparer, background=False, shown=False
            )
            took = time.perf_counter() - start
            return done.ledger.completion / took, int(done.ledger.completion), int(done.ledger.prefetched)

        draw(2, make_policy("self_consistency", n=4))  # warm up
        for prompts, chunk, prefetch in ((8, 4, 0), (12, 4, 0), (16, 4, 0), (8, 8, 0), (8, 4, 8)):
            vote = {**VOTE, "chunk": chunk, **({"n_min": 2, "n_max": 4} if short else {})}
            policy = make_policy(vote.pop("policy"), **vote).bind(known)
            asked = 2 if short else prompts
            whole = make_policy("self_consistency", n=4 if short else SLOTS // prompts)
            runs = [(draw(asked, whole), draw(asked, policy, prefetch)) for _ in range(1 if short else 5)]
            full, voted = (median(run[side][0] for run in runs) for side in (0, 1))
            ratios = [vote[0] / batch[0] for batch, vote in runs]
            name = f"votes of {prompts} prompts, chunks of {chunk}" + (f", prefetch {prefetch}" if prefetch else "")
            details = {"full batch": full, "used": runs[0][1][1], "unused": runs[0][1][2]}
            found.append(Measurement(name, voted, "tokens/s", None, details))
            spread = {"lowest": min(ratios), "highest": max(ratios)}
            found.append(Measurement(f"{name}: of the full batch's throughput", voted / full, "", "at least 0.8", spread))
            if short:
                break
    return found


def shares(problems, settings: EngineSettings, known: Calibration, model: Path, short: bool) -> list[Measurement]:
    """A short run of the loop: seconds per step in sampling, in the update, in reloading weights, and in all the rest."""
    small = {"prompts": 2, "group": 2, "steps": 2, "vote": {**VOTE, "n_min": 2, "n_max": 4}}
    chosen = RunSettings(**(small if short else {"prompts": 8, "group": 16, "steps": 8, "vote": {**VOTE, "chunk": 4}}))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        job = Job(
            model=model,
            trained=problems,
            untouched=[],
            settings=chosen,
            evaluation=EvaluationSettings(samples=1, every=10**6),
            sampling=SAMPLING,
            engine=settings,
            known=known,
            seed=1,
            name="benchmark",
        )
        train(job, out)
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()][1:]
    total = sum(row["seconds"] for row in rows)
    found.append(Measurement("a step of GRPO on votes", total / len(rows), "s", None, {"settings": str(chosen)}))
    parts = {name: sum(row[f"seconds_{name}"] for row in rows) for name in ("sampling", "update", "reload")}
    parts["all the rest"] = total - sum(parts.values())
    return found + [Measurement(f"share of a step: {name}", value / total, "") for name, value in parts.items()]


if __name__ == "__main__":
    run(__doc__, measure)
