"""What the commands share: the application, its common options, and settings read from JSON."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from itscale.errors import UserError

HELP = "One command behind each rule of the workflow; every one works without Snakemake."

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=HELP)

Out = Annotated[Path, typer.Option(help="File (or folder) to write.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
Problems = Annotated[Path, typer.Option(help="Problems, a table that `itscale problems` wrote.")]
StepBreak = Annotated[str, typer.Option(help="What stands between steps of a solution, as a JSON string.")]
Samples = Annotated[Path, typer.Option(help="Samples, a table that `itscale generate` wrote.")]


def parse_json(text: str, option: str) -> Any:
    """The value of an option that takes JSON; a UserError names the option and the position."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{option} is not valid JSON ({error.msg}, position {error.pos}): quote it as one argument.") from None


def settings_of(cls: type, text: str, option: str, **given: Any) -> Any:
    """An instance of a settings class from JSON and what is given beside it; an unknown key is named."""
    return build(cls, {**parse_json(text, option), **given}, option)


def build(cls: type, values: dict[str, Any], option: str) -> Any:
    """An instance of a settings class; a key that it does not know is named."""
    from dataclasses import fields

    known = [f.name for f in fields(cls)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise UserError(f"{option} has the unknown key {unknown[0]!r}: it takes {', '.join(known)}.")
    return cls(**values)
