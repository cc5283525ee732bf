"""The summary: which rows it shows, what it says of them, and that it also speaks of runs that lack a verifier or chains."""

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from itscale.cli import app
from itscale.data.tables import markdown as main_page
from itscale.data.tables import saved
from itscale.report.headline import headline, markdown, table
from itscale.studies.chains.comparison import equal_tokens

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


@pytest.fixture(scope="module")
def main():
    return pd.read_csv(REFERENCE / "main.csv")


@pytest.fixture(scope="module")
def rounds():
    return pd.read_csv(REFERENCE / "markovscale_methods.csv")


def test_five_sentences_and_a_dozen_rows_of_the_reference_run(main, rounds):
    found = headline(main, rounds)
    shown = table(found)
    assert len(found.sentences) == 5 and len(shown) == 12
    row = main[(main["slug"] == "asc") & (main["budget"] == main.loc[main["slug"] == "asc", "budget"].max())].iloc[0]
    fixed = main[(main["slug"] == "self_consistency") & (main["budget"] == row["budget"])].iloc[0]
    asc = shown[shown["rule"] == "ASC"].iloc[0]
    assert asc["drawn"] == f"{row['samples_drawn']:.1f} of {row['budget']}"
    assert int(asc["tokens saved"].removesuffix(" %")) == pytest.approx(
        100 * (1 - row["completion_tokens"] / fixed["completion_tokens"]), abs=1
    )
    assert asc["change in accuracy (points)"].startswith(f"{100 * row['accuracy_difference']:.1f} [")
    # A rule over rounds is held against votes of as many tokens.
    assert shown["change in accuracy (points)"].iloc[-1].endswith("votes, equal tokens")
    assert "| -0.0" not in markdown(found, "report.html")


def test_a_real_models_samples_have_a_sentence_of_their_own(main, rounds):
    cheapest = {"method": "ASC", "samples": 3.25, "saving": 0.414, "saving_low": 0.37, "saving_high": 0.45}
    cheapest |= {"difference": -0.004, "difference_low": -0.0081, "difference_high": 0.0002, "verdict": ""}
    found = headline(main, rounds, pd.DataFrame([cheapest, {**cheapest, "method": "ESC", "saving": 0.1}]))
    assert len(found.sentences) == 6
    assert "ASC draws 3.2 samples and saves 41 [37, 45] % of" in found.sentences[-1]
    assert found.sentences[-1].endswith("accuracy changes by -0.4 [-0.8, 0.0] points.")
    unsure = headline(main, rounds, pd.DataFrame([{**cheapest, "verdict": "too few questions to tell"}]))
    assert unsure.sentences[-1].endswith("accuracy changes by -0.4 [-0.8, 0.0] points, too few questions to tell.")
    nothing = headline(main, rounds, pd.DataFrame(columns=list(cheapest)))
    assert nothing.sentences[-1].endswith("no rule is as accurate for fewer tokens.")


def test_the_rule_it_names_saves_most_among_those_that_lose_nothing(main, rounds):
    sentence = headline(main, rounds).sentences[1]
    votes = headline(main, rounds).rows
    votes = votes[(votes["family"] == "self_consistency") & (votes["accuracy_difference_low"] > -0.01)]
    best = votes.loc[saved(votes).idxmax()]
    assert sentence.startswith(f"Without a verifier, {best['method']} draws")


def test_runs_without_a_verifier_or_without_chains_have_a_summary(main):
    votes = main[(main["verifier"] == "none") & (main["unit"] == "sample")]
    found = headline(votes)
    assert "No rule with a verifier was compared." in found.sentences
    assert not any("token counts" in sentence for sentence in found.sentences)
    counted = headline(votes.assign(completion_tokens=votes["samples_drawn"]))
    assert "The samples came without token counts" in counted.sentences[1]
    assert found.sentences[-1] == "Nothing was re-answered: the run has no chains."
    assert set(table(found)["needs"]) == {"–"}
    scored = headline(main[main["slug"].isin(["best_of_n", "score_threshold"])])
    assert len(table(scored)) == 2
    fixed = headline(main[main["slug"] == "self_consistency"])
    assert "no rule stopped early" in " ".join(fixed.sentences)


def test_what_saves_nothing_and_what_differs_from_itself_have_no_figure(rounds):
    alone = rounds[rounds["slug"].isin(["first_answer", "mr_thinking", "majority_over_rounds"])]
    text = markdown(headline(alone, None), "report.html")
    assert "nan" not in text.replace("unanswered", "") and "0.0 [0.0, 0.0]" not in text


def test_the_main_table_has_a_legend_what_is_saved_and_a_part_a_kind_of_rule(main):
    page = main_page(main)
    assert page.index("tokens saved") < page.index("## Votes") < page.index("## Best-scored") < page.index("## Rounds")
    row = next(line for line in page.splitlines() if "| ASC  " in line and "64 samples" in line)
    assert "1 samples" not in page and "1 rounds" not in page
    value = main[(main["slug"] == "asc") & (main["budget"] == 64)]
    assert f"{100 * saved(value).item():.0f} " in row


def test_the_main_table_has_dollars_where_tokens_have_a_price(main):
    asc = main[(main["slug"] == "asc") & (main["budget"] == 64)]
    assert "dollars" not in main_page(asc)
    page = main_page(asc.assign(dollars=0.0123456, dollars_low=0.01, dollars_high=0.02))
    assert "0.01235 [0.01000, 0.02000]" in page and "*dollars*" in page


def test_the_command_writes_the_page_for_people(tmp_path):
    out = tmp_path / "SUMMARY.md"
    tables = ["--main", REFERENCE / "main.csv", "--rounds", REFERENCE / "markovscale_methods.csv"]
    done = CliRunner().invoke(app, ["step", "summary", *map(str, tables), "--page", "r.html", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "Open r.html" in out.read_text()


def test_rounds_stand_beside_equal_tokens_before_other_rounds(main, rounds):
    part = main_page(main, equal_tokens(rounds)).split("## Rounds of re-answering")[1]
    first, then = part.index("against self-consistency (points)"), part.index("against the fixed N (points)")
    assert first < then
    row = rounds[rounds["slug"] == "markovscale_zero"].iloc[0]
    cells = next(line for line in part.splitlines() if "| MarkovScale^0 " in line).split("|")
    shown = [f"{100 * row[f'minus {name}']:.1f}" for name in ("self-consistency", "best-of-N")]
    assert [cell.split()[0] for cell in cells[-3:-1]] == shown
    assert "equal" not in main_page(main, equal_tokens(rounds[["benchmark", "method"]])).split("## Rounds")[1]
