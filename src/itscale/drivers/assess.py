"""Assessor samples while more are drawn: cluster their answers without sight of any gold answer, and score their steps.

Assessments are made in a thread beside the engine, all waiting samples in one batch: a hanging comparison or a slow verifier
delays its own problem and leaves the engine running.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from itscale.grading.answers import extract_answer
from itscale.grading.comparison import Comparer, cluster_answers
from itscale.models.verifier import Scores


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
        self._assessed: Counter[int] = Counter()
        self._labels: dict[int, dict[str, int]] = {}
        self._background = background
        self._thread = ThreadPoolExecutor(1, "assess")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown(cancel_futures=True)

    def recall(self, row: int, known: list[Assessment]) -> None:
        """Take over the clusters of a row's first samples, assessed before."""
        labels = self._labels.setdefault(row, {})
        self._assessed[row] += len(known)
        for assessment in known:
            if assessment.answer is not None:
                labels.setdefault(assessment.answer, assessment.cluster)

    def submit(self, work: list[tuple[int, str, list[str]]]) -> "Future[list[list[Assessment]]]":
        """Begin to assess (row, question, its next texts)."""
        future = self._thread.submit(self._assess, work)
        if not self._background:
            future.exception()
        return future

    def _assess(self, work: list[tuple[int, str, list[str]]]) -> list[list[Assessment]]:
        answers = [[extract_answer(text) for text in texts] for _, _, texts in work]
        labels = [self._labels.setdefault(row, {}) for row, _, _ in work]
        clusters = cluster_answers(answers, self._comparer, labels)
        texts = [text for _, _, texts in work for text in texts]
        scores = Scores(np.full(len(texts), np.nan), np.full(len(texts), np.nan), np.zeros(len(texts), np.int64))
        wanted = np.flatnonzero([self._assessed[row] + i < self._scored for row, _, own in work for i in range(len(own))])
        if self._verifier is not None and len(wanted):
            questions = [question for _, question, own in work for _ in own]
            found = self._verifier.score([questions[i] for i in wanted], [texts[i] for i in wanted])
            scores.mean[wanted], scores.last[wanted], scores.tokens[wanted] = found.mean, found.last, found.tokens
        self._assessed.update({row: len(own) for row, _, own in work})
        flat = iter(zip(scores.mean.tolist(), scores.last.tolist(), scores.tokens.tolist(), strict=True))
        return [
            [Assessment(answer, cluster, *next(flat)) for answer, cluster in zip(*row, strict=True)]
            for row in zip(answers, clusters, strict=True)
        ]


def right_clusters(rows: Sequence[tuple[str, Sequence[Assessment]]], comparer: Comparer) -> list[dict[int, bool]]:
    """Of each row (gold answer, assessments in submission order): whether each cluster is right, by its first member's answer.

    As a pool is graded, so that a sample is as right live as in a replay.
    """
    found: list[dict[int, str]] = [{} for _ in rows]
    for (_, assessments), first in zip(rows, found, strict=True):
        for assessment in assessments:
            if assessment.answer is not None:
                first.setdefault(assessment.cluster, assessment.answer)
    pairs = [(gold, answer) for (gold, _), first in zip(rows, found, strict=True) for answer in first.values()]
    same = iter(comparer.compare(pairs))
    return [{cluster: bool(next(same)) for cluster in first} for first in found]
