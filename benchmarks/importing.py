"""`itscale import` of a million samples of somebody's: JSONL, 15,625 questions x 64 texts of 330 characters (--short: 20 x 64).

The file is generated and lies in a temporary folder (550 MB); the command runs in a process of its own, of one thread.
Needs no results.
"""

from harness import Measurement, Options, run  # before numpy: it sets the number of threads

import json
import random
import tempfile
from pathlib import Path

from memory import command, in_a_process

SAMPLES = 64


def measure(options: Options) -> list[Measurement]:
    questions = 20 if options.short else 15_625
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "samples.jsonl"
        written(file, questions)
        peak, took = in_a_process(command, "import", file, "--out", Path(folder) / "pool")
        shape = {"samples": questions * SAMPLES, "MB": round(file.stat().st_size / 1e6, 1)}
    return [
        Measurement("import of JSONL", took, "s", "at most 60", shape),
        Measurement("import of JSONL: peak memory", peak, "GB", "at most 3", shape),
    ]


def written(file: Path, questions: int) -> None:
    """Samples of which half are right, and whose texts are all different."""
    rng = random.Random(0)
    with file.open("w") as out:
        for i in range(questions):
            for k in range(SAMPLES):
                answer = i if rng.random() < 0.5 else rng.randrange(10**6)
                text = (
                    f"Sample {k} of question {i}. " + "We add the parts and carry what is left. " * 7 + f"So \\boxed{{{answer}}}."
                )
                row = {"question": f"What is {i} and nothing?", "gold": str(i), "text": text, "completion_tokens": 80 + k}
                out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    run(__doc__, measure)
