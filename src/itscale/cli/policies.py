"""The command that lists the stopping rules and their settings."""

from dataclasses import fields
from typing import Annotated, Any

import typer

from itscale.cli.options import app

_GROUPS = {
    (): "Votes: samples and their answers are enough",
    ("calibration",): "Votes that need statistics of a calibration split",
    ("predictor",): "Votes that need a predictor of the question's difficulty",
    ("verifier",): "Samples with verifier scores",
    ("rounds",): "Rounds of re-answering",
}


@app.command()
def policies(
    name: Annotated[str | None, typer.Argument(help="A policy, for its settings with their types; all without it.")] = None,
) -> None:
    """List the stopping rules: what each does, what it needs, its settings with their usual values, and where it is from.

    `--policy` of the other commands takes the name at the left, or the display name; `--set KEY=VALUE` changes a setting.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from itscale.policies import POLICIES, named_rule

    console = Console(highlight=False)
    if name is not None:
        rule = named_rule(name)
        console.print(Text(f"{rule.slug} ({rule.name}): {rule.about}"))
        console.print(Text(f"needs {_needs(rule)}; source: {rule.source}\n"))
        table = Table("setting", "type", "usual", box=None, pad_edge=False)
        for setting, kind, value in settings_of_rule(rule):
            table.add_row(setting, kind, "" if value is None else str(value))
        console.print(table)
        console.print(Text(f"\n{' '.join((rule.policy.__doc__ or '').split())}"))
        if rule.measured:
            console.print(Text(f"\n{_measured(rule)}"))
        return
    listed: dict[str, list] = {title: [] for title in _GROUPS.values()}
    for rule in POLICIES.values():
        group = next(g for g in (("rounds",), ("verifier",), ("predictor",), ("calibration",), ()) if set(g) <= set(rule.needs))
        listed[_GROUPS[group]].append(rule)
    for title, rules in listed.items():
        console.print(Text(f"\n{title}\n", style="bold"))
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 1, 0))
        table.add_column(no_wrap=True, min_width=max(map(len, POLICIES)))
        table.add_column()
        for rule in rules:
            usual = " ".join(f"{setting}={value}" for setting, _, value in settings_of_rule(rule) if value is not None)
            lines = [f"{rule.name}. {rule.about} ({rule.source})", usual, f"needs {_needs(rule)}" if rule.needs else ""]
            lines.append(_measured(rule) if rule.measured else "")
            table.add_row(rule.slug, Text("\n".join(line for line in lines if line)))
        console.print(table)


def settings_of_rule(rule: Any) -> list[tuple[str, str, Any]]:
    """(name, type, usual value) of every setting that a user may give; what a calibration fills in is left out."""
    from itscale.policies import make_policy

    policy, plain = make_policy(rule.slug), ("int", "float", "str", "Literal")
    kinds = {f.name: getattr(f.type, "__name__", str(f.type)) for f in fields(rule.policy)}
    return [
        (name, kind, getattr(policy, name))
        for name, kind in kinds.items()
        if name not in rule.settings and kind.startswith(plain)
    ]


def _measured(rule: Any) -> str:
    return f"promises 5 % errors of the consensus, measured {rule.measured}"


def _needs(rule: Any) -> str:
    needs = [need if need == "rounds" else f"a {need}" for need in rule.needs]
    return " and ".join(filter(None, [", ".join(needs[:-1]), *needs[-1:]])) or "nothing but answers"
