"""Which of the configuration's methods some pools allow, and at which sizes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from itscale.data.records import Unit
from itscale.drivers.replay import refuse_misfit
from itscale.studies.calibrate import calibrate, known_from_pools, within_sizes
from itscale.studies.methods import left_out_sentence, read_methods, within_pools
from pools import random_pool

CONFIG = yaml.safe_load((Path(__file__).resolve().parents[2] / "config/config.yaml").read_text())


def unscored(pool):
    return replace(pool, score=np.full(pool.score.shape, np.nan))


@pytest.mark.parametrize("size", [1, 2, 5, 10, 40])
def test_every_method_that_is_kept_can_run(size):
    pools = {Unit.SAMPLE: random_pool(1, size=size), Unit.ROUND: random_pool(2, size=min(size, 4), unit=Unit.ROUND)}
    kept, left_out = within_pools(read_methods(CONFIG["methods"]), pools)
    assert {m.slug for m in kept} | set(left_out) == set(CONFIG["methods"]) and len(kept) > 10
    for method in kept:
        variants = method.variants()
        assert variants and all(variants.count(settings) == 1 for settings in variants)
        for settings in variants:
            for _, policy in method.candidates(settings):
                refuse_misfit(policy, pools[policy.unit])


def test_limits_above_the_pool_become_its_size():
    methods = read_methods({"self_consistency": {"sweep": {"n": [4, 16, 64]}}, "mr_thinking": {"settings": {"rounds": 8}}})
    pools = {Unit.SAMPLE: random_pool(1, size=10), Unit.ROUND: random_pool(2, size=3, unit=Unit.ROUND)}
    kept, _ = within_pools(methods, pools)
    assert [m.variants() for m in kept] == [[{"n": 4}, {"n": 10}], [{"rounds": 3}]]
    # The paper's OptScale has no peek for ten samples.
    paper = read_methods({"optscale_paper": {"sweep": {"n_max": [8, 16]}, "settings": {"s_min": 0.9, "alpha": 0.9}}})
    assert within_pools(paper, pools)[0][0].variants() == [{"s_min": 0.9, "alpha": 0.9, "n_max": 8}]


def test_what_is_left_out_is_named_by_what_is_missing():
    methods = read_methods({"asc": {"settings": {"n_max": 8}}, "best_of_n": {"settings": {"n": 8}}, "first_answer": {}})
    samples = {Unit.SAMPLE: unscored(random_pool(1))}
    kept, left_out = within_pools(methods, samples)
    assert [m.slug for m in kept] == ["asc"] and left_out == {"best_of_n": "no scores", "first_answer": "no chains"}
    assert left_out_sentence(left_out) == "left out: best_of_n (no scores); first_answer (no chains)"
    without = replace(random_pool(1), features={})
    dsc = read_methods({"dsc": {"settings": {"n_max": 8}}})
    assert within_pools(dsc, {Unit.SAMPLE: without})[1] == {"dsc": "no predictions of score_mean"}


def test_a_smaller_test_pool_loses_the_rules_that_it_is_too_small_for():
    entry = {"method": "self-consistency", "slug": "self_consistency", "policy": "self_consistency", "hyperparameters": {}}
    record = {"known": {}, "methods": [{**entry, "settings": {"n": n}} for n in (4, 16)]}
    kept, lost = within_sizes(record, {Unit.SAMPLE: random_pool(1, size=8)})
    assert [e["settings"]["n"] for e in kept["methods"]] == [4] and lost == ["self_consistency of 16 samples"]


def test_a_larger_test_pool_has_the_fixed_rules_that_the_calibration_pool_is_too_small_for():
    methods = read_methods(
        {
            "self_consistency": {"sweep": {"n": [4, 16, 64]}},
            "vote_dirichlet": {"settings": {"n_max": 64}},
            "vote_lead": {"sweep": {"n_max": [64]}, "grid": {"lead": [2, 3]}},
        }
    )
    small = {Unit.SAMPLE: random_pool(1, size=10)}
    kept, _ = within_pools(methods, small)
    known = known_from_pools(small, strata=2, strength=1.0)
    record = {"methods": calibrate(kept, small, known, orders=2, seed=0)}
    promised = {e["settings"]["n_max"]: "measured_error" in e for e in record["methods"] if e["slug"] == "vote_dirichlet"}
    assert promised == {10: True, 64: False}

    def limits(size):
        found, lost = within_sizes(record, {Unit.SAMPLE: random_pool(2, size=size)})
        return [(e["slug"], e["settings"].get("n", e["settings"].get("n_max"))) for e in found["methods"]], lost

    votes = [("self_consistency", n) for n in (4, 10, 16, 64)]
    assert limits(64) == ([*votes, ("vote_dirichlet", 10), ("vote_dirichlet", 64), ("vote_lead", 10)], [])
    assert limits(10) == ([*votes[:2], ("vote_dirichlet", 10), ("vote_lead", 10)], [])
    assert limits(16)[1] == ["vote_dirichlet of 64 samples"]
