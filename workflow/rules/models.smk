if TOY:
    TOY_MODELS = ["language_model", "reward_model", "weak_reward_model"]
    # Where their weights are: in the package, or in a folder as toy_training leaves it.
    TOY_WEIGHTS = config["toy_task"]["models"]
    if TOY_WEIGHTS == "shipped":
        TOY_WEIGHTS = os.path.relpath(f"{workflow.basedir}/src/itscale/toytask/weights")

    # Nothing here waits for training.
    rule toy_models:
        input:
            command("toy-models"),
            weights=[f"{TOY_WEIGHTS}/{name}/model.safetensors" for name in TOY_MODELS],
        output:
            [directory(model(name)) for name in TOY_MODELS],
        log:
            f"{RESULTS}/logs/toy_models.log",
        benchmark:
            f"{RESULTS}/timings/toy_models.tsv"
        localrule: True
        conda:
            ENV
        params:
            models=config["toy_task"]["models"],
            out=folder,
        message:
            "Unpacking the toy models that come with the package"
        shell:
            "python -m itscale step toy-models --models {params.models:q} --out {params.out:q} 2>&1 | tee {log:q}"

else:
    FETCHED = {
        "language_model": None if CHOICES.served else GENERATOR,
        "reward_model": config["models"].get("verifier"),
        "backbone": CHOICES.backbone,
    }
    FETCHED = {
        name: source for name, source in FETCHED.items() if "path" in (source or {})
    }

    for name, source in FETCHED.items():

        rule:
            name:
                name
            input:
                command("fetch-model"),
            output:
                directory(model(name)),
            log:
                f"{RESULTS}/logs/{name}.log",
            benchmark:
                f"{RESULTS}/timings/{name}.tsv"
            # Where the network is: on the machine that Snakemake runs on.
            localrule: True
            conda:
                ENV
            resources:
                mem_mb=more(2000),
                runtime=longer(240),
            params:
                source=json.dumps(
                    {key: source[key] for key in ("path", "revision") if key in source}
                ),
                what=f"model {name}",
            message:
                f"Fetching the model {name}: {source['path']}"
            shell:
                "python -m itscale fetch-model --source {params.source:q} --what {params.what:q} --out {output:q} 2>&1 | tee {log:q}"
