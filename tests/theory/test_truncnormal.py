"""The truncated normal against scipy's quadrature and optimiser, and the printed decisions of the released code."""

import json

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from itscale.policies import make_policy
from itscale.policies.protocol import Batch
from itscale.theory import truncnormal
from pools import RELEASED

CHECKS = RELEASED / "stopping_checks.json"
X = st.one_of(st.floats(1e-9, 1 - 1e-9), st.sampled_from([1e-9, 1e-6, 1e-3, 0.999, 1 - 1e-6, 1 - 1e-9]))
SIGMA = st.floats(np.log(1e-3), np.log(10)).map(np.exp)
MU = st.one_of(st.floats(-100, 100), st.floats(-1, 2))
RATE = st.one_of(st.floats(-500, 500), st.floats(-1e-3, 1e-3)).filter(lambda r: r == 0 or abs(r) > 1e-9)


class Reference:
    """The truncated normal in 60 digits, in closed form; `rate` gives the truncated exponential."""

    def __init__(self, mu: float = 0.0, sigma: float = 1.0, rate: float | None = None) -> None:
        self.mu, self.sigma, self.rate = (None if v is None else mpmath.mpf(v) for v in (mu, sigma, rate))

    def mass(self, low, high):
        """Integral of the density without its normaliser."""
        if self.rate is not None:
            return high - low if self.rate == 0 else (mpmath.exp(self.rate * high) - mpmath.exp(self.rate * low)) / self.rate
        low, high = ((v - self.mu) / (self.sigma * mpmath.sqrt(2)) for v in (low, high))
        if low > 0:
            low, high = -high, -low
        if high < 0:
            return (mpmath.erfc(-high) - mpmath.erfc(-low)) / 2
        return (mpmath.erf(high) - mpmath.erf(low)) / 2

    def log_cdf(self, x):
        return -mpmath.log1p(self.mass(x, 1) / self.mass(0, x))

    def log_survival(self, x):
        return -mpmath.log1p(self.mass(0, x) / self.mass(x, 1))

    def log_excess(self, z):
        if self.rate is not None:
            if self.rate == 0:
                return mpmath.log((1 - z) ** 2 / 2)
            e, r = mpmath.exp, self.rate
            return mpmath.log((e(r) * (1 - z) / r - (e(r) - e(r * z)) / r**2) / self.mass(0, 1))
        b, c = (1 - self.mu) / self.sigma, (z - self.mu) / self.sigma
        part = (self.mu - z) * self.mass(z, 1) + self.sigma * (mpmath.npdf(c) - mpmath.npdf(b))
        return mpmath.log(part / self.mass(0, 1))


def agree(got, expected, *, relative: bool) -> None:
    """Within 1e-9: relative, or of max(1, |expected|)."""
    scale = abs(expected) if relative else max(1, abs(expected))
    if relative and abs(expected) < mpmath.mpf("1e-300"):  # below the least double
        assert abs(float(got)) < 1e-290
    else:
        assert abs(mpmath.mpf(float(got)) - expected) <= 1e-9 * scale, (float(got), float(expected))


def check_distribution(x: float, e1: float, e2: float, reference: Reference) -> None:
    with mpmath.workdps(50):
        x_ = mpmath.mpf(x)
        agree(truncnormal.log_cdf(x, e1, e2), reference.log_cdf(x_), relative=True)
        agree(truncnormal.log_survival(x, e1, e2), reference.log_survival(x_), relative=True)
        agree(truncnormal.log_cdf_max(x, 7, e1, e2), 7 * reference.log_cdf(x_), relative=True)
        agree(truncnormal.confidence(x, 7, e1, e2), -mpmath.expm1(7 * reference.log_cdf(x_)), relative=True)
        agree(truncnormal.log_excess(x, e1, e2), reference.log_excess(x_), relative=False)


@settings(max_examples=50, deadline=None)
@given(MU, SIGMA, X)
def test_distribution_agrees_with_mpmath(mu, sigma, x):
    check_distribution(x, *truncnormal.natural(mu, sigma), Reference(mu, sigma))


@settings(max_examples=30, deadline=None)
@given(RATE, X)
def test_exponential_limit_agrees_with_mpmath(rate, x):
    check_distribution(x, rate, 0.0, Reference(rate=rate))


@settings(max_examples=50, deadline=None)
@given(MU, SIGMA, st.floats(0, 1))
def test_density_agrees_with_mpmath(mu, sigma, x):
    with mpmath.workdps(60):
        mu_, sigma_, x_ = (mpmath.mpf(v) for v in (mu, sigma, x))
        total = Reference(mu, sigma).mass(0, 1)
        expected = -(((x_ - mu_) / sigma_) ** 2) / 2 - mpmath.log(sigma_ * mpmath.sqrt(2 * mpmath.pi) * total)
        agree(truncnormal.log_density(x, *truncnormal.natural(mu, sigma)), expected, relative=False)


@pytest.mark.parametrize("n", [1, 64])
@pytest.mark.parametrize(
    ("mu", "sigma"), [(0.5, 0.2), (0.9, 1e-3), (0.05, 1e-3), (100, 10), (1.4, 0.3), (100, 1e-3), (-0.3, 0.05)]
)
def test_expected_maximum_agrees_with_mpmath(mu, sigma, n):
    reference = Reference(mu, sigma)
    near = np.clip(mu + sigma * np.linspace(-9, 9, 25), 0, 1)
    edge = np.geomspace(1e-12, 0.1, 23)
    ends = np.unique(np.r_[0, edge, np.linspace(0, 1, 11), near, 1 - edge, 1])
    nodes, weights = np.polynomial.legendre.leggauss(8)
    x = (ends[:-1, None] + np.diff(ends)[:, None] * (nodes + 1) / 2).ravel()
    with mpmath.workdps(40):
        total = reference.mass(0, 1)
        powers = [float((reference.mass(0, mpmath.mpf(v)) / total) ** n) for v in x]
    expected = 1 - (np.diff(ends)[:, None] * weights / 2).ravel() @ powers
    assert float(truncnormal.expected_maximum(n, *truncnormal.natural(mu, sigma))) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(MU, SIGMA, st.floats(np.log(1e-4), np.log(0.3)).map(np.exp))
def test_reservation_value_pays_exactly_its_cost(mu, sigma, cost):
    e1, e2 = truncnormal.natural(mu, sigma)
    z = float(truncnormal.reservation(cost, e1, e2))
    with mpmath.workdps(50):
        reference = Reference(mu, sigma)
        above, below = (mpmath.exp(reference.log_excess(mpmath.mpf(min(max(v, 0), 1)))) for v in (z - 1e-9, z + 1e-9))
    assert below <= cost and (above >= cost or z < 1e-9)


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


@settings(max_examples=60, deadline=None)
@given(st.floats(np.log(1e-4), np.log(1 - 1e-4)).map(np.exp), st.floats(1e-5, 1.2), st.booleans())
def test_moments_of_the_fit_are_the_given_ones_to_1e_9(mean, share, mirrored):
    mean = 1 - mean if mirrored else mean
    spread = share * min(mean, 1 - mean) if share < 1 else np.sqrt(0.99 * mean * (1 - mean))
    fit = truncnormal.fit(np.array([mean]), np.array([mean**2 + spread**2]))
    e1, e2 = float(fit.e1[0]), float(fit.e2[0])
    if fit.degenerate[0]:
        assert spread**2 <= 1.01e-12
        return
    # Expectations without quadrature: the mean from E[(S - 0)^+], the second moment from the density's derivative.
    with mpmath.workdps(60):
        if e2 < 0:
            sigma = mpmath.sqrt(-1 / (2 * mpmath.mpf(e2)))
            mu = mpmath.mpf(e1) * sigma**2
            reference = Reference(mu, sigma)
            first = mpmath.exp(reference.log_excess(mpmath.mpf(0)))
            edge = mpmath.npdf(1, mu, sigma) / reference.mass(0, 1)
            second = sigma**2 + mu * first - sigma**2 * edge
            assert abs(mpmath.sqrt(second - first**2) - spread) <= 1e-9
        else:
            r = mpmath.mpf(e1)
            first = mpmath.exp(Reference(rate=e1).log_excess(mpmath.mpf(0)))
            own = mpmath.mpf(1) / 12 if abs(r) < 1e-6 else 1 / r**2 - 1 / (4 * mpmath.sinh(r / 2) ** 2)
            assert spread**2 >= own - mpmath.mpf("1e-9")  # the bound binds only there
        assert abs(first - mean) <= 1e-9


def test_fit_of_many_is_the_fit_of_each():
    rng = np.random.default_rng(0)
    scores = rng.beta(rng.uniform(0.3, 30, (5000, 1)), rng.uniform(0.3, 8, (5000, 1)), (5000, 6))
    mean, square = scores.mean(axis=1), (scores**2).mean(axis=1)
    many = truncnormal.fit(mean, square)
    for i in range(0, 5000, 250):
        one = truncnormal.fit(mean[i : i + 1], square[i : i + 1])
        assert (one.e1[0], one.e2[0]) == pytest.approx((many.e1[i], many.e2[i]), rel=1e-7, abs=1e-7)


def test_conjugate_prior_is_a_fit_with_pseudo_samples():
    scores, pseudo = np.array([0.9, 0.7, 0.95]), np.array([0.3, 0.5])
    pooled = np.r_[scores, pseudo]
    fit = truncnormal.fit(np.array([pooled.mean()]), np.array([(pooled**2).mean()]))

    def posterior(p):
        return -stats.truncnorm.logpdf(pooled, -p[0] / p[1], (1 - p[0]) / p[1], p[0], p[1]).sum()

    sigma = np.sqrt(-0.5 / fit.e2[0])
    found = optimize.minimize(posterior, [0.7, 0.3], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12})
    assert posterior((fit.e1[0] * sigma**2, sigma)) <= found.fun + 1e-9


def test_normal_prior_reaches_what_a_general_optimiser_reaches():
    rng = np.random.default_rng(5)
    rows = 60
    count, prior_mu, prior_sigma = rng.choice([3, 5, 10, 20], rows), rng.uniform(0.3, 0.98, rows), rng.uniform(0.01, 0.3, rows)
    scores = [rng.beta(rng.uniform(0.5, 30), rng.uniform(0.5, 5), n) for n in count]
    mean, square = (np.array([f(s) for s in scores]) for f in (np.mean, lambda s: np.mean(s**2)))
    fit = truncnormal.fit_with_normal_prior(count, mean, square, prior_mu, prior_sigma)
    sigma = np.sqrt(-0.5 / fit.e2)
    for i, (mu, s) in enumerate(zip(fit.e1 * sigma**2, sigma, strict=True)):

        def loss(p, i=i):
            density = stats.truncnorm.logpdf(scores[i], -p[0] / p[1], (1 - p[0]) / p[1], p[0], p[1]).sum()
            return -density + ((p[0] - prior_mu[i]) ** 2 + (p[1] - prior_sigma[i]) ** 2) / 0.02

        starts = [(mean[i], max(scores[i].std(), 1e-3)), (prior_mu[i], prior_sigma[i]), (1.2, 0.2)]
        best = min(optimize.minimize(loss, x, method="L-BFGS-B", bounds=[(None, None), (1e-6, None)]).fun for x in starts)
        assert loss((mu, s)) <= best + 1e-8


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
    assume(min(abs(1 - f**k - alpha) for k in range(1, 65)) > 1e-7)  # where rounding decides, either number is right
    enough = [k for k in range(1, 65) if 1 - f**k >= alpha]
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


def released_number(mu, sigma, targets, percentiles, n_max=64):
    """Least N by the released code's walk over a 1000-point grid, [P, T, Q]; n_max where none is enough.

    Its score at a percentile of the maximum reaches the target iff the cumulated density just below the target has not
    reached the percentile.
    """
    x = np.linspace(0, 1, 1000)
    a, b = (0 - mu) / sigma, (1 - mu) / sigma
    mass = (stats.norm.cdf(b) - stats.norm.cdf(a))[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        density = stats.norm.pdf(x, mu[:, None], sigma[:, None]) / mass
        cdf = (stats.norm.cdf((x - mu[:, None]) / sigma[:, None]) - stats.norm.cdf(a)[:, None]) / mass
    below = (x[:, None] < np.asarray(targets)).astype(float)
    number = np.full((len(mu), len(targets), len(percentiles)), n_max)
    for n in range(1, n_max + 1):
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (density @ below) / density.sum(axis=1)[:, None]
        enough = share[:, :, None] < np.asarray(percentiles)
        number = np.where(enough, np.minimum(number, n), number)
        density *= cdf
    return number


@pytest.mark.skipif(not CHECKS.exists(), reason=f"no stopping decisions of the released data in {RELEASED} (ITSCALE_RELEASED)")
def test_number_of_samples_agrees_with_the_released_code():
    exact, near, left = [], [], []
    for dataset in json.loads(CHECKS.read_text())["datasets"]:
        groups = {}
        for cell in dataset["cells"]:
            groups.setdefault((cell["peek"], cell["method"].lower(), cell["max_N"]), []).append(cell)
        for (peek, method, n_max), cells in groups.items():
            parameters = dataset["params"][str(peek)][: len(cells[0]["min_N"])]
            mu, sigma = np.array([p[method] for p in parameters]).T
            targets = sorted({c["target_score"] for c in cells})
            percentiles = sorted({c["percentile"] for c in cells})
            fit = truncnormal.known(mu, np.maximum(sigma, 1e-6))
            grid = released_number(mu, np.maximum(sigma, 1e-6), targets, percentiles, n_max)
            for cell in cells:
                expected = np.array(cell["min_N"])
                closed = truncnormal.samples_needed(cell["target_score"], 1 - cell["percentile"], fit, n_max)
                walked = grid[:, targets.index(cell["target_score"]), percentiles.index(cell["percentile"])]
                closed, walked = np.clip(closed, peek, n_max), np.clip(walked, peek, n_max)
                exact.append(closed == expected)
                near.append(np.abs(walked - expected) <= 1)
                left += [(mu[i], sigma[i], cell, expected[i]) for i in np.flatnonzero(~near[-1])]
    exact, near = np.concatenate(exact), np.concatenate(near)
    assert len(exact) > 30_000
    # The rest is the grid: where it is walked as released, the number is the released one but for the rounding.
    assert exact.mean() >= 0.97
    assert near.mean() > 0.999
    # The parameters are printed to four decimals: what is further off than 1 lies within the rounding.
    for mu, sigma, cell, expected in left:
        d = np.linspace(-5e-5, 5e-5, 5)
        around = [np.array(v).ravel() for v in np.meshgrid(mu + d, np.maximum(sigma + d, 1e-6))]
        n = released_number(*around, [cell["target_score"]], [cell["percentile"]], cell["max_N"]).ravel()
        n = np.clip(n, cell["peek"], cell["max_N"])
        assert n.min() - 1 <= expected <= n.max() + 1, (mu, sigma, cell["target_score"], expected, n.min(), n.max())


def test_released_peeks_are_the_papers():
    batch = Batch(np.zeros(1, int), np.empty((1, 0), int), np.empty((1, 0)), np.empty((1, 0), int))
    for n_max, peek in {8: 3, 16: 5, 32: 10, 64: 20}.items():
        policy = make_policy("optscale", variant="paper", s_min=0.9, alpha=0.9, n_max=n_max)
        assert policy.step(policy.init(1), batch, batch.n)[1].want.tolist() == [peek]
