"""Draw parallel samples and sequential chains, in shards that resume after a kill."""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from itscale.data.journal import Journal, Place, fingerprint
from itscale.data.records import BLOCK, KEY, SAMPLES, Problem, write_blocks
from itscale.drivers.conditions import Conditions
from itscale.drivers.failures import Failures, goes_on
from itscale.engines.protocol import Completion, Engine, Finish, Request, Sampling, reading
from itscale.errors import UserError, refuse_below
from itscale.grading.answers import check_format, extract_answer
from itscale.models.prompts import THOUGHT, first_box
from itscale.progress import advance, progress

Key = tuple[str, int, int, int]

# Tokens of an answer that a prompt carries; a longer one is none.
_CARRIED = 200
# The row of a journal that says: the requests that failed before are sent again.
AGAIN = {"again": True}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to draw: `samples` per problem (kind parallel), or `chains` of `rounds` each (kind chain).

    `answer` and `read_cut_off` say what of a round is the answer that the next one sees, as in `Grading`.
    """

    kind: str
    samples: int = 1
    chains: int = 1
    rounds: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    shard: int = 0
    shards: int = 1
    answer: str = "auto"
    read_cut_off: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("parallel", "chain"):
            raise UserError(f"the plan's kind is {self.kind!r}: choose parallel or chain.")
        check_format(self.answer)
        refuse_below(1, self, "samples", "chains", "rounds", "shards")
        if not 0 <= self.shard < self.shards:
            raise UserError(f"shard {self.shard} of {self.shards} does not exist: shards are numbered from 0.")


def request_seed(seed: int, key: Key) -> int:
    """A seed of 31 bits for one sample, the same whatever else is drawn."""
    digest = hashlib.sha256(json.dumps([seed, *key]).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def carried(engine: Engine, question: str, text: str, answer: str | None, before: str | None) -> str | None:
    """What the next round's prompt carries: this answer, or the one before where it is none or has over 200 tokens.

    The published prompt carries the first box of `text`, and an empty one in such a case. A server does not say how many tokens
    an answer has: four characters count as one. Budget forcing carries all that was said, and what it says then; of a model that
    thinks first its thought, which is not let end.
    """
    if engine.prompts.form == "forced":
        return f"{before or ''}{text.partition(THOUGHT)[0]}{engine.prompts.wait}"
    if engine.prompts.form == "published":
        answer, before = first_box(text), ""
    if answer is None or len(answer.encode()) <= _CARRIED:  # no token is shorter than a byte
        return answer or before
    prompt = engine.encode(question, answer)
    tokens = len(answer) / 4 if isinstance(prompt, str) else len(prompt) - len(engine.encode(question, ""))
    return before if tokens > _CARRIED else answer


class _Shard:
    """A shard under way: where each finished sample lies in the journal, and what may be drawn next."""

    def __init__(self, problems: list[Problem], engine: Engine, plan: Plan, journal: Journal) -> None:
        self._questions = {p.problem_id: p.question for p in problems}
        self._engine, self._plan, self._journal = engine, plan, journal
        self._previous: dict[tuple[str, int], str | None] = {}
        self._prompts: dict[str, tuple[int, ...] | str] = {}
        self.conditions = Conditions(engine, journal.path)
        self.done: dict[Key, Place] = {}
        self.usage: Counter[str] = Counter()
        chains = plan.kind == "chain"
        keys = [(n, 0, 0) for n in range(plan.chains)] if chains else [(0, 0, n) for n in range(plan.samples)]
        self._first: list[Key] = [(p.problem_id, *key) for p in problems for key in keys]
        self.total = len(self._first) * (plan.rounds if chains else 1)
        self.failures = Failures(len(problems), self.total // max(1, len(problems)))

    def recall(self) -> list[Key]:
        """Take over what the journal holds; what is to be drawn now."""
        failed: set[Key] = set()
        for place, row in self._journal.places():
            if self.conditions.recall(row):
                continue
            if row == AGAIN:
                self._strike(failed)
                failed = set()
                self.failures.forget()
                continue
            key = self._keep(place, row)
            if row["finish_reason"] == Finish.FAILED:
                failed.add(key)
        self._journal.append(self.conditions.news())
        return [k for key in self._first for k in (self._follow(key) if key in self.done else [key])]

    def _strike(self, failed: set[Key]) -> None:
        """Forget failed samples, and in chains the rounds that came after them."""
        if self._plan.kind == "chain":
            failed = {(problem, chain, later, s) for problem, chain, n, s in failed for later in range(n, self._plan.rounds)}
        self.done = {key: place for key, place in self.done.items() if key not in failed}

    def _keep(self, place: Place, row: dict[str, Any]) -> Key:
        key: Key = tuple(row[k] for k in KEY)
        self.done[key] = place
        self.failures.note(key[0], row["finish_reason"], row["failure"])
        return key

    def take(self, completions: list[Completion]) -> list[Key]:
        """Keep what came; the keys that it makes possible.

        Raises:
            UserError: too many requests have failed.
        """
        rows = [_row(c, self._plan.seed) for c in completions]
        following: list[Key] = []
        for place, row in zip(self._journal.append(rows), rows, strict=True):
            following += self._follow(self._keep(place, row))
        self._journal.append(self.conditions.news())
        self.refuse_failures()
        return following

    def refuse_failures(self, *, ended: bool = False) -> None:
        """Stop a shard of which too many requests have failed; called again it sends those again.

        Raises:
            UserError: they have.
        """
        if self.failures.too_many(ended=ended):
            self._journal.append([AGAIN])
            raise self.failures.refusal(goes_on(self._journal.path))

    def _follow(self, key: Key) -> list[Key]:
        """Keys that a finished sample makes possible: the next round, unless it was drawn before the kill."""
        problem_id, chain, round_, sample = key
        if self._plan.kind == "parallel":
            return []
        row, before, plan = self.done[key].read(), self._previous.get((problem_id, chain)), self._plan
        answer = extract_answer(row["text"], row["finish_reason"], form=plan.answer, read_cut_off=plan.read_cut_off)
        self._previous[problem_id, chain] = carried(self._engine, self._questions[problem_id], row["text"], answer, before)
        following = (problem_id, chain, round_ + 1, sample)
        if following in self.done:
            return self._follow(following)
        return [following] if round_ + 1 < self._plan.rounds else []

    def request(self, key: Key) -> Request:
        problem_id, chain, _, _ = key
        previous = self._previous.get((problem_id, chain))
        if previous is not None:
            prompt = self._engine.encode(self._questions[problem_id], previous)
        else:  # one prompt in memory for all samples of a question
            if problem_id not in self._prompts:
                self._prompts[problem_id] = self._engine.encode(self._questions[problem_id], None)
            prompt = self._prompts[problem_id]
        return Request(json.dumps(key), prompt, self._plan.sampling, request_seed(self._plan.seed, key))

    def tables(self) -> Iterator[pd.DataFrame]:
        """The finished samples in submission order, a block of rows at a time; `usage` adds up their tokens.

        Tokens of attempts that broke off were paid for too: `prompt` holds theirs, `aborted` what had come of the completions.
        """
        keys = sorted(self.done)
        for start in range(0, len(keys), BLOCK):
            rows = [self.done[key].read() for key in keys[start : start + BLOCK]]
            for row in rows:
                self.usage.update(row.get("lost", {}))
            block = pd.DataFrame(rows, columns=SAMPLES.names)
            self.usage.update({name: int(block[f"{name}_tokens"].sum()) for name in ("prompt", "cached_prompt", "completion")})
            yield block


def generate_shard(problems: list[Problem], engine: Engine, plan: Plan, out: Path, meta: dict[str, Any]) -> None:
    """Draw a shard's samples and write them as a table (schema SAMPLES) with its manifest.

    A problem belongs to shard (index mod shards). Finished samples go to `out` + `.partial` at once and are not held; a killed
    job continues from there and ends with the same samples, none twice; `meta` says what else they come from (model, engine),
    and another `meta` does not continue. Each round of a chain sees the latest parsed answer. A request that fails is a row
    with finish_reason `failed`, the reason in `failure`, and no text.

    Raises:
        UserError: more than a tenth of the requests failed, or all of the first ten questions; called again it sends them again.
    """
    mine = problems[plan.shard :: plan.shards]
    journal = Journal(Path(f"{out}.partial"), fingerprint([asdict(plan), [asdict(p) for p in mine], meta]))
    with closing(journal):
        shard = _Shard(mine, engine, plan, journal)
        ready = shard.recall()
        with progress(description=f"{plan.kind} samples", unit="sample", total=shard.total, initial=len(shard.done)) as bar:
            engine.submit([shard.request(key) for key in ready])
            while engine.outstanding:
                completions = engine.poll()
                engine.submit([shard.request(key) for key in shard.take(completions)])
                drawn = engine.usage().completion + engine.under_way()
                bar.set_postfix(reading(engine), tokens=f"{drawn}", refresh=False)
                advance(bar, len(completions))
        if len(shard.done) != shard.total:
            raise RuntimeError(f"{out}: {len(shard.done)} samples were drawn where {shard.total} were planned")
        shard.refuse_failures(ended=True)
        details = {**meta, "plan": asdict(plan), "engine": type(engine).__name__, "versions": loaded_versions()}
        # The tokens of all samples, those of earlier attempts too; what the engine counted is this attempt's.
        write_blocks(
            out,
            shard.tables(),
            SAMPLES,
            lambda: details | {"usage": dict(shard.usage), "failed": len(shard.failures), **shard.conditions.record()},
        )
    if shard.failures:
        print(shard.failures.summary(), file=sys.stderr)
    journal.path.unlink()


def loaded_versions() -> dict[str, str]:
    """Versions of what this process drew with: of the engines' packages those that are loaded."""
    return {name: sys.modules[name].__version__ for name in ("torch", "transformers", "vllm", "openai") if name in sys.modules}


def _row(completion: Completion, seed: int) -> dict[str, Any]:
    key: Key = tuple(json.loads(completion.request_id))
    lost = {name: tokens for name, tokens in asdict(completion.lost).items() if tokens}
    return {
        **dict(zip(KEY, key, strict=True)),
        **({"lost": lost} if lost else {}),
        "seed": request_seed(seed, key),
        "text": completion.text,
        "finish_reason": str(completion.finish),
        "failure": completion.failure,
        "prompt_tokens": completion.prompt_tokens,
        "cached_prompt_tokens": completion.cached_prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        **(asdict(completion.confidence) if completion.confidence is not None else {}),
        "tokens_estimated": completion.estimated,
    }
