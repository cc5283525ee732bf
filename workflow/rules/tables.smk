COMPARED = [
    "main",
    "baselines",
    "stops",
    *(["curves", "scores"] if PARALLEL else []),
    *(["fit_calibration"] if PARALLEL and SCORED else []),
]


rule calibration:
    """Every threshold, chosen on the calibration split."""
    input:
        command("calibrate"),
        **pools_of("calibration"),
        others=other_scores("calibration"),
        predictions=predictions("calibration"),
    output:
        record=f"{RESULTS}/calibration.json",
        table=f"{RESULTS}/tables/calibration.csv",
    log:
        f"{RESULTS}/logs/calibration.log",
    benchmark:
        f"{RESULTS}/timings/calibration.tsv"
    priority: FIRST
    conda:
        ENV
    resources:
        mem_mb=more(1000),
        runtime=longer(30),
    params:
        methods=json.dumps(config["methods"]),
        pools=pools_option,
        predictions=predictions_option,
        verifiers=verifiers_option("calibration"),
        compare=json.dumps(config["compare"]),
        seed=config["seed"],
    message:
        "Choosing every threshold on the calibration split"
    shell:
        "python -m itscale calibrate {params.pools:q} --seed {params.seed:q}"
        " {params.verifiers:q} {params.predictions:q} --methods {params.methods:q} --compare {params.compare:q} --out {output.record:q} --table {output.table:q} 2>&1 | tee {log:q}"


rule replay:
    input:
        command("replay"),
        **pools_of("{benchmark}"),
        calibration=rules.calibration.output.record,
        others=lambda wildcards: other_scores(wildcards.benchmark),
        predictions=predictions("{benchmark}"),
    output:
        expand(
            f"{RESULTS}/tables/{{{{benchmark}}}}/{{name}}.csv",
            name=COMPARED,
        ),
    log:
        f"{RESULTS}/logs/replay/{{benchmark}}.log",
    benchmark:
        f"{RESULTS}/timings/replay/{{benchmark}}.tsv"
    priority: FIRST
    conda:
        ENV
    resources:
        mem_mb=more(1000),
        runtime=longer(30),
    params:
        orders=config["compare"]["orders"],
        choices=lambda wildcards: options_of(CHOICES, wildcards.benchmark),
        protocol=config["compare"]["protocol"],
        seed=config["seed"],
        pools=pools_option,
        predictions=predictions_option,
        verifiers=lambda wildcards: verifiers_option(wildcards.benchmark),
        price=price_option(CHOICES),
        out=folder,
    message:
        "Replaying every rule over {wildcards.benchmark}"
    shell:
        "python -m itscale replay --benchmark {wildcards.benchmark} --calibration {input.calibration:q}"
        " {params.pools:q} {params.predictions:q} {params.verifiers:q}"
        " {params.choices:q} {params.price:q} --orders {params.orders:q} --protocol {params.protocol:q} --seed {params.seed:q} --out {params.out:q} 2>&1 | tee {log:q}"


# The tables of all benchmarks, and the main one for people.
rule tables:
    """The main tables."""
    input:
        command("collect"),
        tables=tables_of("compare", *COMPARED),
    output:
        tables=tables(*COMPARED),
    log:
        f"{RESULTS}/logs/tables.log",
    benchmark:
        f"{RESULTS}/timings/tables.tsv"
    localrule: True
    conda:
        ENV
    params:
        names=repeated("--name", COMPARED),
        folders=folders_of("compare"),
        out=folder,
    message:
        "Writing the main tables"
    shell:
        "python -m itscale step collect {params.names:q} --out {params.out:q} {params.folders:q} 2>&1 | tee {log:q}"


# Of the toy task as it is: both of its verifiers, samples and chains.
SANITY = TOY and len(CHOICES.verifiers) == 2 and CHAINS and PARALLEL


rule which_rule:
    """One table of all rules: needs, promise, saving, loss."""
    input:
        command("rule-table"),
        main=f"{RESULTS}/tables/main.csv",
        chosen=f"{RESULTS}/tables/calibration.csv",
    output:
        csv=f"{RESULTS}/tables/rules.csv",
        markdown=f"{RESULTS}/tables/rules.md",
    log:
        f"{RESULTS}/logs/rules.log",
    benchmark:
        f"{RESULTS}/timings/rules.tsv"
    localrule: True
    conda:
        ENV
    message:
        "Putting all rules in one table"
    shell:
        "python -m itscale step rule-table --main {input.main:q} --chosen {input.chosen:q} --out {output.csv:q} 2>&1 | tee {log:q}"


rule at_budget:
    input:
        command("at-budget"),
        **pools_of("{benchmark}"),
        calibration=rules.calibration.output.record,
        theirs=[pool("calibration", kind) for kind in KINDS],
        others=lambda wildcards: [
            *other_scores("calibration"),
            *other_scores(wildcards.benchmark),
        ],
        predictions=predictions("{benchmark}"),
        predicted=predictions("calibration"),
    output:
        table=f"{RESULTS}/tables/{{benchmark}}/at_budget.csv",
        page=f"{RESULTS}/tables/{{benchmark}}/at_budget.md",
    log:
        f"{RESULTS}/logs/at_budget/{{benchmark}}.log",
    benchmark:
        f"{RESULTS}/timings/at_budget/{{benchmark}}.tsv"
    conda:
        ENV
    resources:
        mem_mb=more(1000),
        runtime=longer(60),
    params:
        orders=config["compare"]["orders"],
        calibration_orders=config["compare"]["calibration_orders"],
        choices=lambda wildcards: options_of(CHOICES, wildcards.benchmark),
        seed=config["seed"],
        pools=pools_option,
        theirs=lambda wildcards, input: [
            f"--calibration-{kind}={file}" for kind, file in zip(KINDS, input.theirs)
        ],
        predictions=predictions_option,
        predicted=lambda wildcards, input: repeated(
            "--calibration-predictions", [input.predicted] if input.predicted else []
        ),
        verifiers=lambda wildcards: verifiers_option(wildcards.benchmark),
    message:
        "Turning every rule to 1, 2, 4 and 8 answers a question, for {wildcards.benchmark}"
    shell:
        "python -m itscale step at-budget --benchmark {wildcards.benchmark} --calibration {input.calibration:q}"
        " {params.theirs:q} {params.predicted:q} {params.pools:q} {params.predictions:q} {params.verifiers:q} {params.choices:q}"
        " --orders {params.orders:q} --calibration-orders {params.calibration_orders:q} --seed {params.seed:q} --out {output.table:q} 2>&1 | tee {log:q}"


rule one_budget:
    """Every rule at 1, 2, 4 and 8 answers a question, and what it really spent."""
    input:
        command("collect"),
        tables=tables_of("compare", "at_budget"),
    output:
        tables("at_budget"),
    log:
        f"{RESULTS}/logs/one_budget.log",
    benchmark:
        f"{RESULTS}/timings/one_budget.tsv"
    localrule: True
    conda:
        ENV
    params:
        folders=folders_of("compare"),
        out=folder,
    message:
        "Writing the table of one budget"
    shell:
        "python -m itscale step collect --name at_budget --out {params.out:q} {params.folders:q} 2>&1 | tee {log:q}"


rule sanity_checks:
    """Is the toy task worth studying?"""
    input:
        command("sanity-checks"),
        test=pool("test", "parallel"),
        weak=f"{RESULTS}/pools/test/parallel/scores_weak.parquet",
        chain=pool("test", "chain"),
        shifted=pool("shifted", "parallel"),
    output:
        report(
            f"{RESULTS}/tables/sanity_checks.csv",
            category="Tables",
            caption="../report/sanity_checks.rst",
        ),
    log:
        f"{RESULTS}/logs/sanity_checks.log",
    benchmark:
        f"{RESULTS}/timings/sanity_checks.tsv"
    localrule: True
    conda:
        ENV
    resources:
        mem_mb=more(2000),
        runtime=longer(5),
    message:
        "Checking that the toy task is worth studying"
    shell:
        "python -m itscale step sanity-checks --test {input.test:q} --weak {input.weak:q} --chain {input.chain:q} --shifted {input.shifted:q}"
        " --out {output:q} 2>&1 | tee {log:q}"


# Models of other seeds: the settings were tuned on the seeds 0 to 2, these were only looked at.
rule toy_trial:
    input:
        command("toy-trial"),
    output:
        table=f"{RESULTS}/toy_trials/{{toy_seed}}/sanity_checks.csv",
        models=directory(f"{RESULTS}/toy_trials/{{toy_seed}}/models"),
    log:
        f"{RESULTS}/logs/toy_trials/{{toy_seed}}.log",
    benchmark:
        f"{RESULTS}/timings/toy_trials/{{toy_seed}}.tsv"
    conda:
        ENV
    resources:
        mem_mb=more(4000),
        runtime=longer(120),
    params:
        **{section: json.dumps(config[section]) for section in ("pools", "engine")},
        sampling=json.dumps(CHOICES.sampling),
        toy_task=json.dumps(
            {
                part: config["toy_task"][part]
                for part in ("problems", "language_model", "reward_model")
            }
        ),
        folder=lambda wildcards, output: f"{os.path.dirname(output[0])}/partial",
    message:
        "Training and measuring the toy models of seed {wildcards.toy_seed}"
    shell:
        "python -m itscale step toy-trial --seed {wildcards.toy_seed} --toy-task {params.toy_task:q}"
        " --pools {params.pools:q} --sampling {params.sampling:q} --engine {params.engine:q} --folder {params.folder:q}"
        " --models {output.models:q} --out {output.table:q} 2>&1 | tee {log:q}"


rule toy_training:
    """Train and measure toy models of other seeds."""
    input:
        command("concat"),
        tables=expand(
            f"{RESULTS}/toy_trials/{{seed}}/sanity_checks.csv",
            seed=config["toy_task"]["training_seeds"],
        ),
    output:
        f"{RESULTS}/tables/toy_training.csv",
    log:
        f"{RESULTS}/logs/toy_training.log",
    benchmark:
        f"{RESULTS}/timings/toy_training.tsv"
    localrule: True
    conda:
        ENV
    message:
        "Putting the measurements of all seeds together"
    shell:
        "python -m itscale step concat --out {output:q} {input.tables:q} 2>&1 | tee {log:q}"
