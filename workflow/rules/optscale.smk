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
        others=lambda wildcards: other_scores(wildcards.benchmark, "parallel", "chain"),
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
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(60),
        gpu=0,
    params:
        orders=config["compare"]["orders"],
        choices=lambda wildcards: choices_of(wildcards.benchmark),
        predictions=predictions_option,
        verifiers=lambda wildcards: verifiers_option(wildcards.benchmark),
        published=lambda wildcards: published_on(wildcards.benchmark),
        seed=config["seed"],
        out=lambda wildcards, output: os.path.dirname(output[0]),
    shell:
        "OMP_NUM_THREADS={threads} python -m itscale optscale --benchmark {wildcards.benchmark} --calibration {input.calibration:q}"
        " --parallel {input.parallel:q} --chain {input.chain:q} {params.predictions} {params.verifiers:q} --main {input.main:q}"
        " --published {input.published:q} {params.published} {params.choices} --orders {params.orders} --seed {params.seed}"
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
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(30),
        gpu=0,
    params:
        out=lambda wildcards, output: os.path.dirname(output[0]),
    shell:
        "OMP_NUM_THREADS={threads} python -m itscale predictor-quality --benchmark {wildcards.benchmark}"
        " --problems {input.problems:q} --parallel {input.parallel:q} --chain {input.chain:q}"
        " --predictions {input.predictions:q} --training-problems {input.training_problems:q}"
        " --training-parallel {input.training_parallel:q} --training-chain {input.training_chain:q}"
        " --out {params.out:q} 2>&1 | tee {log:q}"


rule optscale_theory:
    input:
        command("optscale-theory"),
    output:
        expand(f"{RESULTS}/tables/{{name}}.csv", name=THEORY),
    log:
        f"{RESULTS}/logs/optscale_theory.log",
    benchmark:
        f"{RESULTS}/timings/optscale_theory.tsv"
    conda:
        ENV
    threads: 1
    resources:
        mem_mb=more(2000),
        runtime=more(20),
        gpu=0,
    params:
        rows=config["compare"]["simulated"],
        seed=config["seed"],
        out=lambda wildcards, output: os.path.dirname(output[0]),
    shell:
        "OMP_NUM_THREADS={threads} python -m itscale optscale-theory --seed {params.seed} --rows {params.rows}"
        " --out {params.out:q} 2>&1 | tee {log:q}"


use rule table as optscale_table with:
    output:
        f"{RESULTS}/tables/{{name,frontier|reliability|selection|versus|published|predictor_quality|predictor_labels}}.csv",
    log:
        f"{RESULTS}/logs/table/optscale_{{name}}.log",
    benchmark:
        f"{RESULTS}/timings/table/optscale_{{name}}.tsv"


rule optscale:
    input:
        f"{RESULTS}/tables/main.md",
        expand(f"{RESULTS}/tables/{{name}}.csv", name=[*STUDY, *QUALITY, *THEORY]),
        figures("accuracy_tokens", *OPTSCALE_FIGURES),


localrules:
    optscale,
