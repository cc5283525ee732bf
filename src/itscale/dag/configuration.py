"""Checks of the configuration that its schema cannot say well."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from itscale.errors import UserError

# Keys that had another name, most general first: what they are called now. A star is any name.
RENAMED = {
    "world": "toy_task",
    "benchmarks": "datasets",
    "toy_task.benchmarks": "toy_task.problems",
    "toy_task.trial_seeds": "toy_task.training_seeds",
    "live.look_ahead": "live.prefetch",
    "testtime.settings.look_ahead": "testtime.settings.prefetch",
    "testtime.runs.*.look_ahead": "prefetch",
    "markovscale.orders": "compare.orders",
}


def refuse_renamed(config: Mapping[str, Any]) -> None:
    """Keys of an older configuration.

    Raises:
        UserError: the first such key, with its new name.
    """
    for old, new in RENAMED.items():
        *sections, key = old.split(".")
        for names, part in _parts(config, sections):
            if key in part:
                raise UserError(f"{'.'.join([*names, key])} in the configuration is now called {new}: rename it.")


def _parts(
    part: Any, sections: Sequence[str], names: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """The mappings that lie at a path, each with its names."""
    if not isinstance(part, Mapping):
        return
    if not sections:
        yield names, part
        return
    first, *rest = sections
    for name in part if first == "*" else [first]:
        yield from _parts(part.get(name), rest, (*names, name))
