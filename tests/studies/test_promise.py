"""Hyperparameters by what a rule promises: the cheapest setting whose measured error keeps the promise."""

import numpy as np
import pytest

from itscale.data.records import Pool, Unit
from itscale.policies import make_policy
from itscale.policies.calibration import known_of_votes
from itscale.studies.calibrate import calibrate
from itscale.studies.criterion import Criterion, Verdict, keep_promise
from itscale.studies.methods import read_methods
from itscale.studies.promise import consensus_error

NO_LOSS = np.zeros((4, 50))


def test_the_cheapest_setting_that_keeps_its_promise_is_chosen():
    cost = np.array([2.0, 3.0, 5.0, 9.0])
    found = keep_promise(np.array([0.2, 0.05, 0.04, 0.01]), cost, 0.05, NO_LOSS)
    assert (found.index, found.verdict) == (1, Verdict.KEPT)
    broken = keep_promise(np.array([0.3, 0.2, 0.1, 0.2]), cost, 0.05, NO_LOSS)
    assert (broken.index, broken.verdict) == (2, Verdict.BROKEN)
    never = keep_promise(np.array([0.3, 0.2, 0.1, np.nan]), cost, 0.05, NO_LOSS)
    assert (never.index, never.verdict) == (3, Verdict.KEPT)


@pytest.fixture(scope="module")
def pool():
    """Easy and hard questions, of which one p0 for all knows nothing."""
    rng = np.random.default_rng(0)
    shares = [[0.95, 0.03, 0.02], [0.5, 0.3, 0.2], [0.4, 0.35, 0.25]]
    cluster = np.array([rng.choice(3, 64, p=shares[i % 3]) for i in range(90)])
    zero = np.zeros(cluster.shape, int)
    ids = tuple(f"q{i}" for i in range(len(cluster)))
    return Pool(Unit.SAMPLE, np.arange(90), ids, cluster, cluster == 0, zero * np.nan, zero + 1, zero, zero, zero)


def test_optpos_posterior_is_told_to_promise_less(pool):
    known, grid = known_of_votes(pool.cluster), [0.2, 0.1, 0.05, 0.01, 0.001, 0.0001]
    methods = read_methods({"vote_posterior": {"settings": {"n_max": 64}, "grid": {"eps": grid}}})
    record = calibrate(methods, {Unit.SAMPLE: pool}, known, orders=4, seed=0, criterion=Criterion.PROMISE)[0]
    errors = [consensus_error(make_policy("vote_posterior", n_max=64, eps=e).bind(known), pool, 4, 0).mean for e in grid]
    assert errors[grid.index(0.05)] > 0.05  # what it says of itself does not hold here
    expected = next((e for e, error in zip(grid, errors, strict=True) if error <= 0.05), None)
    assert record["verdict"] == (Verdict.KEPT if expected else Verdict.BROKEN)
    assert record["hyperparameters"]["eps"] == (expected or grid[int(np.argmin(errors))])
