"""Rules that promise an error rate: what they promise, and what a pool measured of it."""

import numpy as np

from itscale.data.records import Pool
from itscale.drivers.replay import per_problem, replay
from itscale.policies.protocol import CODE, Policy, Reason
from itscale.theory.intervals import SHARE, Interval, ratio_interval
from itscale.theory.voting import plurality


def promised_error(policy: Policy) -> float | None:
    """The share of its own stops that a rule says err at most (`eps`, `delta`); None of a rule that says nothing."""
    return next((getattr(policy, name) for name in ("eps", "delta") if hasattr(policy, name)), None)


def consensus_error(policy: Policy, pool: Pool, orders: int, seed: int) -> Interval:
    """Share of a vote's own stops (not those at its limit) whose answer is not the most frequent one of all of the row's samples.

    What a vote promises is about the consensus, not about what is right. The samples that it saw are among those that decide, so
    that the error is rather too low than too high where it sees most of them; NaN where it never stopped by itself.
    """
    found = replay(policy, pool, orders=orders, seed=seed)
    row = np.repeat(np.arange(pool.rows), len(found.problem) // pool.rows)
    mode = plurality(pool.cluster)[row]
    own = (found.reason != CODE[Reason.LIMIT]) & (found.column >= 0)
    answer = pool.cluster[row, np.maximum(found.column, 0)]
    # Where several answers are the most frequent, each of them is.
    size = int(pool.cluster.max(initial=-1)) + 2
    votes = np.stack([np.bincount(each + 1, minlength=size)[1:] for each in pool.cluster])
    wrong = own & (votes[row, np.maximum(answer, 0)] < votes[row, np.maximum(pool.cluster[row, mode], 0)])
    problems = len(pool.problem_ids)
    return ratio_interval(*(per_problem(each.astype(float), found, problems) for each in (wrong, own)), SHARE)
