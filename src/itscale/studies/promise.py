"""Rules that promise an error rate: what they promise, and what a pool measured of it on samples that the vote could not see."""

from dataclasses import replace

import numpy as np

from itscale.data.records import Pool
from itscale.drivers.limits import with_limit
from itscale.drivers.replay import Outcomes, orders_of, per_problem, replay
from itscale.policies.calibration import Calibration, known_of_votes
from itscale.policies.protocol import CODE, Policy, Reason
from itscale.theory.intervals import SHARE, Interval, mean_interval, ratio_interval


def promised_error(policy: Policy) -> float | None:
    """The share of its own stops that a rule says err at most (`eps`, `delta`); None of a rule that says nothing."""
    return next((getattr(policy, name) for name in ("eps", "delta") if hasattr(policy, name)), None)


class HeldOut:
    """A parallel pool on which a rule votes with half of a question's samples and is assessed by the plurality of the other half.

    In each order the first half of a row's samples is voted on, so that half of them is the limit (half of the fewest that a row
    has). Any answer is right that the other half gives most often. That half is a sample too: where two answers are nearly as
    frequent, it errs itself, and the error is rather too high than too low.
    """

    def __init__(self, pool: Pool, orders: int, seed: int) -> None:
        self.pool, self.orders, self.seed, self.limit = pool, orders, seed, int(pool.have.min(initial=pool.size)) // 2
        self._row = np.repeat(np.arange(pool.rows), orders if orders > 1 else 1)
        others = orders_of(pool, orders, seed).reshape(-1, pool.size)[:, self.limit :]
        self._votes = _votes(pool.cluster[self._row[:, None], others], int(pool.cluster.max(initial=-1)) + 1)

    def measured(self, rule: Policy) -> dict[str, float]:
        """Columns: error (of all votes, and of those that stopped before the limit), rollouts, tokens, accuracy, with intervals
        over questions; and the shares that stopped and were unanswered or cut off."""
        problems = len(self.pool.problem_ids)
        outcomes, wrong, stopped = self._replayed(rule)
        stops = np.bincount(outcomes.problem, stopped, problems)
        measured = {
            "error_of_stopped": ratio_interval(np.bincount(outcomes.problem, wrong & stopped, problems), stops, SHARE),
            "error": mean_interval(per_problem(wrong, outcomes, problems), SHARE),
            "rollouts": mean_interval(per_problem(outcomes.drawn, outcomes, problems), (1, self.limit)),
            "tokens": mean_interval(per_problem(outcomes.ledger.completion, outcomes, problems)),
            "accuracy": mean_interval(per_problem(outcomes.correct, outcomes, problems), SHARE),
        }
        return {
            **{k: v for name, interval in measured.items() for k, v in interval.columns(name).items()},
            "stopped": float(stopped.mean()),
            "unanswered": float(outcomes.unanswered.mean()),
            "cut_off": float(outcomes.cut_off.mean()),
        }

    def error(self, rule: Policy, known: Calibration) -> Interval:
        """Share of the own stops of an unbound rule that err, at most half of a question's samples drawn.

        What the rule reads of votes (p0, m, shapes of answers) is taken from questions that it does not vote on: from the one
        half for the other. NaN where no vote stops by itself, or the rule draws more before its first decision.
        """
        problems = len(self.pool.problem_ids)
        wrong, stops = np.zeros(problems), np.zeros(problems)
        if getattr(rule, "n_min", 1) <= self.limit and problems > 1:
            rule = with_limit(rule, min(rule.limit, self.limit))
            for half in range(2):
                votes = known_of_votes(self.pool.cluster[self.pool.problem % 2 != half])
                bound = rule.bind(replace(known, votes=votes.votes, types=votes.types or known.types))
                outcomes, erred, stopped = self._replayed(bound)
                own = stopped & (outcomes.problem % 2 == half)
                wrong += np.bincount(outcomes.problem, erred & own, problems)
                stops += np.bincount(outcomes.problem, own, problems)
        return ratio_interval(wrong, stops, SHARE)

    def _replayed(self, rule: Policy) -> tuple[Outcomes, np.ndarray, np.ndarray]:
        """What a bound rule did, whether its answer is no mode of the other half, and whether it stopped by itself."""
        outcomes = replay(rule, self.pool, orders=self.orders, seed=self.seed)
        answer = np.where(outcomes.column >= 0, self.pool.cluster[self._row, np.maximum(outcomes.column, 0)], -1)
        return outcomes, ~_leads(self._votes, answer), outcomes.reason != CODE[Reason.LIMIT]


def _votes(cluster: np.ndarray, answers: int) -> np.ndarray:
    """How many of the samples [B, K] give each answer, [B, answers]; -1 votes for none."""
    row, column = np.nonzero(cluster >= 0)
    return np.bincount(answers * row + cluster[row, column], minlength=answers * len(cluster)).reshape(len(cluster), answers)


def _leads(votes: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """Whether no answer has more of the votes [B, C] than `answer` [B] has; without any vote only no answer (-1) agrees."""
    most = votes.max(axis=1, initial=0)
    given = np.where(answer >= 0, votes[np.arange(len(votes)), np.maximum(answer, 0)], 0) if votes.size else most
    return np.where(most > 0, given == most, answer < 0)
