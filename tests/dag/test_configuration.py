"""Keys of older configurations: each is an error that names the new one, whatever it holds."""

import pytest

from itscale.dag.configuration import RENAMED, refuse_renamed
from itscale.errors import UserError


@pytest.mark.parametrize("value", [None, 8, {}, {"test": 1}])
@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_key_is_an_error_that_names_the_new_one(old, new, value):
    config = value
    for part in reversed(old.split(".")):
        config = {part: config}
    with pytest.raises(UserError, match=f"^{old} in the configuration is now called {new}: rename it"):
        refuse_renamed(config)


def test_an_old_key_of_a_run_is_an_error_too():
    config = {"testtime": {"runs": {"optpo": {"steps": 3}, "ttrl_0.5": {"look_ahead": 3}}}}
    with pytest.raises(
        UserError, match=r"^testtime\.runs\.ttrl_0\.5\.look_ahead in the configuration is now called prefetch: rename it"
    ):
        refuse_renamed(config)


def test_new_keys_and_sections_that_are_empty_pass():
    refuse_renamed({"toy_task": None, "live": {"prefetch": 0}, "markovscale": None, "compare": {"orders": 4}})
