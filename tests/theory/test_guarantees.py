"""What the stopping rules promise, checked by simulation within Monte Carlo error."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from itscale.drivers.replay import replay
from itscale.policies import make_policy
from itscale.policies.calibration import Calibration, Moments
from itscale.policies.protocol import CODE, Reason
from itscale.studies.optscale import simulated_pool
from itscale.theory import truncnormal

ROWS = 4000
MU, SIGMA = 0.55, 0.2
SURE = 1e7  # pseudo-samples: as good as known parameters


def within(share: float, bound: float, rows: int) -> bool:
    """Not below the bound by more than three standard errors."""
    return share >= bound - 3 * np.sqrt(bound * (1 - bound) / rows)


def known_moments(pool):
    mean, sd = (float(pool.features[name][0]) for name in ("score_mean", "score_sd"))
    return Calibration(moments=Moments(mean, mean**2 + sd**2))


def reached(pool, drawn, s_min):
    return ((pool.score >= s_min) & (np.arange(pool.size) < drawn[:, None])).any(axis=1)


@pytest.mark.parametrize("alpha", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("predicted", [False, True])
def test_optscale_keeps_its_confidence_where_the_parameters_are_known(alpha, predicted):
    pool = simulated_pool(MU, SIGMA, ROWS, 64, 0)
    s_min = 0.85
    policy = make_policy("optscale", s_min=s_min, alpha=alpha, n_max=64, n0=SURE, predicted=predicted).bind(known_moments(pool))
    drawn = replay(policy, pool, orders=1).drawn
    expected = int(truncnormal.samples_needed(s_min, alpha, truncnormal.known(MU, SIGMA), 64)[0])
    assert set(drawn) == {expected}
    assert within(reached(pool, drawn, s_min).mean(), alpha, ROWS)
    fewer = reached(pool, drawn - 1, s_min).mean()
    assert expected == 1 or fewer < alpha + 3 * np.sqrt(alpha * (1 - alpha) / ROWS)  # one sample less would not do


def test_optscale_reaches_another_confidence_where_they_are_estimated():
    """The published one look asks for too much, a prior from elsewhere for too little: neither reaches alpha."""
    pool, s_min, alpha = simulated_pool(MU, SIGMA, ROWS, 64, 1), 0.85, 0.8
    error = np.sqrt(alpha * (1 - alpha) / ROWS)
    needed = int(truncnormal.samples_needed(s_min, alpha, truncnormal.known(MU, SIGMA), 64)[0])
    published = replay(make_policy("optscale", variant="paper", peek=5, s_min=s_min, alpha=alpha, n_max=64), pool, orders=1)
    assert reached(pool, published.drawn, s_min).mean() > alpha + 3 * error and published.drawn.mean() > 1.2 * needed
    elsewhere = Calibration(moments=Moments(0.8, 0.8**2 + 0.1**2))
    ours = make_policy("optscale", s_min=s_min, alpha=alpha, n_max=64, n0=4.0).bind(elsewhere)
    assert reached(pool, replay(ours, pool, orders=1).drawn, s_min).mean() < alpha - 3 * error


def test_threshold_stops_below_its_score_only_at_the_limit():
    pool = simulated_pool(MU, SIGMA, ROWS, 64, 2)
    outcomes = replay(make_policy("score_threshold", s_min=0.85, n_max=64), pool, orders=1)
    assert reached(pool, outcomes.drawn, 0.85)[outcomes.reason == CODE[Reason.THRESHOLD]].all()
    p = float(np.exp(truncnormal.log_survival(0.85, *truncnormal.natural(MU, SIGMA))))
    assert outcomes.drawn.mean() == pytest.approx((1 - (1 - p) ** 64) / p, rel=0.06)  # a geometric, cut at 64


@pytest.mark.parametrize("cost", [0.005, 0.02, 0.06])
def test_no_other_threshold_nets_more_than_the_reservation_value(cost):
    pool = simulated_pool(MU, SIGMA, 20_000, 64, 3)
    z = float(truncnormal.reservation(cost, *truncnormal.natural(MU, SIGMA)))

    def net(stop_at):
        hit = pool.score >= stop_at
        drawn = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 64)
        best = np.where(np.arange(64) < drawn[:, None], pool.score, 0).max(axis=1)
        return best - cost * drawn

    policy = make_policy("pandora", cost=cost, n_max=64, n0=SURE).bind(known_moments(pool))
    small = pool.subset(np.arange(1000))
    hit = small.score >= z
    assert (replay(policy, small, orders=1).drawn == np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 64)).all()
    for other in (z - 0.08, z - 0.04, z + 0.04, z + 0.08):
        difference = net(z) - net(min(max(other, 0.0), 0.999))
        assert difference.mean() >= -3 * difference.std() / np.sqrt(len(difference))


def votes_pool(cluster):
    pool = simulated_pool(MU, SIGMA, len(cluster), cluster.shape[1], 4)
    return replace(pool, cluster=cluster)


@pytest.mark.parametrize("threshold", [0.8, 0.95])
def test_asc_errs_as_rarely_as_it_says(threshold):
    rng = np.random.default_rng(5)
    theta = rng.random(ROWS)  # its prior
    cluster = (rng.random((ROWS, 64)) >= theta[:, None]).astype(int)
    pool = votes_pool(cluster)
    outcomes = replay(make_policy("asc", threshold=threshold, n_max=64), pool, orders=1)
    stopped = outcomes.reason == CODE[Reason.CONFIDENT]
    answer = cluster[np.arange(ROWS), outcomes.column]
    right = np.where(theta > 0.5, 0, 1) == answer
    assert within(right[stopped].mean(), threshold, int(stopped.sum()))


def test_esc_stops_after_as_many_windows_as_its_answers_say():
    rng = np.random.default_rng(6)
    p = np.array([0.7, 0.2, 0.1])
    cluster = rng.choice(3, (ROWS, 60), p=p)
    outcomes = replay(make_policy("esc", window=3, n_max=60), votes_pool(cluster), orders=1)
    unanimous = (p**3).sum()
    assert outcomes.drawn.mean() == pytest.approx(3 * (1 - (1 - unanimous) ** 20) / unanimous, rel=0.04)
    modal = (p**3)[0] / unanimous
    first = outcomes.drawn == 3
    assert (cluster[np.arange(ROWS), outcomes.column][first] == 0).mean() == pytest.approx(modal, abs=0.02)


def test_normal_samples_reach_the_expected_maximum():
    e1, e2 = truncnormal.natural(MU, SIGMA)
    draws = stats.truncnorm.rvs(-MU / SIGMA, (1 - MU) / SIGMA, MU, SIGMA, size=(20_000, 8), random_state=7).max(axis=1)
    assert float(truncnormal.expected_maximum(8, e1, e2)) == pytest.approx(draws.mean(), abs=4 * draws.std() / np.sqrt(20_000))
