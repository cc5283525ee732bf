if TOY:

    rule problems:
        input:
            command("problems"),
        output:
            problems(*SPLITS),
            [f"{RESULTS}/problems/{split}.json" for split in SPLITS],
        log:
            f"{RESULTS}/logs/problems.log",
        benchmark:
            f"{RESULTS}/timings/problems.tsv"
        localrule: True
        conda:
            ENV
        params:
            settings=json.dumps(config["toy_task"]["problems"]),
            seed=config["seed"],
            out=folder,
        message:
            "Making the problems of the toy task"
        shell:
            "python -m itscale step problems --seed {params.seed:q} --settings {params.settings:q} --out {params.out:q} 2>&1 | tee {log:q}"

else:

    # Where the network is: on the machine that Snakemake runs on.
    localrules:
        problems,

    rule problems:
        input:
            command("dataset"),
            exclude=lambda wildcards: problems(*kept_out_of(wildcards.benchmark)),
        output:
            table=f"{RESULTS}/problems/{{benchmark}}.parquet",
            manifest=f"{RESULTS}/problems/{{benchmark}}.json",
        log:
            f"{RESULTS}/logs/problems/{{benchmark}}.log",
        benchmark:
            f"{RESULTS}/timings/problems/{{benchmark}}.tsv"
        conda:
            ENV
        resources:
            mem_mb=more(2000),
            runtime=longer(30),
        params:
            source=lambda wildcards: dataset_source(CHOICES, wildcards.benchmark),
            exclude=lambda wildcards, input: repeated("--exclude", input.exclude),
        message:
            "Reading the dataset {wildcards.benchmark}"
        shell:
            "python -m itscale dataset --source {params.source:q} --label {wildcards.benchmark} {params.exclude:q}"
            " --out {output.table:q} 2>&1 | tee {log:q}"
