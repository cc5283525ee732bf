localrules:
    page,


# One page about the finished run; included last, since it reads whatever a bare `snakemake` makes.
rule page:
    input:
        command("report"),
        rules.all.input,
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
    shell:
        "python -m itscale report --figures {params.figures:q} --results {params.results:q} --folder {params.folder:q}"
        " {params.configfiles} --config {params.config:q} --out {output:q} 2>&1 | tee {log:q}"
