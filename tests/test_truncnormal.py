"""The truncated normal against scipy's quadrature and optimiser, and the printed decisions of the released code."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from itscale import truncnormal
from itscale.policies import make_policy
from itscale.policies.protocol import Batch

CHECKS = Path(__file__).resolve().parents[2] / "shared" / "official" / "stopping_checks.json"
MU, SIGMA, X = st.floats(-1, 2), st.floats(0.05, 2), st.floats(0.01, 0.99)


@given(MU, SIGMA, X)
def test_distribution_agrees_with_scipy(mu, sigma, x):
    e1, e2 = truncnormal.natural(mu, sigma)
    reference = stats.truncnorm((0 - mu) / sigma, (1 - mu) / sigma, mu, sigma)
    assert truncnormal.log_cdf(x, e1, e2) == pytest.approx(reference.logcdf(x), abs=1e-7, rel=1e-7)
    assert truncnormal.log_survival(x, e1, e2) == pytest.approx(reference.logsf(x), abs=1e-7, rel=1e-7)
    assert truncnormal.density(x, e1, e2) == pytest.approx(reference.pdf(x), rel=1e-7)


def test_tail_is_computed_directly():
    e1, e2 = truncnormal.natural(0.2, 0.05)
    expected = integrate.quad(lambda x: np.exp(-0.5 * ((x - 0.2) / 0.05) ** 2), 0.9, 1)[0] / (0.05 * np.sqrt(2 * np.pi))
    assert float(truncnormal.log_survival(0.9, e1, e2)) == pytest.approx(np.log(expected), rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=30))
def test_fit_is_the_maximum_of_the_likelihood(scores):
    scores = np.array(scores)
    if scores.std() < 1e-3:
        return
    fit = truncnormal.fit(np.array([scores.mean()]), np.array([np.mean(scores**2)]))

    def likelihood(parameters):
        e1, e2 = parameters
        return float(e1 * scores.mean() + e2 * np.mean(scores**2) - truncnormal.log_integral(e1, e2))

    best = likelihood((fit.e1[0], fit.e2[0]))
    assert fit.e2[0] <= 0
    # The likelihood is concave: no better neighbour means no better point.
    for direction in np.random.default_rng(0).normal(size=(20, 2)):
        step = direction * np.array([1e-2 * (1 + abs(fit.e1[0])), 1e-2 * (1 + abs(fit.e2[0]))])
        e1, e2 = fit.e1[0] + step[0], min(fit.e2[0] + step[1], 0.0)
        assert likelihood((e1, e2)) <= best + 1e-9 * (1 + abs(best))


def test_fit_agrees_with_a_general_optimiser():
    scores = np.random.default_rng(1).beta(5, 2, size=25)
    fit = truncnormal.fit(np.array([scores.mean()]), np.array([np.mean(scores**2)]))

    def loss(p):
        return -stats.truncnorm.logpdf(scores, -p[0] / p[1], (1 - p[0]) / p[1], p[0], p[1]).sum()

    found = optimize.minimize(loss, [scores.mean(), scores.std()], method="L-BFGS-B", bounds=[(-5, 5), (1e-3, 5)]).x
    sigma = np.sqrt(-0.5 / fit.e2[0])
    assert (fit.e1[0] * sigma**2, sigma) == pytest.approx(tuple(found), abs=2e-3)


def test_bound_holds_the_truncated_exponential():
    mean = 0.7
    rate = optimize.brentq(lambda r: 1 / (1 - np.exp(-r)) - 1 / r - mean, 1e-3, 50)
    square = integrate.quad(lambda x: x**2 * np.exp(rate * x), 0, 1)[0] / integrate.quad(lambda x: np.exp(rate * x), 0, 1)[0]
    fit = truncnormal.fit(np.array([mean, mean]), np.array([square + 0.02, square - 0.02]))
    assert fit.e2[0] == 0 and fit.e2[1] < 0
    assert fit.e1[0] == pytest.approx(rate, rel=1e-6)


@given(st.floats(0.3, 0.9), st.floats(0.05, 0.4), st.floats(0.2, 0.95), st.floats(0.5, 0.99))
def test_samples_needed_is_the_least_number_that_suffices(mu, sigma, s_min, alpha):
    e1, e2 = (np.array([float(v)]) for v in truncnormal.natural(mu, sigma))
    n = int(truncnormal.samples_needed(s_min, alpha, truncnormal.Fit(e1, e2, np.array([mu]), np.array([False])), 64)[0])
    f = stats.truncnorm.cdf(s_min, -mu / sigma, (1 - mu) / sigma, mu, sigma)
    enough = [k for k in range(1, 65) if 1 - f**k >= alpha - 1e-9]
    assert n == (enough[0] if enough else 64)


def test_samples_needed_at_the_ends():
    narrow = truncnormal.fit(np.array([0.5, 0.95]), np.array([0.25, 0.95**2]))
    assert narrow.degenerate.all()
    assert truncnormal.samples_needed(0.9, 0.9, narrow, 64).tolist() == [64, 1]


def test_confidence_holds_where_the_distribution_is_known():
    rng, mu, sigma, s_min, alpha = np.random.default_rng(0), 0.5, 0.2, 0.8, 0.9
    e1, e2 = (np.array([float(v)]) for v in truncnormal.natural(mu, sigma))
    n = int(truncnormal.samples_needed(s_min, alpha, truncnormal.Fit(e1, e2, np.array([mu]), np.array([False])), 200)[0])
    draws = stats.truncnorm.rvs(-mu / sigma, (1 - mu) / sigma, mu, sigma, size=(4000, n), random_state=rng)
    reached = (draws.max(axis=1) >= s_min).mean()
    assert reached >= alpha - 3 * np.sqrt(alpha * (1 - alpha) / 4000)


@pytest.mark.skipif(not CHECKS.exists(), reason="the released stopping decisions are not here")
def test_number_of_samples_agrees_with_the_released_code():
    exact, explained = [], []
    for dataset in json.loads(CHECKS.read_text())["datasets"]:
        for cell in dataset["cells"]:
            parameters = dataset["params"][str(cell["peek"])][: len(cell["min_N"])]
            mu, sigma = np.array([p[cell["method"].lower()] for p in parameters]).T

            def needed(mu, sigma, cell=cell):
                e1, e2 = truncnormal.natural(mu, np.maximum(sigma, 1e-6))
                fit = truncnormal.Fit(e1, e2, mu, np.zeros(len(mu), bool))
                n = truncnormal.samples_needed(cell["target_score"], 1 - cell["percentile"], fit, cell["max_N"])
                return np.clip(n, cell["peek"], cell["max_N"])

            expected = np.array(cell["min_N"])
            exact.append(needed(mu, sigma) == expected)
            # Parameters are printed to four decimals, and the released code walks a grid that overshoots by up to 3.
            corners = [needed(mu + i * 5e-5, sigma + j * 5e-5) for i in (-1, 0, 1) for j in (-1, 0, 1)]
            explained.append((np.min(corners, axis=0) <= expected) & (expected <= np.max(corners, axis=0) + 3))
    exact, explained = np.concatenate(exact), np.concatenate(explained)
    assert len(exact) > 30_000
    assert exact.mean() > 0.97
    assert explained.mean() > 0.999


def test_released_peeks_are_the_papers():
    batch = Batch(np.zeros(1, int), np.empty((1, 0), int), np.empty((1, 0)), np.empty((1, 0), int))
    for n_max, peek in {8: 3, 16: 5, 32: 10, 64: 20}.items():
        policy = make_policy("optscale", variant="paper", s_min=0.9, alpha=0.9, n_max=n_max)
        assert policy.step(policy.init(1), batch, batch.n)[1].want.tolist() == [peek]
