"""Votes to rewards, weights and the figures of a step (docs/optpo.md): pure functions of small arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from itscale.theory.voting import plurality


@dataclass(frozen=True, slots=True)
class Vote:
    """One prompt's rollouts in submission order: cluster [t] (-1: no answer) and, for analysis only, correct [t].

    The first `kept` of them are the training group.
    """

    cluster: np.ndarray
    correct: np.ndarray
    kept: int

    @property
    def consensus(self) -> int:
        """The cluster that won, by all t votes; -1 if nobody answered."""
        column = int(plurality(self.cluster[None])[0])
        return int(self.cluster[column]) if column >= 0 else -1

    @property
    def agrees(self) -> np.ndarray:
        """[t]: whether each rollout answered the consensus; one without an answer agrees with nobody."""
        return (self.cluster >= 0) & (self.cluster == self.consensus)


def rewards(vote: Vote, source: str) -> np.ndarray:
    """Reward [kept] of the training group: 1 for the consensus answer (`votes`) or the right one (`gold`, an upper bound)."""
    chosen = vote.correct if source == "gold" else vote.agrees
    return chosen[: vote.kept].astype(float)


def row_weights(kept: Sequence[int]) -> list[np.ndarray]:
    """Weight of each training row, by prompt: the objective is the mean over prompts of the mean over a prompt's rollouts."""
    return [np.full(k, 1 / (len(kept) * k)) for k in kept]


def vote_entropy(cluster: np.ndarray) -> float:
    """Entropy (nats) of the answers of a vote; rollouts without an answer count as one more."""
    share = np.unique(cluster, return_counts=True)[1] / len(cluster)
    return float(-(share * np.log(share)).sum())


def step_figures(votes: Sequence[Vote], rewarded: Sequence[np.ndarray], group: int) -> dict[str, float | int | list[int]]:
    """What the votes of one step were like, averaged over prompts; accuracies read the gold answers, for analysis only.

    `rewarded` [kept] by prompt is what was paid: `reward_accuracy` is how often it is what the gold answer would pay. The entropy
    is of the first `group` rollouts, since it grows with their number and votes differ in length.
    """
    consensus_right = [bool(v.correct[v.agrees].any()) for v in votes]
    reward_right = [float(((paid > 0) == v.correct[: v.kept]).mean()) for v, paid in zip(votes, rewarded, strict=True)]
    return {
        "votes": [len(v.cluster) for v in votes],
        "rollouts": sum(len(v.cluster) for v in votes),
        "trained": sum(v.kept for v in votes),
        "label_accuracy": float(np.mean(consensus_right)),
        "reward_accuracy": float(np.mean(reward_right)),
        "majority_ratio": float(np.mean([v.agrees.mean() for v in votes])),
        "unanswered": float(np.mean([(v.cluster < 0).mean() for v in votes])),
        "rollout_accuracy": float(np.mean([v.correct.mean() for v in votes])),
        "vote_entropy": float(np.mean([vote_entropy(v.cluster[:group]) for v in votes])),
    }
