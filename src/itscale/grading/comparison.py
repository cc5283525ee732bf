"""Grade samples: cluster their answers without sight of the gold answer, then compare each cluster with it.

Comparisons are math-verify's (gold first) and run in a worker process that is killed when one exceeds its time limit: hostile
LaTeX costs a verdict of `timeout`, never the job.
"""

import multiprocessing
import re
from concurrent.futures import TimeoutError as OutOfTime
from types import TracebackType
from typing import Self

import numpy as np
import pandas as pd
from pebble import ProcessExpired, ProcessPool

from itscale.data.records import GRADES, KEY, Problem, Verdict, refuse_strangers, sort_by_key
from itscale.grading.answers import extract_answer
from itscale.progress import progress

_CHUNK = 64
_WHOLE = re.compile(r"-?[0-9]{1,15}")
_START_S = 600.0  # importing sympy in a fresh worker, on a machine with much else to do
_MEMORY_BYTES = 4 << 30


def _limit_memory() -> None:
    import resource
    import sys

    if sys.platform.startswith("linux"):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def _equal(pairs: list[tuple[str, str]]) -> list[bool]:
    """In the worker: is each answer the same as its reference? math-verify's own timers stay off, the parent has them."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, StringExtractionConfig, parse, verify

    def parsed(answer: str) -> list:
        # Words are compared as words; math-verify would read them as products of letters.
        words = answer.replace("\\text", "").strip("{} ")
        if words.replace(" ", "").isalpha() and len(words) >= 3:
            return [words.casefold()]
        configs = (LatexExtractionConfig(), ExprExtractionConfig(), StringExtractionConfig())
        return parse(f"$\\boxed{{{answer}}}$", extraction_config=configs, parsing_timeout=None, raise_on_error=False)

    return [bool(verify(parsed(ref), parsed(ans), timeout_seconds=None, raise_on_error=False)) for ref, ans in pairs]


class Comparer:
    """Compares (reference, answer) pairs, each distinct pair once; a context manager, since it owns a process."""

    def __init__(self, time_limit: float) -> None:
        self._limit = time_limit
        self._known: dict[tuple[str, str], bool | None] = {}
        self._warm = False
        self._pool = ProcessPool(max_workers=1, initializer=_limit_memory, context=multiprocessing.get_context("spawn"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.stop()
        self._pool.join()

    def compare(self, pairs: list[tuple[str, str]]) -> list[bool | None]:
        """Per pair: equal, different, or None where the comparison was killed."""
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        for pair in new:
            reference, answer = pair[0].strip(), pair[1].strip()
            if reference == answer:
                self._known[pair] = True
            elif _WHOLE.fullmatch(reference) and _WHOLE.fullmatch(answer):  # no need to ask anybody
                self._known[pair] = int(reference) == int(answer)
        new = [pair for pair in new if pair not in self._known]
        for start in range(0, len(new), _CHUNK):
            chunk = new[start : start + _CHUNK]
            results = self._run(chunk, self._limit)
            if results is None:  # somebody in it hangs: find out who
                results = [(self._run([pair], self._limit) or [None])[0] for pair in chunk]
            self._known.update(zip(chunk, results, strict=True))
        return [self._known[pair] for pair in pairs]

    def start(self) -> None:
        """Start the worker, whose imports take seconds, unless it is there; the first comparison would do it too."""
        if not self._warm:
            self._pool.schedule(_equal, args=[[("1", "2")]], timeout=_START_S).result()
            self._warm = True

    def _run(self, pairs: list[tuple[str, str]], limit: float) -> list[bool] | None:
        self.start()  # a fresh worker imports first, on its own time
        try:
            return self._pool.schedule(_equal, args=[pairs], timeout=limit).result()
        except (OutOfTime, ProcessExpired, MemoryError):
            self._warm = False
            return None


def cluster_answers(
    rows: list[list[str | None]], comparer: Comparer, labels: list[dict[str, int]] | None = None
) -> list[list[int]]:
    """Cluster each row's answers greedily in order, each against the first member of every cluster so far.

    A prefix's clusters never change. -1: no answer; a comparison that was killed counts as different. Rows advance
    together, one candidate at a time, so that comparisons travel in large batches. `labels` are the clusters of the
    answers that a row had before (answer -> cluster, in order), and are extended by the new ones.
    """
    labels = [{} for _ in rows] if labels is None else labels
    distinct = [list(dict.fromkeys(a for a in row if a is not None and a not in labels[i])) for i, row in enumerate(rows)]
    representatives = [_first_members(known) for known in labels]
    position, candidate = [0] * len(rows), [0] * len(rows)
    waiting = [i for i in range(len(rows)) if distinct[i]]
    while waiting:
        asked = []
        for i in waiting:
            answer = distinct[i][position[i]]
            if candidate[i] < len(representatives[i]):
                asked.append((i, (representatives[i][candidate[i]], answer)))
            else:
                labels[i][answer] = len(representatives[i])
                representatives[i].append(answer)
                position[i], candidate[i] = position[i] + 1, 0
        for (i, pair), same in zip(asked, comparer.compare([pair for _, pair in asked]), strict=True):
            if same:
                labels[i][pair[1]] = candidate[i]
                position[i], candidate[i] = position[i] + 1, 0
            else:
                candidate[i] += 1
        waiting = [i for i in waiting if position[i] < len(distinct[i])]
    return [[-1 if a is None else labels[i][a] for a in row] for i, row in enumerate(rows)]


def _first_members(labels: dict[str, int]) -> list[str]:
    members: list[str] = []
    for answer, cluster in labels.items():
        if cluster == len(members):
            members.append(answer)
    return members


def grade_table(samples: pd.DataFrame, problems: list[Problem], time_limit: float = 5.0) -> pd.DataFrame:
    """Answers, clusters and verdicts (schema GRADES) of samples (schema SAMPLES).

    A cluster is graded by its first member. Clusters are numbered within (problem, chain) in submission order.

    Raises:
        UserError: a sample belongs to no problem given.
    """
    refuse_strangers("the samples", samples, problems)
    gold = {p.problem_id: p.answer for p in problems}
    samples = sort_by_key(samples)
    answers = [extract_answer(text) for text in samples["text"]]
    groups = [np.asarray(index) for index in samples.groupby(["problem_id", "chain"], sort=False).indices.values()]
    cluster = np.full(len(samples), -1)
    verdict = np.full(len(samples), Verdict.UNANSWERED.value, dtype=object)
    with Comparer(time_limit) as comparer:
        steps = max(1, len(groups) // 20)
        with progress(description="grading", unit="problem", total=len(groups)) as bar:
            for start in range(0, len(groups), steps):
                part = groups[start : start + steps]
                clusters = cluster_answers([[answers[i] for i in g] for g in part], comparer)
                leaders = [{c: g[clusters[j].index(c)] for c in set(clusters[j]) - {-1}} for j, g in enumerate(part)]
                keys = [(j, c, i) for j, found in enumerate(leaders) for c, i in found.items()]
                pairs = [(gold[samples["problem_id"].iat[i]], answers[i]) for _, _, i in keys]
                assessed = {(j, c): same for (j, c, _), same in zip(keys, comparer.compare(pairs), strict=True)}
                for j, group in enumerate(part):
                    for i, c in zip(group, clusters[j], strict=True):
                        if c >= 0:
                            cluster[i], verdict[i] = c, _verdict(assessed[j, c]).value
                bar.update(len(part))
    return samples[list(KEY)].assign(answer=answers, cluster=cluster, verdict=verdict)[GRADES.names]


def _verdict(same: bool | None) -> Verdict:
    return Verdict.TIMEOUT if same is None else Verdict.CORRECT if same else Verdict.WRONG
