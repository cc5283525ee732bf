"""Re-answering as a two-state Markov chain (MarkovScale, METHODS section 3; the closed forms are standard).

a = P(wrong next | correct), b = P(correct next | wrong), p0 = P(first answer correct), t = round - 1.
"""

import numpy as np


def fixed_point(a: np.ndarray, b: np.ndarray, p0: np.ndarray) -> np.ndarray:
    """pi = b / (a + b); p0 where a = b = 0, since nothing ever changes there."""
    total = np.asarray(a) + b
    return np.where(total > 0, b / np.where(total > 0, total, 1), p0)


def accuracy_at(p0: np.ndarray, a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """p_t = pi + (1 - a - b)^t (p0 - pi)."""
    pi = fixed_point(a, b, p0)
    return pi + (1 - np.asarray(a) - b) ** t * (p0 - pi)


def best_depth(p0: float, a: float, b: float, cost: float, t_max: int) -> int:
    """t* = argmax over 0 <= t <= t_max of p_t - cost t, the smallest of equals."""
    t = np.arange(t_max + 1)
    value = accuracy_at(p0, a, b, t) - cost * t
    if cost == 0 and 0 <= 1 - a - b and p0 < fixed_point(a, b, p0):
        return t_max
    return int(np.argmax(value > value.max() - 1e-12))


def transition_counts(correct: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Per chain of correct [R, K]: rounds left from C, C->W moves, rounds left from W, W->C moves, each [R]."""
    before, after = correct[:, :-1], correct[:, 1:]
    return before.sum(1), (before & ~after).sum(1), (~before).sum(1), (~before & after).sum(1)


def pooled_rates(correct: np.ndarray) -> tuple[float, float]:
    """(a, b) of all chains of correct [R, K] together; 0.5 for a state that was never left."""
    n_c, n_cw, n_w, n_wc = (counts.sum() for counts in transition_counts(correct))
    return float(shrunk_rate(n_cw, n_c, 0.5, 0.0)), float(shrunk_rate(n_wc, n_w, 0.5, 0.0))


def shrunk_rate(moves: np.ndarray, rounds: np.ndarray, mean: float, strength: float) -> np.ndarray:
    """(n_moves + k m) / (n_rounds + k): a rate drawn towards m with the weight of k observations; m without any."""
    weight = np.asarray(rounds, float) + strength
    return np.where(weight > 0, (moves + strength * mean) / np.where(weight > 0, weight, 1), mean)
