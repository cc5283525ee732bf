rule predictor:
    """The predictor of a question's difficulty."""
    input:
        command("train-predictor"),
        **pools_of("predictor_train"),
        model=model("language_model") if TOY else model("backbone"),
        problems=f"{RESULTS}/problems/predictor_train.parquet",
        validation_problems=f"{RESULTS}/problems/predictor_validation.parquet",
        validation=list(pools_of("predictor_validation").values()),
        exclude=problems(*CHOICES.evaluated),
    output:
        directory(f"{RESULTS}/models/predictor"),
    log:
        f"{RESULTS}/logs/predictor.log",
    benchmark:
        f"{RESULTS}/timings/predictor.tsv"
    priority: FIRST
    conda:
        ENV
    resources:
        **on_gpus(0 if TOY or ON_CPU else 1),
        mem_mb=more(resources.mb_to_train_predictor(CHOICES)),
        runtime=longer(resources.minutes_to_train_predictor(CHOICES)),
    params:
        settings=json.dumps(config["predictor"]),
        seed=config["seed"],
        pools=pools_option,
        validation=lambda wildcards, input: [
            f"--validation-{kind}={file}"
            for kind, file in zip(KINDS, input.validation)
        ],
        exclude=lambda wildcards, input: repeated("--exclude", input.exclude),
    message:
        "Training the predictor of a question's difficulty"
    shell:
        "OMP_NUM_THREADS={threads} python -m itscale train-predictor --backbone {input.model:q} --problems {input.problems:q}"
        " {params.pools:q} --validation-problems {input.validation_problems:q} {params.validation:q}"
        " {params.exclude:q} --seed {params.seed:q} --settings {params.settings:q} --out {output:q} 2>&1 | tee {log:q}"


# What a rule may know of a question before its first sample. One job predicts all: loading the backbone takes longer than using it.
rule predictions:
    input:
        command("predict"),
        model=rules.predictor.output[0],
        problems=problems(*CHOICES.predicted),
    output:
        tables=expand(
            f"{RESULTS}/predictions/{{benchmark}}.parquet", benchmark=CHOICES.predicted
        ),
        manifests=expand(
            f"{RESULTS}/predictions/{{benchmark}}.json", benchmark=CHOICES.predicted
        ),
    log:
        f"{RESULTS}/logs/predictions.log",
    benchmark:
        f"{RESULTS}/timings/predictions.tsv"
    priority: FIRST
    conda:
        ENV
    resources:
        **on_gpus(0 if TOY or ON_CPU else 1),
        mem_mb=more(resources.mb_to_train_predictor(CHOICES)),
        runtime=longer(20 if TOY else 60),
    params:
        files=lambda wildcards, input, output: [
            *repeated("--problems", input.problems),
            *repeated("--out", output.tables),
        ],
    message:
        "Predicting the questions' difficulty"
    shell:
        "OMP_NUM_THREADS={threads} python -m itscale predict --model {input.model:q} {params.files:q} 2>&1 | tee {log:q}"
