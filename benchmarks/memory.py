"""Memory at the papers' size: 84,416 samples of 10,000 tokens each, drawn, gathered, joined, analysed, and driven live.

Everything is generated (benchmarks/generated.py) and written to a temporary folder, which takes 7 GB of disk; each command runs
in a process of its own, whose peak is measured. --short: 320 samples of 100 tokens.
Needs no results.
"""

from harness import ROOT, Measurement, Options, peak_memory_gb, run  # before numpy: it sets the number of threads

import json
import multiprocessing
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from generated import generated_pool, texts, write_generated

from itscale.dag.planning import read_configuration
from itscale.data.records import Problem, Unit, read_problems
from itscale.engines.protocol import Completion, Finish, Request, Usage

PROCESSES = multiprocessing.get_context("spawn")
PROBLEMS, SAMPLES, TOKENS, CHAINS, ROUNDS = 1319, 64, 10_000, 8, 8


def measure(options: Options) -> list[Measurement]:
    problems, samples, tokens = (5, SAMPLES, 100) if options.short else (PROBLEMS, SAMPLES, TOKENS)
    shape = {"problems": problems, "samples": problems * samples, "tokens": tokens}
    with tempfile.TemporaryDirectory() as folder:
        return _measure(Path(folder), problems, samples, tokens, 2 if options.short else 100, shape)


def _measure(folder: Path, problems: int, samples: int, tokens: int, orders: int, shape: dict[str, int]) -> list[Measurement]:
    found = []

    def add(what: str, goal: str, work: Callable[..., None], *given: Any) -> None:
        peak, took = in_a_process(work, *given)
        found.append(Measurement(f"peak memory: {what}", peak, "GB", goal, {**shape, "seconds": round(took, 1)}))

    pools = {"parallel": (samples, 1, Unit.SAMPLE), "chain": (ROUNDS, CHAINS, Unit.ROUND)}
    for kind, (size, chains, unit) in pools.items():
        of = folder / kind
        in_a_process(written, of, problems, size, chains, unit, tokens)
        add(f"gather, {kind}", "at most 1", command, "step", "gather", of / "samples.parquet", "--out", of / "gathered.parquet")
        tables = [f"--{name}={of / name}.parquet" for name in ("samples", "grades", "scores")]
        add(f"pool, {kind}", "at most 1", command, "pool", *tables, "--out", of / "pool.parquet")
        for name in ("samples", "gathered"):
            (of / f"{name}.parquet").unlink()
    config = read_configuration([ROOT / "config" / "config.yaml"])
    both = ["--parallel", folder / "parallel" / "pool.parquet", "--chain", folder / "chain" / "pool.parquet"]
    both += ["--predictions", folder / "parallel" / "predictions.parquet", "--seed", "0"]
    calibration, replayed = folder / "calibration.json", folder / "replay"
    compare = json.dumps(config["compare"] | {"calibration_orders": min(orders, 10)})
    methods = ["--methods", json.dumps(config["methods"]), "--compare", compare]
    add("calibrate", "at most 1", command, "calibrate", *both, *methods, "--out", calibration)
    common = ["--benchmark", "b", "--calibration", calibration, *both]
    add("replay", "at most 1", command, "replay", *common, "--orders", orders, "--out", replayed)
    published = ["--main", replayed / "main.csv", "--published", ROOT / "config" / "published.csv"]
    add(
        "optscale",
        "at most 1",
        command,
        "step",
        "optscale",
        *common,
        *published,
        "--orders",
        orders,
        "--out",
        folder / "optscale",
    )
    settings = ["--problems", folder / "parallel" / "problems.parquet", "--replicates", 400]
    add("markovscale", "at most 1", command, "step", "markovscale", *common, *settings, "--out", folder / "markovscale")
    votes = ["--pool", folder / "parallel" / "pool.parquet", "--calibration", folder / "parallel" / "grades.parquet"]
    votes += ["--benchmark", "b", "--orders", orders, "--seed", "0", "--out", folder / "votes"]
    add("vote-study", "at most 1", command, "step", "vote-study", *votes)
    for kind in pools:
        (folder / kind / "pool.parquet").unlink()
    asked = folder / "parallel" / "problems.parquet"
    add("generate", "at most 2", drawn, asked, folder / "drawn.parquet", samples, tokens)
    (folder / "drawn.parquet").unlink()
    add("live driver, stopped near its end", "at most 2", driven, asked, folder / "live.partial", samples, tokens, 0.9)
    add("live driver, resumed", "at most 2", driven, asked, folder / "live.partial", samples, tokens, None)
    return found


def in_a_process(work: Callable[..., None], *given: Any) -> tuple[float, float]:
    """Peak memory (GB) of a fresh process that does some work, and the seconds that it took."""
    ours, theirs = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=_work, args=(theirs, work, given))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        raise SystemExit(f"{work.__name__} {given} has failed") from None
    finally:
        process.join()


def _work(channel: Any, work: Callable[..., None], given: tuple[Any, ...]) -> None:
    began = time.perf_counter()
    work(*given)
    channel.send((peak_memory_gb(), time.perf_counter() - began))


def command(*arguments: Any) -> None:
    """`itscale`, as it is called from the command line."""
    from itscale.cli import app

    app([str(argument) for argument in arguments], standalone_mode=False)


def written(folder: Path, problems: int, size: int, chains: int, unit: Unit, tokens: int) -> None:
    write_generated(folder, generated_pool(problems, size, unit=unit, chains=chains), tokens)


class Speaking:
    """An engine that serves generated texts at once, until it has served so many."""

    slots = 256

    def __init__(self, tokens: int, most: float) -> None:
        self._texts = texts(1 << 20, tokens)
        self._tokens, self._most, self._served = tokens, most, 0
        self._waiting: deque[Request] = deque()
        self._usage = Usage()

    def encode(self, question: str, previous: str | None) -> tuple[int, ...]:
        return tuple(range(1000, 1100))

    @property
    def outstanding(self) -> int:
        return len(self._waiting)

    def submit(self, requests: list[Request]) -> None:
        self._waiting.extend(requests)

    def poll(self) -> list[Completion]:
        came = []
        for request in [self._waiting.popleft() for _ in range(min(32, len(self._waiting)))]:
            ids = tuple(range(100_000, 100_000 + self._tokens))
            text = f"{next(self._texts)} \\boxed{{{request.seed % 7}}}"
            came.append(Completion(request.request_id, ids, text, Finish.STOP, 100, 0))
        self._served += len(came)
        self._usage += Usage(100 * len(came), 0, sum(c.completion_tokens for c in came))
        if self._served > self._most:
            raise Stopped
        return came

    def abort(self, request_ids: list[str]) -> dict[str, Usage]:
        return {}

    def under_way(self) -> int:
        return 0

    def usage(self) -> Usage:
        return self._usage

    def close(self) -> None:
        self._waiting.clear()


class Stopped(Exception):
    pass


def drawn(problems: Path, out: Path, samples: int, tokens: int) -> None:
    from itscale.drivers.generate import Plan, generate_shard

    generate_shard(read_problems(problems), Speaking(tokens, float("inf")), Plan("parallel", samples), out, {})


def driven(problems: Path, journal: Path, samples: int, tokens: int, share: float | None) -> None:
    from itscale.cli.solving import write_answers
    from itscale.drivers.live import solve
    from itscale.policies import make_policy

    asked: list[Problem] = read_problems(problems)
    most = float("inf") if share is None else share * len(asked) * samples
    try:
        result = solve(asked, Speaking(tokens, most), make_policy("self_consistency", n=samples), journal=journal)
    except Stopped:
        return
    write_answers(journal.with_name("answers.jsonl"), result.rows)


if __name__ == "__main__":
    run(__doc__, measure)
