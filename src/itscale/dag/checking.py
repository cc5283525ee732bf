"""The configuration checked when it is read: by its schema, in one sentence, and every method that it names is built."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from itscale.errors import UserError
from itscale.grading.settings import Grading
from itscale.policies import RENAMED, make_policy, named_rule
from itscale.studies.methods import Method, read_methods

_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "array": "a list",
    "object": "keys with values",
    "null": "null",
}
_BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
    "minItems": "a list as long as",
    "minLength": "a text as long as",
}


def check(config: Mapping[str, Any], schema: Path) -> list[Method]:
    """Refuse a configuration that cannot run; nothing has been drawn yet.

    Returns:
        Its methods.

    Raises:
        UserError: what is wrong first, with the key where it stands.
    """
    errors = sorted(Draft202012Validator(yaml.safe_load(schema.read_text())).iter_errors(_plain(config)), key=_depth)
    if errors:
        raise UserError(_sentence(errors[0]))
    methods = read_methods(config["methods"])
    _refuse_strangers(methods, config)
    for name, run in config["testtime"]["runs"].items():
        _build_vote(f"testtime.runs.{name}.vote", {**config["testtime"]["settings"], **run}.get("vote"))
    for where, grading in [("", config["grading"]), *((f"pools.{n}.", p.get("grading", {})) for n, p in config["pools"].items())]:
        try:
            Grading(**grading)
        except UserError as error:
            raise UserError(f"{where}grading in the configuration: {error}") from None
    _refuse_no_models(config)
    return methods


def _refuse_no_models(config: Mapping[str, Any]) -> None:
    """Refuse a folder of toy models that holds no such models."""
    folder = config["toy_task"]["models"]
    if config["datasets"] or folder == "shipped":
        return
    for name in ("language_model", "reward_model", "weak_reward_model"):
        if not Path(folder, name, "model.safetensors").exists():
            raise UserError(
                f"toy_task.models in the configuration is {folder!r}, and there is no {name}/model.safetensors in it: give "
                "shipped, or a folder as `snakemake toy_training` leaves it."
            )


def _plain(value: Any) -> Any:
    """Mappings and lists as a schema knows them."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _depth(error: ValidationError) -> tuple[int, str]:
    """Misspelt keys first: what is missing elsewhere may follow from them."""
    return (error.validator != "additionalProperties", str(list(error.absolute_path)))


def _sentence(error: ValidationError) -> str:
    """A schema's complaint in words."""
    where = ".".join(map(str, error.absolute_path))
    rule, asked, given = error.validator, error.validator_value, error.instance
    if rule == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        key = next(key for key in given if key not in known)
        near = get_close_matches(str(key), known, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."
        return f"{f'{where}.' if where else ''}{key} is no key of the configuration: {advice}"
    if rule == "required":
        missing = next(key for key in asked if key not in given)
        return f"the configuration lacks {f'{where}.' if where else ''}{missing}: add it."
    if rule == "type":
        kinds = " or ".join(_TYPES[kind] for kind in (asked if isinstance(asked, list) else [asked]))
        return f"{where} in the configuration is {_short(given)}: give {kinds}."
    if rule == "enum":
        return f"{where} in the configuration is {_short(given)}: choose {', '.join(map(str, asked))}."
    if rule in _BOUNDS:
        return f"{where} in the configuration is {_short(given)}: give {_BOUNDS[rule]} {asked}."
    if rule == "pattern" and "propertyNames" in error.absolute_schema_path:
        return f"{where + '.' if where else ''}{given} cannot be a name in the configuration: names match {asked}."
    return f"{where} in the configuration is wrong ({error.message[:200]}): correct it."


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refuse_strangers(methods: Iterable[Method], config: Mapping[str, Any]) -> None:
    """Refuse live methods that are none of the configuration's."""
    known = {name: method for method in methods for name in (method.slug, method.name.casefold())}
    for name in config["live"]["methods"]:
        if name.casefold() not in known:
            if name in RENAMED:
                named_rule(name)  # says what it is called now
            near = get_close_matches(name, known, n=1)
            raise UserError(
                f"live.methods in the configuration names {name!r}, which is not among methods"
                + (f": did you mean {known[near[0]].slug!r}?" if near else f": there are {', '.join(m.slug for m in methods)}.")
            )


def _build_vote(where: str, vote: Any) -> None:
    """Build the rule that draws a training run's votes."""
    if vote is None:
        return
    settings = dict(vote)
    try:
        make_policy(settings.pop("policy", ""), **settings)
    except UserError as error:
        raise UserError(f"{where} in the configuration: {error}") from None
