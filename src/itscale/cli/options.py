"""What the commands share: the application, its first page, common options, and settings read from JSON and KEY=VALUE."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperGroup

from itscale.errors import UserError

HELP = """Stop sampling when a question has had enough: rules for best-of-N, self-consistency and re-answering.

```
itscale advise                                          # on an example
itscale import samples.jsonl --out pool                 # your samples, or
itscale sample --model URL --problems q.jsonl --out pool
itscale advise --pool pool                              # which rule?
itscale solve --model URL --policy asc --problems q.jsonl
```
"""

# The first page: every command in its group, in the order in which they are shown.
GROUPS = {
    "Start here": ("advise", "sample", "solve", "import", "policies"),
    "Evaluate": ("calibrate", "replay", "compare", "figure", "report", "plan"),
    "Data and models": (
        "dataset",
        "fetch-model",
        "import-official",
        "generate",
        "score",
        "grade",
        "pool",
        "slim",
        "train-predictor",
        "predict",
    ),
    "Train": ("train-on-votes",),
    "Workflow": ("partitions", "step"),
}


class FirstPage(TyperGroup):
    """The commands in the groups of GROUPS."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for panel, names in GROUPS.items():
            for name in names:
                if name in self.commands:
                    self.commands[name] = command = self.commands.pop(name)
                    command.rich_help_panel = panel


app = typer.Typer(cls=FirstPage, no_args_is_help=True, pretty_exceptions_enable=False, help=HELP, rich_markup_mode="markdown")
step = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
app.add_typer(step, name="step", help="The small steps of the workflow, each a command that one of its rules calls.")


def _print_version(asked: bool) -> None:
    if asked:
        try:
            print(f"itscale {version('itscale')}")
        except PackageNotFoundError:
            raise UserError("itscale runs from its sources and is not installed, so it has no version.") from None
        raise typer.Exit()


@app.callback(help=HELP)
def first_page(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """See HELP."""


def _table(path: Path) -> Path:
    """A table's file; its manifest has the same name with the suffix `.json`."""
    if path.suffix == ".json":
        raise UserError(f"--out {path} is the name that the table's manifest takes: give a name that ends with .parquet.")
    return path


Out = Annotated[Path, typer.Option(help="File to write.")]
OutTable = Annotated[Path, typer.Option(help="Table to write (.parquet).", callback=_table)]
OutFolder = Annotated[Path, typer.Option(help="Folder to write.")]
Choices = Annotated[
    int | None,
    typer.Option(min=2, help="Options of each question of a multiple-choice benchmark: m of the votes, else estimated."),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of every random choice.")]
Problems = Annotated[Path, typer.Option(help="Problems, a table that `itscale step problems` wrote.")]
StepBreak = Annotated[str, typer.Option(help="What stands between steps of a solution, as a JSON string.")]
Samples = Annotated[Path, typer.Option(help="Samples, a table that `itscale generate` wrote.")]
AnswerFormat = Annotated[
    str,
    typer.Option(
        "--answer", help="Where answers stand: auto, boxed, hash, phrase, choice, last_number, regex:PATTERN, json:KEY."
    ),
]
Comparison = Annotated[str, typer.Option("--compare", help="What answers are: auto, math, text, choice or exact.")]
ReadCutOff = Annotated[
    bool, typer.Option("--read-cut-off", help="Completions that were cut off, and unfinished thoughts, have answers too.")
]
AllowUnanswered = Annotated[
    bool, typer.Option("--allow-unanswered", help="Go on where more than half of the samples have no answer.")
]
GoldList = Annotated[
    str | None, typer.Option(help="What a list of several gold answers is: any (each is accepted) or tuple (in that order).")
]
GradingJson = Annotated[str, typer.Option(help="Grading as JSON: answer, compare, read_cut_off, time_limit.")]
TimeLimit = Annotated[float, typer.Option(min=0.1, help="Seconds that one answer may take to read.")]

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", tuple: "a list", Path: "a path"}


def parse_json(text: str, option: str) -> Any:
    """The value of an option that takes JSON; a UserError names the option and the position."""

    def no_number(word: str) -> None:
        raise UserError(f"{option} holds {word}, which is no number of JSON: give a finite number.")

    try:
        return json.loads(text, parse_constant=no_number)
    except json.JSONDecodeError as error:
        raise UserError(f"{option} is not valid JSON ({error.msg}, position {error.pos}): quote it as one argument.") from None


def parse_object(text: str, option: str, *required: str) -> dict[str, Any]:
    """The object of an option that takes a JSON object; a UserError names a required key that it lacks."""
    values = parse_json(text, option)
    if not isinstance(values, dict):
        raise UserError(f'{option} is {text[:80]}, which is no JSON object: give one in braces, {{"key": value}}.')
    missing = [name for name in required if name not in values]
    if missing:
        raise UserError(f"{option} lacks the key {missing[0]!r}: add it.")
    return values


def parse_step_break(text: str) -> str:
    """The value of --step-break; a UserError refuses what separates nothing."""
    pieces = parse_json(text, "--step-break")
    if not isinstance(pieces, str) or not pieces:
        raise UserError(f"--step-break is {text}: give a JSON string that is not empty.")
    return pieces


Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of the policy, see `itscale policies`; repeat it for more."),
]


Temperature = Annotated[float | None, typer.Option(min=0, help="Sampling temperature; without it the model's or server's own.")]
TopP = Annotated[float | None, typer.Option(help="Share of the probability that is sampled from; as for --temperature.")]
MaxTokens = Annotated[
    int | None, typer.Option(min=1, help="Longest completion in tokens; without it as long as the model or server allows.")
]
Concurrency = Annotated[int | None, typer.Option(min=1, help="Requests at once: by default 32 for a server, 256 for a folder.")]


def given_options(**options: Any) -> dict[str, Any]:
    """Those options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def parse_settings(given: Iterable[str] | None) -> dict[str, Any]:
    """Settings from KEY=VALUE; a value is a number, true, false or null where it reads as one, else a text.

    Raises:
        UserError: one is of another form, or comes twice.
    """
    found: dict[str, Any] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {text} is no KEY=VALUE: write --set lead=3.")
        if key.strip() in found:
            raise UserError(f"--set {key.strip()} is given twice: give it once.")
        try:
            found[key.strip()] = json.loads(value)
        except json.JSONDecodeError:
            found[key.strip()] = value
    return found


def settings_of(cls: type, text: str, option: str, **given: Any) -> Any:
    """An instance of a settings class from a JSON object and what is given beside it."""
    return build(cls, {**parse_object(text, option), **given}, option)


def build(cls: type, values: Any, option: str) -> Any:
    """An instance of a settings class from what JSON or YAML says.

    Raises:
        UserError: a key that the class does not know or lacks, or a value of another type; the message names it.
    """
    if not isinstance(values, dict):
        raise UserError(f"{option} is {values!r}, which is no object: give one with keys and values.")
    known = get_type_hints(cls)
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise UserError(f"{option} has the unknown key {unknown[0]!r}: it takes {', '.join(known)}.")
    given = {f.name for f in fields(cls) if f.default is not MISSING or f.default_factory is not MISSING} | set(values)
    if lacking := [name for name in known if name not in given]:
        raise UserError(f"{option} lacks the key {lacking[0]!r}: it takes {', '.join(known)}.")
    return cls(**{name: _typed(value, known[name], f"{option} {name}") for name, value in values.items()})


def _typed(value: Any, hint: Any, where: str) -> Any:
    """The value, if the hint allows it; objects of settings within settings are built."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None and type(None) in arguments:
            return None
        kinds = [kind for kind in arguments if kind is not type(None)]
        lists = [kind for kind in kinds if get_origin(kind) is tuple and isinstance(value, list)]
        return _typed(value, (lists or kinds)[0], where)
    if hint is Any:
        return value
    if origin is Literal:
        if value not in arguments:
            raise UserError(f"{where} is {value!r}: choose {', '.join(map(str, arguments))}.")
        return value
    if is_dataclass(hint):
        return value if isinstance(value, hint) else build(hint, value, where)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_typed(part, arguments[0], where) for part in value)
    if origin is Mapping:
        if not isinstance(value, dict):
            raise UserError(f"{where} is {value!r}: give an object with keys and values.")
        for key in value:
            if arguments[0] is int and not str(key).isdecimal():
                raise UserError(f"{where} has the key {key!r}: give whole numbers as keys.")
        return {key: _typed(part, arguments[1], f"{where} {key}") for key, part in value.items()}
    kind = origin or hint
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {int: number and isinstance(value, int), float: number and math.isfinite(value)}.get(kind, isinstance(value, kind))
    if not fits:
        raise UserError(f"{where} is {value!r}: give {_WORDS.get(kind, kind.__name__)}.")
    return value
