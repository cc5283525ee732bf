"""Which density fits scores: the one they were drawn from, by held-out scores, and N* under a beta."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from itscale.data.records import Pool, Unit
from itscale.figures import fit_calibration as figure
from itscale.studies.densities import BETA, NORMAL, better_density, fit_calibration
from itscale.theory import betafit


def pool_of(score):
    zero = np.zeros(score.shape, int)
    ids = tuple(f"q{i}" for i in range(len(score)))
    return Pool(Unit.SAMPLE, np.arange(len(score)), ids, zero, zero == 0, score, zero + 1, zero, zero, zero)


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    normal = stats.truncnorm.rvs(-0.55 / 0.3, 0.45 / 0.3, 0.55, 0.3, size=(150, 64), random_state=1)
    return {NORMAL: normal, BETA: rng.beta(0.4, 0.3, (150, 64))}


def test_the_density_that_scores_come_from_is_found_and_its_tenths_are_even(scores):
    for name, score in scores.items():
        pool = pool_of(score)
        assert better_density(pool) == name
        table = fit_calibration(pool, benchmark="b", verifier="v").set_index("density")
        assert table.loc[name, "miss"] < 0.03
        assert name == NORMAL or table.loc[NORMAL, "miss"] > 0.03  # a beta can look like a normal, but not the reverse
        assert table.filter(like="tenth_").sum(axis=1).to_numpy() == pytest.approx(1.0)
        assert table.loc[NORMAL, "log_likelihood_difference"] == 0
        assert (table.loc[BETA, "log_likelihood_difference_low"] > 0) == (name == BETA)


def test_the_figure_shows_every_verifier(scores, tmp_path):
    tables = [fit_calibration(pool_of(scores[BETA]), benchmark="b", verifier=name) for name in ("good", "weak")]
    figure.draw(pd.concat(tables, ignore_index=True), "b", tmp_path / "fit.pdf")
    assert (tmp_path / "fit.png").stat().st_size > 5000


def test_nothing_is_said_of_scores_without_spread():
    pool = pool_of(np.full((5, 16), 0.5))
    assert better_density(pool) == NORMAL and fit_calibration(pool, benchmark="b", verifier="v").empty


def test_the_beta_has_the_moments_and_n_star_is_the_least_number_that_does():
    mean, square = np.array([0.3, 0.6, 0.9]), np.array([0.12, 0.4, 0.82])
    a, b = betafit.shapes(mean, square)
    assert a / (a + b) == pytest.approx(mean)
    assert stats.beta.var(a, b) + mean**2 == pytest.approx(square)
    needed = betafit.samples_needed(0.9, 0.8, mean, square, 10_000)
    reached = 1 - stats.beta.cdf(0.9, a, b) ** np.array([needed - 1, needed])
    assert ((reached[1] >= 0.8) & ((reached[0] < 0.8) | (needed == 1)) | (needed == 10_000)).all()
    assert betafit.samples_needed(0.9, 0.8, np.array([1.0, 0.2]), np.array([1.0, 0.04]), 64).tolist() == [1, 64]
