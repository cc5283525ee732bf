import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


# Rules ask this repository's package, wherever Snakemake runs and whatever is installed there.
sys.path.insert(0, str(Path(workflow.basedir, "src")))

from itscale.dag.configuration import refuse_renamed
from itscale.dag.narration import narrate
from itscale.errors import UserError

try:
    refuse_renamed(config)
    # The Snakemake inside a job of a cluster reads what was checked where the job came from.
    if workflow.is_main_process:
        from itscale.dag.checking import check

        check(config, Path(workflow.basedir, "workflow/schemas/config.schema.yaml"))
except UserError as error:
    raise WorkflowError(str(error)) from None


report: "workflow/report/workflow.rst"


# The terminal has a line a job; dry runs, and runs with --verbose, are told as Snakemake tells them.
if workflow.is_main_process and not (
    workflow.output_settings.dryrun or workflow.output_settings.verbose
):
    narrate(logger)


include: "workflow/rules/common.smk"
include: "workflow/rules/problems.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/pools.smk"
include: "workflow/rules/official.smk"
include: "workflow/rules/predictor.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/optscale.smk"
include: "workflow/rules/optpo.smk"
include: "workflow/rules/markovscale.smk"
include: "workflow/rules/live.smk"
include: "workflow/rules/figures.smk"


localrules:
    all,
    markovscale,


# What a bare `snakemake` makes, beside the page about it.
DEFAULT = [
    f"{RESULTS}/tables/main.csv",
    f"{RESULTS}/tables/main.md",
    rules.which_rule.output,
    tables("at_budget"),
    f"{RESULTS}/tables/sanity_checks.csv" if SANITY else [],
    rules.markovscale.input,
    rules.optpo.input,
    figures(*(name for name in TABLE_OF if name not in ON_REQUEST)),
]


rule all:
    """Everything but what is made on request (training_algorithms, toy_training)."""
    default_target: True
    input:
        f"{RESULTS}/SUMMARY.md",
        f"{RESULTS}/report.html",
        DEFAULT,


include: "workflow/rules/report.smk"


# A dry run shows rules, files and resources of its jobs, which messages would stand in the place of.
if workflow.output_settings.dryrun:
    for each in workflow.rules:
        each.message = None


onsuccess:
    if workflow.is_main_process and Path(RESULTS, "SUMMARY.md").exists():
        print(f"\n{Path(RESULTS, 'SUMMARY.md').read_text()}")


# Rules that are submitted nowhere have no tasks: by this `itscale plan --cluster` tells them in a dry run.
for made in workflow.rules:
    if made.norun or made.name in workflow._localrules:
        made.resources["tasks"] = 0


onstart:
    if on_slurm():
        prepare_cluster()


onerror:
    if on_slurm():
        explain_failures()
