"""How the commands that draw samples are told what to draw with: a model, and how its tokens are drawn."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import Annotated, Any

import typer

from itscale.cli.options import Concurrency, MaxTokens, Temperature, TopP, build, given_options, parse_object

# The share of completions that are cut off above which a run says what to do.
_MANY_CUT = 0.05

EngineJson = Annotated[str, typer.Option(help="EngineSettings as JSON, but for the model.")]
Instruction = Annotated[
    str | None,
    typer.Option(help="Text after every question; by default it asks for \\boxed{} where that is read; '' is none."),
]
SamplingJson = Annotated[
    str, typer.Option(help="What else there is of sampling as JSON: top_k, min_p, repetition_penalty, stop, confidence.")
]


@dataclass(frozen=True, slots=True)
class Drawing:
    """The options of a command that draws, under their names."""

    engine: EngineJson = "{}"
    instruction: Instruction = None
    temperature: Temperature = None
    top_p: TopP = None
    max_tokens: MaxTokens = None
    concurrency: Concurrency = None
    sampling: SamplingJson = "{}"


USUAL = Drawing()


def with_drawing(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of `Drawing` in the place of its parameter `given`."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    shared = [inspect.Parameter(f.name, kind, default=f.default, annotation=f.type) for f in fields(Drawing)]
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        parameters += shared if parameter.name == "given" else [parameter]

    @wraps(command)
    def called(*arguments: Any, **options: Any) -> None:
        given = Drawing(**{f.name: options.pop(f.name) for f in fields(Drawing) if f.name in options})
        command(*arguments, given=given, **options)

    called.__signature__ = inspect.Signature(parameters)
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


def drawing_settings(model: str, given: Drawing, answer: str):
    """EngineSettings and Sampling, as the options of one command give them; `answer` says where answers are looked for.

    Raises:
        UserError: an option holds what it does not take.
    """
    from itscale.engines import EngineSettings, is_address
    from itscale.engines.protocol import Sampling

    served = is_address(model)
    options = {"batch_size": 32 if served else 256, **parse_object(given.engine, "--engine")}
    options |= given_options(batch_size=given.concurrency)
    if given.instruction is not None:
        options["instruction"] = given.instruction
    elif "instruction" not in options and answer in ("auto", "boxed"):
        options["instruction"] = _usual_instruction(model, served=served)
    asked = given_options(temperature=given.temperature, top_p=given.top_p, max_tokens=given.max_tokens)
    return (
        build(EngineSettings, {**options, "model": model}, "--engine"),
        build(Sampling, {**parse_object(given.sampling, "--sampling"), **asked}, "--sampling"),
    )


def remedy(cut_off: int, drawn: int) -> str:
    """What to do about completions that were cut off; empty where they are few."""
    many = cut_off > _MANY_CUT * drawn
    return ": raise --max-tokens (or the model's window), so that they end of themselves" if many else ""


def _usual_instruction(model: str, *, served: bool) -> str:
    """What asks a model for the box that answers are read from; nothing for a model that has no letters."""
    from itscale.models.hub import model_files
    from itscale.models.prompts import BOX, can_read

    if served:
        return BOX
    from transformers import AutoTokenizer

    with model_files(model):
        tokenizer = AutoTokenizer.from_pretrained(model)
    return BOX if can_read(tokenizer, BOX) else ""
