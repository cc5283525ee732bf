"""What a policy is: a pure rule over batches of rows that says how many samples it wants and which it answers with.

A driver calls `init` once, then `step` until no row wants more, then `select`. The first `step` sees nothing (n = 0) and
says how many to draw first. A driver grants exactly what is asked for and hides every column beyond it, so a policy cannot
look ahead, and a rule that looks at each arrival asks for one more at a time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from numbers import Integral
from typing import Any, Protocol, Self

import numpy as np

from itscale.data.records import Pool, Unit
from itscale.errors import UserError
from itscale.policies.calibration import Calibration


class Reason(StrEnum):
    """Why a row stopped; the values are what users read."""

    CONTINUE = "not stopped"
    FIXED = "fixed number drawn"
    THRESHOLD = "score threshold reached"
    ENOUGH = "enough samples for the target"
    RESERVATION = "another sample is worth less than its price"
    UNANIMOUS = "window unanimous"
    LEAD = "vote lead reached"
    CONFIDENT = "vote confident enough"
    SHARE = "share of the votes reached"
    EASY = "easy question, one sample"
    HARD = "hard question, up to the limit"
    KEPT_FIRST = "first answer kept"
    ALL_ROUNDS = "all rounds run"
    DEPTH = "best depth reached"
    POSTERIOR = "an answer is sure enough"
    NO_GAIN = "expected gain below its cost"
    LIMIT = "budget spent"
    OWN = "own rule met"
    EXHAUSTED = "no more samples in the pool"


CODE = {reason: np.int8(code) for code, reason in enumerate(Reason)}


@dataclass(frozen=True, slots=True)
class Batch:
    """B rows of which n [B] columns are visible; hidden columns hold -1, NaN and 0."""

    n: np.ndarray
    cluster: np.ndarray  # [B, K]; -1: no answer
    score: np.ndarray  # [B, K]; NaN: none
    tokens: np.ndarray  # [B, K]
    features: Mapping[str, np.ndarray] = field(default_factory=dict)  # name -> [B], predicted from the question alone

    def rows(self, index: np.ndarray) -> "Batch":
        """Some of the rows."""
        features = {name: values[index] for name, values in self.features.items()}
        return Batch(self.n[index], self.cluster[index], self.score[index], self.tokens[index], features)


@dataclass(frozen=True, slots=True)
class Decision:
    """want [B]: total number wanted (want == n: stop); reason [B]: int8 codes, positions in `Reason`."""

    want: np.ndarray
    reason: np.ndarray


@dataclass(frozen=True, slots=True)
class NoState:
    """The state of a rule that needs none."""


class Policy(Protocol):
    """A stopping rule; `limit` is the most it may draw, `family` the fixed N that it is measured against.

    `needs_features` names the predicted features that the rule reads; a rule without any costs no predictor tokens. A rule
    that can exist in a replay only, because it reads what no live run knows, carries a class attribute `replay_only = True`. A
    rule that reads the scores of its first samples only carries `scores_read`, their number: the others are not scored.
    A rule to which its limit is more than a cap (drivers/limits.py) carries `limit_shapes = True`, and one whose `select` reads
    settings carries their names, `selects_by`. A rule whose `step` reads the samples through running sums alone carries
    `reads_sums = True` and has the two halves of its step: `see(state, batch, seen)`, the sums with what has arrived, and
    `look(state, batch)`, the decision, which reads of the batch `n` and `features` only.
    """

    unit: Unit
    needs_scores: bool
    needs_features: tuple[str, ...]
    family: str

    @property
    def limit(self) -> int: ...

    def bind(self, known: Calibration) -> Self: ...

    def init(self, rows: int) -> Any: ...

    def step(self, state: Any, batch: Batch, seen: np.ndarray) -> tuple[Any, Decision]: ...

    def select(self, state: Any, batch: Batch) -> np.ndarray: ...


def check_counts(rule: str, **counts: int | None) -> None:
    """Settings that are numbers of samples, rounds or votes.

    Raises:
        UserError: one of them is no whole number of at least 1 (None: not given).
    """
    for name, value in counts.items():
        if value is not None and not (isinstance(value, Integral) and value >= 1):
            raise UserError(f"{name} of {rule} is {value}: it is a number of samples, rounds or votes, 1 or more.")


def take(state: Any, rows: np.ndarray) -> Any:
    """The state of some rows: every array of a (nested) state dataclass indexed by rows."""
    if isinstance(state, np.ndarray):
        return state[rows]
    return replace(state, **{f.name: take(getattr(state, f.name), rows) for f in fields(state)})


def join(states: list[Any]) -> Any:
    """One state of all rows of several, in their order; arrays that are narrower than others are filled up with zeros.

    (A state widens with what it has seen, a tally by clusters, so rows that stepped apart differ in width.)
    """
    first = states[0]
    if not isinstance(first, np.ndarray):
        return replace(first, **{f.name: join([getattr(s, f.name) for s in states]) for f in fields(first)})
    if len({s.shape[1:] for s in states}) == 1:
        return np.concatenate(states)
    shape = np.max([s.shape[1:] for s in states], axis=0).astype(int)
    padded = [np.pad(s, [(0, 0), *((0, w - have) for w, have in zip(shape, s.shape[1:], strict=True))]) for s in states]
    return np.concatenate(padded)


def decide(n: np.ndarray, want: np.ndarray, limit: int, reason: Reason) -> Decision:
    """Stop for `reason` where want <= n, for the budget where n has reached the limit, else go on."""
    want = np.clip(want, n, limit)
    codes = np.where(want > n, CODE[Reason.CONTINUE], CODE[reason])
    return Decision(want, codes.astype(np.int8))


def stop_or_limit(n: np.ndarray, want: np.ndarray, limit: int, reason: Reason, met: np.ndarray) -> Decision:
    """A decision in which a stop at the limit counts as the rule's own only where its condition is met."""
    want = np.clip(want, n, limit)
    codes = np.where(want > n, CODE[Reason.CONTINUE], np.where(met, CODE[reason], CODE[Reason.LIMIT]))
    return Decision(want, codes.astype(np.int8))


def scores_read(policy: Policy) -> int:
    """How many samples of a row a rule reads the scores of; the verifier sees no other."""
    return getattr(policy, "scores_read", policy.limit) if policy.needs_scores else 0


def depends_on_verifier(policy: Policy) -> bool:
    """Whether a rule does something else with another verifier: it reads scores, or what is predicted of them."""
    return policy.needs_scores or bool({"score_mean", "score_sd", "oracle_score_mean"} & set(policy.needs_features))


def usable_scores(batch: Batch | Pool) -> np.ndarray:
    """Scores [B, K] of the samples that have an answer, -inf for the others: what a best-of-N may return."""
    return np.where((batch.cluster >= 0) & ~np.isnan(batch.score), batch.score, -np.inf)


def best_scored(batch: Batch) -> np.ndarray:
    """Column [B] of the highest score among answered samples, the first of equals; -1 where there is none."""
    if batch.score.shape[1] == 0:
        return np.full(len(batch.n), -1)
    scores = usable_scores(batch)
    return np.where(np.isfinite(scores.max(axis=1)), scores.argmax(axis=1), -1)
