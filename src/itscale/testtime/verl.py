"""Votes as rewards for verl, by its documented signatures; verl itself is not needed here (docs/training.md).

`compute_score` has the signature of verl's default reward managers, which see one response at a time: it pays the gold answer.
`compute_scores` has that of the batch reward manager, which sees a whole step: it pays the vote. Its lists may be numpy arrays.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from itscale.data.records import Problem, Verdict, atomic_file
from itscale.drivers.stopper import Stopper
from itscale.errors import UserError
from itscale.grading.clusters import clusters_of
from itscale.grading.comparison import Comparer
from itscale.grading.settings import Grading
from itscale.models.prompts import PLAIN, PromptSettings, message
from itscale.policies.protocol import Reason

# The split whose rows are paid by the vote; rows of any other are paid by their gold answer.
TRAIN = "train"
_TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
ROWS = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", pa.list_(_TURN)),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        (
            "extra_info",
            pa.struct(
                [("split", pa.string()), ("index", pa.int64()), ("question", pa.string()), ("also", pa.list_(pa.string()))],
            ),
        ),
    ]
)


def write_problems(
    path: Path | str,
    problems: Sequence[Problem],
    *,
    data_source: str,
    split: str = TRAIN,
    ability: str = "math",
    prompt: PromptSettings = PLAIN,
) -> None:
    """Problems as a Parquet file in verl's columns (`ROWS`); `extra_info` has what tells groups apart and answers equal.

    Args:
        split: `train` is paid by the vote, any other by the gold answers.
        prompt: what stands around the question; the chat template is verl's to apply.
    """
    system = [{"role": "system", "content": prompt.system_prompt}] if prompt.system_prompt else []
    rows = [
        {
            "data_source": data_source,
            "prompt": [*system, {"role": "user", "content": message(problem.question, None, prompt)}],
            "ability": ability,
            "reward_model": {"style": "rule", "ground_truth": problem.answer},
            "extra_info": {"split": split, "index": index, "question": problem.question, "also": list(problem.also)},
        }
        for index, problem in enumerate(problems)
    ]
    with atomic_file(Path(path)) as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=ROWS), file)


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str | None,
    extra_info: Mapping[str, Any] | None = None,
    *,
    grading: Grading | None = None,
    **_: Any,
) -> float:
    """1 if a response has the gold answer, else 0: one response alone has nobody to agree with."""
    del data_source
    grading = grading or Grading()
    with Comparer(grading) as comparer:
        return _gold(ground_truth, extra_info, [grading.extract(solution_str or "")], comparer)[0]


def compute_scores(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[str | None],
    extra_infos: Sequence[Mapping[str, Any] | None],
    *,
    group: int,
    rule: str = "asc",
    decided_only: bool = False,
    grading: Grading | None = None,
    **settings: Any,
) -> list[float]:
    """Rewards of a step: 1 for the answer that won its prompt's vote, else 0; other splits than `train` as in `compute_score`.

    A prompt's rows are found by source, split, index and question, wherever they stand. They vote in their order until the rule
    stops; all of them are paid by what won then, also those after the stop.

    Args:
        group: responses of a prompt, `actor_rollout_ref.rollout.n`.
        rule: a vote with a limit `n_max` that needs no calibration (`itscale policies`); `settings` are its own.
        decided_only: pay nothing where the vote ran to its end without the rule being sure.

    Raises:
        UserError: the lists differ in length, a row does not say which prompt it is of, a prompt has not `group` responses (a
            manager that hands over parts of a step cannot vote), or there is no such rule or setting.
    """
    rows = list(zip(data_sources, solution_strs, ground_truths, extra_infos, strict=False))
    if {len(data_sources), len(solution_strs), len(ground_truths), len(extra_infos)} != {len(rows)}:
        raise UserError(
            "data_sources, solution_strs, ground_truths and extra_infos differ in length: give one of each a response."
        )
    prompts: dict[tuple[str, ...], list[int]] = {}
    for i, (source, _, _, info) in enumerate(rows):
        prompts.setdefault(_prompt(i, source, info), []).append(i)
    grading = grading or Grading()
    answers = [grading.extract(text or "") for text in solution_strs]
    scores = [0.0] * len(rows)
    with Comparer(grading) as comparer:
        comparer.read(dict.fromkeys((_question(row[3]), a) for row, a in zip(rows, answers, strict=True) if a is not None), 0.0)
        for (source, split, index, question), members in prompts.items():
            own = [answers[i] for i in members]
            if split != TRAIN:
                # Repeated rows of one prompt have one gold answer.
                paid = _gold(rows[members[0]][2], rows[members[0]][3], own, comparer)
            elif len(members) != group:
                raise UserError(
                    f"prompt {index} of {source} has {len(members)} responses in this batch, not {group}: set group to "
                    "rollout.n, and use a reward manager that hands over whole steps."
                )
            else:
                paid = _voted(clusters_of(question, own, comparer), rule, decided_only, settings)
            for i, score in zip(members, paid, strict=True):
                scores[i] = score
    return scores


def _prompt(row: int, source: str, info: Mapping[str, Any] | None) -> tuple[str, str, str, str]:
    if info is None or info.get("index") is None or info.get("split") is None:
        raise UserError(f"row {row} has no extra_info.index or extra_info.split: write the Parquet file with `write_problems`.")
    return str(source), str(info["split"]), str(info["index"]), _question(info)


def _question(info: Mapping[str, Any] | None) -> str:
    return str((info or {}).get("question") or "")


def _voted(clusters: list[int], rule: str, decided_only: bool, settings: Mapping[str, Any]) -> list[float]:
    stop = Stopper(rule, n_max=len(clusters), **settings)
    for cluster in clusters:
        stop.add(cluster if cluster >= 0 else None)
    if stop.answer is None or (decided_only and stop.reason == str(Reason.LIMIT)):
        return [0.0] * len(clusters)
    return [float(cluster == stop.answer) for cluster in clusters]


def _gold(
    ground_truth: str | None, info: Mapping[str, Any] | None, answers: Sequence[str | None], comparer: Comparer
) -> list[float]:
    if not ground_truth:
        return [0.0] * len(answers)
    also = (info or {}).get("also")
    problem = Problem("", _question(info), str(ground_truth), also=() if also is None else tuple(map(str, also)))
    (verdicts,) = comparer.verdicts([(problem, answers)])
    return [float(verdict is Verdict.CORRECT) for verdict in verdicts]
