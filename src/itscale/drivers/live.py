"""Solve problems with a policy over an engine: the rule objects of a replay, but what is no longer needed is never drawn."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from itscale.data.journal import Journal, fingerprint
from itscale.data.ledger import Ledger
from itscale.data.records import Problem, Unit, features_of, refuse_twins
from itscale.drivers.assess import Assessor, OwnScore, Scorer
from itscale.drivers.conditions import Conditions
from itscale.drivers.driver import Clock, Driver, Solved
from itscale.drivers.failures import Failures
from itscale.engines.protocol import Engine, Finish, Sampling
from itscale.errors import UserError
from itscale.grading.comparison import Comparer
from itscale.grading.settings import Grading
from itscale.policies.protocol import Policy, scores_read


@dataclass(frozen=True, slots=True)
class Run:
    """Every row's outcome, in the order of the problems and their chains, and where the time went."""

    rows: tuple[Solved, ...]
    limit: int
    clock: Clock
    failures: Failures
    conditions: Conditions

    @property
    def ledger(self) -> Ledger:
        """Tokens of all rows."""
        return sum((row.ledger for row in self.rows), Ledger())

    @property
    def saved(self) -> float:
        """About how many completion tokens a fixed N at the limit would have cost beyond what was drawn (an estimate)."""
        return sum(row.saved(self.limit) for row in self.rows)

    @property
    def unanswered(self) -> int:
        """How many of the samples that the decisions rest on have no answer."""
        return sum(sample.assessment.answer is None for row in self.rows for sample in row.samples)

    @property
    def cut_off(self) -> int:
        """How many of them were cut off at their limit of tokens."""
        return sum(sample.completion.finish == Finish.LENGTH for row in self.rows for sample in row.samples)

    @property
    def estimated(self) -> int:
        """Samples whose tokens a server did not count."""
        return sum(sample.completion.estimated for row in self.rows for sample in row.samples)

    @property
    def answers(self) -> dict[str, str | None]:
        """The answer to each problem (of its first chain)."""
        return {row.problem.problem_id: row.answer for row in self.rows if row.chain == 0}

    def summary(self) -> str:
        """What was drawn, about what a fixed N would have cost, what failed, and what is not exact."""
        ledger, used = self.ledger, sum(len(row.samples) for row in self.rows)
        share = 100 * self.saved / max(ledger.drawn + self.saved, 1)
        return (
            f"{len(self.rows)} rows, {used} samples drawn of at most {len(self.rows) * self.limit}, {self.clock.total:.1f} s\n"
            f"{ledger.drawn} completion tokens drawn ({ledger.prefetched} finished unused, {ledger.aborted} cut short), "
            f"about {self.saved:.0f} saved ({share:.0f} % of a fixed N of {self.limit}; an estimate, from the samples drawn)"
            + (f"\n{self.failures.summary()}" if self.failures else "")
            + (f"\nthe tokens of {self.estimated} samples are estimates: the server did not count them" if self.estimated else "")
        )


class Interrupted(KeyboardInterrupt):
    """Ctrl-C: requests in flight were aborted, and what had finished is in the journal."""


def solve(
    problems: list[Problem],
    engine: Engine,
    policy: Policy,
    *,
    sampling: Sampling | None = None,
    seed: int = 0,
    chains: int = 1,
    prefetch: int | None = None,
    verifier: Scorer | None = None,
    confidence: OwnScore | None = None,
    comparer: Comparer | None = None,
    grading: Grading | None = None,
    allow_unanswered: bool = False,
    predictions: pd.DataFrame | None = None,
    journal: Path | None = None,
    meta: dict[str, Any] | None = None,
    keep_ids: bool = False,
    background: bool = True,
    shown: bool = True,
) -> Run:
    """Draw samples of every problem until the policy stops, and answer.

    Args:
        problems: gold answers are not looked at.
        engine: open, with nothing outstanding.
        policy: any rule over samples or rounds, bound to its calibration if it needs one.
        sampling: of every request.
        seed: with the problem's id and the sample's number it decides the request's seed, as in `generate`.
        chains: of every problem, for rules that count rounds.
        prefetch: samples of one problem that may be begun before they are asked for, when slots are free; without it 8, and 0
            for a server, where tokens are somebody's money.
        verifier: scores samples, for the rules that read scores.
        confidence: does so in its place, from the log-probabilities of the model that draws. A server is asked for one token
            first, which counts as cut short: not every one gives them.
        comparer: compares answers; without one, one is opened for this call, which takes seconds.
        grading: how answers are found and compared, where no comparer says it.
        allow_unanswered: go on where more than half of the first 16 samples have no answer.
        predictions: what the predictor says of each problem (schema PREDICTIONS), for the rules that read features.
        journal: file for what has finished; the run continues from one that is there. The caller removes it when the answers
            are safe.
        meta: what else the journal belongs to (the models).
        keep_ids: hold the token ids of every sample (test-time training reads them); they take memory.
        background: assess samples beside the engine; without, the batches do not depend on the clock.
        shown: show a progress bar.

    Raises:
        UserError: two problems of one id, a policy that exists only in replays, or scores or features that nobody gives; more
            than a tenth of the requests failed (a single one is a sample without an answer); more than half of the first 16
            samples without an answer.
        Interrupted: Ctrl-C.
    """
    ids = [p.problem_id for p in problems]
    refuse_twins("the problems to solve", ids)
    name = type(policy).__name__
    if getattr(policy, "replay_only", False):
        raise UserError(f"{name} reads all samples of a stored pool and exists only in replays: choose another policy.")
    if policy.needs_scores and verifier is None and confidence is None:
        raise UserError(
            f"{name} reads verifier scores: give a verifier or a confidence, or choose a policy that counts votes only."
        )
    if not policy.needs_scores or verifier is not None:
        confidence = None
    if confidence is not None:
        refuse_scale(policy, confidence)
    features, predictor_tokens = _features(policy, ids, predictions)
    sampling = sampling or Sampling()
    sampling = sampling if confidence is None else replace(sampling, confidence=True)
    with ExitStack() as stack:
        comparer = comparer or stack.enter_context(Comparer(grading))
        assessor = stack.enter_context(Assessor(comparer, verifier, scores_read(policy), background=background))
        written = None
        if journal is not None:
            identity = run_identity(problems, policy, sampling, seed, chains, comparer.grading, meta, keep_ids=keep_ids)
            written = Journal(journal, identity)
            stack.callback(written.close)
        before = engine.usage()
        driver = Driver(
            problems,
            engine,
            policy,
            sampling=sampling,
            seed=seed,
            chains=chains if policy.unit is Unit.ROUND else 1,
            prefetch=(0 if getattr(engine, "remote", False) else 8) if prefetch is None else prefetch,
            assessor=assessor,
            journal=written,
            features=features,
            confidence=confidence,
            keep_ids=keep_ids,
            allow_unanswered=allow_unanswered,
            shown=shown,
        )
        if confidence is not None and problems and getattr(engine, "remote", False):
            driver.ask_for_confidence()
        finished = driver.run(stack.enter_context(_interrupts()))
        if driver.session != (used := engine.usage() - before):
            raise RuntimeError(f"the driver counted {driver.session}, the engine {used}")
    if not finished:
        done = len(driver.rows) - len(driver.active)
        kept = f"what had finished is in {journal}" if journal is not None else "nothing was kept, since no journal was given"
        raise Interrupted(f"stopped after {done} of {len(driver.rows)} problems; {kept}")
    return Run(driver.solved(predictor_tokens), policy.limit, driver.clock, driver.failures, driver.conditions)


def refuse_scale(policy: Policy, confidence: OwnScore) -> None:
    """Refuse a confidence as it stands where a rule takes scores for probabilities, or for weights."""
    scale, name = getattr(policy, "scale", None), type(policy).__name__
    if confidence.score_map is not None or scale is None or (scale == "weights" and confidence.column != "logprob_mean"):
        return
    wanted = "numbers from 0 to 1" if scale == "unit" else "weights of 0 or more"
    raise UserError(
        f"the rule {name} takes scores for {wanted}, which {confidence.column} as it stands is not: give a --calibration that "
        "was made with it, or take best-of-N, score threshold, CISC or Pandora by data, which need no scale."
    )


def run_identity(
    problems: list[Problem],
    policy: Policy,
    sampling: Sampling,
    seed: int,
    chains: int,
    grading: Grading,
    meta: dict[str, Any] | None,
    *,
    keep_ids: bool = False,
) -> str:
    """The fingerprint of a run: of all that its samples and decisions depend on; `meta` tells of models and predictions."""
    settings = [repr(policy), asdict(sampling), seed, chains, keep_ids, [asdict(p) for p in problems], meta or {}]
    return fingerprint([*settings, asdict(grading)])


def _features(policy: Policy, ids: list[str], predictions: pd.DataFrame | None) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Feature name -> [problems], and the predictor's tokens [problems]."""
    if not policy.needs_features:
        return {}, np.zeros(len(ids), np.int64)
    if predictions is None:
        raise UserError(f"{type(policy).__name__} reads what a predictor says of each question: give predictions.")
    found, tokens = features_of(ids, predictions)
    for name in policy.needs_features:
        if name not in found:
            raise UserError(f"the predictions lack {name!r}, which {type(policy).__name__} reads: train the predictor on it.")
    return {name: found[name] for name in policy.needs_features}, tokens


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed; a second time it interrupts at once. Elsewhere than in the main thread it is left alone."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    pressed = []

    def handle(number: int, frame: Any) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)
        print("\nstopping after the engine's current step; press Ctrl-C again to stop at once", file=sys.stderr)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
