"""What a rule does per question: the mean of its replays, or for a fixed number of samples the expectation over all orders."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from itscale.data.ledger import Ledger
from itscale.data.records import Pool
from itscale.drivers.replay import Outcomes, per_problem, refuse_misfit
from itscale.errors import UserError
from itscale.policies.fixed import BestOfN, SelfConsistency
from itscale.policies.protocol import Policy, usable_scores
from itscale.theory.subsets import MOST_VOTES, any_of, best_of, plurality_of


@dataclass(frozen=True, slots=True)
class Means:
    """Accuracy and tokens per question, [P], or [N, P] for each of several numbers of samples."""

    accuracy: np.ndarray
    ledger: Ledger


def replayed(outcomes: Outcomes, problems: int) -> Means:
    """The mean of each question's replays, [P]."""

    def mean(values: np.ndarray | int) -> np.ndarray:
        return per_problem(np.broadcast_to(values, outcomes.problem.shape), outcomes, problems)

    return Means(mean(outcomes.correct), Ledger(**{f.name: mean(getattr(outcomes.ledger, f.name)) for f in fields(Ledger)}))


def expected(rule: type[BestOfN | SelfConsistency], pool: Pool, numbers: Sequence[int]) -> Means:
    """What is expected over every choice of N samples and every order of them, for each N of `numbers`, [len(numbers), P].

    Raises:
        UserError: as `replay` does; or self-consistency's is wanted of more samples a question than its closed form holds.
    """
    refuse_misfit(rule(max(numbers)), pool)
    if rule is SelfConsistency and pool.size > MOST_VOTES:
        raise UserError(
            f"the pool has {pool.size} samples a question, and what is expected of self-consistency is computed for "
            f"{MOST_VOTES} at most: give a pool of fewer."
        )
    n, problems = np.array(numbers), len(pool.problem_ids)
    if rule is BestOfN:
        chance = _by_count(lambda part: best_of(usable_scores(part), part.correct), pool)
    else:
        chance = _by_count(lambda part: plurality_of(part.cluster, part.correct, min(n.max(), part.size)), pool)
    paid = ["prompt", "cached_prompt", "completion", *(["verifier"] if rule.needs_scores else [])]
    drawn = np.minimum(n[:, None], pool.have)  # [N, R]
    spent = {kind: drawn * (getattr(pool, f"{kind}_tokens").sum(axis=1) / pool.have) for kind in paid}
    means = {kind: np.stack([per_problem(values, pool, problems) for values in each]) for kind, each in spent.items()}
    return Means(_per_number(chance, pool, numbers), Ledger(**means))


def pass_at(pool: Pool, numbers: Sequence[int]) -> np.ndarray:
    """Probability that any of N samples is correct, for each N of `numbers`, [len(numbers), P]."""
    return _per_number(_by_count(lambda part: any_of(part.correct), pool), pool, numbers)


def _by_count(chance: Callable[[Pool], np.ndarray], pool: Pool) -> np.ndarray:
    """Chances [R, K] of each number of samples; a row that has fewer gives all that it has."""
    if pool.counts is None:
        return chance(pool)
    found = np.empty((pool.rows, pool.size))
    for count in np.unique(pool.counts):
        rows = np.flatnonzero(pool.counts == count)
        values = chance(pool.subset(rows).first(int(count)))
        found[rows] = values[:, np.minimum(np.arange(pool.size), values.shape[1] - 1)]
    return found


def _per_number(chance: np.ndarray, pool: Pool, numbers: Sequence[int]) -> np.ndarray:
    return np.stack([per_problem(chance[:, n - 1], pool, len(pool.problem_ids)) for n in numbers])


def question_means(policy: Policy, pool: Pool, outcomes: Outcomes) -> Means:
    """Means [P] of a rule's replays; the expectation in their place where they are over several orders and it has a closed form.

    It has one for best-of-N and self-consistency (theory/subsets.py), not for weighted best-of-N.
    """
    if len(outcomes.problem) == pool.rows or not isinstance(policy, BestOfN | SelfConsistency) or pool.size > MOST_VOTES:
        return replayed(outcomes, len(pool.problem_ids))
    found = expected(type(policy), pool, [policy.limit])
    spent = {f.name: np.broadcast_to(getattr(found.ledger, f.name), found.accuracy.shape)[0] for f in fields(Ledger)}
    return Means(found.accuracy[0], Ledger(**spent))
