"""How well rates forecast later rounds: pooled against per question, from one re-answer against from all (METHODS section 3).

Rates are fitted to half of each question's chains and held against the other half. What a forecast owes to the questions'
differences alone is shown by chains that are simulated from the fitted first-order chain of each question.
"""

import numpy as np

from itscale.chains.validation import per_question, refit
from itscale.intervals import Interval, mean_interval
from itscale.markov import accuracy_at, pooled_rates, simulate
from itscale.rates import ChainFit, fit_chains

POOLED = "pooled rates"
PER_QUESTION = "rates per question"
ONE_REANSWER = "rates per question, from one re-answer"
LABEL_FREE = "no label (scores, calibration rates)"


def halves(problem: np.ndarray) -> np.ndarray:
    """Every other chain of each question, the first among them, [R] bool."""
    number = np.zeros(len(problem), int)
    for question in np.unique(problem):
        mine = np.flatnonzero(problem == question)
        number[mine] = np.arange(len(mine))
    return number % 2 == 0


def pooled_forecast(correct: np.ndarray, problem: np.ndarray, questions: int) -> np.ndarray:
    """Accuracy [Q, K] with each question's own first-round accuracy, and the rates of all transitions together for all."""
    first = per_question(correct[:, :1], problem, questions)
    return accuracy_at(first, *pooled_rates(correct), np.arange(correct.shape[1]))


def forecast(p0: np.ndarray, a: np.ndarray, b: np.ndarray, rounds: int) -> np.ndarray:
    """Accuracy [Q, rounds] of each question's own chain."""
    return accuracy_at(p0[:, None], a[:, None], b[:, None], np.arange(rounds))


def held_out_errors(correct: np.ndarray, problem: np.ndarray, level: np.ndarray) -> dict[str, list[Interval]]:
    """Forecast minus observed accuracy per round, of each forecast, fitted on one half of the chains and seen on the other."""
    questions, rounds = len(level), correct.shape[1]
    known = halves(problem)
    seen = correct[~known], problem[~known]
    if len(np.unique(seen[1])) < questions:  # one chain a question: nothing is left to hold out
        seen = correct, problem
    given = correct[known], problem[known]
    observed = per_question(*seen, questions)
    forecasts = {
        POOLED: pooled_forecast(*given, questions),
        PER_QUESTION: _fitted(fit_chains(*given, level), rounds),
        ONE_REANSWER: _fitted(fit_chains(given[0][:, :2], given[1], level), rounds),
    }
    return {name: [mean_interval(values) for values in (found - observed).T] for name, found in forecasts.items()}


def _fitted(fit: ChainFit, rounds: int) -> np.ndarray:
    return forecast(fit.p0.question.mean, fit.a.question.mean, fit.b.question.mean, rounds)


def simulated_errors(
    problem: np.ndarray, level: np.ndarray, fit: ChainFit, rounds: int, *, replicates: int = 200, seed: int = 0
) -> dict[str, list[Interval]]:
    """The same errors where re-answering is first order by construction: the mean of replicates, and where 95 % of them lie.

    Questions have the rates of `fit`; each forecast is held against the true accuracy per round.
    """
    rng = np.random.default_rng(seed)
    truth = [rate.question.mean for rate in (fit.p0, fit.a, fit.b)]
    expected = forecast(*truth, rounds)
    errors: dict[str, list[np.ndarray]] = {POOLED: [], PER_QUESTION: [], ONE_REANSWER: []}
    for _ in range(replicates):
        chains = simulate(*(rate[problem] for rate in truth), rounds, rng)
        found = {
            POOLED: pooled_forecast(chains, problem, len(level)),
            PER_QUESTION: forecast(*refit(chains, problem, level, fit), rounds),
            ONE_REANSWER: forecast(*refit(chains[:, :2], problem, level, fit), rounds),
        }
        for name, values in found.items():
            errors[name].append((values - expected).mean(0))
    summary = {}
    for name, values in errors.items():
        low, high = np.quantile(values, (0.025, 0.975), axis=0)
        summary[name] = [Interval(*ends) for ends in zip(np.mean(values, axis=0), low, high, strict=True)]
    return summary


def carries_to(errors: list[Interval], tolerance: float = 0.01) -> int:
    """The last round (from 1) up to which every error is within `tolerance`, or its interval reaches that far."""
    inside = [e.low <= tolerance and e.high >= -tolerance for e in errors]
    return inside.index(False) if False in inside else len(inside)
