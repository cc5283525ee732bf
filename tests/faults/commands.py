"""Arguments of the commands that the faults strike."""

import json
from pathlib import Path

PLAN = {"kind": "parallel", "samples": 24, "seed": 3, "sampling": {"max_tokens": 24}}
SMALL = {"layers": 1, "hidden": 32, "heads": 1, "intermediate": 48, "steps": 40, "batch_size": 8}


def drawing(folder: Path, out: Path, batch: int = 4, **changes: object) -> list[object]:
    """`itscale generate`, in batches so small that there is time to strike."""
    plan, engine = json.dumps(PLAN | changes), json.dumps({"name": "transformers", "batch_size": batch})
    files = ["--model", folder / "lm", "--problems", folder / "problems.parquet", "--out", out]
    return ["generate", "--plan", plan, "--engine", engine, *files]


def scoring(folder: Path, out: Path) -> list[object]:
    """`itscale score`, two solutions at a time."""
    files = ["--model", folder / "prm", "--problems", folder / "problems.parquet", "--samples", folder / "samples.parquet"]
    return ["score", *files, "--batch-size", "2", "--out", out]


def grading(folder: Path, out: Path) -> list[object]:
    """`itscale grade`."""
    return ["grade", "--problems", folder / "problems.parquet", "--samples", folder / "samples.parquet", "--out", out]


def training(model: str, folder: Path, out: Path) -> list[object]:
    """Forty steps of the language model or of the reward model, which keep ten checkpoints."""
    head = {"extra_layers": 2, "steps": 40, "batch_size": 8}
    files = ["--problems", folder / "problems.parquet", "--samples", folder / "samples.parquet", "--model", folder / "lm"]
    own = {
        "language model": ["step", "train-language-model", "--settings", json.dumps(SMALL), folder / "problems.parquet"],
        "reward model": ["step", "train-reward-model", "--settings", json.dumps(head), *files, folder / "problems.parquet"],
    }
    return [*own[model], "--seed", "1", "--out", out]
