# The table that each figure reads; a figure reads nothing else.
TABLE_OF = {
    "accuracy_tokens": "main",
    "accuracy_n": "curves",
    "accuracy_round": "rounds",
    "samples_used": "stops",
    "score_fit": "scores",
}


rule figure:
    input:
        lambda wildcards: modules(f"figures.{wildcards.name}"),
        table=lambda wildcards: f"{RESULTS}/tables/{TABLE_OF[wildcards.name]}.csv",
    output:
        pdf=f"{RESULTS}/figures/{{name}}.pdf",
        png=report(f"{RESULTS}/figures/{{name}}.png", category="Figures", caption="../report/{name}.rst"),
    params:
        benchmark=config["compare"]["benchmarks"][0],
    wildcard_constraints:
        name="|".join(TABLE_OF),
    log:
        f"{RESULTS}/logs/figures/{{name}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures/{{name}}.tsv"
    conda:
        ENV
    resources:
        mem_mb=1000,
        runtime=5,
        gpu=0,
    group:
        "figures"
    shell:
        "python -m itscale figure {wildcards.name} --table {input.table:q} --benchmark {params.benchmark}"
        " --out {output.pdf:q} 2>&1 | tee {log:q}"
