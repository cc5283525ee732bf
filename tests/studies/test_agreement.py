"""`itscale compare`: tables written by hand, which agree, disagree, or cannot be compared."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from itscale.cli import app
from itscale.errors import UserError
from itscale.studies.agreement import Agreement, agreement, allowed

HEADER = "benchmark,method,budget,drawn,accuracy,accuracy_low,accuracy_high,tokens,tokens_low,tokens_high"
REFERENCE = ["test,best-of-N,8,8,0.50,0.44,0.56,400,380,420", "test,best-of-N,16,16,0.49,,,800,760,840"]


@pytest.fixture
def folders(tmp_path):
    def write(reference: list[str], rerun: list[str]):
        for side, rows in (("reference", reference), ("rerun", rerun)):
            (tmp_path / side / "optpo").mkdir(parents=True, exist_ok=True)
            (tmp_path / side / "optpo" / "summary.csv").write_text("\n".join([HEADER, *rows]) + "\n")
        return tmp_path / "reference", tmp_path / "rerun"

    return write


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (REFERENCE[0], []),
        # hypot(0.06, 0.08) = 0.1 is allowed: 0.60 is just inside, 0.601 just outside.
        ("test,best-of-N,8,8,0.5999,0.5199,0.68,400,380,420", []),
        ("test,best-of-N,8,8,0.601,0.521,0.68,400,380,420", ["accuracy: 0.5 [0.44, 0.56]"]),
        # The ends that face each other count, not the others.
        ("test,best-of-N,8,8,0.60,0.599,0.99,400,380,420", ["accuracy"]),
        ("test,best-of-N,8,8,0.40,0.10,0.401,400,380,420", ["accuracy"]),
        ("test,best-of-N,8,8,0.40,0.399,0.48,400,380,420", []),
        ("test,best-of-N,8,8,0.2,0.1,0.3,300,290,310", ["accuracy", "tokens: 400 [380, 420] in the reference, 300 [290, 310]"]),
        # A number without an interval is not assessed.
        ("test,best-of-N,8,99,0.50,0.44,0.56,400,380,420", []),
        ("test,best-of-N,8,8,,,,400,380,420", ["accuracy: only one run has a value"]),
    ],
)
def test_numbers_agree_within_both_intervals(folders, row, found):
    compared = agreement(*folders(REFERENCE, [row, REFERENCE[1]]))
    lines = [*compared.differing, *compared.one_sided]
    assert len(lines) == len(found)
    for line, part in zip(lines, found, strict=True):
        assert line.startswith("optpo/summary.csv: test, best-of-N, budget 8, ") and part in line


def test_rows_and_tables_of_one_side_are_named(folders):
    reference, rerun = folders(REFERENCE, [REFERENCE[0], "test,ESC,8,8,0.5,0.4,0.6,1,1,1"])
    (reference / "other.csv").write_text(HEADER + "\n")
    found = agreement(reference, rerun)
    assert found.compared == 2 and not found.differing
    assert list(found.one_sided) == [
        "optpo/summary.csv: test, best-of-N, budget 16 is only in the reference.",
        "optpo/summary.csv: test, ESC, budget 8 is only in the rerun.",
        "other.csv: the rerun has no such table.",
    ]
    said = CliRunner().invoke(app, ["compare", str(reference), str(rerun)])
    assert said.exit_code == 1
    assert said.output.endswith(
        f"{rerun} agrees with {reference} in all 2 numbers, but 3 rows, values or tables are on one side only.\n"
    )


def test_equal_numbers_without_width_agree_and_others_do_not():
    assert abs(0.3178 - 0.317801) <= allowed((0.3178, 0.3178, 0.3178), (0.317801, 0.317801, 0.317801))
    assert abs(0.3178 - 0.3180) > allowed((0.3178, 0.3178, 0.3178), (0.3180, 0.3180, 0.3180))


def test_two_runs_of_one_truth_disagree_in_one_of_twenty():
    means = np.random.default_rng(0).normal(0.5, 0.02, (4000, 2))
    half = 1.96 * 0.02
    apart = [abs(a - b) > allowed((a, a - half, a + half), (b, b - half, b + half)) for a, b in means]
    assert np.mean(apart) == pytest.approx(0.05, abs=0.012)


def test_the_command_prints_each_row_and_exits_with_1(folders):
    reference, rerun = folders(REFERENCE, ["test,best-of-N,8,8,0.2,0.1,0.3,400,380,420", REFERENCE[1]])
    same = CliRunner().invoke(app, ["compare", str(reference), str(reference)])
    assert same.exit_code == 0
    assert same.output == f"{reference} agrees with {reference} in all 3 numbers.\n"
    other = CliRunner().invoke(app, ["compare", str(reference), str(rerun)])
    assert other.exit_code == 1 and "0.2 [0.1, 0.3] in the rerun" in other.output
    assert other.output.endswith(f"1 of 3 numbers differ between {rerun} and {reference}.\n")


def test_a_folder_without_any_of_the_tables_does_not_agree_in_nothing(folders, tmp_path):
    reference, rerun = folders(REFERENCE, REFERENCE)
    with pytest.raises(UserError, match=r"holds no table of .*: give the folder of the run's tables, results/tables"):
        agreement(reference, tmp_path / "elsewhere")
    assert agreement(reference, rerun).compared


@pytest.mark.parametrize(
    ("rows", "message"),
    [([], "holds no CSV tables"), (["x\n1"], "has none of the columns"), (["method,a\nm,1\nm,2"], "two rows for m")],
)
def test_what_cannot_be_compared_is_one_sentence(tmp_path, rows, message):
    for text in rows:
        (tmp_path / "main.csv").write_text(text + "\n")
    with pytest.raises(UserError, match=message):
        agreement(tmp_path, tmp_path)


def test_every_table_meant_for_the_reference_can_be_compared(tmp_path):
    """The columns of the three main tables name each row once."""
    main = {
        "benchmark": ["test"] * 2,
        "method": ["m"] * 2,
        "unit": ["sample"] * 2,
        "budget": [8, 16],
        "protocol": ["calibrated"] * 2,
    }
    runs = {"run": ["ttrl", "optpo"], "algorithm": ["grpo"] * 2}
    for name, keys in (
        ("main", main),
        ("markovscale_methods", {k: v for k, v in main.items() if k != "protocol"}),
        ("summary", runs),
    ):
        pd.DataFrame({**keys, "x": [1.0, 2.0], "x_low": [0.5, 1.5], "x_high": [1.5, 2.5]}).to_csv(
            tmp_path / f"{name}.csv", index=False
        )
    assert agreement(tmp_path, tmp_path) == Agreement(6)
