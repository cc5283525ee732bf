"""Wall time and peak memory of each rule of a finished run, from the file that Snakemake wrote beside each job.

Reads RESULTS/benchmarks/**/*.tsv (--results) and runs nothing. Jobs overlap, so the sum over jobs is not the run's wall time:
that is taken from the first job's start to the last one's end, and means something only where the run was not interrupted.
"""

from harness import Measurement, Options, run

import pandas as pd

from itscale.errors import UserError


def measure(options: Options) -> list[Measurement]:
    folder = options.results / "benchmarks"
    files = sorted(folder.rglob("*.tsv"))
    if not files:
        raise UserError(f"{folder} holds no benchmark files: run the workflow first.")
    jobs = pd.DataFrame(
        {
            "rule": [f.relative_to(folder).parts[0].removesuffix(".tsv") for f in files],
            "seconds": [_first(f, "s") for f in files],
            "memory_gb": [_first(f, "max_rss") * 1.048576e-3 for f in files],
            "end": [f.stat().st_mtime for f in files],
        }
    )
    wall = jobs["end"].max() - (jobs["end"] - jobs["seconds"]).min()
    by_rule = jobs.groupby("rule").agg(jobs=("seconds", "size"), seconds=("seconds", "sum"), memory_gb=("memory_gb", "max"))
    by_rule = by_rule.sort_values("seconds", ascending=False).round(2)
    return [
        Measurement("from the first job's start to the last one's end", wall / 60, "min", "at most 10"),
        Measurement("peak resident memory of a job", jobs["memory_gb"].max(), "GB", "at most 4"),
        *(
            Measurement(f"rule {r.Index}: all its jobs", r.seconds, "s", None, {"jobs": r.jobs, "peak_memory_gb": r.memory_gb})
            for r in by_rule.itertuples()
        ),
    ]


def _first(path, column: str) -> float:
    """A value of the first run in a benchmark file; jobs too short to be looked at have no memory: 0."""
    value = pd.read_csv(path, sep="\t", na_values=["-", "NA"])[column].iloc[0]
    return 0.0 if pd.isna(value) else float(value)


if __name__ == "__main__":
    run(__doc__, measure)
