"""How the commands that draw samples are told what to draw with: a model, and how its tokens are drawn."""

from typing import Annotated

import typer

from itscale.cli.options import build, given_options, parse_object

# The share of completions that are cut off above which a run says what to do.
_MANY_CUT = 0.05

EngineJson = Annotated[str, typer.Option(help="EngineSettings as JSON, but for the model.")]
Instruction = Annotated[
    str | None,
    typer.Option(help="Text after every question; by default it asks for \\boxed{} where that is read; '' is none."),
]


def drawing_settings(
    model: str,
    *,
    engine: str,
    sampling: str,
    instruction: str | None,
    answer: str,
    concurrency: int | None,
    temperature: float | None,
    top_p: float | None,
    max_tokens: int | None,
):
    """EngineSettings and Sampling, as the options of one command give them.

    Raises:
        UserError: an option holds what it does not take.
    """
    from itscale.engines import EngineSettings, is_address
    from itscale.engines.protocol import Sampling

    served = is_address(model)
    options = {"batch_size": 32 if served else 256, **parse_object(engine, "--engine"), **given_options(batch_size=concurrency)}
    if instruction is not None:
        options["instruction"] = instruction
    elif "instruction" not in options and answer in ("auto", "boxed"):
        options["instruction"] = _usual_instruction(model, served=served)
    asked = given_options(temperature=temperature, top_p=top_p, max_tokens=max_tokens)
    return (
        build(EngineSettings, {**options, "model": model}, "--engine"),
        build(Sampling, {**parse_object(sampling, "--sampling"), **asked}, "--sampling"),
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
