"""How well rates forecast later rounds: pooled against per question, from one re-answer against from all (docs/markovscale.md).

Rates are fitted to half of each question's chains and held against the other half, which takes two chains a question. What a
forecast owes to the questions' differences alone is shown by chains that are simulated from the fitted first-order chain of
each question, and fitted in the same way.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

from itscale.studies.chains.validation import per_question
from itscale.theory.intervals import Interval, ratio_interval
from itscale.theory.markov import accuracy_at, pooled_rates, simulate
from itscale.theory.rates import ChainFit, fit_chains

POOLED = "pooled rates"
PER_QUESTION = "rates per question"
ONE_REANSWER = "rates per question, from one re-answer"
LABEL_FREE = "no label (scores, calibration rates)"
ALL, WRONG = STARTS = ("all chains", "wrong first answer")

Errors = dict[tuple[str, str], list[Interval]]  # (start, forecast) -> a round each


def halves(problem: np.ndarray) -> np.ndarray:
    """Every other chain of each question, the first among them, [R] bool."""
    number = np.zeros(len(problem), int)
    for question in np.unique(problem):
        mine = np.flatnonzero(problem == question)
        number[mine] = np.arange(len(mine))
    return number % 2 == 0


@dataclass(frozen=True, slots=True)
class Rates:
    """p0, a, b of a forecast, each [Q]."""

    p0: np.ndarray
    a: np.ndarray
    b: np.ndarray

    def accuracy(self, rounds: int, start: str = ALL) -> np.ndarray:
        """Accuracy per round [Q, rounds]: of all chains, or of those whose first answer was wrong."""
        p0 = self.p0 if start == ALL else np.zeros_like(self.p0)
        return accuracy_at(p0[:, None], self.a[:, None], self.b[:, None], np.arange(rounds))


def pooled(correct: np.ndarray, problem: np.ndarray, questions: int) -> Rates:
    """Each question's own first-round accuracy, and the rates of all transitions together for every question."""
    a, b = pooled_rates(correct)
    return Rates(per_question(correct[:, :1], problem, questions)[:, 0], np.full(questions, a), np.full(questions, b))


def _fitted(fit: ChainFit) -> Rates:
    return Rates(fit.p0.question.mean, fit.a.question.mean, fit.b.question.mean)


def fitted_to(correct: np.ndarray, problem: np.ndarray, level: np.ndarray) -> dict[str, Rates]:
    """The forecasts that chains correct [R, K] of problem [R] lead to; every question has a chain."""
    return {
        POOLED: pooled(correct, problem, len(level)),
        PER_QUESTION: _fitted(fit_chains(correct, problem, level)),
        ONE_REANSWER: _fitted(fit_chains(correct[:, :2], problem, level)),
    }


def divisible(problem: np.ndarray, questions: int) -> np.ndarray:
    """Whether a question has two chains, one to fit and one to be held out, [Q] bool."""
    return np.bincount(problem, minlength=questions) >= 2


def held_out_errors(correct: np.ndarray, problem: np.ndarray, level: np.ndarray) -> Errors:
    """Forecast minus observed accuracy per round, of each forecast, fitted on one half of the chains and seen on the other.

    Both halves are fitted and seen in turn, so that no error is the luck of the halves. Questions with one chain are left
    out; empty where no question has two: nothing is fitted to what it is held against.
    """
    mine = divisible(problem, len(level))
    if not mine.any():
        return {}
    correct, problem, level = _only(mine, correct, problem, level)
    parts: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    first = halves(problem)
    for known in (first, ~first):
        rates = fitted_to(correct[known], problem[known], level)
        seen = correct[~known], problem[~known]
        for start, (name, given) in product(STARTS, rates.items()):
            parts.setdefault((start, name), []).append(missed(given, *seen, start))
    return {
        key: [ratio_interval(values, sum(n for _, n in both), (-1, 1)) for values in sum(m for m, _ in both).T]
        for key, both in parts.items()
    }


def _only(mine: np.ndarray, correct: np.ndarray, problem: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, ...]:
    """The chains of some questions [Q] bool, with questions and levels numbered anew."""
    kept = mine[problem]
    return correct[kept], (np.cumsum(mine) - 1)[problem[kept]], np.unique(level[mine], return_inverse=True)[1]


def missed(rates: Rates, correct: np.ndarray, problem: np.ndarray, start: str = ALL) -> tuple[np.ndarray, np.ndarray]:
    """Sum of forecast minus observed over a question's chains, per round [Q, K], and how many chains these are [Q]."""
    mine = np.ones(len(problem), bool) if start == ALL else ~correct[:, 0]
    count = np.bincount(problem[mine], minlength=len(rates.p0))
    found = count[:, None] * rates.accuracy(correct.shape[1], start)
    np.subtract.at(found, problem[mine], correct[mine])
    return found, count


def simulated_errors(
    problem: np.ndarray, level: np.ndarray, fit: ChainFit, rounds: int, *, replicates: int = 40, seed: int = 0
) -> Errors:
    """The same errors where re-answering is first order by construction: the mean of replicates, and where 95 % of them lie.

    Questions have the rates of `fit`. Every replicate draws their chains anew and fits half of them as `held_out_errors` fits the
    data, the same questions, levels and strengths included; each forecast is held against the true accuracy per round.
    """
    mine = divisible(problem, len(level))
    if not mine.any():
        return {}
    rng = np.random.default_rng(seed)
    everyone = _fitted(fit)
    truth = Rates(everyone.p0[mine], everyone.a[mine], everyone.b[mine])
    _, problem, level = _only(mine, problem, problem, level)
    known = halves(problem)
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for _ in range(replicates):
        half = simulate(*(rate[problem[known]] for rate in (truth.p0, truth.a, truth.b)), rounds, rng)
        rates = fitted_to(half, problem[known], level)
        for start in STARTS:
            weight = np.ones(len(level)) if start == ALL else 1 - truth.p0
            for name, given in rates.items():
                error = given.accuracy(rounds, start) - truth.accuracy(rounds, start)
                found.setdefault((start, name), []).append(np.average(error, axis=0, weights=weight))
    summary = {}
    for key, values in found.items():
        low, high = np.quantile(values, (0.025, 0.975), axis=0)
        summary[key] = [Interval(*ends) for ends in zip(np.mean(values, axis=0), low, high, strict=True)]
    return summary


def carries_to(found: list[Interval], tolerance: float = 0.01) -> int:
    """The last round (from 1) up to which every error is within `tolerance`, or its interval reaches that far."""
    inside = [e.low <= tolerance and e.high >= -tolerance for e in found]
    return inside.index(False) if False in inside else len(inside)
