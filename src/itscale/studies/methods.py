"""From the configuration's list of methods to policies: which settings are given, swept, or calibrated."""

from dataclasses import dataclass, field
from itertools import product
from typing import Any

from itscale.errors import UserError
from itscale.policies import make_policy
from itscale.policies.protocol import Policy


@dataclass(frozen=True, slots=True)
class Method:
    """One entry of the configuration.

    `settings` are fixed beforehand; each combination of `sweep` is a row of its own in every table; each combination of
    `grid` is a candidate of which the calibration split picks one.
    """

    name: str
    policy: str
    settings: dict[str, Any] = field(default_factory=dict)
    sweep: dict[str, list[Any]] = field(default_factory=dict)
    grid: dict[str, list[Any]] = field(default_factory=dict)

    def variants(self) -> list[dict[str, Any]]:
        """Settings with each combination of the swept values."""
        return [{**self.settings, **values} for values in _combinations(self.sweep)]

    def candidates(self, settings: dict[str, Any]) -> list[tuple[dict[str, Any], Policy]]:
        """The knob values that calibration may choose from for one variant, with the policy of each."""
        return [(knobs, make_policy(self.policy, **settings, **knobs)) for knobs in _combinations(self.grid)]


def _combinations(values: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]


def read_methods(entries: dict[str, dict[str, Any]]) -> list[Method]:
    """Methods from the `methods` section of the configuration.

    Raises:
        UserError: an unknown key, policy or setting; the message names the method.
    """
    methods = []
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise UserError(f"methods.{name} in the configuration is {entry!r}: give its policy, settings, sweep and grid.")
        unknown = set(entry) - {"policy", "settings", "sweep", "grid"}
        if unknown or "policy" not in entry:
            what = f"unknown key {sorted(unknown)[0]!r}" if unknown else "no 'policy'"
            raise UserError(f"methods.{name} in the configuration has {what}: it takes policy, settings, sweep and grid.")
        method = Method(name, **entry)
        for variant in method.variants():
            try:
                method.candidates(variant)
            except UserError as error:
                raise UserError(f"methods.{name} in the configuration: {error}") from None
        methods.append(method)
    return methods
