# Whether a model scores while samples are drawn; the map of a confidence is in the calibration.
LIVE_VERIFIER = SCORED and CHOICES.confidence is None
# Nothing is drawn of imported samples, and a model that a server runs has no clock of its own.
if TRAINS:
    TABLE_OF |= {"live_saving": "live", "arrival_order": "arrival"}


localrules:
    live,


rule live:
    """Rules that stop a real engine: tables and figures."""
    input:
        f"{RESULTS}/tables/live.csv",
        figures("live_saving", "arrival_order"),


# On a GPU the clock is read, and nothing else ought to run meanwhile: a machine's cores are all taken. On the CPU the time of
# an engine is its processor time, which may be read beside other jobs.
LIVE_ALONE = not (TOY and config["live"]["engines"] == ["transformers"])


rule live_run:
    input:
        command("live"),
        model=model("language_model"),
        verifier=model(SCORING_MODEL) if LIVE_VERIFIER else [],
        problems=f"{RESULTS}/problems/{config['compare']['benchmarks'][0]}.parquet",
        calibration=rules.calibration.output.record,
        pool=pool(config["compare"]["benchmarks"][0], "parallel"),
        predictions=predictions(config["compare"]["benchmarks"][0]),
    output:
        live=report(
            f"{RESULTS}/tables/live.csv",
            category="Tables",
            caption="../report/live.rst",
        ),
        arrival=f"{RESULTS}/tables/arrival.csv",
    log:
        f"{RESULTS}/logs/live.log",
    benchmark:
        f"{RESULTS}/timings/live.tsv"
    conda:
        ENV
    threads: (workflow.resource_settings.cores or 2) if LIVE_ALONE else 1  # a cluster job has cores of its own
    resources:
        **on_gpus(max(GPUS, 1) if LIVE_ALONE else 0),
        mem_mb=more(resources.mb_to_run_live(CHOICES)),
        runtime=longer(resources.minutes_to_run_live(CHOICES)),
    params:
        options=json.dumps(config["live"]),
        choices=options_of(CHOICES, config["compare"]["benchmarks"][0]),
        sampling=json.dumps(CHOICES.sampling),
        grading=json.dumps(grading_of(CHOICES, config["compare"]["benchmarks"][0])),
        engine=json.dumps(ENGINE),
        verifier=lambda wildcards, input: (
            ["--verifier", input.verifier, "--scoring", json.dumps(config["verifier"])]
            if input.verifier
            else []
        ),
        seed=config["seed"],
        out=lambda wildcards, output: os.path.dirname(output.live),
        predictions=predictions_option,
        alone="--alone" if LIVE_ALONE else "--no-alone",
    message:
        "Stopping a real engine: every live rule beside its fixed N"
    shell:
        "OMP_NUM_THREADS={threads} python -m itscale step live --model {input.model:q} {params.verifier:q} {params.alone:q}"
        " --problems {input.problems:q} --calibration {input.calibration:q} --pool {input.pool:q} --options {params.options:q}"
        " --sampling {params.sampling:q} --engine {params.engine:q} --seed {params.seed:q} --grading {params.grading:q} {params.predictions:q} {params.choices:q} --out {params.out:q} 2>&1 | tee {log:q}"
