"""Clusters of equal answers and their verdicts; clusters are made without sight of any gold answer."""

import numpy as np
import pandas as pd

from itscale.data.records import GRADES, KEY, Problem, refuse_strangers, sort_by_key
from itscale.grading.comparison import Comparer, Reading
from itscale.grading.readings import Key
from itscale.grading.settings import Grading
from itscale.progress import progress


def label(readings: list[Reading | None], labels: dict[Key, int]) -> list[int]:
    """Clusters of a row's next answers (None: no answer, -1), numbered by first appearance; `labels` are those it has, extended.

    An answer's cluster depends on no later answer, and which answers share one on no order at all.
    """
    return [-1 if reading is None else labels.setdefault(reading.key, len(labels)) for reading in readings]


def grade_table(
    samples: pd.DataFrame,
    problems: list[Problem],
    grading: Grading | None = None,
    answers: list[str | None] | None = None,
) -> pd.DataFrame:
    """Answers, clusters and verdicts (schema GRADES) of samples (schema SAMPLES).

    Clusters are numbered within (problem, chain) in submission order; a verdict is that of the sample's own answer. `answers`
    are those of samples in submission order (None: no answer); without them they are found in the texts.

    Raises:
        UserError: a sample belongs to no problem given.
    """
    refuse_strangers("the samples", samples, problems)
    grading = grading or Grading()
    known = {p.problem_id: p for p in problems}
    samples = sort_by_key(samples)
    finish = samples["finish_reason"] if "finish_reason" in samples.columns else [""] * len(samples)
    if answers is None:
        answers = [grading.extract(text, reason) for text, reason in zip(samples["text"], finish, strict=True)]
    groups = list(samples.groupby(["problem_id", "chain"], sort=False).indices.items())
    cluster = np.full(len(samples), -1)
    verdict = np.empty(len(samples), dtype=object)
    asked = dict.fromkeys((known[p].question, a) for p, a in zip(samples["problem_id"], answers, strict=True) if a is not None)
    with Comparer(grading) as comparer, progress(description="grading", unit="problem", total=len(groups)) as bar:
        comparer.read(asked, patience=0.0)  # what is slow to read begins at once
        for start in range(0, len(groups), step := max(1, len(groups) // 20)):
            part = [(known[problem_id], index) for (problem_id, _), index in groups[start : start + step]]
            rows = [(problem, [answers[i] for i in index]) for problem, index in part]
            verdicts = comparer.verdicts(rows)
            for (_, index), (problem, own), found in zip(part, rows, verdicts, strict=True):
                cluster[index], verdict[index] = clusters_of(problem.question, own, comparer), [v.value for v in found]
            bar.update(len(part))
    return samples[list(KEY)].assign(answer=answers, cluster=cluster, verdict=verdict)[GRADES.names]


def clusters_of(question: str, answers: list[str | None], comparer: Comparer) -> list[int]:
    """The clusters of one question's answers."""
    readings = iter(comparer.read((question, answer) for answer in answers if answer is not None))
    return label([None if answer is None else next(readings) for answer in answers], {})
