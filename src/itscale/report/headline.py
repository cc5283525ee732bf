"""What a run found, in a few sentences and a table of a dozen rows."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from itscale.data.records import CONFIDENCE
from itscale.data.tables import NONE, OWN, drawn_cells, interval_cells, saved
from itscale.policies import POLICIES

# What is shown, in this order, as far as the run has it: rules that vote at the largest limit, rules that read scores at 16 (the
# best of more is no better), one rule over rounds. Each group begins with its fixed N.
VOTES = ("self_consistency", "asc", "vote_dirichlet", "vote_lead", "vote_posterior", "esc")
SCORES = ("best_of_n", "score_threshold", "optscale_paper", "optscale", "pandora")
ROUNDS = ("markovscale_zero", "markovscale_gate", "markovscale_filter", "majority_over_rounds")
_SCORED_LIMIT = 16
# Read beside every table of rules.
NAMES = (
    "Names: ^0 knows nothing of the question beforehand, ^t has a predictor trained on questions; (paper) is as published, "
    "(ours) and (fitted) are variants of this project."
)
# A rule loses nothing worth the name where its paired interval lies above this.
_TOLERATED = -0.01
_REAL = "A real model (GSM8K, examples/gsm8k-qwen2.5-coder-0.5b, weights dequantised from 4 bits)"


@dataclass(frozen=True, slots=True)
class Headline:
    """Sentences, and the rows of the main table that they and the summary's table speak of."""

    sentences: tuple[str, ...]
    rows: pd.DataFrame


def headline(main: pd.DataFrame, rounds: pd.DataFrame | None = None, real: pd.DataFrame | None = None) -> Headline:
    """The sentences and rows of the first benchmark of a run.

    Args:
        main: the main table.
        rounds: the table of methods over rounds beside parallel samples of equal tokens, where the run has one.
        real: what `itscale advise` answered about a real model's samples, where the run asked it.
    """
    main = main[main["benchmark"] == main["benchmark"].iloc[0]]
    verifiers = [v for v in dict.fromkeys(main["verifier"]) if v != NONE]
    voting = _pick(main, VOTES, "self_consistency", [NONE])
    scored = _pick(main, SCORES, "best_of_n", verifiers[:1])
    sequential = _equal(main, rounds)
    parts = [part for part in (voting, scored, sequential) if len(part)] or [_alone(main)]
    rows = pd.concat(parts, ignore_index=True)
    rows["saved"] = saved(rows)
    sentences = [_compared(main), _counted(main), _best(voting, "Without a verifier")]
    sentences += [_best(scored, _by(verifiers[0]))] if verifiers else ["No rule with a verifier was compared."]
    sentences.append(_others(main, verifiers))
    sentences.append(_rounds(sequential) if len(voting) or len(scored) else _best(rows, "Over rounds of re-answering"))
    sentences.append(_real(real) if real is not None else "")
    return Headline(tuple(sentence for sentence in sentences if sentence), rows)


def _pick(main: pd.DataFrame, slugs: tuple[str, ...], fixed: str, verifiers: list[str]) -> pd.DataFrame:
    """The rows of some rules at the limit that is shown."""
    of = main[main["slug"].isin(slugs) & main["verifier"].isin(verifiers)]
    if of.empty:
        return of
    budgets = sorted(of.loc[of["slug"] != fixed, "budget"].unique()) or sorted(of["budget"].unique())
    limit = budgets[-1] if fixed == VOTES[0] else max([n for n in budgets if n <= _SCORED_LIMIT], default=budgets[0])
    of = of[of["budget"] == limit].drop_duplicates("slug").assign(against="its fixed N")
    return of.sort_values("slug", key=lambda s: s.map(slugs.index))


def _equal(main: pd.DataFrame, rounds: pd.DataFrame | None) -> pd.DataFrame:
    """One rule over rounds; its difference is to votes of as many tokens."""
    name = "minus self-consistency"
    if rounds is None or name not in rounds:
        return main.iloc[:0]
    of = rounds[(rounds["benchmark"] == main["benchmark"].iloc[0]) & rounds["slug"].isin(ROUNDS)]
    if of.empty:
        return main.iloc[:0]
    row = of.sort_values("slug", key=lambda s: s.map(ROUNDS.index)).head(1)
    differences = {f"accuracy_difference{end}": row[f"{name}{end}"] for end in ("", "_low", "_high")}
    return row.assign(**differences, completion_tokens_difference=0.0, against="votes, equal tokens")


def _alone(main: pd.DataFrame) -> pd.DataFrame:
    """All rules of a run of chains alone, each at its largest limit."""
    return main.sort_values("budget", kind="stable").drop_duplicates("slug", keep="last").assign(against="its fixed N")


def _points(row: pd.Series) -> str:
    low, mean, high = (100 * row[f"accuracy_difference{end}"] for end in ("_low", "", "_high"))
    return f"{mean:+.1f} points [{low:.1f}, {high:.1f}]"


def _compared(main: pd.DataFrame) -> str:
    methods, problems = main["slug"].nunique(), int(main["problems"].iloc[0])
    return (
        f"{methods} rules were compared on the same samples of {problems} questions ({main['benchmark'].iloc[0]}); thresholds "
        "are from a calibration split, and every difference is paired, with a 95 % interval over questions."
    )


def _counted(main: pd.DataFrame) -> str:
    """What tokens are where the samples were imported without counts."""
    if not np.allclose(main["completion_tokens"], main["samples_drawn"]):
        return ""
    return "The samples came without token counts: each counts as one, so that tokens here, in tables and in figures are samples."


def _best(rows: pd.DataFrame, where: str) -> str:
    """The rule that saves most among those that lose nothing; where none does, the one that loses least."""
    early = rows.assign(saved=saved(rows)) if len(rows) else rows
    early = early[early["completion_tokens_difference"] < 0]
    if early.empty:
        return f"{where} no rule stopped early." if len(rows) else ""
    safe = early[early["accuracy_difference_low"] > _TOLERATED]
    row = _most(safe if len(safe) else early, by_saving=len(safe) > 0)
    verdict = "" if len(safe) else " (no rule is shown to lose less than one point)"
    return (
        f"{where}, {row['method']} draws {row['samples_drawn']:.1f} of {row['budget']} samples and saves "
        f"{100 * row['saved']:.0f} % of the completion tokens; accuracy changes by {_points(row)}{verdict}."
    )


def _most(rows: pd.DataFrame, *, by_saving: bool) -> pd.Series:
    return rows.loc[rows["saved" if by_saving else "accuracy_difference_low"].idxmax()]


def _by(verifier: str) -> str:
    """Whose scores a sentence is about; OWN is the name of scores that came with the samples."""
    if verifier in CONFIDENCE:
        return f"By the model's own confidence ({verifier})"
    return "With the samples' own scores" if verifier == OWN else f"With the {verifier} verifier"


def _others(main: pd.DataFrame, verifiers: list[str]) -> str:
    """What the best-scored of more samples is worth with each further verifier."""
    said = []
    for name in verifiers[1:] or verifiers:
        of = main[(main["slug"] == "best_of_n") & (main["verifier"] == name)].sort_values("budget")
        if len(of) > 1:
            first, last = of.iloc[0], of.iloc[-1]
            said.append(
                f"{_by(name)}, best-of-N goes from {100 * first['accuracy']:.0f} % at {first['budget']} to "
                f"{100 * last['accuracy']:.0f} % at {last['budget']} samples"
                + (": the best-scored of more samples is worse, so vote." if last["accuracy"] < first["accuracy"] else ".")
            )
    return " ".join(said)


def _rounds(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "Nothing was re-answered: the run has no chains."
    row = rows.iloc[0]
    return (
        f"Re-answering: {row['method']} runs {row['samples_drawn']:.1f} of {row['budget']} rounds and is {_points(row)} against "
        "votes that cost as many tokens."
    )


def _real(answers: pd.DataFrame) -> str:
    """The cheapest rule that is as accurate as all samples' vote, on samples that are not the toy task's."""
    if answers.empty:
        return f"{_REAL}: no rule is as accurate for fewer tokens."
    row = answers.iloc[0]
    saving = interval_cells(answers.head(1), "saving", 100, 0).iloc[0]
    change = interval_cells(answers.head(1), "difference", 100, 1).iloc[0]
    doubt = f", {verdict}" if (verdict := row.get("verdict")) and not pd.isna(verdict) else ""
    return (
        f"{_REAL}: {row['method']} draws {row['samples']:.1f} samples and saves {saving} % of the completion tokens of a vote of "
        f"all; accuracy changes by {change} points{doubt}."
    )


def table(found: Headline) -> pd.DataFrame:
    """The rows for people: rule, what it needs, what it drew, tokens saved, and the paired difference."""
    rows = found.rows
    fixed = rows["slug"].isin(("self_consistency", "best_of_n"))
    # A chain of the whole length, or of one round, is compared with itself.
    itself = fixed | ((rows["accuracy_difference_low"] == 0) & (rows["accuracy_difference_high"] == 0))
    needs = [", ".join(n for n in POLICIES[s].needs if n != "calibration") if s in POLICIES else "" for s in rows["slug"]]
    difference = interval_cells(rows, "accuracy_difference", 100, 1)
    return pd.DataFrame(
        {
            "rule": [f"{m}, N = {b}" if f else m for m, b, f in zip(rows["method"], rows["budget"], fixed, strict=True)],
            "needs": [need or "–" for need in needs],
            "drawn": drawn_cells(rows),
            "accuracy (%)": [f"{100 * a:.1f}" for a in rows["accuracy"]],
            "tokens saved": [
                "–" if pd.isna(s) or against != "its fixed N" else f"{100 * s:.0f} %"
                for s, against in zip(rows["saved"].where(~fixed), rows["against"], strict=True)
            ],
            "change in accuracy (points)": [
                "–" if f else cell + ("" if against == "its fixed N" else f", {against}")
                for cell, f, against in zip(difference, itself, rows["against"], strict=True)
            ],
        }
    )


def markdown(found: Headline, page: str) -> str:
    """SUMMARY.md: the sentences, the table, and where to look next."""
    shown = table(found).to_markdown(index=False, disable_numparse=True)
    lines = "\n".join(f"- {sentence}" for sentence in found.sentences)
    return (
        f"# Summary\n\n{lines}\n\n{shown}\n\nVotes are compared with self-consistency and best-scored samples with best-of-N, at "
        f"the same limit.\n{NAMES}\nOpen {page} for the rest: every rule and limit, the frontier, and single questions.\n"
    )
