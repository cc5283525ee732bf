"""Does a rerun's table agree with a reference table, within the intervals of both?"""

from dataclasses import dataclass, fields
from math import hypot
from pathlib import Path

import pandas as pd

from itscale.data.tables import read_csv
from itscale.errors import UserError

# What makes a row of some table the same row in another run: of these, the columns that the reference has.
KEYS = ("benchmark", "method", "verifier", "unit", "budget", "protocol", "n", "level", "run", "algorithm", "round")
_ROUNDING = 2e-5  # tables hold six digits


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of two runs: how many numbers with an interval were compared, a sentence for each that differs, and for each row, value or
    table that only one run has."""

    compared: int = 0
    differing: tuple[str, ...] = ()
    one_sided: tuple[str, ...] = ()

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def sentence(self, reference: Path, tables: Path) -> str:
        """What was found, in one sentence."""
        lacking = f"{len(self.one_sided)} rows, values or tables are on one side only" if self.one_sided else ""
        if self.differing:
            differ = f"{len(self.differing)} of {self.compared} numbers differ between {tables} and {reference}"
            return f"{differ}, and {lacking}." if lacking else f"{differ}."
        agrees = f"{tables} agrees with {reference} in all {self.compared} numbers"
        return f"{agrees}, but {lacking}." if lacking else f"{agrees}."


def agreement(reference: Path, tables: Path) -> Agreement:
    """Compare every CSV under `reference` with the one of the same name under `tables`.

    Raises:
        UserError: there is no CSV table under `reference`, none of them under `tables`, or a table cannot be compared.
    """
    files = sorted(Path(reference).rglob("*.csv"))
    if not files:
        raise UserError(f"{reference} holds no CSV tables: give the folder of the reference tables, docs/reference.")
    if not any((Path(tables) / file.relative_to(reference)).exists() for file in files):
        raise UserError(f"{tables} holds no table of {reference}: give the folder of the run's tables, results/tables.")
    found = Agreement()
    for file in files:
        name = file.relative_to(reference)
        if not (Path(tables) / name).exists():
            found += Agreement(one_sided=(f"{name}: the rerun has no such table.",))
            continue
        here = compare_tables(_read(file, name), _read(Path(tables) / name, name))
        named = (tuple(f"{name}: {line}" for line in lines) for lines in (here.differing, here.one_sided))
        found += Agreement(here.compared, *named)
    return found


def _read(path: Path, name: Path) -> pd.DataFrame:
    table = read_csv(path)
    keys = [key for key in KEYS if key in table]
    if not keys:
        raise UserError(f"{path} has none of the columns {', '.join(KEYS)}, by which rows are found: leave {name} out.")
    if (twice := table.duplicated(keys)).any():
        raise UserError(f"{path} has two rows for {_row(keys, table[keys][twice].iloc[0])}: leave {name} out.")
    return table.set_index(keys)


def compare_tables(reference: pd.DataFrame, rerun: pd.DataFrame) -> Agreement:
    """Compare two tables whose rows are indexed by KEYS."""
    names = list(reference.index.names)
    if names != list(rerun.index.names):
        told = f"rows are named by {', '.join(names)} in the reference, by {', '.join(rerun.index.names)} in the rerun."
        return Agreement(one_sided=(told,))
    alone = [f"{_row(names, key)} is only in the reference." for key in reference.index.difference(rerun.index)]
    alone += [f"{_row(names, key)} is only in the rerun." for key in rerun.index.difference(reference.index)]
    columns = [c for c in reference if f"{c}_low" in reference and f"{c}_high" in reference]
    lacking = [c for c in columns if not {c, f"{c}_low", f"{c}_high"} <= set(rerun)]
    alone += [f"the rerun has no column {c} with its interval." for c in lacking]
    count, differing = 0, []
    for key in reference.index.intersection(rerun.index, sort=False):
        ours, theirs = reference.loc[key], rerun.loc[key]
        for column in (c for c in columns if c not in lacking):
            a, b = _interval(ours, column), _interval(theirs, column)
            if any(pd.isna([*a, *b])):
                if pd.isna(a[0]) != pd.isna(b[0]):
                    alone.append(f"{_row(names, key)}, {column}: only one run has a value.")
                continue
            count += 1
            if abs(a[0] - b[0]) > allowed(a, b):
                shown = [f"{m:.4g} [{low:.4g}, {high:.4g}]" for m, low, high in (a, b)]
                differing.append(f"{_row(names, key)}, {column}: {shown[0]} in the reference, {shown[1]} in the rerun.")
    return Agreement(count, tuple(differing), tuple(alone))


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
