if config["official"]:

    ruleorder: official > gather
    ruleorder: official > scores

    rule official:
        input:
            command("import-official"),
            prompts=lambda wildcards: config["official"][wildcards.benchmark]["prompts"],
            completions=lambda wildcards: config["official"][wildcards.benchmark][
                wildcards.kind
            ],
        output:
            problems=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/problems.parquet",
            problems_manifest=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/problems.json",
            samples=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/samples.parquet",
            samples_manifest=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/samples.json",
            scores=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/scores.parquet",
            scores_manifest=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/scores.json",
        log:
            f"{RESULTS}/logs/official/{{benchmark}}_{{kind}}.log",
        benchmark:
            f"{RESULTS}/timings/official/{{benchmark}}_{{kind}}.tsv"
        conda:
            ENV
        resources:
            mem_mb=more(8000),
            runtime=longer(30),
        params:
            skip_bad=lambda wildcards: (
                "--skip-bad"
                if config["official"][wildcards.benchmark].get("skip_bad")
                else []
            ),
            out=lambda wildcards, output: os.path.dirname(output.samples),
        message:
            "Reading the released pool {wildcards.benchmark}, {wildcards.kind}"
        shell:
            "python -m itscale import-official {input.completions:q} {input.prompts:q} --label {wildcards.benchmark}"
            " --kind {wildcards.kind} {params.skip_bad:q} --out {params.out:q} 2>&1 | tee {log:q}"


if IMPORTED:

    ruleorder: imported > gather
    ruleorder: imported > grades
    ruleorder: imported > pool

    # What a file says of its samples beside their texts (answers, verdicts) is read here, so that their grades come with them.
    rule imported:
        """Samples of your own, as `itscale import` reads them."""
        input:
            command("import"),
            files=imported_files,
        output:
            expand(
                f"{RESULTS}/pools/{{{{benchmark}}}}/{{{{kind}}}}/{{name}}",
                name=IMPORTED_FILES,
            ),
        log:
            f"{RESULTS}/logs/imported/{{benchmark}}_{{kind}}.log",
        benchmark:
            f"{RESULTS}/timings/imported/{{benchmark}}_{{kind}}.tsv"
        wildcard_constraints:
            benchmark="|".join(IMPORTED),
        conda:
            ENV
        resources:
            mem_mb=more(4000),
            runtime=longer(60),
        params:
            options=lambda wildcards: import_options(
                CHOICES, wildcards.benchmark, wildcards.kind
            ),
            out=folder,
        message:
            "Reading the samples of {wildcards.benchmark}, {wildcards.kind}"
        shell:
            "python -m itscale import {params.options:q} --out {params.out:q} 2>&1 | tee {log:q}"
