"""Finding and comparing answers: texts of 1 MB, a pool of numbers, a pool of expressions, an answer that hangs among others.

Texts repeat what formats look for; the slowest format is shown. The pools are made up: 64 answers a question. All of it is
processor time, that of a grader's own processes and their start, the import of sympy, included.
"""

from harness import Measurement, Options, processor_seconds, run  # before pandas: it sets the number of threads

import random
import resource
from collections.abc import Callable
from functools import partial

import pandas as pd

from itscale.data.records import Problem
from itscale.grading.answers import FORMATS, extract_answer
from itscale.grading.clusters import grade_table
from itscale.grading.comparison import Comparer
from itscale.grading.settings import Grading

MEGABYTE = 1_000_000
HANGS = r"\sum_{k=1}^{10^{9}} \lfloor \sin k \rfloor"
TEXTS = {
    "unclosed boxes": "\\boxed{",
    "empty boxes": "\\boxed{}",
    "boxes in a list": "\\boxed{1}, ",
    "open braces": "{",
    "pairs of braces": "{}",
    "phrases": "the answer is ",
    "phrases that go on": "answer to ",
    "hashes": "####",
    "numbers": "1 ",
    "letters": "(A)",
    "JSON": '{"answer": ',
    "words": "so it goes on ",
    "unclosed brackets of boxes": "\\boxed[",
    "boxes without braces": "\\boxed\\a{}{}",
    "backslashes": "\\",
    "escaped braces": "\\{",
    "digits": "1",
    "lines of hashes": "####\n",
    "ends of thoughts": "</think>",
    "phrases that name nothing": "the answer is not ",
    "bold words": "**a**",
    "blank lines": "\n",
}
OTHERS = [rf"\sqrt{{{n}}}" for n in (2, 3, 5, 6, 7, 10)]


def pool(problems: list[Problem], answers: list[list[str]]) -> pd.DataFrame:
    rows = [
        (p.problem_id, 0, 0, i, f"So it is $\\boxed{{{a}}}$.", "stop")
        for p, own in zip(problems, answers, strict=True)
        for i, a in enumerate(own)
    ]
    return pd.DataFrame(rows, columns=["problem_id", "chain", "round", "sample", "text", "finish_reason"])


def expression(rng: random.Random) -> str:
    a, b, c, d = (rng.randint(2, 99) for _ in range(4))
    return rng.choice(
        [
            rf"\frac{{{a}\sqrt{{{b}}}+{c}}}{{{d}}}",
            rf"\frac{{{a}x^2+{b}x}}{{{c}y+{d}}}",
            rf"{a}\pi+{b}\sin\left(\frac{{{c}x}}{{{d}}}\right)",
            rf"(x+{a})^{{3}}-{b}xy+{c}e^{{-{d}t}}",
        ]
    )


def everybodys_seconds(function: Callable[[], object]) -> float:
    """Processor time of a call and of the processes that it started and ended."""

    def spent() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(each.ru_utime + each.ru_stime for each in used)

    before = spent()
    function()
    return spent() - before


def assess(problem: Problem, answers: list[str], limit: float) -> None:
    with Comparer(Grading(time_limit=limit)) as comparer:
        comparer.verdicts([(problem, answers)])


def measure(options: Options) -> list[Measurement]:
    found = []
    formats = [*FORMATS[:-2], r"regex:answer (\w+)", "json:answer"]
    for name, piece in TEXTS.items():
        text = piece * (MEGABYTE // len(piece))
        times = {
            form: min(processor_seconds(partial(extract_answer, text, form=form), repeats=1 if options.short else 5))
            for form in formats
        }
        slowest = max(times, key=times.get)
        found.append(Measurement(f"1 MB of {name}", 1000 * times[slowest], "ms", goal="at most 50", details={"format": slowest}))
    rng, count = random.Random(0), 20 if options.short else 1319
    problems = [Problem(f"p{i}", f"How many dollars has he after {i} days?", str(i)) for i in range(count)]
    numbers = pool(problems, [[str(p + rng.choice([0, 0, 0, 1, 2])) for _ in range(64)] for p in range(count)])
    spent = everybodys_seconds(partial(grade_table, numbers, problems))
    found.append(Measurement(f"{count:,} x 64 numbers", spent, "s", goal="at most 20"))
    few = [Problem(f"p{i}", "Simplify in $x$, $y$ and $t$.", expression(rng)) for i in range(4)]
    symbolic = pool(few, [[expression(rng) for _ in range(4 if options.short else 64)] for _ in few])
    spent = everybodys_seconds(partial(grade_table, symbolic, few))
    found.append(Measurement(f"{len(symbolic)} distinct expressions of 4 questions", spent, "s", goal="at most 15"))
    limit = 1.0 if options.short else 5.0
    alone = everybodys_seconds(partial(assess, problems[0], OTHERS, limit))
    spent = (everybodys_seconds(partial(assess, problems[0], [HANGS, *OTHERS], limit)) - alone) / limit
    found.append(Measurement("one answer of seven that hangs", spent, "limits", goal="at most 1.2"))
    return found


if __name__ == "__main__":
    run(__doc__, measure)
