rule samples:
    input:
        command("generate"),
        model=[] if CHOICES.served else model("language_model"),
        problems=f"{RESULTS}/problems/{{benchmark}}.parquet",
    output:
        table=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/samples/{{shard}}.parquet",
        manifest=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/samples/{{shard}}.json",
    log:
        f"{RESULTS}/logs/samples/{{benchmark}}_{{kind}}_{{shard}}.log",
    benchmark:
        f"{RESULTS}/timings/samples/{{benchmark}}_{{kind}}_{{shard}}.tsv"
    priority: FIRST
    conda:
        ENV
    resources:
        **in_pieces(of_pool(resources.minutes_to_draw)),
        **on_gpus(GPUS),
        mem_mb=more(GENERATOR.get("mem_mb", 4000)),
        # Requests in flight at a server: `--resources requests=64` bounds those of all jobs together.
        requests=ENGINE["batch_size"] if CHOICES.served else 0,
    params:
        plan=lambda wildcards: drawing_plan(
            CHOICES, wildcards.benchmark, wildcards.kind
        ),
        engine=json.dumps(ENGINE),
        model=lambda wildcards, input: served_model(CHOICES) or input.model,
        said=drawing,
    message:
        "Drawing {params.said}"
    shell:
        "OMP_NUM_THREADS={threads} python -m itscale generate --plan {params.plan:q} --shard {wildcards.shard}"
        " --engine {params.engine:q} --model {params.model:q} --problems {input.problems:q} --out {output.table:q} 2>&1 | tee {log:q}"


rule gather:
    input:
        command("gather"),
        shards=shards,
    output:
        table=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/samples.parquet",
        manifest=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/samples.json",
    log:
        f"{RESULTS}/logs/gather/{{benchmark}}_{{kind}}.log",
    benchmark:
        f"{RESULTS}/timings/gather/{{benchmark}}_{{kind}}.tsv"
    localrule: TOY  # seconds: starting it in a job would take longer
    conda:
        ENV
    resources:
        mem_mb=more(1000),
        runtime=longer(of_pool(resources.minutes_to_copy)),
    message:
        "Gathering the shards of {wildcards.benchmark}, {wildcards.kind}"
    shell:
        "python -m itscale step gather --out {output.table:q} {input.shards:q} 2>&1 | tee {log:q}"


if CHOICES.confidence is not None:

    # The model's own confidence is the score, by a map that the calibration split decides.
    rule scores:
        input:
            command("score-confidence"),
            calibration=samples_of("calibration", KINDS[0]),
            grades=f"{RESULTS}/pools/calibration/{KINDS[0]}/grades.parquet",
            samples=samples,
        output:
            table=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/scores.parquet",
            manifest=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/scores.json",
        log:
            f"{RESULTS}/logs/scores/{{benchmark}}_{{kind}}.log",
        benchmark:
            f"{RESULTS}/timings/scores/{{benchmark}}_{{kind}}.tsv"
        priority: FIRST
        conda:
            ENV
        resources:
            mem_mb=more(1000),
            runtime=longer(10),
        params:
            verifier=confidence_options(CHOICES),
        message:
            "Scoring {wildcards.benchmark}, {wildcards.kind}, by the model's own confidence"
        shell:
            "python -m itscale step score-confidence --calibration {input.calibration:q} --grades {input.grades:q}"
            " {params.verifier:q} --samples {input.samples:q} --out {output.table:q} 2>&1 | tee {log:q}"

elif SCORED:

    # Both kinds of pool in one job: the verifier is loaded once.
    rule scores:
        input:
            command("score"),
            model=model(SCORING_MODEL),
            problems=f"{RESULTS}/problems/{{benchmark}}.parquet",
            samples=all_samples,
        output:
            tables=each_kind("scores.parquet"),
            manifests=each_kind("scores.json"),
        log:
            f"{RESULTS}/logs/scores/{{benchmark}}.log",
        benchmark:
            f"{RESULTS}/timings/scores/{{benchmark}}.tsv"
        wildcard_constraints:
            benchmark=NOT_BROUGHT,
        priority: FIRST
        conda:
            ENV
        resources:
            **in_pieces(of_benchmark(resources.minutes_to_score)),
            **on_gpus(0 if TOY else 1),
            mem_mb=more(VERIFIER.get("mem_mb", 4000)),
        params:
            batch_size=config["verifier"]["batch_size"],
            step_break=json.dumps(config["verifier"]["step_break"]),
            asked=asked_option(CHOICES),
            files=lambda wildcards, input, output: [
                *repeated("--samples", input.samples),
                *repeated("--out", output.tables),
            ],
        message:
            "Scoring {wildcards.benchmark} with the verifier"
        shell:
            "OMP_NUM_THREADS={threads} python -m itscale score --model {input.model:q} --problems {input.problems:q} {params.files:q}"
            " --batch-size {params.batch_size:q} --step-break {params.step_break:q} {params.asked:q} 2>&1 | tee {log:q}"

    # Another verifier scores the same samples.
    use rule scores as other_scores with:
        input:
            command("score"),
            model=model("{verifier}_reward_model"),
            problems=f"{RESULTS}/problems/{{benchmark}}.parquet",
            samples=all_samples,
        output:
            tables=each_kind("scores_{verifier}.parquet"),
            manifests=each_kind("scores_{verifier}.json"),
        log:
            f"{RESULTS}/logs/scores/{{benchmark}}_{{verifier}}.log",
        benchmark:
            f"{RESULTS}/timings/scores/{{benchmark}}_{{verifier}}.tsv"
        message:
            "Scoring {wildcards.benchmark} with the verifier {wildcards.verifier}"


rule grades:
    input:
        command("grade"),
        problems=problems_of,
        samples=samples,
    output:
        table=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/grades.parquet",
        manifest=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/grades.json",
    log:
        f"{RESULTS}/logs/grades/{{benchmark}}_{{kind}}.log",
    benchmark:
        f"{RESULTS}/timings/grades/{{benchmark}}_{{kind}}.tsv"
    priority: FIRST
    localrule: TOY  # seconds: starting it in a job would take longer
    conda:
        ENV
    resources:
        mem_mb=more(of_pool(resources.text_mb, 4000)),
        runtime=longer(of_pool(resources.minutes_to_grade)),
    params:
        options=lambda wildcards: grading_options(CHOICES, wildcards.benchmark),
    message:
        "Grading {wildcards.benchmark}, {wildcards.kind}"
    shell:
        "python -m itscale grade --problems {input.problems:q} --samples {input.samples:q}"
        " {params.options:q} --out {output.table:q} 2>&1 | tee {log:q}"


rule pool:
    input:
        command("pool"),
        samples=samples,
        scores=(
            f"{RESULTS}/pools/{{benchmark}}/{{kind}}/scores.parquet" if SCORED else []
        ),
        grades=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/grades.parquet",
    output:
        table=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/pool.parquet",
        manifest=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/pool.json",
    log:
        f"{RESULTS}/logs/pool/{{benchmark}}_{{kind}}.log",
    benchmark:
        f"{RESULTS}/timings/pool/{{benchmark}}_{{kind}}.tsv"
    priority: FIRST
    localrule: TOY  # seconds: starting it in a job would take longer
    conda:
        ENV
    resources:
        mem_mb=more(1000),
        runtime=longer(of_pool(resources.minutes_to_copy)),
    params:
        scores=lambda wildcards, input: optional("--scores", input.scores),
    message:
        "Joining {wildcards.benchmark}, {wildcards.kind}: samples, scores and grades"
    shell:
        "python -m itscale pool --samples {input.samples:q} {params.scores:q} --grades {input.grades:q}"
        " --out {output.table:q} 2>&1 | tee {log:q}"
