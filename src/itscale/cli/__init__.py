"""`itscale <command>`: what people call, in groups, and under `itscale step` what the rules of the workflow call.

What a command needs is imported inside it, so that `--help` and the light commands start at once.
"""

import os
import sys

from itscale.cli import (
    comparison,
    markovscale,
    optscale,
    plan,
    policies,
    pools,
    predictor,
    report,
    sampling,
    solving,
    toytask,
    votes,
)
from itscale.cli.options import app
from itscale.errors import sentence_of

__all__ = [
    "app",
    "comparison",
    "main",
    "markovscale",
    "optscale",
    "plan",
    "policies",
    "pools",
    "predictor",
    "report",
    "sampling",
    "solving",
    "toytask",
    "votes",
]


def main() -> None:
    """Run the command line; a UserError, or what the machine refuses, is printed as one sentence and ends with status 1."""
    # What torch and vLLM say in C++ to their developers; torch reads this once, when it is imported.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        app()
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None:
            raise
        print(f"itscale: {sentence}", file=sys.stderr)
        sys.exit(1)
