# The filter reads scores; the rest of the theory does not.
MARKOV_TABLES = [
    "methods",
    "stops",
    "tokens",
    "rounds",
    "chain_fits",
    "questions",
    "forecasts",
    *(["reliability", "traces"] if SCORED else []),
]
MARKOV_FIGURES = {
    "accuracy_round": "markovscale_rounds",
    "phase_diagram": "markovscale_questions",
    **({"rounds_drawn": "markovscale_stops"} if SCORED else {}),
    "rounds_tokens": "markovscale_tokens",
    **(
        {
            "posterior_traces": "markovscale_traces",
            "filter_reliability": "markovscale_reliability",
        }
        if SCORED
        else {}
    ),
    "forecast_error": "markovscale_forecasts",
}
if not CHAINS:
    MARKOV_FIGURES = {}
TABLE_OF |= MARKOV_FIGURES


rule markovscale:
    """MarkovScale: re-answering, its chain and its rules."""
    input:
        f"{RESULTS}/tables/markovscale.md" if CHAINS else [],
        f"{RESULTS}/tables/markovscale_chain_fits.csv" if CHAINS else [],
        figures(*MARKOV_FIGURES),


rule markovscale_analysis:
    input:
        command("markovscale"),
        **pools_of("{benchmark}"),
        calibration=rules.calibration.output.record,
        problems=lambda wildcards: problems_at(wildcards.benchmark, "chain"),
        predictions=predictions("{benchmark}"),
    output:
        expand(
            f"{RESULTS}/tables/{{{{benchmark}}}}/markovscale/{{name}}.csv",
            name=MARKOV_TABLES,
        ),
    log:
        f"{RESULTS}/logs/markovscale/{{benchmark}}.log",
    benchmark:
        f"{RESULTS}/timings/markovscale/{{benchmark}}.tsv"
    conda:
        ENV
    resources:
        mem_mb=more(1000),
        runtime=longer(30),
    params:
        settings=config["markovscale"],
        pools=pools_option,
        seed=config["seed"],
        predictions=predictions_option,
        out=folder,
    message:
        "MarkovScale on {wildcards.benchmark}: chains, forecasts and rules"
    shell:
        "python -m itscale step markovscale --benchmark {wildcards.benchmark} --seed {params.seed:q}"
        " --calibration {input.calibration:q} {params.pools:q} --problems {input.problems:q}"
        " {params.predictions:q} --replicates {params.settings[replicates]} --out {params.out:q} 2>&1 | tee {log:q}"


rule markovscale_tables:
    input:
        command("collect"),
        command("markovscale-markdown"),
        tables=tables_of(
            "markovscale", *(f"markovscale/{name}" for name in MARKOV_TABLES)
        ),
    output:
        tables=tables(*(f"markovscale_{name}" for name in MARKOV_TABLES)),
        markdown=report(
            f"{RESULTS}/tables/markovscale.md",
            category="Tables",
            caption="../report/markovscale.rst",
        ),
    log:
        f"{RESULTS}/logs/markovscale_tables.log",
    benchmark:
        f"{RESULTS}/timings/markovscale_tables.tsv"
    localrule: True
    conda:
        ENV
    params:
        names=repeated("--name", MARKOV_TABLES),
        folders=[f"{name}/markovscale" for name in folders_of("markovscale")],
        out=folder,
    message:
        "Writing the MarkovScale tables"
    shell:
        "(python -m itscale step collect {params.names:q} --prefix markovscale_ --out {params.out:q} {params.folders:q}"
        " && python -m itscale step markovscale-markdown --table {params.out:q}/markovscale_methods.csv --out {output.markdown:q})"
        " 2>&1 | tee {log:q}"


# Chains by budget forcing, beside those of the run in whose results these lie.
if CHOICES.forced:
    REANSWERED = CHOICES.beside

    rule forced_chains:
        input:
            command("forcing"),
            forced=pool("{benchmark}", "chain"),
            reanswered=f"{REANSWERED}/pools/{{benchmark}}/chain/pool.parquet",
            parallel=f"{REANSWERED}/pools/{{benchmark}}/parallel/pool.parquet",
        output:
            f"{RESULTS}/tables/{{benchmark}}/forcing.csv",
            f"{RESULTS}/tables/{{benchmark}}/forcing.md",
        log:
            f"{RESULTS}/logs/forcing/{{benchmark}}.log",
        benchmark:
            f"{RESULTS}/timings/forcing/{{benchmark}}.tsv"
        localrule: True
        conda:
            ENV
        message:
            "Budget forcing beside re-answering on {wildcards.benchmark}"
        shell:
            "python -m itscale step forcing --benchmark {wildcards.benchmark} --forced {input.forced:q}"
            " --reanswered {input.reanswered:q} --parallel {input.parallel:q} --out {output[0]:q} 2>&1 | tee {log:q}"

    rule forcing:
        """Budget forcing beside re-answering and votes, at equal total tokens, and the rules over rounds on its chains."""
        input:
            tables_of("markovscale", "forcing"),
            f"{RESULTS}/tables/markovscale.md",
        localrule: True
