"""Commands of the predictor: training on labelled questions, and predictions from the question alone."""

from pathlib import Path
from typing import Annotated

import typer

from itscale.cli.options import OutFolder, Problems, Seed, app, settings_of
from itscale.errors import UserError


@app.command()
def train_predictor(
    backbone: Annotated[str, typer.Option(help="Hugging Face folder of a decoder or an encoder.")],
    problems: Problems,
    parallel: Annotated[Path, typer.Option(help="Parallel pool of these problems, for the labels.")],
    validation_problems: Annotated[Path, typer.Option(help="Problems that decide when to stop.")],
    validation_parallel: Annotated[Path, typer.Option(help="Their parallel pool.")],
    seed: Seed,
    out: OutFolder,
    chain: Annotated[Path | None, typer.Option(help="Chain pool of the training problems, for transition rates.")] = None,
    validation_chain: Annotated[Path | None, typer.Option(help="Chain pool of the validation problems.")] = None,
    exclude: Annotated[list[Path] | None, typer.Option(help="Problems that must not be among them; may be repeated.")] = None,
    settings: Annotated[str, typer.Option(help="PredictorSettings as JSON.")] = "{}",
) -> None:
    """Train a predictor of a question's score moments and transition rates; a killed run continues."""
    from itscale.data.records import read_problems
    from itscale.models.labels import labelled
    from itscale.models.predictor import PredictorSettings, train
    from itscale.sources.datasets import refuse_overlap

    training = labelled(problems, parallel, chain)
    validation = labelled(validation_problems, validation_parallel, validation_chain)
    others = {str(path): read_problems(path) for path in exclude or ()}
    refuse_overlap({str(problems): training[0], str(validation_problems): validation[0]})
    for name, found in others.items():
        refuse_overlap({name: found, str(problems): training[0], str(validation_problems): validation[0]})
    train(out, backbone, training, validation, seed, settings_of(PredictorSettings, settings, "--settings"))


@app.command()
def predict(
    model: Annotated[Path, typer.Option(help="Predictor folder.")],
    problems: Annotated[list[Path], typer.Option(help="Table of questions; repeat it for more.")],
    out: Annotated[list[Path], typer.Option(help="File to write, one for each of --problems in their order.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Questions per forward pass.")] = 64,
) -> None:
    """Predict every question's parameters from its text alone."""
    from itscale.data.records import PREDICTIONS, read_problems, write_table
    from itscale.models.predictor import predict as stage

    if len(problems) != len(out):
        raise UserError(f"there are {len(problems)} --problems and {len(out)} --out: give one file to write for each.")
    asked = [read_problems(path) for path in problems]
    table, start = stage([problem for part in asked for problem in part], model, batch_size), 0
    for part, written in zip(asked, out, strict=True):
        found = table[start : start + len(part)].reset_index(drop=True)
        write_table(written, found, PREDICTIONS, {"predictor": str(model)})
        start += len(part)
