"""How many samples of a pool differ when the same model rounds otherwise: other numbers of threads, other kernels.

Needs results with models/language_model and problems/calibration.parquet (--results). The pool is that of the calibration split,
drawn anew in a process of its own each time; the first is drawn as the workflow draws it, with one thread.
"""

from harness import Measurement, Options, run  # before numpy and torch: it sets the number of threads

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from itscale.data.records import KEY, SAMPLES, read_table

# What is set in the environment of each draw beside the first; MKL reads both of its variables.
DRAWS = {
    "two threads": {"OMP_NUM_THREADS": "2"},
    "PyTorch's kernels without vector instructions": {"ATEN_CPU_CAPABILITY": "default"},
    "MKL's kernels for every processor": {"MKL_CBWR": "COMPATIBLE"},
    "MKL's kernels for AVX2": {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "all of these kernels at once": {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_CBWR": "COMPATIBLE",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
    },
    "batches of 96": {},
}


def draw(options: Options, folder: Path, samples: int, batch: int, environment: dict[str, str]) -> pd.Series:
    """The texts of the pool by key."""
    plan = {"kind": "parallel", "samples": samples, "seed": 3, "sampling": {"max_tokens": 96}}
    out = folder / "samples.parquet"
    files = ["--model", options.results / "models/language_model", "--problems", options.results / "problems/calibration.parquet"]
    engine = json.dumps({"name": "transformers", "batch_size": batch})
    command = [sys.executable, "-m", "itscale", "generate", "--plan", json.dumps(plan), "--engine", engine, *files, "--out", out]
    given = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    subprocess.run(list(map(str, command)), env=given, check=True, capture_output=True)
    return read_table(out, SAMPLES).set_index(list(KEY))["text"]


def measure(options: Options) -> list[Measurement]:
    samples = 2 if options.short else 64
    draws = {name: DRAWS[name] for name in list(DRAWS)[2 if options.short else 0 :: 3 if options.short else 1]}
    texts = {}
    for name, environment in {"one thread": {}, **draws}.items():
        with tempfile.TemporaryDirectory() as folder:
            texts[name] = draw(options, Path(folder), samples, 96 if name.startswith("batches") else 384, environment)
    first = texts.pop("one thread")
    return [
        Measurement(f"samples that differ: {name}", int((text != first).sum()), f"of {len(first)}")
        for name, text in texts.items()
    ]


if __name__ == "__main__":
    run(__doc__, measure)
