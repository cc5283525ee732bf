# A rule for each figure: a report's caption may hold no wildcard.
for figure, table in TABLE_OF.items():

    rule:
        name:
            f"figure_{figure}"
        input:
            command("figure"),
            modules(f"figures.{figure}"),
            table=f"{RESULTS}/tables/{table}.csv",
        output:
            pdf=f"{RESULTS}/figures/{figure}.pdf",
            png=report(
                f"{RESULTS}/figures/{figure}.png",
                category="Figures",
                caption=f"../report/{figure}.rst",
            ),
        log:
            f"{RESULTS}/logs/figures/{figure}.log",
        benchmark:
            f"{RESULTS}/timings/figures/{figure}.tsv"
        group:
            "figures"
        conda:
            ENV
        params:
            figure=figure,
            benchmark=config["markovscale" if figure in MARKOV_FIGURES else "compare"][
                "benchmarks"
            ][0],
        shell:
            "python -m itscale figure {params.figure} --table {input.table:q} --benchmark {params.benchmark}"
            " --out {output.pdf:q} 2>&1 | tee {log:q}"
