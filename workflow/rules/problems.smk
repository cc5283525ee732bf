# What the planner reads, and the loader does not.
STATED = ("questions", "answer_tokens")


if TOY:

    rule problems:
        input:
            command("problems"),
        output:
            expand(f"{RESULTS}/problems/{{split}}.parquet", split=SPLITS),
            expand(f"{RESULTS}/problems/{{split}}.json", split=SPLITS),
        log:
            f"{RESULTS}/logs/problems.log",
        benchmark:
            f"{RESULTS}/timings/problems.tsv"
        conda:
            ENV
        resources:
            mem_mb=more(1000),
            runtime=more(5),
            gpu=0,
        params:
            settings=json.dumps(config["toy_task"]["problems"]),
            seed=config["seed"],
            out=lambda wildcards, output: os.path.dirname(output[0]),
        shell:
            "python -m itscale problems --seed {params.seed} --settings {params.settings:q} --out {params.out:q} 2>&1 | tee {log:q}"

else:

    # Where the network is: on the machine that Snakemake runs on.
    localrules:
        problems,

    rule problems:
        input:
            command("dataset"),
            exclude=before,
        output:
            table=f"{RESULTS}/problems/{{benchmark}}.parquet",
            manifest=f"{RESULTS}/problems/{{benchmark}}.json",
        log:
            f"{RESULTS}/logs/problems/{{benchmark}}.log",
        benchmark:
            f"{RESULTS}/timings/problems/{{benchmark}}.tsv"
        retries: 3
        conda:
            ENV
        resources:
            mem_mb=more(2000),
            runtime=more(30),
            gpu=0,
        params:
            source=lambda wildcards: json.dumps(
                {
                    key: value
                    for key, value in config["datasets"][wildcards.benchmark].items()
                    if key not in STATED
                }
            ),
            exclude=lambda wildcards, input: " ".join(
                f"--exclude {path}" for path in input.exclude
            ),
        shell:
            "python -m itscale dataset --source {params.source:q} --label {wildcards.benchmark} {params.exclude}"
            " --out {output.table:q} 2>&1 | tee {log:q}"
