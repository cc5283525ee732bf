"""What a vote's guarantee is worth: errors of the stopping rules where OptPO's model holds, and where wrong answers cluster.

The errors are against the consensus (the most probable answer), which is what the test is about (METHODS section 4).
"""

from dataclasses import dataclass

import numpy as np

from itscale.policies.protocol import CODE, Batch, Policy, Reason
from itscale.replay import drive


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
    used, column, reason = drive(policy, Batch(np.zeros(repeats, np.int64), answers, blank, blank))
    wrong = answers[np.arange(repeats), column] != 0
    stopped = reason != CODE[Reason.LIMIT]
    return Errors(
        stopped=float(stopped.mean()),
        error_of_stopped=float(wrong[stopped].mean()) if stopped.any() else float("nan"),
        error=float(wrong.mean()),
        rollouts=float(used.mean()),
    )
