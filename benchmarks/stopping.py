"""OptScale's arithmetic for 1,319 questions: the closed form against the released method's grid walk, fits against L-BFGS-B.

Inputs are made up (beta-distributed scores, a fixed seed) and the same on both sides. The grid walk and L-BFGS-B are written
here as the released method does them, one call a question; the walk runs on every k-th call and is scaled up (`walked` in the
details), as L-BFGS-B is in a short run. Our times are medians of repeats.
"""

from harness import Measurement, Options, run, seconds, spread  # before numpy: it sets the number of threads

import time
from statistics import median

import numpy as np
from scipy import optimize
from scipy.stats import norm

from itscale.theory import truncnormal
from itscale.policies import make_policy
from itscale.policies.calibration import Calibration, Moments
from itscale.data.records import Pool, Unit
from itscale.drivers.replay import replay

QUESTIONS = 1319
TARGETS = np.array([0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.99])
PERCENTILES = np.array([0.01, 0.02, 0.035, 0.05, 0.075, 0.1])
PEEK = {8: 3, 16: 5, 32: 10, 64: 20}
GRID = np.linspace(0, 1, 1000)


def walk(mu: float, sigma: float, target: float, percentile: float, n_max: int) -> int:
    """The released search: for N = 1, 2, ... cumulate the density of the maximum on 1000 points until its percentile is there."""
    a, b = (0 - mu) / sigma, (1 - mu) / sigma
    for n in range(1, n_max + 1):
        mass = norm.cdf(b) - norm.cdf(a)
        density = norm.pdf(GRID, mu, sigma) / mass
        if n > 1:
            density = n * density * np.power((norm.cdf((GRID - mu) / sigma) - norm.cdf(a)) / mass, n - 1)
        cumulated = np.cumsum(density) * (GRID[1] - GRID[0])
        index = np.searchsorted(cumulated / cumulated[-1], percentile)
        if GRID[min(index, len(GRID) - 1)] >= target:
            return n
    return n_max


def minimised(scores: np.ndarray) -> tuple[float, float]:
    """(mu, sigma) by L-BFGS-B from the moments, as the released method fits."""

    def loss(parameters: np.ndarray) -> float:
        mu, sigma = parameters
        mass = norm.cdf((1 - mu) / sigma) - norm.cdf((0 - mu) / sigma)
        if sigma <= 0 or mass <= 0:
            return np.inf
        return -(np.sum(norm.logpdf((scores - mu) / sigma) - np.log(sigma)) - len(scores) * np.log(mass))

    start = [scores.mean(), max(scores.std(), 1e-3)]
    return tuple(optimize.minimize(loss, start, method="L-BFGS-B", bounds=[(None, None), (1e-6, None)]).x)


def likelihood(e1: np.ndarray, e2: np.ndarray, mean: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Mean log-likelihood of each row's scores."""
    return e1 * mean + e2 * square - truncnormal.log_integral(e1, e2)


def measure(options: Options) -> list[Measurement]:
    rng = np.random.default_rng(0)
    questions = 60 if options.short else QUESTIONS
    skill = rng.beta(6, 2, (questions, 1))
    scores = rng.beta(8 * skill + 0.2, 8 * (1 - skill) + 0.2, (questions, 64))
    return [*grid(scores, options.short), *fits(scores, options.short), reestimating(scores, options.short)]


def grid(scores: np.ndarray, short: bool) -> list[Measurement]:
    """Every cell and budget for every question."""
    fits = {n: truncnormal.fit(scores[:, :k].mean(1), (scores[:, :k] ** 2).mean(1)) for n, k in PEEK.items()}
    usable = {n: (f.e2 < -0.02) for n, f in fits.items()}  # the walk needs a (mu, sigma); the exponential limit has none
    normals = {}
    for n, f in fits.items():
        sigma = np.sqrt(-0.5 / np.minimum(f.e2, -0.02))
        normals[n] = truncnormal.known(np.where(usable[n], f.e1 * sigma**2, 0.5), sigma)

    def ours() -> dict[int, np.ndarray]:
        cells = TARGETS[:, None, None], 1 - PERCENTILES[:, None]
        return {n: truncnormal.samples_needed(*cells, f, n) for n, f in normals.items()}

    times, found = seconds(ours, 2 if short else 10), ours()
    calls = [(n, t, p, q) for n in PEEK for t in range(len(TARGETS)) for p in range(len(PERCENTILES)) for q in range(len(scores))]
    every = 101 if short else 211  # coprime to the sizes, so that all cells and budgets come
    start, equal, near = time.perf_counter(), 0, 0
    tried = calls[::every]
    for n, t, p, q in tried:
        f = normals[n]
        sigma = float(np.sqrt(-0.5 / f.e2[q]))
        number = walk(float(f.e1[q]) * sigma**2, sigma, TARGETS[t], PERCENTILES[p], n)
        equal += number == found[n][t, p, q]
        near += abs(number - found[n][t, p, q]) <= 3
    walked = (time.perf_counter() - start) * len(calls) / len(tried)
    details = {
        "calls": len(calls),
        "walked": len(tried),
        "us_per_call": 1e6 * walked / len(calls),
        "equal": equal / len(tried),
        "within 3": near / len(tried),
    }
    return [
        Measurement("48 cells x 4 budgets, closed form", median(times), "s", None, spread(times)),
        Measurement(
            "48 cells x 4 budgets, grid walk (scaled up)",
            walked,
            "s",
            None,
            details,
        ),
        Measurement("48 cells x 4 budgets, how many times faster", walked / median(times), "times", "at least 1000", details),
    ]


def fits(scores: np.ndarray, short: bool) -> list[Measurement]:
    """One fit a question and peek."""
    prefixes = [scores[:, :k] for k in PEEK.values()]
    mean = np.concatenate([p.mean(1) for p in prefixes])
    square = np.concatenate([(p**2).mean(1) for p in prefixes])
    times, fit = seconds(lambda: truncnormal.fit(mean, square), 2 if short else 10), truncnormal.fit(mean, square)
    rows = [row for p in prefixes for row in p]
    every = 7 if short else 1
    start = time.perf_counter()
    theirs = np.array([minimised(row) for row in rows[::every]])
    walked = (time.perf_counter() - start) * len(rows) / len(theirs)
    e1, e2 = truncnormal.natural(theirs[:, 0], theirs[:, 1])
    ours = likelihood(fit.e1[::every], fit.e2[::every], mean[::every], square[::every])
    gain = ours - likelihood(e1, e2, mean[::every], square[::every])
    details = {
        "fits": len(rows),
        "minimised": len(theirs),
        "least gain in mean log-likelihood": float(gain.min()),
        "largest gain": float(gain.max()),
    }
    equal_or_better = 100 * float((gain >= -1e-9).mean())
    return [
        Measurement("one fit, batch", 1e6 * median(times) / len(rows), "us", None, spread(times)),
        Measurement("one fit, L-BFGS-B", 1e6 * walked / len(rows), "us", None, details),
        Measurement("fits, how many times faster", walked / median(times), "times", "at least 200", details),
        Measurement(f"fits with equal or better likelihood, of {len(theirs)}", equal_or_better, "%", "at least 100"),
    ]


def reestimating(scores: np.ndarray, short: bool) -> Measurement:
    """OptScale^0 (ours) looking after every sample, on every prefix of many orders: s_min so high that it hardly ever stops."""
    rows, size = scores.shape
    zero = np.zeros((rows, size), np.int64)
    pool = Pool(
        unit=Unit.SAMPLE,
        problem=np.arange(rows),
        problem_ids=tuple(str(i) for i in range(rows)),
        cluster=zero,
        correct=zero.astype(bool),
        score=scores,
        completion_tokens=zero,
        prompt_tokens=zero,
        cached_prompt_tokens=zero,
        verifier_tokens=zero,
    )
    known = Calibration(moments=Moments(float(scores.mean()), float((scores**2).mean())))
    policy = make_policy("optscale", s_min=0.9999, alpha=0.999, n_max=size, growth=1.0).bind(known)
    orders = 2 if short else 100
    start = time.perf_counter()
    drawn = replay(policy, pool, orders=orders).drawn
    took = time.perf_counter() - start
    details = {"questions": rows, "orders": orders, "looks": int(drawn.sum())}
    return Measurement("re-estimating rule, every prefix of every order", took, "s", None, details)


if __name__ == "__main__":
    run(__doc__, measure)
