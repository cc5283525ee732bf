"""Votes studied on their own: what a guarantee is worth where its model fails, the sweep of the lead, votes by difficulty.

Errors of a vote are against the consensus (the most probable answer; on a pool the plurality of samples that the vote cannot
see), which is what the tests are about (docs/optpo.md); accuracy is against the gold answer, which they are not about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from itscale.data.records import Pool
from itscale.drivers.replay import drive, per_problem, replay
from itscale.policies import POLICIES, make_policy
from itscale.policies.calibration import Calibration
from itscale.policies.protocol import CODE, Batch, Policy, Reason
from itscale.studies.promise import HeldOut
from itscale.theory.answertypes import AnswerTypes, answer_types
from itscale.theory.intervals import mean_interval
from itscale.theory.voting import VoteModel, estimate_model, log_ratio, ratio_error_bound, ratio_for_error

DIFFICULTY = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
# Tag of the random streams that rules are estimated from. A tag of 0 would be none: seeds are padded with zeros.
_ESTIMATE = 1


@dataclass(frozen=True, slots=True)
class Errors:
    """Over simulated votes: share that stopped before the limit, share of those that err, of all that err, mean rollouts."""

    stopped: float
    error_of_stopped: float
    error: float
    rollouts: float


def clustered(p0: float, options: int, clustering: float) -> np.ndarray:
    """Answer probabilities [m], the consensus first: p0, and 1 - p0 over the wrong ones.

    `clustering` 0 is the model (all equal); 1 puts as much as possible, though 1 % less than p0, on one wrong answer; between
    them the mixture. The rest is spread evenly.
    """
    uniform = np.full(options - 1, (1 - p0) / (options - 1))
    top = min(0.99 * p0, 1 - p0)
    peaked = np.full(options - 1, (1 - p0 - top) / max(options - 2, 1))
    peaked[0] = top if options > 2 else 1 - p0
    return np.concatenate([[p0], (1 - clustering) * uniform + clustering * peaked])


def simulate(policy: Policy, probabilities: np.ndarray, repeats: int, seed: int) -> Errors:
    """Drive a rule over `repeats` votes of i.i.d. answers with the given probabilities [m], the consensus at index 0."""
    rng = np.random.default_rng(seed)
    answers = rng.choice(len(probabilities), (repeats, policy.limit), p=probabilities)
    blank = np.zeros(answers.shape)
    drawn, column, reason = drive(policy, Batch(np.zeros(repeats, np.int64), answers, blank, blank))
    wrong = answers[np.arange(repeats), column] != 0
    stopped = reason != CODE[Reason.LIMIT]
    return Errors(
        stopped=float(stopped.mean()),
        error_of_stopped=float(wrong[stopped].mean()) if stopped.any() else float("nan"),
        error=float(wrong.mean()),
        rollouts=float(drawn.mean()),
    )


def guarantees(
    seed: int, *, p0: float = 0.4, options: int = 10, eps: float = 0.05, limit: int = 64, repeats: int = 2000
) -> pd.DataFrame:
    """Error of the tests at a nominal error of eps, from answers as in the model to wrong answers that cluster on one.

    `told`: the rule is given the true p0 and m, or all shares of the answers. `estimated`: it estimates them from 100 questions
    of such answers, 64 votes each. What needs neither stands once, under `told`.
    """
    rows = []
    for clustering in (0.0, 0.25, 0.5, 0.75, 1.0):
        truth = clustered(p0, options, clustering)
        sample = np.random.default_rng([seed, _ESTIMATE, int(100 * clustering)]).choice(options, (100, 64), p=truth)
        for source, model in (("told", VoteModel(p0, options)), ("estimated", estimate_model(sample))):
            rules = {
                "vote_ratio": {"ratio": ratio_for_error(eps, model.options)},
                **{name: {"eps": eps} for name in ("vote_posterior", "vote_heuristic", "vote_dirichlet", "vote_bayes")},
                "vote_certified": {"delta": eps},
            }
            if source == "estimated":
                del rules["vote_certified"]  # it knows nothing that could be told
            types = AnswerTypes(truth[None], np.ones(1)) if source == "told" else answer_types(sample)
            for slug, chosen in rules.items():
                rule = make_policy(slug, n_max=limit, **chosen).bind(Calibration(votes=model, types=types))
                found = simulate(rule, truth, repeats, seed)
                rows.append(
                    {
                        "rule": POLICIES[slug].name,
                        "slug": slug,
                        "model": source,
                        "clustering": clustering,
                        "runner_up": float(truth[1:].max()),
                        "p_consensus": model.p0,
                        "options": model.options,
                        "nominal": eps,
                        "stopped": found.stopped,
                        "error_of_stopped": found.error_of_stopped,
                        "error": found.error,
                        "rollouts": found.rollouts,
                    }
                )
    return pd.DataFrame(rows)


# Rules that promise an error, and the setting that holds it.
PROMISES = {"vote_posterior": "eps", "vote_dirichlet": "eps", "vote_bayes": "eps", "vote_certified": "delta"}


def promises(pool: Pool, known: Calibration, levels: Sequence[float], *, benchmark: str, orders: int, seed: int) -> pd.DataFrame:
    """What rules that promise an error make of it on a pool: a row per rule and promise, columns as `HeldOut.measured` has them.

    The last row is the vote of the whole half, whose error is what nearly equal answers alone bring about.
    """
    held_out = HeldOut(pool, orders, seed)
    rules = {
        (name, level): make_policy(name, n_max=held_out.limit, **{setting: level}).bind(known)
        for name, setting in PROMISES.items()
        for level in levels
    }
    rules["self_consistency", float("nan")] = make_policy("self_consistency", n=held_out.limit)
    return pd.DataFrame(
        [
            {"benchmark": benchmark, "rule": POLICIES[name].name, "slug": name, "promised": level, "limit": held_out.limit}
            | held_out.measured(rule)
            for (name, level), rule in rules.items()
        ]
    )


def lead_sweep(pool: Pool, known: VoteModel, leads: Sequence[int], *, benchmark: str, orders: int, seed: int) -> pd.DataFrame:
    """Error, accuracy and rollouts of the lead rule per d: on the pool, in theory, and simulated under the calibrated model.

    Votes have half of a question's samples (`HeldOut`). Theory: the bound (m - 1) / (r^d + m - 1), which holds for votes that
    stop before the limit. Leads beyond the limit are left out.
    """
    held_out = HeldOut(pool, orders, seed)
    log_r, model = float(log_ratio(known.p0, known.options)), clustered(known.p0, known.options, 0.0)
    rows = []
    for lead in leads:
        if lead > held_out.limit:
            continue
        rule = make_policy("vote_lead", lead=lead, n_max=held_out.limit)
        simulated = simulate(rule, model, 4000, seed)
        rows.append(
            {
                "benchmark": benchmark,
                "lead": lead,
                "limit": held_out.limit,
                **held_out.measured(rule),
                "bound": ratio_error_bound(float(np.exp(lead * log_r)), known.options),
                "model_error": simulated.error,
                "model_error_of_stopped": simulated.error_of_stopped,
                "model_rollouts": simulated.rollouts,
                "p_consensus": known.p0,
                "options": known.options,
            }
        )
    return pd.DataFrame(rows)


def votes_to_stop(pool: Pool, policies: Mapping[str, Policy], *, benchmark: str, orders: int, seed: int) -> pd.DataFrame:
    """Votes that each bound rule (by its slug) takes by difficulty: a problem's share of right samples, in fifths."""
    problems = len(pool.problem_ids)
    share = per_problem(pool.correct.sum(axis=1) / pool.have, pool, problems)
    bins = np.clip(np.searchsorted(DIFFICULTY, share, side="right") - 1, 0, len(DIFFICULTY) - 2)
    rows = []
    for slug, policy in policies.items():
        outcomes = replay(policy, pool, orders=orders, seed=seed)
        drawn = per_problem(outcomes.drawn, outcomes, problems)
        right = per_problem(outcomes.correct, outcomes, problems)
        spent = per_problem(np.isin(outcomes.reason, (CODE[Reason.LIMIT], CODE[Reason.EXHAUSTED])), outcomes, problems)
        lost = {kind: per_problem(getattr(outcomes, kind), outcomes, problems) for kind in ("unanswered", "cut_off")}
        for b in range(len(DIFFICULTY) - 1):
            inside = bins == b
            if not inside.any():
                continue
            rows.append(
                {
                    "benchmark": benchmark,
                    "rule": POLICIES[slug].name,
                    "slug": slug,
                    "from": DIFFICULTY[b],
                    "to": DIFFICULTY[b + 1],
                    "problems": int(inside.sum()),
                    **mean_interval(drawn[inside], (1, policy.limit)).columns("votes"),
                    "limit": policy.limit,
                    "at_limit": float(spent[inside].mean()),
                    "accuracy": float(right[inside].mean()),
                    **{kind: float(values[inside].mean()) for kind, values in lost.items()},
                }
            )
    return pd.DataFrame(rows)
