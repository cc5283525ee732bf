"""Wall time and peak memory of each rule of a finished run, from the file that Snakemake wrote beside each job.

Reads RESULTS/timings/**/*.tsv (--results) and runs nothing. Jobs overlap, so the sum over jobs is not the run's wall time:
that is taken from the first job's start to the last one's end, and means something only where the run was not interrupted.
"""

from harness import Measurement, Options, run

from itscale.errors import UserError
from itscale.report.evidence import by_rule, job_times


def measure(options: Options) -> list[Measurement]:
    folder = options.results / "timings"
    jobs = job_times(folder)
    if jobs.empty:
        raise UserError(f"{folder} holds no benchmark files: run the workflow first.")
    wall = jobs["end"].max() - (jobs["end"] - jobs["seconds"]).min()
    return [
        Measurement("from the first job's start to the last one's end", wall / 60, "min", "at most 6"),
        Measurement("peak resident memory of a job", jobs["memory_gb"].max(), "GB", "at most 2.5"),
        *(
            Measurement(f"rule {r.Index}: all its jobs", r.seconds, "s", None, {"jobs": r.jobs, "peak_memory_gb": r.memory_gb})
            for r in by_rule(jobs).itertuples()
        ),
    ]


if __name__ == "__main__":
    run(__doc__, measure)
