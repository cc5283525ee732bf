"""Which density fits scores: the one they were drawn from, by held-out scores, and N* under a beta."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from itscale.data.records import Pool, Unit
from itscale.data.tables import read_csv, write_csv
from itscale.drivers.replay import replay
from itscale.figures import fit_calibration as figure
from itscale.policies import make_policy
from itscale.policies.calibration import Calibration
from itscale.policies.optscale import BETA, INFLATED, NORMAL, average_ends, average_moments
from itscale.studies.densities import better_density, fit_calibration
from itscale.theory import betafit, inflated


def pool_of(score):
    zero = np.zeros(score.shape, int)
    ids = tuple(f"q{i}" for i in range(len(score)))
    return Pool(Unit.SAMPLE, np.arange(len(score)), ids, zero, zero == 0, score, zero + 1, zero, zero, zero)


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    normal = stats.truncnorm.rvs(-0.55 / 0.3, 0.45 / 0.3, 0.55, 0.3, size=(150, 64), random_state=1)
    atoms = rng.choice([0.002, 0.997, np.nan], (150, 64), p=[0.2, 0.5, 0.3])
    atoms = np.where(np.isnan(atoms), 0.02 + 0.96 * rng.beta(3, 2, atoms.shape), atoms)
    return {NORMAL: normal, BETA: rng.beta(0.4, 0.3, (150, 64)), INFLATED: atoms}


def test_the_density_that_scores_come_from_is_found_and_its_tenths_are_even(scores):
    for name, score in scores.items():
        pool = pool_of(score)
        assert better_density(pool) == name
        table = fit_calibration(pool, benchmark="b", verifier="v").set_index("density")
        assert table.loc[name, "miss"] < 0.03
        assert name == NORMAL or table.loc[NORMAL, "miss"] > 0.03  # a beta can look like a normal, but not the reverse
        assert table.filter(like="tenth_").sum(axis=1).to_numpy() == pytest.approx(1.0)
        assert table.loc[NORMAL, "log_likelihood_difference"] == 0
        assert (table.loc[BETA, "log_likelihood_difference_low"] > 0) == (name != NORMAL)


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


def test_the_beta_with_atoms_is_a_distribution_and_its_sums_are_those_of_the_scores():
    scores = np.array([0.001, 0.004, 0.3, 0.5, 0.995, 0.999, 0.9999])
    fit = inflated.from_sums(7, 2, 3, 0.8, 0.34)
    assert (fit.low, fit.high) == (pytest.approx(2.5 / 8.5), pytest.approx(3.5 / 8.5))
    assert fit.mean == pytest.approx((0.8 + 1 / 6) / (2 + 1 / 3)) and fit.mean_square == pytest.approx(
        (0.34 + 1 / 9) / (2 + 1 / 3)
    )
    grid = (np.arange(200_000) + 0.5) / 200_000
    density = np.exp(inflated.log_density(grid, fit))
    assert density.mean() == pytest.approx(1, abs=1e-3)
    for x in (0.005, 0.2, 0.7, 0.996):
        assert inflated.cdf(np.array(x), fit) == pytest.approx((density * (grid < x)).mean(), abs=1e-3)
    between = (grid > 0.01) & (grid < 0.99)
    assert (density * grid * between).mean() == pytest.approx((1 - fit.low - fit.high) * fit.mean, abs=1e-3)
    spread = inflated.spread(scores)
    assert spread == pytest.approx([0.0025, 0.0075, 0.3, 0.5, 0.99 + 0.01 / 6, 0.995, 0.99 + 0.05 / 6])


def test_optscale_under_atoms_stops_where_a_plain_loop_does(scores):
    pool = pool_of(scores[INFLATED][:40, :16])
    known = Calibration(moments=average_moments(pool), density=INFLATED, ends=average_ends(pool))
    policy = make_policy("optscale_fitted", s_min=0.9, alpha=0.9, n_max=16, n0=2.0).bind(known)
    drawn, ends = replay(policy, pool, orders=1).drawn, known.ends
    share = np.mean((pool.score > 0.99).mean(axis=1))
    assert ends.high == pytest.approx(share)
    for row, expected in zip(pool.score, drawn, strict=True):
        n = look = 1
        while True:
            seen = row[:n]
            between = seen[(seen >= 0.01) & (seen <= 0.99)]
            pseudo = 2.0 * (1 - ends.low - ends.high)
            weight = 1 / (len(between) + pseudo + 1)
            number = len(between) + pseudo + weight
            mean = (between.sum() + pseudo * ends.mean + weight / 2) / number
            square = ((between**2).sum() + pseudo * ends.mean_square + weight / 3) / number
            mean, square = (mean - 0.01) / 0.98, (square - 0.02 * mean + 0.0001) / 0.98**2
            strength = mean * (1 - mean) / (square - mean**2) - 1
            low, high = (
                (2 * share + count + 0.5) / (n + 3.5)
                for share, count in ((ends.low, (seen < 0.01).sum()), (ends.high, (seen > 0.99).sum()))
            )
            below = low + (1 - low - high) * stats.beta.cdf((0.9 - 0.01) / 0.98, mean * strength, (1 - mean) * strength)
            needed = next(k for k in range(1, 17) if k == 16 or 1 - below**k >= 0.9 - 1e-12)
            if n >= needed or n == 16:
                break
            look = n + 1 if n < 4 else int(np.ceil(1.25 * n))
            n = min(needed, look, 16)
        assert n == expected


def test_questions_of_few_scores_have_a_table_without_rows_and_a_figure_that_says_so(tmp_path):
    table = fit_calibration(pool_of(np.array([[0.2, 0.8, 0.4]] * 5)), benchmark="b", verifier="v")
    write_csv(tmp_path / "t.csv", table)
    read = read_csv(tmp_path / "t.csv")
    whole = fit_calibration(pool_of(np.random.default_rng(0).random((5, 20))), benchmark="b", verifier="v")
    assert len(read) == 0 and list(read.columns) == list(whole.columns) and not whole.isna().any(axis=None)
    figure.draw(read, "b", tmp_path / "f.pdf")
    assert (tmp_path / "f.png").stat().st_size > 1000
