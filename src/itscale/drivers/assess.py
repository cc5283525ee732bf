"""Assess samples while more are drawn: cluster their answers without sight of any gold answer, and score their steps.

Assessments are made in a thread beside the engine, all waiting samples in one batch. An answer that takes long to read delays its
own problem only: the others' assessments are returned, and its row is handed over again.
"""

import sys
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from itscale.errors import UserError
from itscale.grading.clusters import label
from itscale.grading.comparison import Comparer
from itscale.grading.settings import Grading
from itscale.models.confidence import Confidence
from itscale.models.scores import Scores
from itscale.policies.calibration import ScoreMap

_PATIENCE = 0.5  # seconds after which the assessments that are there are returned


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a policy sees of one sample: its cluster (-1: no answer) and score (NaN: none); and what the score cost."""

    answer: str | None
    cluster: int
    score: float
    score_last: float
    verifier_tokens: int


class Scorer(Protocol):
    """A verifier: `itscale.models.verifier.Verifier`, or one that looks stored scores up."""

    def score(self, questions: list[str], texts: list[str]) -> Scores: ...


@dataclass(frozen=True, slots=True)
class OwnScore:
    """A score from the model's own confidence, in the place of a verifier's; it costs no tokens.

    `score_map` is what a calibration split made of the confidence; without it the number stands as it is, for rules to which the
    scale is nothing.

    Raises:
        UserError: there is no such confidence.
    """

    column: str
    score_map: ScoreMap | None = None

    def __post_init__(self) -> None:
        known = [f.name for f in fields(Confidence)]
        if self.column not in known:
            raise UserError(f"there is no confidence {self.column!r}: choose among {', '.join(known)}.")

    def of(self, found: Confidence | None) -> float:
        """NaN where the engine gave none."""
        if found is None:
            return float("nan")
        value = getattr(found, self.column)
        return value if self.score_map is None else float(self.score_map.of(np.float64(value)))


class Assessor:
    """One batch of samples at a time, each row's in submission order; a context manager, since it owns a thread.

    Without `background` it works while its caller waits, so that what the engine does never depends on the clock.
    """

    def __init__(
        self, comparer: Comparer, verifier: Scorer | None, scored: int = sys.maxsize, *, background: bool = True
    ) -> None:
        """`scored`: how many samples of a row the verifier is shown, the first ones."""
        self._comparer = comparer
        self._verifier = verifier
        self._scored = scored
        self._answers: defaultdict[int, list[str | None]] = defaultdict(list)
        self._background = background
        self._thread = ThreadPoolExecutor(1, "assess")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown(cancel_futures=True)

    @property
    def grading(self) -> Grading:
        """How answers are found and compared."""
        return self._comparer.grading

    def recall(self, row: int, known: list[Assessment]) -> None:
        """Take over a row's first samples, assessed before."""
        self._answers[row] += [assessment.answer for assessment in known]

    def submit(self, work: list[tuple[int, str, list[tuple[str, str]]]]) -> "Future[list[list[Assessment]]]":
        """Begin to assess (row, question, its next samples as text and finish reason).

        Where a row has fewer assessments than samples, the rest is to be submitted again.
        """
        future = self._thread.submit(self._assess, work)
        if not self._background:
            future.exception()
        return future

    def _assess(self, work: list[tuple[int, str, list[tuple[str, str]]]]) -> list[list[Assessment]]:
        assessed = self._clusters(work)
        own = [(question, samples[: len(found)]) for (_, question, samples), found in zip(work, assessed, strict=True)]
        before = [len(self._answers[row]) for row, _, _ in work]
        count = sum(map(len, assessed))
        scores = Scores(np.full(count, np.nan), np.full(count, np.nan), np.zeros(count, np.int64))
        wanted = np.flatnonzero(
            [n + i < self._scored for n, found in zip(before, assessed, strict=True) for i in range(len(found))]
        )
        if self._verifier is not None and len(wanted):
            shown = [(question, text) for question, samples in own for text, _ in samples]
            found = self._verifier.score([shown[i][0] for i in wanted], [shown[i][1] for i in wanted])
            scores.mean[wanted], scores.last[wanted], scores.tokens[wanted] = found.mean, found.last, found.tokens
        for (row, _, _), found in zip(work, assessed, strict=True):
            self._answers[row] += [answer for answer, _ in found]
        flat = iter(zip(scores.mean.tolist(), scores.last.tolist(), scores.tokens.tolist(), strict=True))
        return [[Assessment(answer, cluster, *next(flat)) for answer, cluster in found] for found in assessed]

    def _clusters(self, work: list[tuple[int, str, list[tuple[str, str]]]]) -> list[list[tuple[str | None, int]]]:
        """Of each row its next answers with their clusters, up to the first that is not read yet."""
        rows = [
            (question, [*self._answers[row], *(self.grading.extract(*sample) for sample in samples)])
            for row, question, samples in work
        ]
        asked = [(question, answer) for question, answers in rows for answer in answers if answer is not None]
        found = dict(zip(asked, self._comparer.read(asked, _PATIENCE if self._background else None), strict=True))
        clusters = []
        for (row, _, _), (question, answers) in zip(work, rows, strict=True):
            unread = (i for i, answer in enumerate(answers) if answer is not None and found[question, answer] is None)
            read = answers[: next(unread, len(answers))]
            labels = label([None if answer is None else found[question, answer] for answer in read], {})
            clusters.append(list(zip(read, labels, strict=True))[len(self._answers[row]) :])
        return clusters
