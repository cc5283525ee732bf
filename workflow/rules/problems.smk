rule problems:
    input:
        modules("tinyworld.world"),
    output:
        expand(f"{RESULTS}/problems/{{split}}.parquet", split=SPLITS),
        expand(f"{RESULTS}/problems/{{split}}.json", split=SPLITS),
    log:
        f"{RESULTS}/logs/problems.log",
    benchmark:
        f"{RESULTS}/benchmarks/problems.tsv"
    conda:
        ENV
    resources:
        mem_mb=1000,
        runtime=5,
        gpu=0,
    params:
        settings=json.dumps(config["world"]["benchmarks"]),
        seed=config["seed"],
        out=lambda wildcards, output: os.path.dirname(output[0]),
    shell:
        "python -m itscale problems --seed {params.seed} --settings {params.settings:q} --out {params.out:q} 2>&1 | tee {log:q}"
