if TOY:

    rule language_model:
        input:
            command("train-language-model"),
            problems=expand(f"{RESULTS}/problems/{{split}}.parquet", split=SPLITS),
        output:
            directory(f"{RESULTS}/models/language_model"),
        log:
            f"{RESULTS}/logs/language_model.log",
        benchmark:
            f"{RESULTS}/timings/language_model.tsv"
        conda:
            ENV
        threads: 1
        resources:
            mem_mb=more(4000),
            runtime=more(60),
            gpu=0,
        params:
            settings=json.dumps(config["toy_task"]["language_model"]),
            seed=config["seed"],
        shell:
            "OMP_NUM_THREADS={threads} python -m itscale train-language-model --seed {params.seed}"
            " --settings {params.settings:q} --out {output:q} {input.problems:q} 2>&1 | tee {log:q}"

    rule reward_model:
        input:
            command("train-reward-model"),
            model=rules.language_model.output[0],
            problems=f"{RESULTS}/problems/predictor_train.parquet",
            samples=f"{RESULTS}/pools/predictor_train/parallel/samples.parquet",
            evaluated=expand(f"{RESULTS}/problems/{{split}}.parquet", split=SPLITS),
        output:
            directory(f"{RESULTS}/models/reward_model"),
        log:
            f"{RESULTS}/logs/reward_model.log",
        benchmark:
            f"{RESULTS}/timings/reward_model.tsv"
        priority: 10
        conda:
            ENV
        threads: 1
        resources:
            mem_mb=more(4000),
            runtime=more(60),
            gpu=0,
        params:
            settings=json.dumps(config["toy_task"]["reward_model"]),
            seed=config["seed"],
        shell:
            "OMP_NUM_THREADS={threads} python -m itscale train-reward-model --seed {params.seed}"
            " --settings {params.settings:q} --model {input.model:q} --problems {input.problems:q}"
            " --samples {input.samples:q} --out {output:q} {input.evaluated:q} 2>&1 | tee {log:q}"

else:
    FETCHED = {
        "language_model": GENERATOR,
        "reward_model": config["models"]["verifier"],
        "backbone": config["models"].get("backbone", GENERATOR),
    }

    # Where the network is: on the machine that Snakemake runs on.
    localrules:
        language_model,
        reward_model,
        backbone,

    for model, source in FETCHED.items():

        rule:
            name:
                model
            input:
                command("fetch-model"),
            output:
                directory(f"{RESULTS}/models/{model}"),
            log:
                f"{RESULTS}/logs/{model}.log",
            benchmark:
                f"{RESULTS}/timings/{model}.tsv"
            retries: 3
            conda:
                ENV
            resources:
                mem_mb=more(2000),
                runtime=more(240),
                gpu=0,
            params:
                source=json.dumps(
                    {key: source[key] for key in ("path", "revision") if key in source}
                ),
                what=f"model {model}",
            shell:
                "python -m itscale fetch-model --source {params.source:q} --what {params.what:q} --out {output:q} 2>&1 | tee {log:q}"
