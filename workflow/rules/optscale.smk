STUDY = ["frontier", "reliability", "selection", "versus", "published"]
QUALITY = (
    ["predictor_quality", "predictor_labels"] if config["predictor"] is not None else []
)
THEORY = ["number_of_samples", "reached_confidence"]
OPTSCALE_FIGURES = {
    "frontier": "frontier",
    "budget": "frontier",
    "reliability": "reliability",
    "selection": "selection",
    "number_of_samples": "number_of_samples",
    "reached_confidence": "reached_confidence",
    **(
        {"predictor_label": "predictor_labels"}
        if config["predictor"] is not None
        else {}
    ),
}
TABLE_OF |= OPTSCALE_FIGURES


rule optscale_study:
    input:
        command("optscale"),
        calibration=rules.calibration.output[0],
        parallel=pool("{benchmark}", "parallel"),
        chain=pool("{benchmark}", "chain"),
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
    conda:
        ENV
    resources:
        mem_mb=more(1000),
        runtime=longer(60),
    params:
        orders=config["compare"]["orders"],
        choices=lambda wildcards: options_of(CHOICES, wildcards.benchmark),
        predictions=predictions_option,
        verifiers=lambda wildcards: verifiers_option(wildcards.benchmark),
        published=lambda wildcards: published_on(CHOICES, wildcards.benchmark),
        seed=config["seed"],
        out=folder,
    message:
        "OptScale on {wildcards.benchmark}: bounds, confidence, and what the choice of a threshold is worth"
    shell:
        "python -m itscale step optscale --benchmark {wildcards.benchmark} --calibration {input.calibration:q}"
        " --parallel {input.parallel:q} --chain {input.chain:q} {params.predictions:q} {params.verifiers:q} --main {input.main:q}"
        " --published {input.published:q} {params.published:q} {params.choices:q} --orders {params.orders} --seed {params.seed}"
        " --out {params.out:q} 2>&1 | tee {log:q}"


rule predictor_quality:
    input:
        command("predictor-quality"),
        problems=f"{RESULTS}/problems/{{benchmark}}.parquet",
        parallel=pool("{benchmark}", "parallel"),
        chain=pool("{benchmark}", "chain"),
        predictions=f"{RESULTS}/predictions/{{benchmark}}.parquet",
        training_problems=f"{RESULTS}/problems/predictor_train.parquet",
        training_parallel=pool("predictor_train", "parallel"),
        training_chain=pool("predictor_train", "chain"),
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
        out=folder,
    message:
        "How good the predictor is on {wildcards.benchmark}"
    shell:
        "python -m itscale step predictor-quality --benchmark {wildcards.benchmark}"
        " --problems {input.problems:q} --parallel {input.parallel:q} --chain {input.chain:q}"
        " --predictions {input.predictions:q} --training-problems {input.training_problems:q}"
        " --training-parallel {input.training_parallel:q} --training-chain {input.training_chain:q}"
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
        "python -m itscale step optscale-theory --seed {params.seed} --rows {params.rows}"
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
