localrules:
    summary,
    page,


# Five sentences and a dozen rows: what `make` ends with.
rule summary:
    """What the run found, on half a page."""
    input:
        command("summary"),
        main=f"{RESULTS}/tables/main.csv",
        rounds=f"{RESULTS}/tables/markovscale_methods.csv" if CHAINS else [],
    output:
        f"{RESULTS}/SUMMARY.md",
    log:
        f"{RESULTS}/logs/summary.log",
    benchmark:
        f"{RESULTS}/timings/summary.tsv"
    conda:
        ENV
    params:
        page=f"{RESULTS}/report.html",
        rounds=lambda wildcards, input: optional("--rounds", input.rounds),
    message:
        "Writing the summary"
    shell:
        "python -m itscale step summary --main {input.main:q} {params.rounds:q} --page {params.page:q}"
        " --out {output:q} 2>&1 | tee {log:q}"


# One page about the finished run; included last, since it reads whatever a bare `snakemake` makes.
rule page:
    """The run as one page: report.html."""
    input:
        command("report"),
        DEFAULT,
        summary=f"{RESULTS}/SUMMARY.md",
        template="workflow/report/page.html.j2",
        captions=[f"workflow/report/{name}.rst" for name in ("workflow", *TABLE_OF)],
    output:
        f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/page.log",
    benchmark:
        f"{RESULTS}/timings/page.tsv"
    conda:
        ENV
    params:
        figures=json.dumps(TABLE_OF),
        config=json.dumps(config),
        results=lambda wildcards, output: os.path.dirname(output[0]),
        folder=workflow.basedir,
        # The last is the Snakefile's own: the others are laid over it.
        configfiles=[
            f"--configfile {file}"
            for file in [workflow.configfiles[-1], *workflow.configfiles[:-1]]
        ],
    message:
        "Writing the page about the run"
    shell:
        "python -m itscale report --figures {params.figures:q} --results {params.results:q} --folder {params.folder:q}"
        " {params.configfiles} --config {params.config:q} --out {output:q} 2>&1 | tee {log:q}"
