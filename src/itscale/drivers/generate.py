"""Draw parallel samples and sequential chains, in shards that resume after a kill."""

import hashlib
import json
import sys
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from itscale.data.journal import Journal, fingerprint
from itscale.data.records import KEY, SAMPLES, Problem, sort_by_key, write_table
from itscale.engines.protocol import Completion, Engine, Request, Sampling
from itscale.errors import UserError, refuse_below
from itscale.grading.answers import extract_answer
from itscale.progress import progress

Key = tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to draw: `samples` per problem (kind parallel), or `chains` of `rounds` each (kind chain)."""

    kind: str
    samples: int = 1
    chains: int = 1
    rounds: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    shard: int = 0
    shards: int = 1

    def __post_init__(self) -> None:
        if self.kind not in ("parallel", "chain"):
            raise UserError(f"the plan's kind is {self.kind!r}: choose parallel or chain.")
        refuse_below(1, self, "samples", "chains", "rounds", "shards")
        if not 0 <= self.shard < self.shards:
            raise UserError(f"shard {self.shard} of {self.shards} does not exist: shards are numbered from 0.")


def request_seed(seed: int, key: Key) -> int:
    """A seed of 31 bits for one sample, the same whatever else is drawn."""
    digest = hashlib.sha256(json.dumps([seed, *key]).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def generate_shard(problems: list[Problem], engine: Engine, plan: Plan, out: Path, meta: dict[str, Any]) -> None:
    """Draw a shard's samples and write them as a table (schema SAMPLES) with its manifest.

    A problem belongs to shard (index mod shards). Finished samples go to `out` + `.partial` at once; a killed job
    continues from there and ends with the same samples, none twice; `meta` says what else they come from (model, engine), and
    another `meta` does not continue. Each round of a chain sees the latest parsed answer.
    """
    mine = problems[plan.shard :: plan.shards]
    questions = {p.problem_id: p.question for p in mine}
    journal = Journal(Path(f"{out}.partial"), fingerprint([asdict(plan), [asdict(p) for p in mine], meta]))
    done: dict[Key, dict[str, Any]] = {tuple(row[k] for k in KEY): row for row in journal.rows}
    previous: dict[tuple[str, int], str | None] = {}

    def request(key: Key) -> Request:
        problem_id, chain, _, _ = key
        prompt = engine.encode(questions[problem_id], previous.get((problem_id, chain)))
        return Request(json.dumps(key), prompt, plan.sampling, request_seed(plan.seed, key))

    def follow(key: Key, text: str) -> list[Key]:
        """Keys that a finished sample makes possible: the next round, unless it was drawn before the kill."""
        problem_id, chain, round_, sample = key
        if plan.kind == "parallel":
            return []
        previous[problem_id, chain] = extract_answer(text) or previous.get((problem_id, chain))
        following = (problem_id, chain, round_ + 1, sample)
        if following in done:
            return follow(following, done[following]["text"])
        return [following] if round_ + 1 < plan.rounds else []

    if plan.kind == "parallel":
        first: list[Key] = [(p.problem_id, 0, 0, s) for p in mine for s in range(plan.samples)]
        total = len(first)
    else:
        first = [(p.problem_id, c, 0, 0) for p in mine for c in range(plan.chains)]
        total = len(first) * plan.rounds
    ready = [k for key in first for k in ((follow(key, done[key]["text"])) if key in done else [key])]
    bar = progress(description=f"{plan.kind} samples", unit="sample", total=total, initial=len(done))
    with closing(journal), bar:
        engine.submit([request(key) for key in ready])
        while engine.outstanding:
            completions = engine.poll()
            rows = [_row(c, plan.seed) for c in completions]
            journal.append(rows)
            following = []
            for row in rows:
                key = tuple(row[k] for k in KEY)
                done[key] = row
                following += follow(key, row["text"])
            engine.submit([request(key) for key in following])
            bar.update(len(rows))
    if len(done) != total:
        raise RuntimeError(f"{out}: {len(done)} samples were drawn where {total} were planned")
    table = sort_by_key(pd.DataFrame(done.values(), columns=SAMPLES.names))
    # Of all samples, those of earlier attempts too; what the engine counted is this attempt's.
    usage = {name: int(table[f"{name}_tokens"].sum()) for name in ("prompt", "cached_prompt", "completion")}
    details = {**meta, "plan": asdict(plan), "engine": type(engine).__name__, "versions": loaded_versions(), "usage": usage}
    write_table(out, table, SAMPLES, details)
    journal.path.unlink()


def loaded_versions() -> dict[str, str]:
    """Versions of what this process drew with: of the engines' packages those that are loaded."""
    return {name: sys.modules[name].__version__ for name in ("torch", "transformers", "vllm", "openai") if name in sys.modules}


def _row(completion: Completion, seed: int) -> dict[str, Any]:
    key: Key = tuple(json.loads(completion.request_id))
    return {
        **dict(zip(KEY, key, strict=True)),
        "seed": request_seed(seed, key),
        "text": completion.text,
        "finish_reason": str(completion.finish),
        "prompt_tokens": completion.prompt_tokens,
        "cached_prompt_tokens": completion.cached_prompt_tokens,
        "completion_tokens": completion.completion_tokens,
    }
