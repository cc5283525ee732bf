MARKOV_TABLES = [
    "methods",
    "stops",
    "tokens",
    "rounds",
    "chain_fits",
    "questions",
    "forecasts",
    "reliability",
    "traces",
]
MARKOV_FIGURES = {
    "accuracy_round": "markovscale_rounds",
    "phase_diagram": "markovscale_questions",
    "rounds_drawn": "markovscale_stops",
    "rounds_tokens": "markovscale_tokens",
    "posterior_traces": "markovscale_traces",
    "filter_reliability": "markovscale_reliability",
    "forecast_error": "markovscale_forecasts",
}
TABLE_OF |= MARKOV_FIGURES


rule markovscale:
    input:
        f"{RESULTS}/tables/markovscale.md",
        f"{RESULTS}/tables/markovscale_chain_fits.csv",
        figures(*MARKOV_FIGURES),


rule markovscale_analysis:
    input:
        command("markovscale"),
        calibration=rules.calibration.output[0],
        parallel=pool("{benchmark}", "parallel"),
        chain=pool("{benchmark}", "chain"),
        problems=f"{RESULTS}/problems/{{benchmark}}.parquet",
        predictions=predictions("{benchmark}"),
    output:
        expand(
            f"{RESULTS}/tables/{{{{benchmark}}}}/markovscale/{{name}}.csv",
            name=MARKOV_TABLES,
        ),
    log:
        f"{RESULTS}/logs/markovscale/{{benchmark}}.log",
    benchmark:
        f"{RESULTS}/timings/markovscale/{{benchmark}}.tsv"
    conda:
        ENV
    threads: 1
    resources:
        mem_mb=more(2000),
        runtime=more(30),
        gpu=0,
    params:
        settings=config["markovscale"],
        seed=config["seed"],
        predictions=predictions_option,
        out=lambda wildcards, output: os.path.dirname(output[0]),
    shell:
        "OMP_NUM_THREADS={threads} python -m itscale markovscale --benchmark {wildcards.benchmark} --seed {params.seed}"
        " --calibration {input.calibration:q} --parallel {input.parallel:q} --chain {input.chain:q} --problems {input.problems:q}"
        " {params.predictions} --replicates {params.settings[replicates]} --out {params.out:q} 2>&1 | tee {log:q}"


rule markovscale_table:
    input:
        command("concat"),
        tables=expand(
            f"{RESULTS}/tables/{{benchmark}}/markovscale/{{{{name}}}}.csv",
            benchmark=config["markovscale"]["benchmarks"],
        ),
    output:
        f"{RESULTS}/tables/markovscale_{{name}}.csv",
    log:
        f"{RESULTS}/logs/table/markovscale_{{name}}.log",
    benchmark:
        f"{RESULTS}/timings/table/markovscale_{{name}}.tsv"
    conda:
        ENV
    resources:
        mem_mb=more(1000),
        runtime=more(5),
        gpu=0,
    shell:
        "python -m itscale concat --out {output:q} {input.tables:q} 2>&1 | tee {log:q}"


rule markovscale_markdown:
    input:
        command("markovscale-markdown"),
        table=f"{RESULTS}/tables/markovscale_methods.csv",
    output:
        report(
            f"{RESULTS}/tables/markovscale.md",
            category="Tables",
            caption="../report/markovscale.rst",
        ),
    log:
        f"{RESULTS}/logs/table/markovscale_markdown.log",
    benchmark:
        f"{RESULTS}/timings/table/markovscale_markdown.tsv"
    conda:
        ENV
    resources:
        mem_mb=more(1000),
        runtime=more(5),
        gpu=0,
    shell:
        "python -m itscale markovscale-markdown --table {input.table:q} --out {output:q} 2>&1 | tee {log:q}"
