"""Does a rerun's table agree with a reference table, within the intervals of both?"""

from math import hypot
from pathlib import Path

import pandas as pd

from itscale.data.tables import read_csv
from itscale.errors import UserError

# What makes a row of some table the same row in another run: of these, the columns that the reference has.
KEYS = ("benchmark", "method", "verifier", "unit", "budget", "protocol", "n", "level", "run", "algorithm", "round")
_ROUNDING = 2e-5  # tables hold six digits


def references(folder: Path) -> list[Path]:
    """The folders of reference tables that a folder holds (each with its main.csv), or this one alone.

    Raises:
        UserError: there is no CSV table in it.
    """
    folder = Path(folder)
    if not any(folder.rglob("*.csv")):
        raise UserError(f"{folder} holds no CSV tables: give the folder of the reference tables, docs/reference.")
    return sorted(file.parent for file in folder.glob("*/main.csv")) or [folder]


def disagreements(reference: Path, tables: Path) -> tuple[int, list[str]]:
    """Compare every CSV under `reference` with the one of the same name under `tables`.

    Returns:
        How many numbers with an interval were compared, and a sentence for each that disagrees or is on one side only.

    Raises:
        UserError: a table cannot be compared.
    """
    count, found = 0, []
    for file in sorted(Path(reference).rglob("*.csv")):
        name = file.relative_to(reference)
        if not (Path(tables) / name).exists():
            found.append(f"{name}: the rerun has no such table.")
            continue
        compared, lines = compare_tables(_read(file, name), _read(Path(tables) / name, name))
        count += compared
        found += [f"{name}: {line}" for line in lines]
    return count, found


def _read(path: Path, name: Path) -> pd.DataFrame:
    table = read_csv(path)
    keys = [key for key in KEYS if key in table]
    if not keys:
        raise UserError(f"{path} has none of the columns {', '.join(KEYS)}, by which rows are found: leave {name} out.")
    if (twice := table.duplicated(keys)).any():
        raise UserError(f"{path} has two rows for {_row(keys, table[keys][twice].iloc[0])}: leave {name} out.")
    return table.set_index(keys)


def compare_tables(reference: pd.DataFrame, rerun: pd.DataFrame) -> tuple[int, list[str]]:
    """Compare two tables whose rows are indexed by KEYS: numbers compared, and a sentence a disagreement."""
    names = list(reference.index.names)
    if names != list(rerun.index.names):
        return 0, [f"rows are named by {', '.join(names)} in the reference, by {', '.join(rerun.index.names)} in the rerun."]
    found = [f"{_row(names, key)} is only in the reference." for key in reference.index.difference(rerun.index)]
    found += [f"{_row(names, key)} is only in the rerun." for key in rerun.index.difference(reference.index)]
    columns = [c for c in reference if f"{c}_low" in reference and f"{c}_high" in reference]
    lacking = [c for c in columns if not {c, f"{c}_low", f"{c}_high"} <= set(rerun)]
    found += [f"the rerun has no column {c} with its interval." for c in lacking]
    count = 0
    for key in reference.index.intersection(rerun.index, sort=False):
        ours, theirs = reference.loc[key], rerun.loc[key]
        for column in (c for c in columns if c not in lacking):
            a, b = _interval(ours, column), _interval(theirs, column)
            if any(pd.isna([*a, *b])):
                if pd.isna(a[0]) != pd.isna(b[0]):
                    found.append(f"{_row(names, key)}, {column}: only one run has a value.")
                continue
            count += 1
            if abs(a[0] - b[0]) > allowed(a, b):
                shown = [f"{m:.4g} [{low:.4g}, {high:.4g}]" for m, low, high in (a, b)]
                found.append(f"{_row(names, key)}, {column}: {shown[0]} in the reference, {shown[1]} in the rerun.")
    return count, found


def allowed(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    """How far two means (mean, low, high) may lie apart: the facing half-widths added as independent errors are.

    Where both half-widths are 1.96 standard errors, so is this of the difference of two independent means.
    """
    below, above = sorted((a, b))
    return hypot(above[0] - above[1], below[2] - below[0]) + _ROUNDING * max(abs(a[0]), abs(b[0]))


def _interval(row: pd.Series, column: str) -> tuple[float, float, float]:
    return tuple(float(row[f"{column}{end}"]) for end in ("", "_low", "_high"))


def _row(names: list[str], key: object) -> str:
    values = key if isinstance(key, tuple) else tuple(key) if isinstance(key, pd.Series) else (key,)
    return ", ".join(str(v) if n in ("benchmark", "method") else f"{n} {v}" for n, v in zip(names, values, strict=True))
