"""config/README.md documents every key of the schema and no other, with the types and defaults that are true."""

import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, get_args, get_origin

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text())
# Free mappings of the schema that a settings class reads: their keys are the class's fields.
READ_BY = {
    "toy_task.problems": "itscale.toytask.splits:SplitSettings",
    "toy_task.language_model": "itscale.toytask.language_model:LanguageModelSettings",
    "toy_task.reward_model": "itscale.toytask.reward_model:RewardModelSettings",
    "testtime.settings": "itscale.testtime.settings:RunSettings",
}
# Where a key of the schema has its default, unless config.yaml sets it.
DEFAULTS_OF = {
    "datasets.{name}": "itscale.sources.datasets:DatasetSource",
    "engine": "itscale.engines:EngineSettings",
    "grading": "itscale.grading.settings:Grading",
    "predictor": "itscale.models.predictor:PredictorSettings",
    "sampling": "itscale.engines.protocol:Sampling",
    "testtime.evaluation": "itscale.testtime.evaluation:EvaluationSettings",
}
# Mappings that may hold any key of another, which is documented there, and what they have besides.
ANY_OF = {"testtime.runs.{run}": "testtime.settings", "model.training": "testtime.settings"}
WILDCARDS = {"published": "benchmark", "runs": "run", "sweep": "setting", "grid": "setting"}


def schema_keys(node: dict[str, Any], path: str = "", required: bool = False) -> Iterator[tuple[str, str, bool]]:
    """(key, type in words, whether it must be there) of every leaf of the schema."""
    if "$ref" in node:
        yield path, f"as `{node['$ref'].rpartition('/')[2]}`", required
        return
    nullable = "null" in (node.get("type") if isinstance(node.get("type"), list) else [])
    if path in READ_BY:
        cls = resolve_name(READ_BY[path])
        yield from ((f"{path}.{f.name}", annotation_words(type_of(cls, f.name)), False) for f in fields(cls))
        return
    below = node.get("properties", {})
    if path in ANY_OF:
        shared = {f.name for f in fields(resolve_name(READ_BY[ANY_OF[path]]))}
        assert shared <= below.keys(), path
        yield path, words(node), required
        below, node = {key: child for key, child in below.items() if key not in shared}, {"type": "object", "properties": {}}
    free = "additionalProperties" not in node
    if nullable or free or not (below or isinstance(node.get("additionalProperties"), dict)):
        if path:
            yield path, words(node), required
    for key, child in below.items():
        yield from schema_keys(child, f"{path}.{key}".lstrip("."), key in node.get("required", []))
    if isinstance(node.get("additionalProperties"), dict):
        wildcard = WILDCARDS.get(path.rpartition(".")[2], "name")
        yield from schema_keys(node["additionalProperties"], f"{path}.{{{wildcard}}}")


def words(node: dict[str, Any]) -> str:
    """A schema's type as the page says it."""
    if "enum" in node:
        return " or ".join(f"`{value}`" for value in node["enum"])
    kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
    return " or ".join(_kind(kind, node) for kind in kinds)


def _kind(kind: str, node: dict[str, Any]) -> str:
    names = {"string": "text", "boolean": "true or false", "object": "mapping", "null": "null"}
    if kind in ("integer", "number"):
        low = (
            [f"≥ {node['minimum']}"]
            if "minimum" in node
            else [f"> {node['exclusiveMinimum']}"]
            if "exclusiveMinimum" in node
            else []
        )
        high = (
            [f"≤ {node['maximum']}"]
            if "maximum" in node
            else [f"< {node['exclusiveMaximum']}"]
            if "exclusiveMaximum" in node
            else []
        )
        return " ".join([kind, ", ".join(low + high)]).strip()
    if kind == "array":
        return f"list of {words(node['items'])}" if "items" in node else "list"
    return names[kind]


def type_of(cls: type, name: str) -> Any:
    return typing.get_type_hints(cls)[name]


def annotation_words(annotation: Any) -> str:
    """A field's annotation in the same words."""
    if get_origin(annotation) in (typing.Union, types.UnionType):
        return " or ".join(annotation_words(a) for a in get_args(annotation))
    if get_origin(annotation) is Mapping or annotation is Mapping or get_origin(annotation) is dict or is_dataclass(annotation):
        return "mapping"
    return {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null"}[annotation]


def default(key: str, required: bool) -> str:
    """What holds where nobody sets the key: config.yaml's value, else the settings class's, else none."""
    value: Any = CONFIG
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            break
        value = value[part]
    else:
        return shown(value)
    parent, _, name = key.rpartition(".")
    cls = {**DEFAULTS_OF, **READ_BY}.get(parent)
    found = [f for f in fields(resolve_name(cls)) if f.name == name] if cls else []
    if found and found[0].default is not MISSING:
        return shown(found[0].default)
    if found and found[0].default_factory is not MISSING:
        return shown(found[0].default_factory())
    return "required" if required else "none"


def shown(value: Any) -> str:
    if value is None:
        return "none"
    return f"`{json.dumps(value)}`" if not isinstance(value, str) or not re.fullmatch(r"[\w./ -]+", value) else f"`{value}`"


def documented() -> dict[str, tuple[str, str, str]]:
    """Key: (type, default, meaning), from the tables of the page."""
    rows = re.findall(r"^\| `([^`]+)` \| (.*?) \| (.*?) \| (.*) \|$", (ROOT / "config/README.md").read_text(), re.MULTILINE)
    assert len(rows) == len({row[0] for row in rows}), "a key is there twice"
    return {key: tuple(rest) for key, *rest in rows}


@pytest.fixture(scope="module")
def expected() -> dict[str, tuple[str, str]]:
    """Key: (type, default), from the schema, the configuration and the classes that read it."""
    keys = [*schema_keys(SCHEMA), *(row for name, node in SCHEMA["$defs"].items() for row in schema_keys(node, name))]
    return {key: (kind, default(key, required)) for key, kind, required in keys}


def test_every_key_is_documented_and_no_other(expected):
    assert sorted(documented()) == sorted(expected)


def test_types_and_defaults_are_the_true_ones(expected):
    rows = documented()
    assert {key: row[:2] for key, row in rows.items()} == expected
    assert [key for key, (_, _, meaning) in rows.items() if len(meaning.split()) < 3] == []


def test_the_shipped_configurations_use_only_documented_keys(expected):
    """The schema's own patterns match what the files say, so a documented name is the name that a file uses."""
    known = [re.compile(re.sub(r"\\{[a-z]+\\}", "[^.]+", re.escape(key)) + r"(\..*)?") for key in expected]
    for file in (ROOT / "config").glob("*.yaml"):
        for key in _leaves(yaml.safe_load(file.read_text())):
            assert any(pattern.fullmatch(key) for pattern in known), (file.name, key)


def _leaves(node: Any, path: str = "") -> Iterator[str]:
    if isinstance(node, dict) and node:
        for key, child in node.items():
            # A method's name may hold a full stop; nothing is looked up by it.
            yield from _leaves(child, f"{path}.{str(key).replace('.', '_')}".lstrip("."))
    elif not isinstance(node, dict):
        yield path
