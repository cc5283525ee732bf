"""Single questions of a run: their samples in order, and where each rule stopped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from itscale.data.records import POOL, Unit, Verdict, read_blocks, read_pool, read_problems
from itscale.drivers.replay import Outcomes, replay
from itscale.policies.frozen import frozen_policies
from itscale.policies.protocol import Reason

# Texts are of so many questions, from the easiest to the hardest, so many samples each, cut after so many letters. Numbers are of
# all questions, of all samples unless these are more than so many.
_TEXTS, _SAMPLES, _LETTERS, _NUMBERS = 30, 16, 1200, 200_000
_ANSWER = 60  # letters shown of an answer
_COLUMNS = ("problem_id", "sample", "text", "answer", "verdict", "score_mean", "completion_tokens")


def questions(results: Path, benchmark: str, calibration: Mapping[str, Any] | None, shown: pd.DataFrame) -> dict[str, Any]:
    """The questions of a benchmark, JSON-ready: numbers of all, texts of some; empty where the run has no such pool.

    A question's `samples` are [index into its `answers` or -1, 1 for correct, score or null, completion tokens] in order, its
    `texts` those of the first of them.

    Args:
        calibration: what `itscale calibrate` wrote, with which the rules are run again in the order of submission.
        shown: methods and budgets of the rules to show, rows of the main table.

    Raises:
        UserError: the pool is ragged, or of another version.
    """
    path, asked = results / "pools" / benchmark / "parallel" / "pool.parquet", results / "problems" / f"{benchmark}.parquet"
    if not path.exists() or not asked.exists():
        return {}
    pool, problems = read_pool(path, Unit.SAMPLE), {p.problem_id: p for p in read_problems(asked)}
    right = pool.correct.mean(axis=1)
    order = np.argsort(-right, kind="stable")
    with_text = {pool.problem_ids[pool.problem[row]] for row in order[np.linspace(0, pool.rows - 1, _TEXTS).round().astype(int)]}
    first = min(pool.size, max(_SAMPLES, _NUMBERS // max(pool.rows, 1)))
    samples, rules = _samples(path, with_text, first), _stops(pool, calibration, shown)
    found = []
    for row in order:
        name = pool.problem_ids[pool.problem[row]]
        problem = problems.get(name)
        found.append(
            {
                "id": name,
                "level": problem.level if problem else "",
                "question": problem.question[:_LETTERS] if problem and name in with_text else None,
                "gold": problem.answer if problem else "",
                "right": round(float(right[row]), 4),
                "tokens": int(pool.completion_tokens[row].sum()),
                **{key: samples[name][key] for key in ("answers", "samples", "texts")},
                "stops": [
                    {
                        "rule": rule,
                        "drawn": int(outcomes.drawn[row]),
                        "chosen": int(outcomes.column[row]),
                        "answer": samples[name]["all"][outcomes.column[row]] if outcomes.column[row] >= 0 else None,
                        "correct": bool(outcomes.correct[row]),
                        "reason": str(list(Reason)[outcomes.reason[row]]),
                    }
                    for rule, outcomes in rules.items()
                ],
            }
        )
    return {"benchmark": benchmark, "questions": found, "with_text": len(with_text), "samples": pool.size}


def _stops(pool: Any, calibration: Mapping[str, Any] | None, shown: pd.DataFrame) -> dict[str, Outcomes]:
    """What each rule did in the order of submission."""
    if calibration is None:
        return {}
    wanted = {(row["method"], row["budget"]) for row in shown.to_dict("records")}
    policies = [(name, p) for name, p in frozen_policies(dict(calibration)) if (name, p.limit) in wanted]
    usable = [(n, p) for n, p in policies if p.unit is Unit.SAMPLE and p.limit <= pool.size and not p.needs_features]
    scored = not np.isnan(pool.score).all()
    return {f"{n}, {p.limit}": replay(p, pool, orders=1) for n, p in usable if scored or not p.needs_scores}


def _samples(path: Path, with_text: set[str], first: int) -> dict[str, dict[str, Any]]:
    """The samples of each question in order, read block by block: numbers of the `first`, texts of some questions' first few.

    `all` holds the answers of all samples, which a rule may have chosen.
    """
    found: dict[str, dict[str, Any]] = {}
    for block in read_blocks(path, pa.schema([POOL.field(name) for name in _COLUMNS])):
        for row in block.sort_values(["problem_id", "sample"]).to_dict("records"):
            name, score, answer = row["problem_id"], row["score_mean"], _shown(row["answer"])
            of = found.setdefault(name, {"answers": [], "samples": [], "texts": [], "all": []})
            of["all"].append(answer)
            if len(of["samples"]) < first:
                if answer is not None and answer not in of["answers"]:
                    of["answers"].append(answer)
                number = None if score is None or score != score else round(float(score), 3)
                place = -1 if answer is None else of["answers"].index(answer)
                of["samples"].append([place, int(row["verdict"] == Verdict.CORRECT), number, int(row["completion_tokens"])])
            if name in with_text and len(of["texts"]) < _SAMPLES:
                of["texts"].append((row["text"] or "")[:_LETTERS])
    return found


def _shown(answer: str | None) -> str | None:
    return None if answer is None or answer != answer else answer[:_ANSWER]
