rule samples:
    input:
        command("generate"),
        model=model("language_model"),
        problems=f"{RESULTS}/problems/{{benchmark}}.parquet",
    output:
        table=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/samples/{{shard}}.parquet",
        manifest=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/samples/{{shard}}.json",
    log:
        f"{RESULTS}/logs/samples/{{benchmark}}_{{kind}}_{{shard}}.log",
    benchmark:
        f"{RESULTS}/timings/samples/{{benchmark}}_{{kind}}_{{shard}}.tsv"
    conda:
        ENV
    threads: 1
    resources:
        mem_mb=more(GENERATOR.get("mem_mb", 4000)),
        runtime=minutes_to_draw,
        gpu=GPUS,
    params:
        plan=plan,
        engine=json.dumps(ENGINE),
    shell:
        "OMP_NUM_THREADS={threads} python -m itscale generate --plan {params.plan:q} --shard {wildcards.shard}"
        " --engine {params.engine:q} --model {input.model:q} --problems {input.problems:q} --out {output.table:q} 2>&1 | tee {log:q}"


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
    conda:
        ENV
    resources:
        mem_mb=text_mb(2000),
        runtime=more(10),
        gpu=0,
    shell:
        "python -m itscale gather --out {output.table:q} {input.shards:q} 2>&1 | tee {log:q}"


rule scores:
    input:
        command("score"),
        model=model("reward_model"),
        problems=f"{RESULTS}/problems/{{benchmark}}.parquet",
        samples=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/samples.parquet",
    output:
        table=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/scores.parquet",
        manifest=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/scores.json",
    log:
        f"{RESULTS}/logs/scores/{{benchmark}}_{{kind}}.log",
    benchmark:
        f"{RESULTS}/timings/scores/{{benchmark}}_{{kind}}.tsv"
    conda:
        ENV
    threads: 1
    resources:
        mem_mb=more(config["models"].get("verifier", {}).get("mem_mb", 4000)),
        runtime=minutes_to_score,
        gpu=0 if TOY else 1,
    params:
        batch_size=config["verifier"]["batch_size"],
        step_break=json.dumps(config["verifier"]["step_break"]),
    shell:
        "OMP_NUM_THREADS={threads} python -m itscale score --model {input.model:q} --problems {input.problems:q}"
        " --samples {input.samples:q} --batch-size {params.batch_size} --step-break {params.step_break:q} --out {output.table:q} 2>&1 | tee {log:q}"


# Another verifier scores the same samples.
use rule scores as other_scores with:
    input:
        command("score"),
        model=model("{verifier}_reward_model"),
        problems=f"{RESULTS}/problems/{{benchmark}}.parquet",
        samples=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/samples.parquet",
    output:
        table=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/scores_{{verifier}}.parquet",
        manifest=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/scores_{{verifier}}.json",
    log:
        f"{RESULTS}/logs/scores/{{benchmark}}_{{kind}}_{{verifier}}.log",
    benchmark:
        f"{RESULTS}/timings/scores/{{benchmark}}_{{kind}}_{{verifier}}.tsv"


rule grades:
    input:
        command("grade"),
        problems=lambda wildcards: problems_of(wildcards),
        samples=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/samples.parquet",
    output:
        table=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/grades.parquet",
        manifest=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/grades.json",
    log:
        f"{RESULTS}/logs/grades/{{benchmark}}_{{kind}}.log",
    benchmark:
        f"{RESULTS}/timings/grades/{{benchmark}}_{{kind}}.tsv"
    conda:
        ENV
    threads: 1
    resources:
        mem_mb=text_mb(4000),
        runtime=more(60),
        gpu=0,
    params:
        options=lambda wildcards: grading_options(Choices(config), wildcards.benchmark),
    shell:
        "python -m itscale grade --problems {input.problems:q} --samples {input.samples:q}"
        " {params.options} --out {output.table:q} 2>&1 | tee {log:q}"


rule pool:
    input:
        command("pool"),
        samples=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/samples.parquet",
        scores=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/scores.parquet",
        grades=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/grades.parquet",
    output:
        table=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/pool.parquet",
        manifest=f"{RESULTS}/pools/{{benchmark}}/{{kind}}/pool.json",
    log:
        f"{RESULTS}/logs/pool/{{benchmark}}_{{kind}}.log",
    benchmark:
        f"{RESULTS}/timings/pool/{{benchmark}}_{{kind}}.tsv"
    conda:
        ENV
    resources:
        mem_mb=text_mb(2000),
        runtime=more(10),
        gpu=0,
    shell:
        "python -m itscale pool --samples {input.samples:q} --scores {input.scores:q} --grades {input.grades:q}"
        " --out {output.table:q} 2>&1 | tee {log:q}"
