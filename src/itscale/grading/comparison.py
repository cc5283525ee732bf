"""Readings of answers in their questions, each made once, and verdicts on them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from itscale.data.records import Problem, Verdict
from itscale.grading.reader import Reader
from itscale.grading.readings import Key, Outliner, Question, Tree, expressions, fill, hangs, key, same
from itscale.grading.settings import Grading


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer as it was read: equal answers of one question have equal keys."""

    tree: Tree
    key: Key

    @property
    def hangs(self) -> bool:
        return hangs(self.tree)


class Comparer:
    """Reads answers, each once; a context manager, since mathematics is read in processes of its own."""

    def __init__(self, grading: Grading | None = None) -> None:
        self.grading = grading or Grading()
        self._reader = Reader(self.grading.time_limit)
        self._outliners: dict[str, Outliner] = {}
        self._outlines: dict[tuple[str, str], Tree] = {}
        self._readings: dict[tuple[str, str], Reading] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._reader.__exit__(kind, error, trace)

    def start(self) -> None:
        """Start the process that reads mathematics; the first answer that needs it would do it too."""
        self._reader.start()

    def read(self, answers: Iterable[tuple[str, str]], patience: float | None = None) -> list[Reading | None]:
        """Readings of (question, answer); None where one is not there within `patience` seconds."""
        pairs = list(answers)
        new = {pair: self._outline(*pair) for pair in pairs if pair not in self._readings}
        if new:
            found = self._reader.read((e for tree in new.values() for e in expressions(tree)), patience)
            for pair, tree in new.items():
                if all(e in found for e in expressions(tree)):
                    filled = fill(tree, found)
                    self._readings[pair] = Reading(filled, key(filled))
                    del self._outlines[pair]
        return [self._readings.get(pair) for pair in pairs]

    def _outline(self, question: str, answer: str) -> Tree:
        if (question, answer) not in self._outlines:
            if question not in self._outliners:
                self._outliners[question] = Outliner(Question(question), self.grading.compare)
            self._outlines[question, answer] = self._outliners[question].outline(answer)
        return self._outlines[question, answer]

    def verdicts(self, rows: Sequence[tuple[Problem, Sequence[str | None]]]) -> list[list[Verdict]]:
        """What each problem's gold answers say of some answers to it (None: unanswered), in any order the same."""
        golds = [self.read((problem.question, gold) for gold in (problem.answer, *problem.also)) for problem, _ in rows]
        self.read((problem.question, a) for problem, answers in rows for a in dict.fromkeys(answers) if a is not None)
        found = []
        for (problem, answers), accepted in zip(rows, golds, strict=True):
            known = {a: self._verdict(problem, accepted, a) for a in dict.fromkeys(answers) if a is not None}
            found.append([Verdict.UNANSWERED if a is None else known[a] for a in answers])
        return found

    def _verdict(self, problem: Problem, golds: list[Reading | None], answer: str) -> Verdict:
        (reading,) = self.read([(problem.question, answer)])
        if any(same(gold.tree, reading.tree) for gold in golds):
            return Verdict.CORRECT
        return Verdict.TIMEOUT if reading.hangs or all(gold.hangs for gold in golds) else Verdict.WRONG
