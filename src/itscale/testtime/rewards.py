"""Votes to rewards, weights and the figures of a step (docs/optpo.md): pure functions of small arrays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from itscale.theory.answertypes import AnswerTypes, mode_posterior
from itscale.theory.voting import plurality


@dataclass(frozen=True, slots=True)
class Vote:
    """One prompt's rollouts in submission order: cluster [t] (-1: no answer) and, for analysis only, correct [t].

    The first `kept` of them are the training group. `undecided`: the vote went on to its limit, the rule never being sure; one
    of a fixed size always does.
    """

    cluster: np.ndarray
    correct: np.ndarray
    kept: int
    undecided: bool = False

    @property
    def consensus(self) -> int:
        """The cluster that won, by all t votes; -1 if nobody answered."""
        column = int(plurality(self.cluster[None])[0])
        return int(self.cluster[column]) if column >= 0 else -1

    @property
    def agrees(self) -> np.ndarray:
        """[t]: whether each rollout answered the consensus; one without an answer agrees with nobody."""
        return (self.cluster >= 0) & (self.cluster == self.consensus)

    @property
    def counts(self) -> np.ndarray:
        """Votes by cluster, none for one that nobody gave."""
        return np.bincount(self.cluster[self.cluster >= 0], minlength=2)


def sureness(vote: Vote, types: AnswerTypes) -> float:
    """Posterior that the consensus is the question's mode (theory/answertypes.py); 0 if nobody answered."""
    counts = np.sort(vote.counts)[::-1]
    return float(mode_posterior(types, counts[0], counts[1], counts[2:].sum())) if counts[0] else 0.0


def agreement(vote: Vote, types: AnswerTypes | None) -> np.ndarray:
    """1 for the consensus answer (TTRL, OptPO)."""
    return vote.agrees.astype(float)


def gold(vote: Vote, types: AnswerTypes | None) -> np.ndarray:
    """1 for the right answer: an upper bound, which reads the answers."""
    return vote.correct.astype(float)


def posterior(vote: Vote, types: AnswerTypes | None) -> np.ndarray:
    """The posterior of each rollout's answer: the consensus' own, what is left to the others by their votes; 0 unanswered."""
    counts, sure, agrees = vote.counts, sureness(vote, types), vote.agrees
    others = max(counts.sum() - counts.max(), 1)
    share = np.where(vote.cluster >= 0, counts[vote.cluster], 0)
    return np.where(agrees, sure, (1 - sure) * share / others)


def entropy(vote: Vote, types: AnswerTypes | None) -> np.ndarray:
    """The share of rollouts with the same answer, 0 unanswered: what lowers the answers' entropy (EMPO, arXiv 2504.05812)."""
    return np.where(vote.cluster >= 0, vote.counts[vote.cluster], 0) / len(vote.cluster)


def snr(vote: Vote, types: AnswerTypes | None) -> np.ndarray:
    """What each rollout adds to the vote's signal-to-noise ratio: with all, less without it, times their number.

    The ratio is that of paulaoak/condorcet_ttrl, (a - b)^2 / (n (a + b)) + (2 a + b - n)^2 / (n (n - b)) for a votes of n for the
    leader, b for the runner-up. It is one number for all rollouts of a prompt; what a group's mean leaves of it is 0.
    """
    n = len(vote.cluster)
    whole, without = _snr(vote.counts, n), {}
    for answer in set(vote.cluster.tolist()):
        counts = vote.counts
        if answer >= 0:
            counts[answer] -= 1
        without[answer] = _snr(counts, n - 1)
    return np.array([n * (whole - without[answer]) for answer in vote.cluster.tolist()])


def _snr(counts: np.ndarray, n: int) -> float:
    first, second = np.sort(counts)[::-1][:2].tolist()
    if first == 0:
        return 0.0
    return (first - second) ** 2 / (n * (first + second)) + (2 * first + second - n) ** 2 / (n * (n - second))


# What a rollout is paid, [t] of all t rollouts of a vote. `certified` and `weighted` pay agreement, and weigh the question.
REWARDS: dict[str, Callable[[Vote, AnswerTypes | None], np.ndarray]] = {
    "votes": agreement,
    "gold": gold,
    "certified": agreement,
    "weighted": agreement,
    "posterior": posterior,
    "entropy": entropy,
    "snr": snr,
}
NEED_TYPES = ("certified", "weighted", "posterior")
# Rewards that are right or wrong; the others pay every answer something.
ALL_OR_NOTHING = ("votes", "gold", "certified", "weighted")


def rewards(vote: Vote, source: str, types: AnswerTypes | None = None) -> np.ndarray:
    """Reward [kept] of the training group, by a name of `REWARDS`."""
    return REWARDS[source](vote, types)[: vote.kept]


def question_weight(vote: Vote, source: str, types: AnswerTypes | None, eps: float) -> float:
    """How much a question counts: 0 where the label is not known (`certified`), the posterior (`weighted`), else 1.

    Certified is a vote that stopped before its limit with a posterior of 1 - `eps` that its consensus is the mode.
    """
    if source == "certified":
        return float(not vote.undecided and sureness(vote, types) >= 1 - eps)
    return sureness(vote, types) if source == "weighted" else 1.0


def row_weights(kept: Sequence[int], of_question: Sequence[float] | None = None) -> list[np.ndarray]:
    """Weight of each training row, by prompt: the objective is the mean over prompts of the mean over a prompt's rollouts.

    `of_question` weighs the prompts; one without weight teaches nothing, and the others count as they would beside it.
    """
    weights = of_question or [1.0] * len(kept)
    return [np.full(k, weight / (len(kept) * k)) for k, weight in zip(kept, weights, strict=True)]


def vote_entropy(cluster: np.ndarray) -> float:
    """Entropy (nats) of the answers of a vote; rollouts without an answer count as one more."""
    share = np.unique(cluster, return_counts=True)[1] / len(cluster)
    return float(-(share * np.log(share)).sum())


def step_figures(
    votes: Sequence[Vote],
    rewarded: Sequence[np.ndarray],
    group: int,
    weights: Sequence[float] | None = None,
    source: str = "votes",
) -> dict[str, float | int | list[int]]:
    """What the votes of one step were like, averaged over prompts; accuracies read the gold answers, for analysis only.

    `rewarded` [kept] by prompt is what was paid by `source`: `reward_accuracy` is how often it is what the gold answer would pay,
    nan for a reward that pays every answer something. The entropy is of the first `group` rollouts, since it grows with their
    number and votes differ in length. `weights` are the questions': the figure `rewarded` counts those that have one and of which
    a rollout was paid, `rewarded_right` those of them whose label is right (the consensus; of gold rewards, all).
    """
    counted = [w > 0 and bool(paid.any()) for w, paid in zip(weights or [1.0] * len(votes), rewarded, strict=True)]
    consensus_right = [bool(v.correct[v.agrees].any()) for v in votes]
    labels_right = [True] * len(votes) if source == "gold" else consensus_right
    reward_right = [float(((paid > 0) == v.correct[: v.kept]).mean()) for v, paid in zip(votes, rewarded, strict=True)]
    return {
        "votes": [len(v.cluster) for v in votes],
        "rollouts": sum(len(v.cluster) for v in votes),
        "trained": sum(v.kept for v in votes),
        "label_accuracy": float(np.mean(consensus_right)),
        "reward_accuracy": float(np.mean(reward_right)) if source in ALL_OR_NOTHING else np.nan,
        "rewarded": sum(counted),
        "rewarded_right": sum(right and counts for right, counts in zip(labels_right, counted, strict=True)),
        "majority_ratio": float(np.mean([v.agrees.mean() for v in votes])),
        "unanswered": float(np.mean([(v.cluster < 0).mean() for v in votes])),
        "rollout_accuracy": float(np.mean([v.correct.mean() for v in votes])),
        "vote_entropy": float(np.mean([vote_entropy(v.cluster[:group]) for v in votes])),
    }
