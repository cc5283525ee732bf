"""From the configuration's list of methods to policies: which settings are given, swept, or calibrated."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import pandas as pd

from itscale.data.records import Pool, Unit
from itscale.drivers.limits import LIMITS
from itscale.errors import UserError
from itscale.policies import find_rule, make_policy, named_rule
from itscale.policies.protocol import Policy

_KEYS = ("policy", "name", "settings", "sweep", "grid")
# What a rule with hindsight reads of the pool itself; it needs scores, and no predictor.
_ORACLE = frozenset({"oracle_score_mean"})


@dataclass(frozen=True, slots=True)
class Method:
    """One entry of the configuration.

    `name` is what tables and figures call it, `slug` its key; `policy` the slug of its rule. `settings` are fixed beforehand;
    each combination of `sweep` is a row of its own in every table; each combination of `grid` is a candidate of which the
    calibration split picks one. `size`: samples (or rounds) of the pool that it is for; higher limits are lowered to it.
    """

    name: str
    policy: str
    settings: dict[str, Any] = field(default_factory=dict)
    sweep: dict[str, list[Any]] = field(default_factory=dict)
    grid: dict[str, list[Any]] = field(default_factory=dict)
    slug: str = ""
    size: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "slug", self.slug or self.policy)

    def variants(self) -> list[dict[str, Any]]:
        """Settings with each combination of the swept values; of a pool's size those that the rule has at that size."""
        found = [{**self.settings, **values} for values in _combinations(self.sweep)]
        if self.size is None:
            return found
        kept: list[dict[str, Any]] = []
        for values in found:
            lowered = {key: min(value, self.size) if key in LIMITS else value for key, value in values.items()}
            if lowered not in kept and (lowered == values or self._has(lowered)):
                kept.append(lowered)
        return kept

    @property
    def chooses(self) -> bool:
        """Whether the calibration split has anything to choose."""
        return len(_combinations(self.grid)) > 1

    def beyond(self) -> list[dict[str, Any]]:
        """Variants above the pool's size, of a method that chooses nothing there: a larger pool may hold them."""
        if self.chooses or self.size is None:
            return []
        given = replace(self, size=None).variants()
        return [values for values in given if any(values.get(key, 0) > self.size for key in LIMITS)]

    def _has(self, settings: dict[str, Any]) -> bool:
        """Whether the rule can be built at a lowered limit (the paper's OptScale has no peek for 10 samples)."""
        try:
            return bool(self.candidates(settings))
        except UserError:
            return False

    def candidates(self, settings: dict[str, Any]) -> list[tuple[dict[str, Any], Policy]]:
        """The hyperparameters that calibration may choose from for one variant, with the policy of each."""
        return [(chosen, make_policy(self.policy, **settings, **chosen)) for chosen in _combinations(self.grid)]


def _combinations(values: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]


def merged_entries(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The `methods` section by slug: a rule's display name as a key is its slug, and a later entry is laid over an earlier.

    A method that is null is left out.

    Raises:
        UserError: an entry is no mapping, or null for what is no method.
    """
    merged: dict[str, Any] = {}
    for key, entry in entries.items():
        rule = find_rule(key)
        slug = rule.slug if rule else key
        if entry is None:
            if merged.pop(slug, None) is None and rule is None:
                _refuse_leaving_out(key)
        elif not isinstance(entry, dict):
            raise UserError(f"methods.{key} in the configuration is {entry!r}: give its settings, sweep and grid.")
        else:
            merged[slug] = _overlaid(merged.get(slug, {}), entry)
    return merged


def _refuse_leaving_out(key: str) -> None:
    """Refuse to leave out what is no method: a misspelt or an old name would leave nothing out, and say nothing."""
    try:
        named_rule(key)
    except UserError as error:
        raise UserError(f"methods.{key} in the configuration is null, to leave the method out: {error}") from None


def _overlaid(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """One mapping laid over another, mappings inside them likewise."""
    both = {
        key: _overlaid(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
    return {**below, **both}


def read_methods(entries: Mapping[str, Any]) -> list[Method]:
    """Methods from the `methods` section of the configuration.

    The key is a rule's slug or display name, or a slug of one's own with the rule under `policy`.

    Raises:
        UserError: an unknown key, policy or setting, or two methods of one name; the message names the method.
    """
    methods: list[Method] = []
    for slug, entry in merged_entries(entries).items():
        where = f"methods.{slug} in the configuration"
        if unknown := sorted(set(entry) - set(_KEYS)):
            raise UserError(f"{where} has the unknown key {unknown[0]!r}: it takes {', '.join(_KEYS)}.")
        if not re.fullmatch("[a-z][a-z0-9_]*", slug):
            raise UserError(
                f"{where}: a method's key is a rule's name, or one of your own of a-z, 0-9 and _, with its name under `name`."
            )
        try:
            rule = named_rule(entry.get("policy", slug))
            parts = {key: entry[key] for key in ("settings", "sweep", "grid") if key in entry}
            own = find_rule(slug)
            name = entry.get("name", own.name if own else slug)
            method = Method(name, rule.slug, slug=slug, **parts)
            if own and own.policy is not rule.policy:
                raise UserError(f"policy {rule.slug!r} under the key of another rule: give the method a key of its own.")
            for variant in method.variants():
                for key in variant.keys() & rule.settings.keys():
                    if variant[key] != rule.settings[key]:
                        raise UserError(
                            f"{key} = {variant[key]!r} would be another rule: {rule.slug} has {rule.settings[key]!r}."
                        )
                method.candidates(variant)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        if twin := next((m for m in methods if m.name == method.name), None):
            raise UserError(f"{where} and methods.{twin.slug} are both called {method.name!r}: give one another name.")
        methods.append(method)
    return methods


def within_pools(methods: Iterable[Method], pools: Mapping[Unit, Pool]) -> tuple[list[Method], dict[str, str]]:
    """The methods that some pools allow, limits lowered to what the pools hold; of the others, by slug, what is missing."""
    kept: list[Method] = []
    left_out: dict[str, str] = {}
    for method in methods:
        policy = method.candidates(method.variants()[0])[0][1]
        pool = pools.get(policy.unit)
        if pool is None:
            left_out[method.slug] = "no parallel samples" if policy.unit is Unit.SAMPLE else "no chains"
            continue
        fitted = replace(method, size=pool.size)
        unknown = sorted(set(policy.needs_features) - set(pool.features) - _ORACLE)
        if (policy.needs_scores or _ORACLE & set(policy.needs_features)) and not pool.scored:
            left_out[method.slug] = "no scores"
        elif unknown:
            left_out[method.slug] = f"no predictions of {', '.join(unknown)}"
        elif not fitted.variants():
            left_out[method.slug] = f"no setting for {pool.size} {policy.unit}s"
        else:
            kept.append(fitted)
    return kept, left_out


def left_out_sentence(left_out: Mapping[str, str]) -> str:
    """Methods that were left out, by what is missing; empty where there are none."""
    causes = dict.fromkeys(left_out.values())
    parts = (f"{', '.join(slug for slug, why in left_out.items() if why == cause)} ({cause})" for cause in causes)
    return f"left out: {'; '.join(parts)}" if left_out else ""


# Columns that hold display names of methods, and the column of their slugs that follows each.
_SLUGS = {"method": "slug", "baseline": "baseline_slug", "rival": "rival_slug"}


def with_slugs(table: pd.DataFrame, slugs: Mapping[str, str]) -> pd.DataFrame:
    """A table with a column of slugs after each that names methods; empty for rows that are no method, such as bounds."""
    parts = []
    for column in table.columns.difference(list(_SLUGS.values()), sort=False):
        parts.append(table[column])
        if column in _SLUGS:
            known = table[column].map(lambda name: slugs.get(name) or getattr(find_rule(name), "slug", ""))
            parts.append(known.rename(_SLUGS[column]))
    return pd.concat(parts, axis=1) if any(name in table for name in _SLUGS) else table
