localrules:
    real_model,
    summary,
    page,


# A real model's samples come with the repository: what stopping saves on them stands beside what it saves on the toy task.
REAL = "examples/gsm8k-qwen2.5-coder-0.5b"


rule real_model:
    """What stopping saves on a real model's samples: tables and a picture."""
    input:
        command("advise"),
        chains=f"{REAL}/chain/pool.parquet",
        samples=f"{REAL}/parallel/pool.parquet",
    output:
        answers=f"{RESULTS}/real_model/answers.csv",
        others=multiext(
            f"{RESULTS}/real_model/",
            "frontier.csv",
            "curves.csv",
            "advice.json",
            "advice.txt",
            "advice.png",
            "advice.pdf",
        ),
    log:
        f"{RESULTS}/logs/real_model.log",
    benchmark:
        f"{RESULTS}/timings/real_model.tsv"
    conda:
        ENV
    params:
        pool=lambda wildcards, input: os.path.dirname(os.path.dirname(input.samples)),
        out=lambda wildcards, output: os.path.dirname(output.answers),
        seed=config["seed"],
    message:
        "Trying every rule on a real model's samples"
    shell:
        "python -m itscale advise --pool {params.pool:q} --seed {params.seed:q} --out {params.out:q} 2>&1 | tee {log:q}"


# A few sentences and a dozen rows: what `make` ends with.
rule summary:
    """What the run found: on half a page, and every rule and limit for people (tables/main.md)."""
    input:
        command("summary"),
        command("markdown"),
        calibration=rules.calibration.output.record,
        main=f"{RESULTS}/tables/main.csv",
        real=rules.real_model.output.answers if TOY and not config["official"] else [],
        rounds=f"{RESULTS}/tables/markovscale_methods.csv" if CHAINS else [],
    output:
        summary=f"{RESULTS}/SUMMARY.md",
        markdown=report(
            f"{RESULTS}/tables/main.md",
            category="Tables",
            caption="../report/main.rst",
        ),
    log:
        f"{RESULTS}/logs/summary.log",
    benchmark:
        f"{RESULTS}/timings/summary.tsv"
    conda:
        ENV
    params:
        page=f"{RESULTS}/report.html",
        rounds=lambda wildcards, input: optional("--rounds", input.rounds),
        real=lambda wildcards, input: optional("--real", input.real),
    message:
        "Writing the summary"
    shell:
        "(python -m itscale step summary --main {input.main:q} {params.rounds:q} {params.real:q} --page {params.page:q} --out {output.summary:q}"
        " && python -m itscale step markdown --table {input.main:q} {params.rounds:q} --calibration {input.calibration:q} --out {output.markdown:q}) 2>&1 | tee {log:q}"


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
            f"--configfile={file}"
            for file in [workflow.configfiles[-1], *workflow.configfiles[:-1]]
        ],
    message:
        "Writing the page about the run"
    shell:
        "python -m itscale report --figures {params.figures:q} --results {params.results:q} --folder {params.folder:q}"
        " {params.configfiles:q} --config {params.config:q} --out {output:q} 2>&1 | tee {log:q}"
