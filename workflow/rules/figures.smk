# Figures whose tables are of one part of the run are drawn in one job: most of what one figure takes is the start. One alone is
# `itscale figure NAME`.
TABLES_OF_SET = {
    "comparison": ["main", "curves", "stops", "scores", "fit_calibration"],
    "optscale": ["frontier", "reliability", "selection", "predictor_labels"],
    "theory": ["number_of_samples", "reached_confidence"],
    "votes": ["optpo/guarantees", "optpo/vote_sweep", "optpo/votes_to_stop"],
    "training": ["optpo/curves", "optpo/steps"],
    "training_full": ["optpo_full/curves"],
    "markovscale": sorted(set(MARKOV_FIGURES.values())),
    "live": ["live", "arrival"],
}
FIGURES_OF_SET = {
    name: [figure for figure, table in TABLE_OF.items() if table in of]
    for name, of in TABLES_OF_SET.items()
}

# A rule for each set: a report's caption may hold no wildcard.
for part, members in FIGURES_OF_SET.items():
    if members:

        rule:
            name:
                f"figures_{part}"
            input:
                command("figures"),
                modules(*(f"figures.{figure}" for figure in members)),
                tables=sorted(
                    {f"{RESULTS}/tables/{TABLE_OF[figure]}.csv" for figure in members}
                ),
            output:
                [f"{RESULTS}/figures/{figure}.pdf" for figure in members],
                [f"{RESULTS}/figures/{figure}.txt" for figure in members],
                [
                    report(
                        f"{RESULTS}/figures/{figure}.png",
                        category="Figures",
                        caption=f"../report/{figure}.rst",
                    )
                    for figure in members
                ],
            log:
                f"{RESULTS}/logs/figures/{part}.log",
            benchmark:
                f"{RESULTS}/timings/figures/{part}.tsv"
            localrule: True
            conda:
                ENV
            params:
                drawn=[
                    f"{figure}={RESULTS}/tables/{TABLE_OF[figure]}.csv"
                    for figure in members
                ],
                benchmark=config[
                    "markovscale" if part == "markovscale" else "compare"
                ]["benchmarks"][0],
                out=folder,
            message:
                f"Drawing {len(members)} figures: {', '.join(members)}"
            shell:
                "python -m itscale step figures --benchmark {params.benchmark:q} --out {params.out:q} {params.drawn:q}"
                " 2>&1 | tee {log:q}"
