"""The tables of the MarkovScale figures, each a function of labelled chains and of what the calibration split said."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd

from itscale.data.records import Pool, Problem
from itscale.drivers.replay import replay
from itscale.policies.calibration import Calibration
from itscale.policies.protocol import Policy
from itscale.policies.rounds import posteriors
from itscale.studies.chains import forecast
from itscale.studies.chains.validation import Fit, Order, per_question, validate
from itscale.theory import markov
from itscale.theory.intervals import SHARE, Interval, mean_interval, paired_difference, ratio_interval
from itscale.theory.rates import ChainFit, Estimate, fit_chains

ALL = "all"
# Simulated datasets of the forecasts: each is fitted as the data are, levels and strengths included.
FORECASTS = 40
# Chains that are traced, and how much (in all) a posterior moves that is worth a look.
_TRACES, _MOVED = 6, 0.1


def levels_of(problem_ids: tuple[str, ...], labels: dict[str, str]) -> tuple[np.ndarray, list[str]]:
    """Level index [Q] of each problem, and the levels' names: numbers in their order, else by name."""
    own = [labels.get(problem_id, "") for problem_id in problem_ids]
    names = sorted(set(own), key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
    return np.array([names.index(name) for name in own]), names


def validation_tables(
    chains: Pool, labels: dict[str, str], known: Calibration, *, benchmark: str, replicates: int, seed: int
) -> dict[str, pd.DataFrame]:
    """Tables `rounds`, `chain_fits`, `questions` and `forecasts` of one benchmark.

    `questions` in `forecasts`: how many questions a row is about. Rows that need two chains a question, one to fit and one to
    hold out, leave out the questions with one; where all have one there are no such rows, and no `carries_to` of them.

    Args:
        chains: labelled chains of the benchmark; with fewer than three rounds nothing is said of their order and memory.
        labels: level of each problem by its id.
        known: what the calibration split said, for the forecast without labels; empty where it had no scores.
        replicates: parametric bootstrap samples.
    """
    level, names = levels_of(chains.problem_ids, labels)
    fit = fit_chains(chains.correct, chains.problem, level, seed)
    fitted, order = validate(chains.correct, chains.problem, level, fit, replicates=replicates, seed=seed)
    p0, a, b = (rate.question.mean for rate in (fit.p0, fit.a, fit.b))
    bound = markov.bounds(p0, a, b)
    observed = per_question(chains.correct, chains.problem, len(level))
    blind = np.full_like(observed, np.nan) if known.strata is None else label_free(chains, known)
    errors: dict[str, forecast.Errors] = {
        "simulation": forecast.simulated_errors(
            chains.problem, level, fit, chains.size, replicates=min(replicates, FORECASTS), seed=seed
        ),
        "data": forecast.held_out_errors(chains.correct, chains.problem, level),
    }
    if known.strata is not None:
        errors["data"][forecast.ALL, forecast.LABEL_FREE] = [
            paired_difference(*each, SHARE) for each in zip(blind.T, observed.T, strict=True)
        ]
    divisible = int(forecast.divisible(chains.problem, len(level)).sum())
    tables = {
        "rounds": _rounds(observed, fitted, bound, blind, level, names),
        "chain_fits": _chain_fits(fit, fitted, order, bound, level, names, errors["data"]),
        "questions": _questions(fit, bound, chains.problem_ids, level, names),
        "forecasts": pd.DataFrame(
            [
                {"source": source, "start": start, "forecast": name, "round": t + 1, **_cells("error", e)}
                | {"questions": len(level) if name == forecast.LABEL_FREE else divisible}
                for source, found in errors.items()
                for (start, name), intervals in found.items()
                for t, e in enumerate(intervals)
            ]
        ),
    }
    return {name: table.assign(benchmark=benchmark) for name, table in tables.items()}


def label_free(chains: Pool, known: Calibration) -> np.ndarray:
    """Forecast accuracy [Q, K] from the first answers' scores and the calibration split's rates, as MarkovScale^0 has them."""
    p0 = known.first_score.of(chains.score[:, 0], chains.cluster[:, 0])
    stratum = known.strata.of(chains.score[:, 0])
    rates = forecast.Rates(p0, known.strata.a[stratum], known.strata.b[stratum])
    return per_question(rates.accuracy(chains.size), chains.problem, len(chains.problem_ids))


def _rounds(
    observed: np.ndarray, fit: Fit, bound: markov.Bounds, blind: np.ndarray, level: np.ndarray, names: list[str]
) -> pd.DataFrame:
    rows = []
    for group, name in enumerate([*names, ALL]):
        mine = (level == group) | (group == len(names))
        ends = markov.Bounds(bound.lower[mine], bound.neutral[mine], bound.upper[mine]).mean()
        for t in range(observed.shape[1]):
            seen = mean_interval(observed[mine, t], SHARE)
            rows.append(
                {
                    "level": name,
                    "round": t + 1,
                    "observed": seen.mean,
                    "observed_low": seen.low,
                    "observed_high": seen.high,
                    "predicted": fit.predicted[group, t],
                    "predicted_low": fit.low[group, t],
                    "predicted_high": fit.high[group, t],
                    "label_free": blind[mine, t].mean(),
                    "lower": ends.lower,
                    "neutral": ends.neutral,
                    "upper": ends.upper,
                    "fit_p": fit.p_value[group],
                }
            )
    return pd.DataFrame(rows)


def _cells(name: str, value: Interval | Estimate, index: int | None = None) -> dict[str, float]:
    ends = (value.mean, value.low, value.high)
    return {f"{name}{end}": float(v if index is None else v[index]) for end, v in zip(("", "_low", "_high"), ends, strict=True)}


def _chain_fits(
    fit: ChainFit,
    fitted: Fit,
    order: Order,
    bound: markov.Bounds,
    level: np.ndarray,
    names: list[str],
    errors: forecast.Errors,
) -> pd.DataFrame:
    """A row a level and one for all: (p0, a, b, pi) with intervals, bounds, and what the tests of the theory say.

    Intervals of a level are credible ones of its mean; those of all questions are over questions.
    """
    estimates = {"p_first_correct": fit.p0, "p_correct_to_wrong": fit.a, "p_wrong_to_correct": fit.b}
    rows = []
    for index, name in enumerate(names):
        row = {"level": name, "questions": int((level == index).sum())}
        for key, rate in estimates.items():
            row |= _cells(key, rate.level, index)
        row |= _cells("stationary_accuracy", fit.pi_level, index)
        rows.append(row | _bound_cells(bound, level == index) | {"fit_p": float(fitted.p_value[index])})
    row = {"level": ALL, "questions": len(level)}
    for key, values in (*((k, r.question) for k, r in estimates.items()), ("stationary_accuracy", fit.pi)):
        row |= _cells(key, mean_interval(values.mean, SHARE))
    row |= _bound_cells(bound, np.ones(len(level), bool)) | {"fit_p": float(fitted.p_value[-1])}
    row |= {
        "order_within": order.within,
        "order_within_p": order.within_p,
        "order_pooled": order.pooled,
        "order_pooled_p": order.pooled_p,
        "memory_after_wrong": order.memory[0],
        "memory_after_wrong_p": order.memory_p[0],
        "memory_after_correct": order.memory[1],
        "memory_after_correct_p": order.memory_p[1],
    }
    row |= {f"carries_to ({name}; {start})": forecast.carries_to(found) for (start, name), found in errors.items()}
    return pd.DataFrame([*rows, row])


def _bound_cells(bound: markov.Bounds, mine: np.ndarray) -> dict[str, float]:
    cells: dict[str, float] = {}
    for key, values in (("lower", bound.lower), ("neutral", bound.neutral), ("upper", bound.upper)):
        cells |= _cells(key, mean_interval(values[mine], SHARE))
    return cells


def _questions(
    fit: ChainFit, bound: markov.Bounds, problem_ids: tuple[str, ...], level: np.ndarray, names: list[str]
) -> pd.DataFrame:
    """A row a question; `effect` says of one re-answer whether it helps or harms, where its 95 % interval leaves no doubt."""
    effect = np.select([fit.gain.low > 0, fit.gain.high < 0], ["helps", "harms"], "undecided")
    table = {"problem_id": problem_ids, "level": [names[i] for i in level], "effect": effect}
    estimates = {
        "first_gain": fit.gain,
        "p_first_correct": fit.p0.question,
        "p_correct_to_wrong": fit.a.question,
        "p_wrong_to_correct": fit.b.question,
        "stationary_accuracy": fit.pi,
    }
    for key, estimate in estimates.items():
        table |= {key: estimate.mean, f"{key}_low": estimate.low, f"{key}_high": estimate.high}
    return pd.DataFrame({**table, "lower": bound.lower, "neutral": bound.neutral, "upper": bound.upper})


def reliability(chains: Pool, known: Calibration, policy: Policy, *, benchmark: str, bins: int = 10) -> pd.DataFrame:
    """How often answers of a given posterior are correct; intervals over questions, bins of 0 to 1.

    Filtered, smoothed, and recalibrated (the smoothed posterior's worth on held-out calibration questions) of every answer of
    every chain; and of the one answer that the filter `policy` returns, its smoothed posterior when it stopped. Rounds without an
    answer are wrong for certain, and left out.
    """
    found = posteriors(chains, known.strata, known.rounds)
    answered = chains.cluster >= 0
    problem = np.broadcast_to(chains.problem[:, None], answered.shape)[answered]
    correct, smoothed = chains.correct[answered], found.smoothed[answered]
    kinds = {
        "filtered": (problem, correct, found.filtered[answered]),
        "smoothed": (problem, correct, smoothed),
        "recalibrated": (problem, correct, known.rounds.worth(smoothed)),
        "returned": _returned(chains, known, policy),
    }
    edges = np.linspace(0, 1, bins + 1)
    questions = len(chains.problem_ids)
    rows = []
    for kind, (problem, correct, posterior) in kinds.items():
        gap = 0.0
        for low, high in pairwise(edges):
            inside = (posterior >= low) & ((posterior < high) | (high == 1))
            if not inside.any():
                continue
            count = np.bincount(problem[inside], minlength=questions)
            seen = ratio_interval(np.bincount(problem[inside], correct[inside], questions), count, SHARE)
            gap += abs(seen.mean - posterior[inside].mean()) * inside.sum()
            rows.append(
                {
                    "posterior": kind,
                    "bin_low": low,
                    "bin_high": high,
                    "predicted": posterior[inside].mean(),
                    "observed": seen.mean,
                    "observed_low": seen.low,
                    "observed_high": seen.high,
                    "answers": int(inside.sum()),
                }
            )
        for row in rows:
            if row["posterior"] == kind:
                row["calibration_error"] = gap / posterior.size
    return pd.DataFrame(rows).assign(benchmark=benchmark)


def _returned(chains: Pool, known: Calibration, policy: Policy) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Problem, correctness, and posterior at the stop [A] of the answers that a filter returns."""
    outcomes = replay(policy, chains)
    answered = outcomes.column >= 0
    posterior = np.zeros(chains.rows)
    for drawn in np.unique(outcomes.drawn[answered]):
        rows = np.flatnonzero((outcomes.drawn == drawn) & answered)
        mine = chains.subset(rows)
        seen = replace(mine, score=mine.score[:, :drawn], cluster=mine.cluster[:, :drawn])
        smoothed = posteriors(seen, known.strata, known.rounds).smoothed
        posterior[rows] = smoothed[np.arange(len(rows)), outcomes.column[rows]]
    return chains.problem[answered], outcomes.correct[answered], posterior[answered]


def traces(
    chains: Pool,
    known: Calibration,
    policy: Policy,
    *,
    benchmark: str,
    answers: pd.DataFrame | None = None,
    problems: Sequence[Problem] = (),
) -> pd.DataFrame:
    """Posteriors of six chains round by round, beside scores, answers, truth, and where the filter stops and answers.

    The chains are not picked for their looks: of those whose filtered posterior moves by a tenth at least (of all, where fewer
    than six do), those at six evenly spaced ranks of how much it moves (the least and the most moving left out).

    Args:
        answers: columns problem_id, chain, round (both from 0), answer: what the chains answered.
        problems: whose questions and gold answers stand beside them.

    Returns:
        A row per chain and round: benchmark, chain, question, gold, round, filtered, smoothed, score, answer (the cluster's
        number where no answers are given), correct, stop, answered_with.
    """
    found = posteriors(chains, known.strata, known.rounds)
    moved = np.abs(np.diff(found.filtered, axis=1)).sum(1)
    order = np.argsort(moved, kind="stable")
    moving = order[moved[order] >= _MOVED]
    order = moving if len(moving) >= _TRACES else order
    chosen = order[np.linspace(0, len(order) - 1, _TRACES + 2).astype(int)[1:-1]]
    outcomes = replay(policy, chains)
    asked = {problem.problem_id: problem for problem in problems}
    said = {} if answers is None else answers.set_index(["problem_id", "chain", "round"])["answer"].to_dict()
    frames = []
    for row in chosen:
        name = chains.problem_ids[chains.problem[row]]
        number = int((chains.problem[:row] == chains.problem[row]).sum())
        answered = [said.get((name, number, t), cluster) for t, cluster in enumerate(chains.cluster[row])]
        frames.append(
            pd.DataFrame(
                {
                    "benchmark": benchmark,
                    "chain": f"{name}, chain {number}",
                    "question": asked[name].question if name in asked else "",
                    "gold": asked[name].answer if name in asked else "",
                    "round": np.arange(chains.size) + 1,
                    "filtered": found.filtered[row],
                    "smoothed": found.smoothed[row],
                    "score": chains.score[row],
                    "answer": answered,
                    "correct": chains.correct[row],
                    "stop": int(outcomes.drawn[row]),
                    "answered_with": int(outcomes.column[row]) + 1,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)
