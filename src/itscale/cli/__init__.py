"""`itscale <command>`: one subcommand behind each rule of the workflow, usable without Snakemake.

What a command needs is imported inside it, so that `--help` and the light commands start at once.
"""

import sys

from itscale.cli import comparison, markovscale, optscale, plan, pools, predictor, report, solving, votes, world
from itscale.cli.options import app
from itscale.errors import UserError

__all__ = [
    "app",
    "comparison",
    "main",
    "markovscale",
    "optscale",
    "plan",
    "pools",
    "predictor",
    "report",
    "solving",
    "votes",
    "world",
]


def main() -> None:
    """Run the command line; a UserError is printed as its one sentence and ends with status 1."""
    try:
        app()
    except UserError as error:
        print(f"itscale: {error}", file=sys.stderr)
        sys.exit(1)
