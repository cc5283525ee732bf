"""The loop of a live run: what to submit next, what to assess, what to decide, what to abort.

A row is a problem (parallel samples) or one chain of it (sequential rounds). Decisions are taken in submission order, whatever
order the samples arrive in: the first to arrive are the short ones. Freed slots of the engine go to the rows that want samples,
in their order (so new problems begin before anything is guessed), and only then to samples that nobody has asked for yet,
at most `prefetch` of a row. Scheduling inside the engine is the engine's own.

Texts are long: where there is a journal they lie there alone, and token ids are held only for a caller that wants them.
"""

import heapq
import json
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any

import numpy as np

from itscale.data.journal import Journal, Place
from itscale.data.ledger import Ledger
from itscale.data.records import Problem, Unit, Verdict
from itscale.drivers.assess import Assessment, Assessor, OwnScore
from itscale.drivers.conditions import Conditions
from itscale.drivers.failures import Failures, goes_on
from itscale.drivers.generate import AGAIN, Key, carried, request_seed
from itscale.drivers.replay import visible
from itscale.engines.protocol import Completion, Engine, Finish, Request, Sampling, Usage, reading
from itscale.errors import UserError
from itscale.grading.comparison import Comparer
from itscale.grading.unanswered import FIRST, unanswered_sentence
from itscale.models.confidence import Confidence
from itscale.policies.protocol import Batch, Policy, Reason, join, scores_read, take
from itscale.progress import advance, progress

_REASONS = list(Reason)


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion and what the assessor says of it; where its text lies in the run's journal, unless it is in the completion."""

    completion: Completion
    assessment: Assessment
    place: Place | None = None

    @property
    def text(self) -> str:
        """The completion's text, read anew each time from where it lies."""
        return _text(self.completion, self.place)


def _text(completion: Completion, place: Place | None) -> str:
    return completion.text if place is None else place.read()["completion"]["text"]


@dataclass(frozen=True, slots=True)
class Solved:
    """What was done for one problem (or one of its chains).

    `samples` are those that the decision rests on, in submission order; `column` is the chosen one of them (-1: no answer).
    `prefetched` counts the completions that finished and were not needed, `aborted` the requests that were cut short.
    """

    problem: Problem
    chain: int
    samples: tuple[Sample, ...]
    column: int
    reason: Reason
    prefetched: int
    aborted: int
    ledger: Ledger

    @property
    def answer(self) -> str | None:
        return self.samples[self.column].assessment.answer if self.column >= 0 else None

    def saved(self, limit: int) -> float:
        """About how many completion tokens `limit` samples would have cost beyond what was drawn.

        An estimate: the samples that were not drawn are taken to be as long as those that were.
        """
        used = len(self.samples)
        return self.ledger.completion * (limit - used) / used - self.ledger.prefetched - self.ledger.aborted if used else 0.0


def right_samples(rows: Sequence[Solved], comparer: Comparer) -> list[list[bool]]:
    """Whether each sample of each row is right, as in a pool that is graded; no answer is wrong."""
    asked = [(row.problem, [sample.assessment.answer for sample in row.samples]) for row in rows]
    return [[verdict is Verdict.CORRECT for verdict in found] for found in comparer.verdicts(asked)]


def right_answers(rows: Sequence[Solved], comparer: Comparer) -> list[bool]:
    """Whether each row's answer is right; no answer is wrong."""
    return [row.column >= 0 and right[row.column] for row, right in zip(rows, right_samples(rows, comparer), strict=True)]


@dataclass(slots=True)
class Clock:
    """Seconds: in all (and of this process's processor time), in the engine, waiting for
    the assessor with an idle engine, deciding.

    `abort_latency` holds, per row that was stopped with requests in flight, the seconds from the arrival of the sample
    that decided it until the engine had dropped them.
    """

    total: float = 0.0
    processor: float = 0.0
    engine: float = 0.0
    waiting: float = 0.0
    deciding: float = 0.0
    decisions: int = 0
    abort_latency: list[float] = field(default_factory=list)


@dataclass(slots=True)
class _Row:
    """Columns of a row: `asked` were submitted, `arrived` came back, `samples` are assessed, `want` are granted to the policy,
    which has seen `n` of them in `steps` steps."""

    problem: Problem
    chain: int
    state: Any
    steps: int = 0
    n: int = 0
    want: int = 0
    asked: int = 0
    handed: int = 0
    arrived: dict[int, Completion] = field(default_factory=dict)
    places: dict[int, Place] = field(default_factory=dict)
    times: dict[int, float] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    running: dict[str, int] = field(default_factory=dict)
    previous: str | None = None
    prompt: tuple[int, ...] | str | None = None
    column: int = -1
    reason: Reason | None = None
    aborted: int = 0
    cut: Usage = field(default_factory=Usage)
    verifier: int = 0

    @property
    def stopped(self) -> bool:
        return self.reason is not None


class Driver:
    """One run. `session` is the engine's usage as this driver counted it, without what a journal brought along.

    `keep_ids`: hold the token ids of every completion, and write them to the journal.
    """

    def __init__(
        self,
        problems: list[Problem],
        engine: Engine,
        policy: Policy,
        *,
        sampling: Sampling,
        seed: int,
        chains: int,
        prefetch: int,
        assessor: Assessor,
        journal: Journal | None,
        features: dict[str, np.ndarray],
        confidence: OwnScore | None = None,
        keep_ids: bool = False,
        allow_unanswered: bool = True,
        shown: bool = True,
    ) -> None:
        self.engine, self.policy, self.assessor, self.journal = engine, policy, assessor, journal
        self.sampling, self.seed, self.confidence = sampling, seed, confidence
        self.sequential = policy.unit is Unit.ROUND
        self.prefetch = 0 if self.sequential else prefetch
        self.clock = Clock()
        self.keep_ids, self.shown = keep_ids, shown
        self.first: list[tuple[str, str, str | None]] | None = None if allow_unanswered else []  # samples that tell of no answers
        self.session = Usage()
        self.saved = 0.0
        state = policy.init(len(problems) * chains)
        places = [(problem, chain) for problem in problems for chain in range(chains)]
        self.rows = [_Row(*place, take(state, np.array([i]))) for i, place in enumerate(places)]
        shape = (len(self.rows), policy.limit)
        self.seen = Batch(
            n=np.zeros(len(self.rows), np.int64),
            cluster=np.full(shape, -1, np.int64),
            score=np.full(shape, np.nan),
            tokens=np.zeros(shape, np.int64),
            features={name: np.repeat(values, chains) for name, values in features.items()},
        )
        self.failures = Failures(len(problems), chains * policy.limit, planned=False)
        self.conditions = Conditions(engine, None if journal is None else journal.path)
        self.active = dict.fromkeys(range(len(self.rows)))  # a set that keeps its order
        self.wanting: list[int] = []  # heap of rows with columns to submit
        self.running: dict[str, int] = {}  # request -> row
        self.assessments: Future | None = None
        self.handed: list[tuple[int, str, list[tuple[str, str]]]] = []
        self.fresh: dict[int, None] = {}  # rows with columns for the assessor
        if journal is not None:
            self._recall(journal)

    def run(self, interrupted: Callable[[], bool]) -> bool:
        """Drive until every row has stopped; False if it was interrupted before."""
        began, busy = time.perf_counter(), time.process_time()
        with progress(description="solving", unit="problem", total=len(self.rows), shown=self.shown) as bar:
            self._decide(list(self.active))
            while self.active or self.engine.outstanding:
                if interrupted():
                    self._abort([i for i, row in enumerate(self.rows) if row.running])
                    return False
                self._collect()
                self._refill()
                if self.engine.outstanding:
                    self._receive()
                elif self.active and self.assessments is None and not self.fresh:
                    raise RuntimeError(f"nothing is under way for {len(self.active)} problems that have not stopped")
                self._hand_over()
                bar.set_postfix(self._totals(), refresh=False)
                advance(bar, len(self.rows) - len(self.active) - bar.n)
        if self.failures.too_many(ended=True):
            self._give_up()
        self.clock.total, self.clock.processor = time.perf_counter() - began, time.process_time() - busy
        return True

    def solved(self, predictor_tokens: np.ndarray) -> tuple[Solved, ...]:
        """Every row's outcome; predictor_tokens [problems] are charged to each row of a problem."""
        chains = len(self.rows) // max(1, len(predictor_tokens))
        return tuple(self._solved(row, int(predictor_tokens[i // chains])) for i, row in enumerate(self.rows))

    # What to submit: first what is wanted, by row; then what may be wanted, the row that is least ahead first.

    def _refill(self) -> None:
        free = self.engine.slots - self.engine.outstanding
        requests = []
        while free > len(requests) and self.wanting:
            i = self.wanting[0]
            if self._may_ask(i):
                requests.append(self._request(i))
            else:
                heapq.heappop(self.wanting)
        if free > len(requests) and self.prefetch:
            ahead = [(row.asked - row.want, i) for i in self.active if (row := self.rows[i]).asked < self._horizon(row)]
            heapq.heapify(ahead)
            while free > len(requests) and ahead:
                depth, i = ahead[0]
                row = self.rows[i]
                self._skip_arrived(row)
                if row.asked < self._horizon(row):
                    requests.append(self._request(i))
                    heapq.heapreplace(ahead, (depth + 1, i))
                else:
                    heapq.heappop(ahead)
        self.engine.submit(requests)

    def _horizon(self, row: _Row) -> int:
        return min(self.policy.limit, row.want + self.prefetch)

    def _skip_arrived(self, row: _Row) -> None:
        while row.asked in row.arrived:  # it came out of the journal
            row.asked += 1

    def _may_ask(self, i: int) -> bool:
        row = self.rows[i]
        self._skip_arrived(row)
        # The next round's prompt needs this round's answer.
        return not row.stopped and row.asked < row.want and (not self.sequential or row.asked == len(row.arrived))

    def _key(self, row: _Row, column: int) -> Key:
        return (row.problem.problem_id, row.chain, *((column, 0) if self.sequential else (0, column)))

    def _request(self, i: int) -> Request:
        row = self.rows[i]
        key = self._key(row, row.asked)
        request_id = json.dumps(key)
        row.running[request_id] = row.asked
        self.running[request_id] = i
        row.asked += 1
        if row.prompt is None or self.sequential:
            row.prompt = self.engine.encode(row.problem.question, row.previous)
        return Request(request_id, row.prompt, self.sampling, request_seed(self.seed, key))

    # What came back.

    def _receive(self) -> None:
        began = time.perf_counter()
        completions = self.engine.poll()
        now = time.perf_counter()
        self.clock.engine += now - began
        came = []
        for completion in completions:
            i = self.running.pop(completion.request_id)
            column = self.rows[i].running.pop(completion.request_id)
            self.rows[i].times[column] = now
            spent = Usage(completion.prompt_tokens, completion.cached_prompt_tokens, completion.completion_tokens)
            self.session += spent + completion.lost
            ids = array("I", completion.token_ids) if self.keep_ids else ()
            came.append((i, column, replace(completion, token_ids=ids, counted=completion.completion_tokens)))
        places = self._write([{"row": i, "column": column, "completion": completion} for i, column, completion in came])
        for (i, column, completion), place in zip(came, places, strict=True):
            self._arrive(i, column, completion, place)
        self._write(self.conditions.news())
        if self.failures.too_many():
            self._give_up()

    def _arrive(self, i: int, column: int, completion: Completion, place: Place | None) -> None:
        row = self.rows[i]
        if self.sequential:
            row.previous = self._carried(row, completion, place)
            heapq.heappush(self.wanting, i)
        if place is not None:
            completion, row.places[column] = replace(completion, text=None), place
        row.arrived[column] = completion
        row.cut += completion.lost
        self.failures.note(row.problem.problem_id, completion.finish, completion.failure)
        if not row.stopped:
            self.fresh[i] = None

    def _carried(self, row: _Row, completion: Completion, place: Place | None) -> str | None:
        """The answer that the next round's prompt carries."""
        text = _text(completion, place)
        answer = self.assessor.grading.extract(text, completion.finish)
        return carried(self.engine, row.problem.question, text, answer, row.previous)

    def _give_up(self) -> None:
        """End a run of which too many requests fail; called again it sends those again."""
        self._abort([i for i, row in enumerate(self.rows) if row.running])
        self._write([AGAIN])
        if self.journal is None:
            raise self.failures.refusal("Nothing was kept, since no journal was given.")
        raise self.failures.refusal(goes_on(self.journal.path))

    def _hand_over(self) -> None:
        """Give the assessor, if it is free, all columns that it has not had, up to each row's first gap."""
        if self.assessments is not None or not self.fresh:
            return
        for i in self.fresh:
            row, samples = self.rows[i], []
            while not row.stopped and row.handed in row.arrived:
                completion, place = row.arrived[row.handed], row.places.get(row.handed)
                samples.append((_text(completion, place), str(completion.finish)))
                row.handed += 1
            if samples:
                self.handed.append((i, row.problem.question, samples))
        self.fresh = {}
        if self.handed:
            self.assessments = self.assessor.submit(self.handed)

    def _collect(self) -> None:
        """Take the assessor's assessments if they are there, or wait for them if the engine has nothing to do; then decide."""
        if self.assessments is None or not (self.assessments.done() or not self.engine.outstanding):
            return
        began = time.perf_counter()
        assessments = self.assessments.result()
        self.clock.waiting += time.perf_counter() - began
        records = []
        for (i, _, samples), found in zip(self.handed, assessments, strict=True):
            if len(found) < len(samples):  # one of them takes long to read
                self.rows[i].handed -= len(samples) - len(found)
                self.fresh[i] = None
            for assessment in found:
                if self.confidence is not None and (column := len(self.rows[i].samples)) < scores_read(self.policy):
                    score = self.confidence.of(self.rows[i].arrived[column].confidence)
                    assessment = replace(assessment, score=score, score_last=score)
                records.append({"row": i, "column": len(self.rows[i].samples), "assessment": assessment})
                self._assessed(i, assessment)
        self._write(records)
        self._refuse_unanswered()
        assessed = [i for i, _, _ in self.handed]
        self.assessments, self.handed = None, []
        self._decide(assessed)
        self._hand_over()

    def _assessed(self, i: int, assessment: Assessment) -> None:
        row = self.rows[i]
        column = len(row.samples)
        completion = row.arrived[column]
        row.samples.append(Sample(completion, assessment, row.places.get(column)))
        row.verifier += assessment.verifier_tokens
        self.seen.cluster[i, column] = assessment.cluster
        self.seen.score[i, column] = assessment.score
        self.seen.tokens[i, column] = completion.completion_tokens
        if self.first is not None and len(self.first) < FIRST and completion.finish is not Finish.FAILED:
            text = _text(completion, row.places.get(column))
            self.first.append((text, str(completion.finish), assessment.answer))

    def _refuse_unanswered(self) -> None:
        """Stop where more than half of the first samples have no answer; they are in the journal."""
        if self.first is None or len(self.first) < FIRST:
            return
        sentence = unanswered_sentence(self.first, self.assessor.grading)
        self.first = None
        if sentence:
            self._abort([i for i, row in enumerate(self.rows) if row.running])
            raise UserError(sentence)

    def ask_for_confidence(self) -> None:
        """Cut the first question's first sample short after one token, to hear whether the engine gives log-probabilities.

        Raises:
            UserError: it gives none.
        """
        problem, asked = self.rows[0].problem, replace(self.sampling, max_tokens=1)
        self.engine.submit([Request("confidence", self.engine.encode(problem.question, None), asked, self.seed)])
        came: list[Completion] = []
        while self.engine.outstanding:
            came += self.engine.poll()
        (found,) = came
        if found.confidence is None:
            why = f" ({found.failure})" if found.failure else ""
            raise UserError(
                f"a score from the model's own confidence needs log-probabilities, and this server gives none{why}: start it so "
                "that it does, give a --verifier, or choose a policy that counts votes."
            )
        self.session += Usage(found.prompt_tokens, found.cached_prompt_tokens, found.completion_tokens) + found.lost
        cut = Usage(found.prompt_tokens, found.cached_prompt_tokens, aborted=found.completion_tokens) + found.lost
        self._cut(0, cut)
        self._write([{"row": 0, "cut": cut}])

    # What to decide: rows that have taken as many steps step together, as they do in a replay.

    def _decide(self, rows: list[int]) -> None:
        began = time.perf_counter()
        stopped = []
        while ready := [i for i in rows if not (row := self.rows[i]).stopped and len(row.samples) >= row.want]:
            groups = defaultdict(list)
            for i in ready:
                groups[self.rows[i].steps].append(i)
            rows = ready
            for members in groups.values():
                stopped += self._step(members)
        self.clock.deciding += time.perf_counter() - began
        self._abort([i for i in stopped if self.rows[i].running])
        self.saved += sum(self._solved(self.rows[i], 0).saved(self.policy.limit) for i in stopped)

    def _step(self, members: list[int]) -> list[int]:
        """One step of some rows; returns those that stopped."""
        rows, index = [self.rows[i] for i in members], np.array(members)
        n, seen = np.array([row.want for row in rows]), np.array([row.n for row in rows])
        batch = visible(self.seen, index, n)
        state, decision = self.policy.step(join([row.state for row in rows]), batch, seen)
        want = np.minimum(decision.want, self.policy.limit)
        finished = np.flatnonzero(want <= n)
        if len(finished):
            columns = self.policy.select(take(state, finished), batch.rows(finished))
            for j, column in zip(finished.tolist(), columns.tolist(), strict=True):
                rows[j].column, rows[j].reason = column, _REASONS[decision.reason[j]]
                del self.active[members[j]]
        for j, row in enumerate(rows):
            row.n, row.want, row.steps = int(n[j]), int(max(want[j], n[j])), row.steps + 1
            if not row.stopped:
                row.state = take(state, np.array([j]))
                heapq.heappush(self.wanting, members[j])
        self.clock.decisions += len(rows)
        return [members[j] for j in finished]

    def _abort(self, rows: list[int]) -> None:
        if not rows:
            return
        cut = self.engine.abort([request_id for i in rows for request_id in self.rows[i].running])
        now = time.perf_counter()
        records = []
        for i in rows:
            row = self.rows[i]
            gone = [request_id for request_id in row.running if request_id in cut]  # the others have finished: they will come
            if gone and row.stopped and (arrived := [t for c, t in row.times.items() if c < row.n]):
                self.clock.abort_latency.append(now - max(arrived))
            for request_id in gone:
                del row.running[request_id], self.running[request_id]
                self._cut(i, cut[request_id])
                self.session += cut[request_id]
                records.append({"row": i, "cut": cut[request_id]})
        self._write(records)

    def _cut(self, i: int, usage: Usage) -> None:
        self.rows[i].aborted += 1
        self.rows[i].cut += usage

    # What is on disk.

    def _write(self, records: list[dict[str, Any]]) -> Sequence[Place | None]:
        """Where each record lies; None without a journal."""
        if self.journal is None or not records:
            return [None] * len(records)
        return self.journal.append([{k: _plain(v) for k, v in record.items()} for record in records])

    def _recall(self, journal: Journal) -> None:
        for place, record in journal.places():
            if self.conditions.recall(record):
                continue
            if record == AGAIN:
                self._strike_failed()
            elif "completion" in record:
                values = record["completion"]
                values |= {"finish": Finish(values["finish"]), "lost": Usage(**values["lost"])}
                values |= {"token_ids": array("I", values["token_ids"]) if self.keep_ids else ()}
                values |= {"confidence": Confidence(**values["confidence"]) if values.get("confidence") else None}
                self._arrive(record["row"], record["column"], Completion(**values), place)
            elif "assessment" in record:
                self._assessed(record["row"], Assessment(**record["assessment"]))
                self.rows[record["row"]].handed += 1
            else:
                self._cut(record["row"], Usage(**record["cut"]))
        for i, row in enumerate(self.rows):
            self.assessor.recall(i, [sample.assessment for sample in row.samples])

    def _strike_failed(self) -> None:
        """Forget the requests that failed, and what was assessed or (in a chain) drawn after them: it rests on them."""
        self.failures.forget()
        for i, row in enumerate(self.rows):
            failed = [column for column, completion in row.arrived.items() if completion.finish is Finish.FAILED]
            if not failed:
                continue
            first = min(failed)
            for column in [c for c in row.arrived if c >= first] if self.sequential else failed:
                gone = row.arrived.pop(column)
                row.cut += Usage(gone.prompt_tokens, gone.cached_prompt_tokens, aborted=gone.completion_tokens)
            del row.samples[first:]
            row.handed = min(row.handed, first)
            for array_, empty in ((self.seen.cluster, -1), (self.seen.score, np.nan), (self.seen.tokens, 0)):
                array_[i, first:] = empty
            if self.sequential:
                row.previous = None
                for column in range(first):
                    row.previous = self._carried(row, row.arrived[column], row.places[column])
            self.fresh[i] = None

    # What it cost.

    def _totals(self) -> dict[str, str]:
        spent = self.session.completion + self.session.aborted + self.engine.under_way()
        read = {name: f"{number}" for name, number in reading(self.engine).items()}
        return {**read, "tokens": f"{spent}", "saved": f"≈{self.saved:.0f}"}

    def _solved(self, row: _Row, predictor: int) -> Solved:
        if row.reason is None:
            raise ValueError(f"problem {row.problem.problem_id} has not stopped")
        used = tuple(row.samples[: row.n])
        came = row.arrived.values()
        unused = [c for column, c in row.arrived.items() if column >= row.n]
        ledger = Ledger(
            prompt=row.cut.prompt + sum(c.prompt_tokens for c in came),
            cached_prompt=row.cut.cached_prompt + sum(c.cached_prompt_tokens for c in came),
            completion=sum(s.completion.completion_tokens for s in used),
            prefetched=sum(c.completion_tokens for c in unused),
            aborted=row.cut.aborted,
            verifier=row.verifier,
            predictor=predictor,
        )
        return Solved(row.problem, row.chain, used, row.column, row.reason, len(unused), row.aborted, ledger)


def _plain(value: Any) -> Any:
    """What JSON can say of a record's field."""
    if isinstance(value, Completion):
        return {**asdict(replace(value, token_ids=())), "token_ids": list(value.token_ids)}
    return asdict(value) if is_dataclass(value) else value
