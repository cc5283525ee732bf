"""The completion pools that OptScale's authors released, beside their prompt files, as the tables of this project.

A pool is a JSON list with an entry a question: {score: {completions: [[str] * n], scores: [[number] * n], last_scores,
completion_tokens: [[int] * n], problem}}, aligned with the prompt file by position. What the released readers tolerate is
tolerated (further keys, `problem` or `question`, no last scores, blank completions, which never count as answers); what
would silently misalign a pool is refused.
"""

import gzip
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from itscale.data.records import SAMPLES, SCORES, Problem, Unit, sort_by_key
from itscale.errors import UserError
from itscale.sources.samples import Imported

# Names of `itscale import --format`: a pool does not say itself whether its completions are samples or rounds.
FORMATS = {"optscale": Unit.SAMPLE, "optscale-rounds": Unit.ROUND}


def released(files: Sequence[Path], prompts: Path | None, form: str) -> Imported:
    """One released pool with its prompt file, as samples of anybody.

    Raises:
        UserError: several files or no prompts; or as `import_official`.
    """
    if len(files) > 1 or prompts is None:
        raise UserError(f"--format {form} reads one file with its prompt file: give that with --problems.")
    problems, samples, scores, _ = import_official(files[0], prompts, "q", FORMATS[form])
    return Imported(problems, samples, scores, answers=None, correct=None, counted=False, notes=(f"format {form}",))


def import_official(
    completions: Path, prompts: Path, label: str, unit: Unit, *, skip_bad: bool = False
) -> tuple[list[Problem], pd.DataFrame, pd.DataFrame, list[str]]:
    """Problems, samples (schema SAMPLES), scores (schema SCORES) and what was left out, of a released pool.

    Problems are numbered `label`-0000 and on by their position. Samples of a parallel pool are samples, of a sequential one
    the rounds of one chain. Token counts that the pool does not give (prompt, verifier) are 0.

    Raises:
        UserError: a file that is not such a list, another number of entries than prompts, and, unless `skip_bad`, an entry
            whose lists differ in length, that is without any completion, of another size than the first good one, about
            another question, or with a score that is no number within [0, 1]. The message names file and index.
    """
    entries, questions = _read_list(completions), _read_list(prompts)
    if len(entries) != len(questions):
        raise UserError(
            f"{completions} has {len(entries)} entries and {prompts} {len(questions)} prompts: they belong together by position, "
            "so give the prompt file of this pool."
        )
    found, rows, left_out, size = [], [], [], None
    for index, (entry, prompt) in enumerate(zip(entries, questions, strict=True)):
        try:
            problem = _problem(prompt, f"{label}-{index:04d}")
            samples = _samples(entry, problem.question)
            if size is not None and len(samples) != size:
                raise ValueError(f"has {len(samples)} completions where those before it have {size}")
        except ValueError as error:
            message = f"{completions}, entry {index} {error}"
            if not skip_bad:
                raise UserError(f"{message}: correct it, or leave such entries out (skip_bad).") from None
            left_out.append(message)
            continue
        size = len(samples)
        found.append(problem)
        rows += [(problem.problem_id, place, *sample) for place, sample in enumerate(samples)]
    if not found:
        raise UserError(f"{completions} has no entry that can be used (the first: {left_out[0] if left_out else 'none'}).")
    frame = pd.DataFrame(rows, columns=["problem_id", "place", "text", "completion_tokens", "score_mean", "score_last"])
    parallel = unit is Unit.SAMPLE
    frame = frame.assign(
        chain=0,
        round=0 if parallel else frame["place"],
        sample=frame["place"] if parallel else 0,
        seed=-1,
        finish_reason="unknown",
        prompt_tokens=0,
        cached_prompt_tokens=0,
        verifier_tokens=0,
    )
    frame = sort_by_key(frame)
    return found, frame[[name for name in SAMPLES.names if name in frame.columns]], frame[SCORES.names], left_out


def _read_list(path: Path) -> list[Any]:
    try:
        with gzip.open(path) if Path(path).suffix == ".gz" else open(path, "rb") as file:
            content = json.loads(file.read().decode("utf-8-sig"))
    except (EOFError, gzip.BadGzipFile):
        raise UserError(f"{path} cannot be unpacked (it is cut off, or no gzip): download it anew.") from None
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: give the file that was released.") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON (line {error.lineno}: {error.msg}): download it anew.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}): download it anew.") from None
    if not isinstance(content, list):
        raise UserError(f"{path} holds no list of entries: give a completion pool or prompt file as it was released.")
    return content


def _problem(prompt: Any, problem_id: str) -> Problem:
    if not isinstance(prompt, dict):
        raise ValueError("has a prompt that is no object")
    question = prompt.get("problem") or prompt.get("question")
    answer = prompt.get("answer")
    if not question or answer is None or not str(answer).strip():
        raise ValueError(f"has a prompt without {'an answer' if question else 'a problem or question'}")
    answer = str(answer).rpartition("####")[2].strip()  # GSM8K explains itself before these
    return Problem(problem_id, str(question).strip(), answer, str(prompt.get("level", "")))


def _samples(entry: Any, question: str) -> list[tuple[str, int, float, float]]:
    """(text, completion tokens, mean score, last score) of each completion; a ValueError says what is wrong."""
    score = entry.get("score") if isinstance(entry, dict) else None
    if not isinstance(score, dict):
        raise ValueError("has no object `score`")
    texts, scores, tokens = (_inner(score, name) for name in ("completions", "scores", "completion_tokens"))
    lengths = {"completions": len(texts), "scores": len(scores), "completion_tokens": len(tokens)}
    last = _inner(score, "last_scores") if score.get("last_scores") else None
    if last is not None:
        lengths["last_scores"] = len(last)
    if len(set(lengths.values())) > 1:
        raise ValueError("is misaligned (" + ", ".join(f"{n} {name}" for name, n in lengths.items()) + ")")
    if not any(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError("has no completion that is not empty")
    asked = score.get("problem")
    asked = asked[0] if isinstance(asked, list) and asked else asked
    if isinstance(asked, str) and asked.strip():
        one, two = ("".join(text.split()) for text in (asked, question))
        if one not in two and two not in one:
            raise ValueError("is about another question than the prompt at its position")
    samples = []
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"has a completion {place} that is no text")
        mean = _score(scores[place], f"score {place}")
        end = _score(last[place], f"last score {place}") if last is not None else math.nan
        count = tokens[place]
        if isinstance(count, bool) or not isinstance(count, int | float) or count < 0 or count % 1:
            raise ValueError(f"has completion tokens {place} that are no count ({count!r})")
        samples.append((text, int(count), mean, end))
    return samples


def _inner(score: dict[str, Any], name: str) -> list[Any]:
    """The list within the list: the pools hold one batch an entry."""
    outer = score.get(name)
    if not isinstance(outer, list) or len(outer) != 1 or not isinstance(outer[0], list):
        raise ValueError(f"has no list within a list `{name}`")
    return outer[0]


def _score(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"has a {name} that is no number ({value!r})")
    if not 0 <= value <= 1:
        raise ValueError(f"has a {name} outside 0 to 1 ({value:g})")
    return float(value)
