"""Rules of other projects that are rules of ours under another name: checked over all counts that a budget in use can reach."""

from itertools import product

import numpy as np
import pytest
from scipy import special, stats

from itscale.data.records import Unit
from itscale.drivers.replay import drive
from itscale.policies import make_policy
from itscale.policies.protocol import Batch
from itscale.theory.voting import asc_confidence

MOST = 256  # ConSol's max_trials


def counts(most: int = MOST) -> tuple[np.ndarray, np.ndarray]:
    """Every leader's and runner-up's count of up to `most` votes."""
    first, second = np.divmod(np.arange((most + 1) ** 2), most + 1)
    kept = (second <= first) & (first + second <= most) & (first > 0)
    return first[kept], second[kept]


def bounds(alpha: float, beta: float) -> tuple[float, float]:
    """Wald's log A and log B."""
    return float(np.log((1 - beta) / alpha)), float(np.log(beta / (1 - alpha)))


def test_consols_sprt_is_a_lead_of_3():
    """Released constants: p1 0.5001, alpha 0.05, beta 1 - 0.05 - 0.000024. Its other bound is beyond a thousand votes."""
    upper, lower = bounds(0.05, 1 - 0.05 - 0.000024)

    def log_ratio(first, second):
        return first * np.log(0.5001 / 0.5) + second * np.log(0.4999 / 0.5)

    first, second = counts()
    found = log_ratio(first, second)
    assert ((found >= upper) == (first - second >= 3)).all()
    assert not (found <= lower).any()
    tied = np.arange(1, 1000)
    assert 2 * tied[log_ratio(tied, tied) <= lower][0] > 1000


def test_consols_mixture_sprt_is_a_lead_of_3_too_up_to_250_votes():
    """Beta(1e6, 1e6) cut to (1/2, 1): the log ratio is about 5.6e-4 a vote of lead, and log A is 1.2e-3."""
    upper, lower = bounds(0.05, 1 - 0.05 - 0.00006)
    first, second = counts()
    a = 1e6

    def log_half(x, y):
        return special.betaln(x, y) + np.log(special.betainc(y, x, 0.5))

    found = log_half(first + a, second + a) - log_half(a, a) - (first + second) * np.log(0.5)
    assert ((found >= upper) == (first - second >= 3)).all()
    gives_up = found <= lower  # "the top two are not different": ties, at the end of its 256 trials
    assert (first[gives_up] == second[gives_up]).all() and (first + second)[gives_up].min() > 250


def test_consols_p_value_is_asc_with_one_vote_of_the_leader_withheld():
    """P(Binomial(n, 1/2) >= v1) = 1 - P(theta > 1/2 | Beta(v1, v2 + 1))."""
    first, second = counts(64)
    p_value = stats.binom.sf(first - 1, first + second, 0.5)
    assert p_value == pytest.approx(1 - asc_confidence(first - 1, second), abs=1e-12)
    exact = [stats.binomtest(int(f), int(f + s), 0.5, "greater").pvalue for f, s in ((5, 0), (4, 0), (12, 4), (20, 20))]
    assert exact == pytest.approx([float(1 - asc_confidence(f - 1, s)) for f, s in ((5, 0), (4, 0), (12, 4), (20, 20))])


def test_consols_posterior_is_asc():
    first, second = counts(64)
    assert 1 - special.betainc(first + 1, second + 1, 0.5) == pytest.approx(asc_confidence(first, second), abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_makers_first_to_ahead_by_k_is_the_vote_lead(k):
    """Over every sequence of 8 votes for three answers: an answer wins once it is k ahead of all others."""
    sequences = np.array(list(product(range(3), repeat=8)))
    blank = np.zeros(sequences.shape)
    rule = make_policy("vote_lead", lead=k, n_max=8)
    assert rule.unit is Unit.SAMPLE
    drawn, column, _ = drive(rule, Batch(np.zeros(len(sequences), np.int64), sequences, blank, blank))
    for row, sequence in enumerate(sequences.tolist()):
        votes = [0, 0, 0]
        for n, answer in enumerate(sequence, 1):
            votes[answer] += 1
            if all(votes[answer] >= k + votes[other] for other in range(3) if other != answer):
                assert (drawn[row], sequence[column[row]]) == (n, answer)
                break
        else:
            assert drawn[row] == 8
