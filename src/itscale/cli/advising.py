"""What `itscale advise` reads and says."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from itscale.data.records import (
    PREDICTIONS,
    Pool,
    Unit,
    counted_unit,
    fewer,
    model_of,
    read_any_pool,
    read_table,
    with_predictions,
    write_json,
)
from itscale.data.tables import interval_cells, write_csv
from itscale.errors import UserError, sentence_of
from itscale.policies import make_policy, named_rule
from itscale.policies.protocol import Policy
from itscale.studies.advice import Advice, Advisor, Question
from itscale.studies.criterion import Verdict

# The pool that is shown where none is named: a real model's samples (its chains lie beside them, and take longer).
EXAMPLE = "gsm8k-qwen2.5-coder-0.5b/parallel"


@dataclass(frozen=True, slots=True)
class Found:
    """Pools by their kind, what drew them, what their completion tokens count, and the samples without an answer or cut off."""

    pools: Mapping[Unit, Pool] = field(repr=False)
    model: str  # empty where nobody says
    unit: str
    unanswered: int
    cut_off: int
    samples: int


def example() -> Path:
    """The folder of the pool that comes with the package."""
    return Path(str(files("itscale"))) / "examples" / EXAMPLE


def pools_at(path: Path, predictions: Path | None = None) -> Found:
    """The pool of a file or folder, or those of the folders `parallel` and `chain` in it.

    Raises:
        UserError: there is none.
    """
    places = [path] if path.is_file() or (path / "pool.parquet").exists() else [path / "parallel", path / "chain"]
    there = [place for place in places if place.is_file() or (place / "pool.parquet").exists()]
    if not there:
        raise UserError(f"{path} holds no pool: give the folder that `itscale import` or `itscale sample` wrote.")
    pools = [read_any_pool(place) for place in there]
    if predictions is not None:
        table = read_table(predictions, PREDICTIONS)
        pools = [with_predictions(pool, table) for pool in pools]
    return Found(
        {pool.unit: pool for pool in pools},
        model_of(there[0]),
        counted_unit(there[0]),
        sum(int((pool.there & (pool.cluster < 0)).sum()) for pool in pools),
        sum(int(pool.cut_off.sum()) for pool in pools if pool.cut_off is not None),
        sum(int(pool.have.sum()) for pool in pools),
    )


def question(same_as: str | None, accuracy: float | None, budget: float | None) -> Question:
    """What is asked.

    Raises:
        UserError: two things at once, or what cannot be.
    """
    given = [name for name, value in (("--accuracy", accuracy), ("--budget", budget)) if value is not None]
    if len(given) > 1:
        raise UserError("--accuracy and --budget are two questions: ask one at a time.")
    if accuracy is not None and not 0 < accuracy <= 1:
        raise UserError(f"--accuracy is {accuracy}: give a share between 0 and 1.")
    if budget is not None and not budget > 0:
        raise UserError(f"--budget is {budget}: give a number above 0.")
    return Question(None if same_as is None else fixed_rule(same_as), accuracy, budget)


def fixed_rule(text: str) -> Policy:
    """A rule with a fixed number, from RULE:N.

    Raises:
        UserError: it is something else.
    """
    name, _, number = text.rpartition(":")
    if not name or not number.isdecimal():
        raise UserError(f"--same-as is {text!r}: give RULE:N, for example self_consistency:16.")
    from itscale.drivers.limits import limit_setting

    rule = named_rule(name)
    return make_policy(name, **{limit_setting(rule.policy): int(number)})


def unit_of(found: Found, advisor: Advisor) -> str:
    """What a cost is counted in."""
    return "dollars" if advisor.price is not None else found.unit


def report(where: Path, found: Found, asked: Question, advisor: Advisor, advice: Advice, out: Path | None) -> str:
    """What is printed."""
    unit = unit_of(found, advisor)
    sizes = " and ".join(f"{_size(pool)} {kind}{'s' if pool.size > 1 else ''}" for kind, pool in found.pools.items())
    base = advice.baseline
    lines = [f"{where}: {base['questions']} questions, {sizes} each"]
    lines += [sentence for pool in found.pools.values() if (sentence := fewer(pool))]
    if found.model:
        lines.append(f"drawn with {found.model}")
    if found.unanswered or found.cut_off:
        lines.append(f"{found.unanswered} of {found.samples} samples have no answer, {found.cut_off} were cut off")
    accuracy = f"{100 * base['accuracy']:.1f} % [{100 * base['accuracy_low']:.1f}, {100 * base['accuracy_high']:.1f}]"
    lines += [
        f"baseline {base['rule']} {said(base['settings'])}: {accuracy} for {amount(base['cost'], unit)} {unit} a question",
        "",
    ]
    lines += [title(asked, base, unit), cells(advice.answers, unit).to_string(index=False), *held_out(advice, asked, unit)]
    if kept := promised(advisor, advice):
        lines.append(kept)
    lines += ["", "Nothing here is as accurate for less than:", cells(advice.frontier, unit).to_string(index=False), ""]
    if advice.left_out:
        reasons = dict.fromkeys(advice.left_out.values())
        each = (", ".join(rule for rule, why in advice.left_out.items() if why == reason) + f" ({reason})" for reason in reasons)
        lines.append("not tried: " + "; ".join(each))
    return "\n".join([*lines, *headline(asked, advice, unit), "next: " + command(advisor, advice, out)])


def _size(pool: Pool) -> str:
    return f"{pool.size}" if pool.counts is None else f"{pool.counts.min()} to {pool.size}"


def headline(asked: Question, advice: Advice, unit: str) -> list[str]:
    """What the best rule saves, in a sentence; nothing where the question is another one or the answer is not sure."""
    best = advice.answers.iloc[0]
    if asked.accuracy is not None or asked.budget is not None or best["verdict"] or not best["saving_low"] > 0:
        return []
    row = pd.DataFrame([best])
    saving, points = interval_cells(row, "saving", 100, 0)[0], interval_cells(row, "difference", 100, 1)[0]
    return [f"{best['method']} ({said(best['settings'])}) saves {saving} % of the {unit} here, at {points} points of accuracy"]


def title(asked: Question, base: Mapping[str, Any], unit: str) -> str:
    """What the table answers."""
    if asked.accuracy is not None:
        return f"{100 * asked.accuracy:g} % for the fewest {unit}, the cheapest setting of each rule:"
    if asked.budget is not None:
        return f"The most for {asked.budget:g} {unit} a question, the most accurate setting of each rule:"
    return f"As accurate as {base['rule']} {said(base['settings'])} for fewer {unit}, the cheapest setting of each rule:"


def promised(advisor: Advisor, advice: Advice) -> str:
    """What rules that promise an error made of it here; empty where there are none."""
    each = [
        f"{rule} {100 * promise:g} %, {Cells(100, 1).of(measured) or 'no stop of its own'}"
        for rule, promise, measured in advisor.promises(advice.answers)
    ]
    what = "errors of the consensus among own stops, promised and measured here on held-out halves (%)"
    return f"{what}: {'; '.join(each)}" if each else ""


def held_out(advice: Advice, asked: Question, unit: str) -> list[str]:
    """What such a choice is worth (of a budget: what it spends), and what is not certain about it."""
    saving, points = (Cells(100, 1).of(interval) for interval in (advice.saving, advice.difference))
    worth = f"saves {saving} %"
    if asked.budget is not None:
        worth = f"spends {amount((1 - advice.saving.mean) * advice.baseline['cost'], unit)} {unit}"
    lines = [f"chosen on four fifths of the questions and measured on the others, in turn: {worth}, {points} points"]
    if advice.choice.verdict is Verdict.TOO_FEW:
        lines.append(
            f"{advice.baseline['questions']} questions are too few to tell a loss of 1 point, they exclude one of "
            f"{100 * advice.choice.excluded:.1f}: the settings are those fixed beforehand"
        )
    return lines


@dataclass(frozen=True, slots=True)
class Cells:
    """How intervals are written: times `scale`, with so many digits."""

    scale: float
    digits: int

    def of(self, interval: Any) -> str:
        return interval_cells(pd.DataFrame([interval.columns("x")]), "x", self.scale, self.digits)[0]


def amount(value: float, unit: str) -> str:
    return f"{value:.{digits_of(unit)}f}"


def digits_of(unit: str) -> int:
    return {"dollars": 5, "samples": 1}.get(unit, 0)


def said(settings: Mapping[str, Any]) -> str:
    """Settings in a line."""
    return " ".join(f"{name}={value:g}" for name, value in settings.items())


def cells(table: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Rows of an advice for people."""
    shown = {
        "rule": table["rule"],
        "settings": table["settings"].map(said),
        "samples": table["samples"].map("{:.1f}".format),
        unit: interval_cells(table, "cost", 1, digits_of(unit)),
        "saving (%)": interval_cells(table, "saving", 100, 0),
        "accuracy (%)": interval_cells(table, "accuracy", 100, 1),
        "difference (points)": interval_cells(table, "difference", 100, 1),
    }
    if "verdict" in table and table["verdict"].any():
        shown[""] = table["verdict"]
    frame = pd.DataFrame({name: values.astype(str) for name, values in shown.items()})
    widths = {name: max(len(name), int(values.str.len().max())) for name, values in frame.items()}
    return pd.DataFrame({name.ljust(widths[name]): values.str.ljust(widths[name]) for name, values in frame.items()})


def command(advisor: Advisor, advice: Advice, out: Path | None) -> str:
    """What to type to run the best setting."""
    best = advice.answers.iloc[0]
    policy = make_policy(best["rule"], **best["settings"])
    parts = ["itscale", "solve", "--policy", best["rule"]]
    parts += [part for name, value in best["settings"].items() for part in ("--set", f"{name}={json.dumps(value)}")]
    known = advisor.needs_known(best)
    if known:
        parts += ["--calibration", str(out or Path("FOLDER")) + "/advice.json"]
    if policy.needs_scores:
        parts += ["--verifier", "VERIFIER"]
    note = "   (with `--out FOLDER` advise writes the statistics that this rule reads)" if known and out is None else ""
    return shlex.join([*parts, "--model", "MODEL", "--problems", "QUESTIONS.jsonl"]) + note


def write(out: Path, name: str, advice: Advice, unit: str) -> str:
    """The tables, the picture if matplotlib is there, and the settings for `solve --calibration` and `Stopper.from_advice`.

    Returns:
        What was written, for people.
    """
    rows = [advice.curves.assign(mark=""), advice.answers.head(1).assign(mark="advice")]
    marked = pd.concat([*rows, pd.DataFrame([advice.baseline]).assign(mark="baseline", difference=0.0)], ignore_index=True)
    curves = marked.drop(columns="verdict").assign(questions=advice.baseline["questions"])
    for file, table in {"answers": advice.answers, "frontier": advice.frontier, "curves": curves}.items():
        write_csv(out / f"{file}.csv", table.assign(settings=table["settings"].map(json.dumps)))
    write_json(out / "advice.json", advice.record)
    try:
        from itscale.figures.advice import draw
    except ModuleNotFoundError as missing:
        return f"the tables and advice.json; no picture: {sentence_of(missing) or missing}"
    draw(curves, name, out / "advice.png", unit)
    return "the tables, the picture and advice.json"
