"""Checks of the configuration that its schema cannot say well."""

from collections.abc import Mapping
from typing import Any

from itscale.errors import UserError

# Keys that had another name, most general first: what they are called now.
RENAMED = {
    "world": "toy_task",
    "benchmarks": "datasets",
    "toy_task.benchmarks": "toy_task.problems",
    "toy_task.trial_seeds": "toy_task.training_seeds",
    "live.look_ahead": "live.prefetch",
    "testtime.settings.look_ahead": "testtime.settings.prefetch",
    "markovscale.orders": "compare.orders",
}
# The same of the settings of any run of test-time training.
RENAMED_IN_RUNS = {"look_ahead": "prefetch"}


def refuse_renamed(config: Mapping[str, Any]) -> None:
    """Keys of an older configuration.

    Raises:
        UserError: the first such key, with its new name.
    """
    for old, new in RENAMED.items():
        *sections, key = old.split(".")
        part: Any = config
        for name in sections:
            part = part.get(name) if isinstance(part, Mapping) else None
        if isinstance(part, Mapping) and key in part:
            raise UserError(f"{old} in the configuration is now called {new}: rename it.")
    testtime = config.get("testtime")
    runs = testtime.get("runs") if isinstance(testtime, Mapping) else None
    for name, run in runs.items() if isinstance(runs, Mapping) else ():
        for old, new in RENAMED_IN_RUNS.items():
            if isinstance(run, Mapping) and old in run:
                raise UserError(f"testtime.runs.{name}.{old} in the configuration is now called {new}: rename it.")
