import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


# Rules ask this repository's package, wherever Snakemake runs and whatever is installed there.
sys.path.insert(0, str(Path(workflow.basedir, "src")))

from itscale.dag.checking import check
from itscale.dag.configuration import refuse_renamed
from itscale.errors import UserError

try:
    refuse_renamed(config)
    check(config, Path(workflow.basedir, "workflow/schemas/config.schema.yaml"))
except UserError as error:
    raise WorkflowError(str(error)) from None


report: "workflow/report/workflow.rst"


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


rule all:
    default_target: True
    input:
        f"{RESULTS}/tables/main.csv",
        f"{RESULTS}/tables/main.md",
        f"{RESULTS}/tables/sanity_checks.csv" if TOY else [],
        rules.markovscale.input,
        rules.optpo.input,
        figures(*(name for name in TABLE_OF if name not in ON_REQUEST)),


include: "workflow/rules/report.smk"
