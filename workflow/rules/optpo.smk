# OptPO: votes studied on stored pools, and test-time training. `optpo` is in the default run; `optpo_full` trains every run of
# the configuration with every seed.
TESTTIME = config["testtime"]
VOTES = {
    "vote_guarantees": "optpo/guarantees",
    **(
        {"vote_sweep": "optpo/vote_sweep", "votes_to_stop": "optpo/votes_to_stop"}
        if PARALLEL
        else {}
    ),
}
TRAINING = {
    "training_curves": "optpo/curves",
    "training_steps": "optpo/steps",
}
TABLE_OF |= VOTES
if TRAINS:
    TABLE_OF |= {**TRAINING, "training_algorithms": "optpo_full/curves"}
ON_REQUEST |= {"training_algorithms"}


wildcard_constraints:
    run="[a-z0-9_.]+",
    seed="[0-9]+",
    set="optpo|optpo_full",


localrules:
    optpo,
    optpo_full,


rule optpo:
    """OptPO: votes, and test-time training with them."""
    input:
        f"{RESULTS}/tables/optpo/summary.md" if TRAINS else [],
        figures(*VOTES, *(TRAINING if TRAINS else [])),


rule optpo_full:
    """OptPO in full: four algorithms, baselines, every seed, the learning rate."""
    input:
        rules.optpo.input,
        f"{RESULTS}/tables/optpo_full/summary.md",
        f"{RESULTS}/tables/optpo_full/learning_rate.csv",
        figures("training_algorithms"),


rule vote_guarantees:
    input:
        command("vote-guarantees"),
    output:
        f"{RESULTS}/tables/optpo/guarantees.csv",
    log:
        f"{RESULTS}/logs/optpo/guarantees.log",
    benchmark:
        f"{RESULTS}/timings/optpo/guarantees.tsv"
    conda:
        ENV
    resources:
        mem_mb=more(1000),
        runtime=longer(15),
    params:
        seed=config["seed"],
    message:
        "Simulating what a vote's guarantee is worth"
    shell:
        "python -m itscale step vote-guarantees --seed {params.seed:q} --out {output:q} 2>&1 | tee {log:q}"


rule vote_study:
    input:
        command("vote-study"),
        pool=pool(config["compare"]["benchmarks"][0], "parallel"),
        calibration=f"{RESULTS}/pools/calibration/parallel/grades.parquet",
    output:
        expand(
            f"{RESULTS}/tables/optpo/{{name}}.csv",
            name=["vote_sweep", "votes_to_stop", "promises"],
        ),
    log:
        f"{RESULTS}/logs/optpo/vote_study.log",
    benchmark:
        f"{RESULTS}/timings/optpo/vote_study.tsv"
    conda:
        ENV
    resources:
        mem_mb=more(1000),
        runtime=longer(15),
    params:
        benchmark=config["compare"]["benchmarks"][0],
        choices=options_of(CHOICES, config["compare"]["benchmarks"][0]),
        orders=config["compare"]["orders"],
        seed=config["seed"],
        out=folder,
    message:
        "Sweeping the vote lead on {params.benchmark}"
    shell:
        "python -m itscale step vote-study --benchmark {params.benchmark:q} --pool {input.pool:q}"
        " --calibration {input.calibration:q} {params.choices:q} --orders {params.orders:q} --seed {params.seed:q} --out {params.out:q} 2>&1 | tee {log:q}"


rule train_on_votes:
    input:
        command("train-on-votes"),
        model=model("language_model"),
        problems=f"{RESULTS}/problems/{TESTTIME['trained']}.parquet",
        untouched=f"{RESULTS}/problems/{TESTTIME['untouched']}.parquet",
        calibration=f"{RESULTS}/pools/calibration/parallel/grades.parquet",
    output:
        record=f"{RESULTS}/testtime/{{run}}-{{seed}}/run.json",
        metrics=f"{RESULTS}/testtime/{{run}}-{{seed}}/metrics.jsonl",
        evaluation=f"{RESULTS}/testtime/{{run}}-{{seed}}/evaluation.csv",
        last=directory(f"{RESULTS}/testtime/{{run}}-{{seed}}/last"),
        best=directory(f"{RESULTS}/testtime/{{run}}-{{seed}}/best"),
    log:
        f"{RESULTS}/logs/testtime/{{run}}-{{seed}}.log",
    benchmark:
        f"{RESULTS}/timings/testtime/{{run}}-{{seed}}.tsv"
    conda:
        ENV
    # A training of a real model takes the memory of two drawing jobs: it runs alone, and by all cores.
    threads: (workflow.resource_settings.cores or 2) if ON_CPU else 1
    resources:
        **in_pieces(
            lambda wildcards: resources.minutes_to_train(CHOICES, wildcards.get("run"))
        ),
        **on_gpus(0 if TOY or ON_CPU else 1),
        mem_mb=more(resources.mb_to_train(CHOICES)),
    params:
        name=lambda wildcards: wildcards.run,
        choices=options_of(CHOICES, TESTTIME["trained"]),
        settings=lambda wildcards: json.dumps(run_settings(CHOICES, wildcards.run)),
        evaluation=lambda wildcards: json.dumps(run_evaluation(CHOICES, wildcards.run)),
        sampling=json.dumps(TESTTIME["sampling"]),
        engine=json.dumps({**ENGINE, "gpu_memory": TESTTIME["gpu_memory"]}),
        grading=json.dumps(grading_of(CHOICES, TESTTIME["trained"])),
        out=folder,
    message:
        "Training on votes: run {wildcards.run}, seed {wildcards.seed}"
    shell:
        "OMP_NUM_THREADS={threads} python -m itscale train-on-votes --name {params.name:q} --seed {wildcards.seed}"
        " --settings {params.settings:q} --evaluation {params.evaluation:q} --sampling {params.sampling:q}"
        " --engine {params.engine:q} --model {input.model:q} --problems {input.problems:q} --untouched {input.untouched:q}"
        " --calibration {input.calibration:q} --grading {params.grading:q} {params.choices:q} --out {params.out:q} 2>&1 | tee {log:q}"


# The learning rate is compared on the calibration problems, whose answers may be read.
use rule train_on_votes as try_learning_rate with:
    input:
        command("train-on-votes"),
        model=model("language_model"),
        problems=f"{RESULTS}/problems/calibration.parquet",
        untouched=f"{RESULTS}/problems/predictor_validation.parquet",
        calibration=f"{RESULTS}/pools/calibration/parallel/grades.parquet",
    output:
        record=f"{RESULTS}/testtime/learning_rate/{{rate}}-{{seed}}/run.json",
        metrics=f"{RESULTS}/testtime/learning_rate/{{rate}}-{{seed}}/metrics.jsonl",
        evaluation=f"{RESULTS}/testtime/learning_rate/{{rate}}-{{seed}}/evaluation.csv",
        last=directory(f"{RESULTS}/testtime/learning_rate/{{rate}}-{{seed}}/last"),
        best=directory(f"{RESULTS}/testtime/learning_rate/{{rate}}-{{seed}}/best"),
    log:
        f"{RESULTS}/logs/testtime/learning_rate/{{rate}}-{{seed}}.log",
    benchmark:
        f"{RESULTS}/timings/testtime/learning_rate/{{rate}}-{{seed}}.tsv"
    params:
        name=lambda wildcards: f"rate_{wildcards.rate}",
        choices=[],
        settings=lambda wildcards: json.dumps(rate_settings(CHOICES, wildcards.rate)),
        evaluation=json.dumps(TESTTIME["evaluation"]),
        sampling=json.dumps(TESTTIME["sampling"]),
        engine=json.dumps({**ENGINE, "gpu_memory": TESTTIME["gpu_memory"]}),
        grading=json.dumps(grading_of(CHOICES, "calibration")),
        out=folder,
    message:
        "Trying the learning rate {wildcards.rate} on the calibration problems"


rule learning_rate:
    input:
        command("choose-learning-rate"),
        runs=expand(
            f"{RESULTS}/testtime/learning_rate/{{rate}}-{{seed}}/run.json",
            rate=TESTTIME["learning_rates"],
            seed=TESTTIME["seeds"][:1],
        ),
    output:
        f"{RESULTS}/tables/optpo_full/learning_rate.csv",
    log:
        f"{RESULTS}/logs/optpo/learning_rate.log",
    benchmark:
        f"{RESULTS}/timings/optpo/learning_rate.tsv"
    localrule: True
    conda:
        ENV
    params:
        used=TESTTIME["settings"]["learning_rate"],
        runs=folders_of_runs,
    message:
        "Comparing the learning rates"
    shell:
        "python -m itscale step choose-learning-rate --used {params.used:q} --out {output:q} {params.runs:q} 2>&1 | tee {log:q}"


rule training_tables:
    input:
        command("training-tables"),
        runs=training_runs,
    output:
        tables=expand(
            f"{RESULTS}/tables/{{{{set}}}}/{{name}}.csv",
            name=["summary", "comparison", "curves", "steps", "seeds"],
        ),
        comparison=f"{RESULTS}/tables/{{set}}/comparison.md",
        text=report(
            f"{RESULTS}/tables/{{set}}/summary.md",
            category="Tables",
            caption="../report/training.rst",
        ),
    log:
        f"{RESULTS}/logs/optpo/{{set}}.log",
    benchmark:
        f"{RESULTS}/timings/optpo/{{set}}.tsv"
    localrule: True
    conda:
        ENV
    resources:
        mem_mb=more(2000),
        runtime=longer(10),
    params:
        baseline=TESTTIME["baseline"],
        runs=folders_of_runs,
        out=folder,
    message:
        "Writing the tables of test-time training"
    shell:
        "python -m itscale step training-tables --baseline {params.baseline:q} --out {params.out:q}"
        " {params.runs:q} 2>&1 | tee {log:q}"
