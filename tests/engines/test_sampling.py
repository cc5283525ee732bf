"""The next token against a plain loop over the sorted vocabulary, and against the distribution that it is drawn from."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from transformers import RepetitionPenaltyLogitsProcessor

from itscale.engines import sampling
from itscale.engines.protocol import Sampling
from itscale.engines.sampling import Rules, draw, log_probabilities, penalise
from itscale.errors import UserError


def plain(logits: torch.Tensor, chosen: Sampling, uniform: float) -> int:
    """One token by the definition: sort, cut by min_p, top_k and top_p, put back into the vocabulary's order, invert the CDF."""
    values = logits.float().tolist()
    highest = max(values)
    if chosen.temperature == 0:
        return values.index(highest)
    mass = [math.exp((value - highest) / chosen.temperature) for value in values]
    kept = sorted(range(len(values)), key=lambda i: (-values[i], i))
    kept = [i for i in kept if mass[i] >= chosen.min_p][: chosen.top_k or None]
    nucleus, reached, whole = [], 0.0, sum(mass[i] for i in kept)
    for i in kept:
        if chosen.top_p < 1 and reached >= chosen.top_p * whole:
            break
        nucleus.append(i)
        reached += mass[i]
    target = uniform * reached
    for i in sorted(nucleus):
        target -= mass[i]
        if target < 0:
            return i
    return max(nucleus)


@st.composite
def batches(draw_):
    """Logits of a few rows, some of them equal to the last digit as half precision makes them, and settings of each row."""
    size = draw_(st.sampled_from([5, 23, 128, 129, 700]))
    dtype = draw_(st.sampled_from([torch.float32, torch.bfloat16]))
    rng = np.random.default_rng(draw_(st.integers(0, 2**32)))
    chosen = draw_(
        st.lists(
            st.builds(
                Sampling,
                temperature=st.sampled_from([0.0, 0.6, 1.0, 2.5]),
                top_p=st.sampled_from([1.0, 0.95, 0.5, 0.9999]),
                top_k=st.sampled_from([0, 1, 3, 40, 1000]),
                min_p=st.sampled_from([0.0, 0.05, 0.5]),
            ),
            min_size=1,
            max_size=6,
        )
    )
    logits = torch.tensor(rng.normal(size=(len(chosen), size)) * rng.choice([0.01, 1, 8]), dtype=torch.float32).to(dtype)
    return logits, chosen, rng.random(len(chosen))


@given(batches(), st.sampled_from([(2, 7), (64, 4096)]))
def test_a_token_is_the_one_of_the_plain_loop(batch, taken):
    """However few of the most probable tokens are looked at first."""
    logits, chosen, uniform = batch
    before, sampling._TAKEN = sampling._TAKEN, taken
    try:
        found = draw(logits, Rules.of(chosen), torch.tensor(uniform)).tolist()
    finally:
        sampling._TAKEN = before
    assert found == [plain(row, c, u) for row, c, u in zip(logits, chosen, uniform.tolist(), strict=True)]


def test_a_large_vocabulary_is_not_sorted_where_a_few_tokens_hold_the_nucleus(monkeypatch):
    looked_at = []
    most_probable = sampling._most_probable
    monkeypatch.setattr(
        sampling,
        "_most_probable",
        lambda found, rows, taken: looked_at.append((len(rows), taken)) or most_probable(found, rows, taken),
    )
    logits = torch.zeros(3, 150_000, dtype=torch.bfloat16)
    logits[:, 777:797] = 20.0  # twenty equal ones hold 99.9 %
    logits[1] = torch.randn(150_000, generator=torch.Generator().manual_seed(0)) * 0.1  # nearly even: a nucleus of 142,000
    logits[2, 5_000:6_000] = 18.0  # a nucleus of about 800
    rules = Rules.of([Sampling(1.0, 0.95)] * 3)
    uniform = torch.tensor([0.3, 0.3, 0.97], dtype=torch.float64)
    found = draw(logits, rules, uniform).tolist()
    assert looked_at == [(3, 64), (2, 4096), (1, 150_000)]
    assert found == [plain(row, Sampling(1.0, 0.95), u) for row, u in zip(logits, uniform.tolist(), strict=True)]


def test_frequencies_are_those_of_the_distribution():
    logits = torch.tensor([[1.0, 0.2, -0.5, 2.0, 0.0, 1.5]]).expand(6000, -1)
    uniform = torch.tensor(np.random.default_rng(1).random(6000))
    whole = torch.softmax(logits[0] / 0.8, -1)
    nucleus = [3, 5, 0]  # 0.49 + 0.26 + 0.14 of it: three reach 0.8
    for top_p, kept in ((1.0, range(6)), (0.8, nucleus)):
        expected = np.array([float(whole[i]) if i in kept else 0.0 for i in range(6)])
        counts = np.bincount(draw(logits, Rules.of([Sampling(0.8, top_p)] * 6000), uniform), minlength=6)
        drawn = expected > 0
        assert (counts[~drawn] == 0).all()
        assert stats.chisquare(counts[drawn], 6000 * expected[drawn] / expected.sum()).pvalue > 1e-4


def test_nan_is_said():
    with pytest.raises(UserError, match="NaN"):
        draw(torch.tensor([[0.0, float("nan")]]), Rules.of([Sampling()]), torch.tensor([0.5]))


@given(st.integers(0, 2**32), st.sampled_from([5, 300]))
def test_log_probabilities_are_those_of_the_whole_softmax(seed, size):
    logits = torch.randn(4, size, generator=torch.Generator().manual_seed(seed)) * 5
    token = torch.randint(size, (4,), generator=torch.Generator().manual_seed(seed))
    chosen, best = log_probabilities(logits, token, 20)
    expected = torch.log_softmax(logits.double(), -1)
    assert torch.allclose(chosen.double(), expected[torch.arange(4), token], atol=1e-5)
    assert torch.allclose(best.double(), expected.sort(descending=True).values[:, :20], atol=1e-5)


def test_a_repetition_penalty_is_that_of_transformers():
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    seen = [[1, 2, 2, 7], [0], [5, 39]]
    found = penalise(logits, seen, [1.3, 1.0, 0.7])
    for i, penalty in ((0, 1.3), (2, 0.7)):
        expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([seen[i]]), logits[i : i + 1].clone())
        assert torch.allclose(found[i : i + 1], expected)
    assert torch.equal(found[1], logits[1])
