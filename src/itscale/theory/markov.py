"""Re-answering as a two-state Markov chain (MarkovScale, docs/markovscale.md; the closed forms are standard).

a = P(wrong next | correct), b = P(correct next | wrong), p0 = P(first answer correct), t = round - 1. Every function is
vectorised over arrays that broadcast together; probabilities are numbers, not percent.
"""

from dataclasses import dataclass

import numpy as np


def fixed_point(a: np.ndarray, b: np.ndarray, p0: np.ndarray) -> np.ndarray:
    """pi = b / (a + b); p0 where a = b = 0, since nothing ever changes there."""
    total = np.asarray(a) + b
    return np.where(total > 0, b / np.where(total > 0, total, 1), p0)


def accuracy_at(p0: np.ndarray, a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """p_t = pi + (1 - a - b)^t (p0 - pi), t >= 0 an integer."""
    pi = fixed_point(a, b, p0)
    return pi + (1 - np.asarray(a) - b) ** t * (p0 - pi)


def first_gain(p0: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """p_1 - p_0 = (a + b)(pi - p0) = b (1 - p0) - a p0: above 0 re-answering helps, below it harms (p0 < pi, p0 > pi)."""
    return np.asarray(b) * (1 - np.asarray(p0)) - np.asarray(a) * p0


def gain(p0: np.ndarray, a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """p_{t+1} - p_t = lambda^t (a + b)(pi - p0), lambda = 1 - a - b."""
    return (1 - np.asarray(a) - b) ** t * first_gain(p0, a, b)


def rounds_to_within(eps: float, p0: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Least t with |p_s - pi| <= eps for every s >= t: ln(eps / |p0 - pi|) / ln |lambda|, rounded up.

    0 where p0 is that near already (a = b = 0 among them), 1 where lambda = 0, infinite where a = b = 1.

    Raises:
        ValueError: eps is not above 0 (a chain comes arbitrarily near to pi, but not there).
    """
    if eps <= 0:
        raise ValueError(f"eps is {eps}: it must be above 0")
    distance = np.abs(np.asarray(p0, float) - fixed_point(a, b, p0))
    decay = np.abs(1 - np.asarray(a, float) - b)
    distance, decay = np.broadcast_arrays(distance, decay)
    inside = (decay > 0) & (decay < 1)
    with np.errstate(divide="ignore"):
        needed = np.ceil(np.log(eps / np.maximum(distance, eps)) / np.log(np.where(inside, decay, 0.5)) - 1e-9)
    needed = np.where(inside, np.maximum(needed, 1.0), np.where(decay == 0, 1.0, np.inf))
    return np.where(distance <= eps, 0.0, needed)


def best_depth(p0: np.ndarray, a: np.ndarray, b: np.ndarray, cost: np.ndarray, t_max: int) -> np.ndarray:
    """t* = argmax over 0 <= t <= t_max of p_t - cost t, the smallest of equals; cost in accuracy per round.

    The gains lambda^t g, g = p_1 - p_0, fall geometrically, so for 0 < lambda < 1 t* is their number above the cost:
    ceil(ln(cost / g) / ln lambda - 1e-9), capped; at no cost it is t_max. For lambda <= 0 nothing lies above p_1, and where
    g <= cost nothing above p_0.

    Raises:
        ValueError: a cost is negative.
    """
    p0, a, b, cost = np.broadcast_arrays(*(np.asarray(v, float) for v in (p0, a, b, cost)))
    if (cost < 0).any():
        raise ValueError("the cost of a round must not be negative")
    g, decay = first_gain(p0, a, b), 1 - a - b
    inside = (decay > 0) & (decay < 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.ceil(np.log(cost / np.where(g > 0, g, 1.0)) / np.log(np.where(inside, decay, 0.5)) - 1e-9)
    depth = np.where(inside, np.maximum(depth, 1.0), 1.0)
    return np.minimum(np.where(g > cost, depth, 0.0), t_max).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What re-answering can make of an accuracy p0: never above `upper`, never below `lower`, arrays of one shape."""

    lower: np.ndarray
    neutral: np.ndarray
    upper: np.ndarray

    def mean(self) -> "Bounds":
        """The bounds of a dataset: the means over its questions."""
        return Bounds(*(np.mean(v) for v in (self.lower, self.neutral, self.upper)))


def bounds(p0: np.ndarray, a: np.ndarray, b: np.ndarray) -> Bounds:
    """min and max of (p0, p1, pi), which bound p_t for every t; p1 lies outside [p0, pi] only where lambda < 0."""
    values = np.stack(np.broadcast_arrays(p0, accuracy_at(p0, a, b, 1), fixed_point(a, b, p0)))
    return Bounds(values.min(axis=0), np.asarray(values[0], float), values.max(axis=0))


def simulate(p0: np.ndarray, a: np.ndarray, b: np.ndarray, rounds: int, rng: np.random.Generator) -> np.ndarray:
    """Chains of correct [..., rounds] bool, one for each element of p0, a, b (broadcast together)."""
    p0, a, b = np.broadcast_arrays(p0, a, b)
    chance = rng.random((*p0.shape, rounds))
    correct = np.empty(chance.shape, bool)
    for t in range(rounds):
        before = correct[..., t - 1]
        correct[..., t] = chance[..., t] < (p0 if t == 0 else np.where(before, 1 - a, b))
    return correct


def transition_counts(correct: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Per chain of correct [R, K]: rounds left from C, C->W moves, rounds left from W, W->C moves, each [R]."""
    before, after = correct[..., :-1], correct[..., 1:]
    return before.sum(-1), (before & ~after).sum(-1), (~before).sum(-1), (~before & after).sum(-1)


def pooled_rates(correct: np.ndarray) -> tuple[float, float]:
    """(a, b) of all chains of correct [R, K] together; 0.5 for a state that was never left."""
    n_c, n_cw, n_w, n_wc = (counts.sum() for counts in transition_counts(correct))
    return float(shrunk_rate(n_cw, n_c, 0.5, 0.0)), float(shrunk_rate(n_wc, n_w, 0.5, 0.0))


def shrunk_rate(moves: np.ndarray, rounds: np.ndarray, mean: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """(n_moves + k m) / (n_rounds + k): a rate drawn towards m with the weight of k observations; m without any.

    The MAP under the prior Beta(1 + k m, 1 + k (1 - m)), which is also the posterior mean under Beta(k m, k (1 - m)).
    """
    weight = np.asarray(rounds, float) + strength
    return np.where(weight > 0, (moves + strength * mean) / np.where(weight > 0, weight, 1), mean)
