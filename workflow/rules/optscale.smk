STUDY = ["frontier", "reliability", "selection", "versus", "published"]
QUALITY = ["predictor_quality", "predictor_labels"] if PREDICTS else []
# Simulated, of rules that read scores.
THEORY = ["number_of_samples", "reached_confidence"] if SCORED else []
OPTSCALE_FIGURES = {
    "frontier": "frontier",
    "budget": "frontier",
    **({"reliability": "reliability"} if SCORED else {}),
    "selection": "selection",
    **{name: name for name in THEORY},
    **({"predictor_label": "predictor_labels"} if PREDICTS else {}),
}
if not PARALLEL:
    STUDY, QUALITY, OPTSCALE_FIGURES = [], [], {}
TABLE_OF |= OPTSCALE_FIGURES


rule optscale_study:
    input:
        command("optscale"),
        **pools_of("{benchmark}"),
        calibration=rules.calibration.output.record,
        others=lambda wildcards: other_scores(wildcards.benchmark),
        predictions=predictions("{benchmark}"),
        main=f"{RESULTS}/tables/{{benchmark}}/main.csv",
        published="config/published.csv",
    output:
        expand(f"{RESULTS}/tables/{{{{benchmark}}}}/{{name}}.csv", name=STUDY),
    log:
        f"{RESULTS}/logs/optscale_study/{{benchmark}}.log",
    benchmark:
        f"{RESULTS}/timings/optscale_study/{{benchmark}}.tsv"
    priority: FIRST
    conda:
        ENV
    resources:
        mem_mb=more(1000),
        runtime=longer(60),
    params:
        orders=config["compare"]["orders"],
        choices=lambda wildcards: options_of(CHOICES, wildcards.benchmark),
        pools=pools_option,
        predictions=predictions_option,
        verifiers=lambda wildcards: verifiers_option(wildcards.benchmark),
        published=lambda wildcards: published_on(CHOICES, wildcards.benchmark),
        seed=config["seed"],
        out=folder,
    message:
        "OptScale on {wildcards.benchmark}: bounds, confidence, and what the choice of a threshold is worth"
    shell:
        "python -m itscale step optscale --benchmark {wildcards.benchmark} --calibration {input.calibration:q}"
        " {params.pools:q} {params.predictions:q} {params.verifiers:q} --main {input.main:q}"
        " --published {input.published:q} {params.published:q} {params.choices:q} --orders {params.orders:q} --seed {params.seed:q}"
        " --out {params.out:q} 2>&1 | tee {log:q}"


rule predictor_quality:
    input:
        command("predictor-quality"),
        **pools_of("{benchmark}"),
        problems=f"{RESULTS}/problems/{{benchmark}}.parquet",
        predictions=f"{RESULTS}/predictions/{{benchmark}}.parquet",
        training_problems=f"{RESULTS}/problems/predictor_train.parquet",
        training=list(pools_of("predictor_train").values()),
    output:
        expand(
            f"{RESULTS}/tables/{{{{benchmark}}}}/{{name}}.csv",
            name=["predictor_quality", "predictor_labels"],
        ),
    log:
        f"{RESULTS}/logs/predictor_quality/{{benchmark}}.log",
    benchmark:
        f"{RESULTS}/timings/predictor_quality/{{benchmark}}.tsv"
    conda:
        ENV
    resources:
        mem_mb=more(4000),
        runtime=longer(30),
    params:
        pools=pools_option,
        training=lambda wildcards, input: [
            f"--training-{kind}={file}" for kind, file in zip(KINDS, input.training)
        ],
        out=folder,
    message:
        "How good the predictor is on {wildcards.benchmark}"
    shell:
        "python -m itscale step predictor-quality --benchmark {wildcards.benchmark}"
        " --problems {input.problems:q} {params.pools:q}"
        " --predictions {input.predictions:q} --training-problems {input.training_problems:q}"
        " {params.training:q}"
        " --out {params.out:q} 2>&1 | tee {log:q}"


rule optscale_theory:
    input:
        command("optscale-theory"),
    output:
        tables(*THEORY),
    log:
        f"{RESULTS}/logs/optscale_theory.log",
    benchmark:
        f"{RESULTS}/timings/optscale_theory.tsv"
    conda:
        ENV
    resources:
        mem_mb=more(2000),
        runtime=longer(20),
    params:
        rows=config["compare"]["simulated"],
        seed=config["seed"],
        out=folder,
    message:
        "OptScale by simulation: samples needed and confidence reached"
    shell:
        "python -m itscale step optscale-theory --seed {params.seed:q} --rows {params.rows:q}"
        " --out {params.out:q} 2>&1 | tee {log:q}"


rule optscale_tables:
    input:
        command("collect"),
        tables=tables_of("compare", *STUDY, *QUALITY),
    output:
        tables(*STUDY, *QUALITY),
    log:
        f"{RESULTS}/logs/optscale_tables.log",
    benchmark:
        f"{RESULTS}/timings/optscale_tables.tsv"
    localrule: True
    conda:
        ENV
    params:
        names=repeated("--name", [*STUDY, *QUALITY]),
        folders=folders_of("compare"),
        out=folder,
    message:
        "Writing the OptScale tables"
    shell:
        "python -m itscale step collect {params.names:q} --out {params.out:q} {params.folders:q} 2>&1 | tee {log:q}"


rule optscale:
    """OptScale: its tables, theory and figures."""
    input:
        f"{RESULTS}/tables/main.md",
        tables(*STUDY, *QUALITY, *THEORY),
        figures("accuracy_tokens", *OPTSCALE_FIGURES),


localrules:
    optscale,
