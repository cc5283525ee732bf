"""Draw docs/published_rounds.png from config/published_rounds.csv; print what differences of config/published.csv can bear."""

from pathlib import Path

from itscale.data.tables import read_csv
from itscale.figures.style import COLOURS, figure
from itscale.studies.published import ROUNDS, differences, rounds_against_chain

HERE = Path(__file__).parent
CAPTION = (
    "Published accuracy of MR-Thinking (DeepSeek-R1-Distill-Qwen-7B, one chain a question; points) against the two-state chain "
    "through its first two rounds and the mean of rounds 2 to 64 (line). Band: where 95 % of runs over as many questions lie "
    "if the line is true. Source: github.com/Albertwyk/OptScale at a7dd914."
)


def draw(out: Path) -> None:
    table = rounds_against_chain(read_csv(HERE.parent / "config/published_rounds.csv"))
    benchmarks = list(dict.fromkeys(table["benchmark"]))
    with figure(out, CAPTION, columns=len(benchmarks), width=13, height=3) as (_, axes):
        for axis, name in zip(axes, benchmarks, strict=True):
            rows = table[table["benchmark"] == name]
            axis.fill_between(rows["round"], rows["low"], rows["high"], color="0.6", alpha=0.25, lw=0)
            axis.plot(rows["round"], rows["two_state"], color="0.3", lw=1.2)
            axis.plot(rows["round"], rows["published"], "o", color=COLOURS[0], ms=4.5)
            axis.set_xscale("log", base=2)
            axis.set_xticks(ROUNDS, [str(t) for t in ROUNDS])
            axis.set_title(f"{name} ({rows['questions'].iloc[0]} questions)", fontsize=9)
            axis.set_xlabel("round (log scale)")
        axes[0].set_ylabel("accuracy (%)")


if __name__ == "__main__":
    draw(HERE / "published_rounds.pdf")
    for made in (".pdf", ".txt"):
        (HERE / f"published_rounds{made}").unlink(missing_ok=True)
    found = differences(read_csv(HERE.parent / "config/published.csv"))
    print(found.groupby("method")[["independent", "paired"]].sum().assign(cells=found.groupby("method").size()).to_markdown())
    print(
        found.groupby("benchmark")[["independent", "paired"]].sum().assign(cells=found.groupby("benchmark").size()).to_markdown()
    )
    print(found[found["method"].str.startswith("OptScale") & found["paired"]].to_string())
