"""Densities of a verifier score in [0, 1], for correct and for wrong answers, chosen by held-out likelihood.

Candidates: the Beta and the truncated normal distribution by maximum likelihood, and scipy's Gaussian kernel density of
the score's logit. A chosen density is kept as a table over a fixed grid of logits, so that looking up a million scores is
one interpolation, mixed with one percent of the uniform density, so that no single score can prove anything.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
from scipy import special  # scipy.stats takes half a second and is loaded where it is asked for

from itscale.theory import truncnormal

# Scores nearer to 0 or 1 than this are taken to be this near: several densities have no end there.
EDGE = 1e-3
_LOGITS = np.linspace(special.logit(EDGE), special.logit(1 - EDGE), 257)
GRID = special.expit(_LOGITS)
_UNIFORM = 0.01

LogDensity = Callable[[np.ndarray], np.ndarray]


def _beta(scores: np.ndarray) -> LogDensity:
    mean, variance = scores.mean(), max(scores.var(), 1e-8)
    size = max(mean * (1 - mean) / variance - 1, 1e-2)
    try:
        alpha, beta, _, _ = scipy.stats.beta.fit(scores, size * mean, size * (1 - mean), floc=0, fscale=1)
    except scipy.stats.FitError:  # scipy gives up on scores without spread: the moments have to do
        alpha, beta = size * mean, size * (1 - mean)
    return lambda x: scipy.stats.beta.logpdf(x, alpha, beta)


def _truncated_normal(scores: np.ndarray) -> LogDensity:
    fit = truncnormal.fit(scores.mean(), max(np.mean(scores**2), scores.mean() ** 2 + 1e-8))
    e1, e2 = float(fit.e1[0]), float(fit.e2[0])
    return lambda x: e1 * x + e2 * x**2 - truncnormal.log_integral(e1, e2)


def _kernel_of_logits(scores: np.ndarray) -> LogDensity:
    logits = special.logit(scores)
    if np.ptp(logits) < 1e-6:  # a kernel needs spread
        logits = np.array([-1e-3, 1e-3]) + logits[0]
    kernel = scipy.stats.gaussian_kde(logits)
    return lambda x: kernel.logpdf(special.logit(x)) - np.log(x) - np.log1p(-x)


CANDIDATES: dict[str, Callable[[np.ndarray], LogDensity]] = {
    "beta": _beta,
    "truncated normal": _truncated_normal,
    "kernel of logits": _kernel_of_logits,
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen candidate, and every candidate's mean held-out log density per score."""

    name: str
    held_out: dict[str, float]


def inside(scores: np.ndarray) -> np.ndarray:
    """Scores moved off the ends by EDGE."""
    return np.clip(scores, EDGE, 1 - EDGE)


def tabulate(name: str, scores: np.ndarray) -> np.ndarray:
    """Log density of the named candidate, fitted to scores [N >= 1], on GRID; normalised there, 1 % uniform mixed in."""
    log_density = np.asarray(CANDIDATES[name](inside(scores))(GRID), float)
    mixed = np.logaddexp(np.log1p(-_UNIFORM) + normalise(log_density), np.log(_UNIFORM))
    return normalise(mixed)


def normalise(log_density: np.ndarray) -> np.ndarray:
    """A log density on GRID (last axis) with integral 1 over [0, 1] by the trapezium rule, constant beyond the ends."""
    top = log_density.max(axis=-1, keepdims=True)
    return log_density - top - np.log((np.exp(log_density - top) * weights(GRID)).sum(axis=-1, keepdims=True))


def weights(grid: np.ndarray) -> np.ndarray:
    """Of each point of a grid from EDGE to 1 - EDGE in the integral over [0, 1] (trapezium rule); they sum to 1."""
    half = np.diff(grid) / 2
    found = np.concatenate([half, [0.0]]) + np.concatenate([[0.0], half])
    found[[0, -1]] += EDGE
    return found


def look_up(log_density: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Log density [...] of scores [...] from a table; 0 where there is no score (NaN), which says nothing of the state."""
    found = np.interp(special.logit(inside(scores)), _LOGITS, log_density)
    return np.where(np.isnan(scores), 0.0, found)


def choose(scores: np.ndarray, fold: np.ndarray) -> Choice:
    """The candidate of the highest mean log density of held-out scores [N]; fold [N] int groups what is held out together."""
    held_out = {}
    for name in CANDIDATES:
        total = 0.0
        for f in np.unique(fold):
            rest = scores[fold != f]
            table = tabulate(name, rest) if len(rest) else np.zeros_like(GRID)
            total += look_up(table, scores[fold == f]).sum()
        held_out[name] = float(total / len(scores))
    return Choice(max(held_out, key=held_out.__getitem__), held_out)
