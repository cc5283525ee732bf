"""The filter over rounds: which of a chain's answers is correct, from scores and changes alone (docs/markovscale.md; ours).

Hidden state per round: C(orrect) or W(rong), with transition rates a = P(W | C), b = P(C | W). Observed per round: the
verifier score, and whether the answer differs from the last round's. A change belongs to the transition: never C to C,
always C to W and W to C, and with chance q from W to W. A round without an answer is W. The score of a repeated answer is
not independent evidence, so its densities are raised to an exponent (and normalised again).

Everything is in log space; the last axis of messages is the state, C = 0 and W = 1.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from itscale.theory.emissions import GRID, look_up, normalise, weights

# Rates are kept this far from 0 and 1, so that every observation is possible.
_CLIP = 1e-9


@dataclass(frozen=True, slots=True)
class Emissions:
    """Log densities of the score on the emission grid [G]: `fresh` for a new answer, `repeated` for one seen last round."""

    fresh_correct: np.ndarray
    fresh_wrong: np.ndarray
    repeated_correct: np.ndarray
    repeated_wrong: np.ndarray


def temper(correct: np.ndarray, wrong: np.ndarray, exponent: float) -> Emissions:
    """Emissions whose repeated answers count with `exponent` (1: as much as fresh ones, 0: not at all)."""
    return Emissions(correct, wrong, normalise(exponent * correct), normalise(exponent * wrong))


def changes(cluster: np.ndarray) -> np.ndarray:
    """Whether each round's answer differs from the one before, [R, K] bool from clusters [R, K]; False in round 1."""
    return np.concatenate([np.zeros((len(cluster), 1), bool), cluster[:, 1:] != cluster[:, :-1]], axis=1)


def log_emissions(score: np.ndarray, cluster: np.ndarray, emissions: Emissions) -> np.ndarray:
    """log density [R, K, 2] of each round's score in either state; a round without an answer can only be W."""
    repeated = ~changes(cluster)
    repeated[:, 0] = False
    correct, wrong = (
        np.where(repeated, look_up(again, score), look_up(fresh, score))
        for fresh, again in (
            (emissions.fresh_correct, emissions.repeated_correct),
            (emissions.fresh_wrong, emissions.repeated_wrong),
        )
    )
    answered = cluster >= 0
    return np.stack([np.where(answered, correct, -np.inf), np.where(answered, wrong, 0.0)], axis=-1)


def log_moves(a: np.ndarray, b: np.ndarray, q: np.ndarray) -> np.ndarray:
    """log of T[i, j] g(changed | i -> j), [R, 2 (changed), 2 (from), 2 (to)] for rates a, b, q [R] or numbers."""
    a, b, q = np.broadcast_arrays(*(np.clip(np.atleast_1d(np.asarray(v, float)), _CLIP, 1 - _CLIP) for v in (a, b, q)))
    moves = np.zeros((len(a), 2, 2, 2))
    moves[:, 0, 0, 0] = 1 - a
    moves[:, 0, 1, 1] = (1 - b) * (1 - q)
    moves[:, 1, 0, 1] = a
    moves[:, 1, 1, 0] = b
    moves[:, 1, 1, 1] = (1 - b) * q
    with np.errstate(divide="ignore"):
        return np.log(moves)


def log_start(p0: np.ndarray) -> np.ndarray:
    """log P(C), log P(W) of round 1, [R, 2] (or [1, 2] for a number)."""
    p0 = np.clip(np.atleast_1d(np.asarray(p0, float)), _CLIP, 1 - _CLIP)
    return np.log(np.stack([p0, 1 - p0], axis=-1))


def advance(message: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """A message [..., R, 2] over the state one round on, moves [R, 2, 2] (log, from i to j) applied to it."""
    return np.stack([np.logaddexp(message[..., 0] + moves[:, 0, j], message[..., 1] + moves[:, 1, j]) for j in (0, 1)], axis=-1)


def taken(moves: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """The moves [R, 2, 2] that agree with whether the answer changed [R]."""
    return moves[np.arange(len(changed)) if len(moves) > 1 else 0, changed.astype(int)]


@dataclass(frozen=True, slots=True)
class Smoothed:
    """Posteriors of a chain: filtered [R, K] P(C_t | rounds to t), smoothed [R, K] P(C_t | all), log evidence [R]."""

    filtered: np.ndarray
    smoothed: np.ndarray
    log_evidence: np.ndarray


def forward_backward(emission: np.ndarray, changed: np.ndarray, start: np.ndarray, moves: np.ndarray) -> Smoothed:
    """Exact posteriors of chains from log emissions [R, K, 2], changes [R, K], log_start [R or 1, 2], log_moves."""
    rows, rounds, _ = emission.shape
    forward = np.empty((rounds, rows, 2))
    forward[0] = start + emission[:, 0]
    for t in range(1, rounds):
        forward[t] = advance(forward[t - 1], taken(moves, changed[:, t])) + emission[:, t]
    backward = np.zeros((rounds, rows, 2))
    for t in range(rounds - 1, 0, -1):
        following = taken(moves, changed[:, t]).swapaxes(1, 2)
        backward[t - 1] = advance(backward[t] + emission[:, t], following)
    return Smoothed(
        filtered=probability(forward).T,
        smoothed=probability(forward + backward).T,
        log_evidence=np.logaddexp(forward[-1, :, 0], forward[-1, :, 1]),
    )


def probability(message: np.ndarray) -> np.ndarray:
    """P(C) from a log message [..., 2]."""
    return special.expit(message[..., 0] - message[..., 1])


def join(
    joint: np.ndarray, message: np.ndarray, moves: np.ndarray, emission: np.ndarray, t: int
) -> tuple[np.ndarray, np.ndarray]:
    """Take round t into the smoother: (joint, message) after its moves [R, 2, 2] and log emission [R, 2].

    `message` [R, 2] is log P(state now | all seen); `joint` [S, R, 2 (now), 2 (then)] is log P(state of round s, state now | all
    seen), of which the first t are filled. Both are normalised, so that any number of rounds keeps its precision.
    """
    message = advance(message, moves) + emission if t else message + emission
    evidence = np.logaddexp(message[:, 0], message[:, 1])[:, None]
    message = message - evidence
    joint = joint.copy()
    for then in (0, 1):
        joint[:t, :, :, then] = advance(joint[:t, :, :, then], moves) + emission - evidence
    joint[t] = -np.inf
    joint[t, :, 0, 0], joint[t, :, 1, 1] = message[:, 0], message[:, 1]
    return joint, message


def smoothed_so_far(joint: np.ndarray) -> np.ndarray:
    """P(C_s | all seen) [R, S] from `join`'s joint [S, R, 2, 2]; 0 for rounds that are not there yet."""
    return np.exp(np.logaddexp(joint[:, :, 0, 0], joint[:, :, 1, 0])).T


_COARSE = slice(None, None, 4)


def best_one_on(joint: np.ndarray, message: np.ndarray, moves: np.ndarray, emissions: Emissions) -> np.ndarray:
    """Expected best posterior one round on [R]: E max_s P(C_s | the next observation too), the next round among the s.

    Arguments as `join` returns them, moves [R or 1, 2 (changed), 2, 2]. The next score is integrated over every fourth
    point of the emission grid, changed and repeated answers apart.
    """
    width = weights(GRID[_COARSE])
    now, then = np.exp(message), np.exp(joint[..., 0])  # [R, 2 (now)], [S, R, 2 (now)]: C_s and the state now
    total = np.zeros(len(message))
    tables = ((emissions.repeated_correct, emissions.repeated_wrong), (emissions.fresh_correct, emissions.fresh_wrong))
    for changed, pair in enumerate(tables):
        density = np.exp(np.stack([table[_COARSE] for table in pair]))  # [2 (next), G]
        density /= (density @ width)[:, None]
        move = np.broadcast_to(np.exp(moves[:, changed]), (len(message), 2, 2))
        earlier = np.matmul(np.einsum("sri,rij->rsj", then, move), density)  # [R, S, G]
        newest = np.einsum("ri,ri->r", now, move[:, :, 0])[:, None] * density[0]
        total += np.maximum(earlier.max(axis=1), newest) @ width
    return total
