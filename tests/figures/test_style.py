"""One colour and marker a method, in every figure."""

from itscale.figures.style import LOOKS, look_of
from itscale.policies import POLICIES


def test_every_rule_has_one_look_that_no_other_has():
    looks = [look_of(slug) for slug in POLICIES]
    assert set(LOOKS) >= set(POLICIES) - {"mine"}
    assert len({(look["color"], look["marker"]) for look in looks}) == len(POLICIES)
    assert all(look_of(rule.name) == look_of(rule.slug) for rule in POLICIES.values())
    assert look_of("a rule of one's own") == look_of("a rule of one's own")
