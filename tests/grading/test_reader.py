"""The processes that read mathematics: what hangs, what a user's script and process may be, and what users see."""

import subprocess
import sys

import pytest

from itscale.data.records import Problem
from itscale.grading.comparison import Comparer
from itscale.grading.reader import Reader, Worker
from itscale.grading.readings import Expression, Text
from itscale.grading.settings import Grading

HANGS = r"\sum_{k=1}^{10^{9}} \lfloor \sin k \rfloor"  # a sum without a closed form
OTHERS = [rf"\sqrt{{{n}}}" for n in (2, 3, 5, 8)]


class Counted(Worker):
    ended = 0

    def close(self):
        type(self).ended += 1
        super().close()


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr("itscale.grading.reader.Worker", Counted)
    monkeypatch.setattr(Counted, "ended", 0)


def expressions(*latex: str) -> list[Expression]:
    return [Expression(text, (), text=text) for text in latex]


@pytest.mark.slow
def test_what_hangs_costs_one_process_and_is_remembered(counted):
    with Reader(2.0) as reader:
        (hanging,), others = expressions(HANGS), expressions(*OTHERS)
        found = reader.read([hanging, *others])
        assert found[hanging] == Text(HANGS, hangs=True) and not any(isinstance(found[e], Text) for e in others)
        assert reader.read([hanging]) == {hanging: Text(HANGS, hangs=True)}
        assert Counted.ended == 1


@pytest.mark.slow
def test_what_hangs_holds_nobody_else_up():
    with Reader(60.0) as reader:
        (hanging,), others = expressions(HANGS), expressions(*OTHERS)
        assert hanging not in reader.read([hanging], patience=0.0)
        assert len(reader.read(others)) == len(others)  # another process starts after a second
        assert hanging not in reader.read([hanging], patience=0.0)


@pytest.mark.slow
def test_an_answer_that_hangs_is_equal_to_its_own_text_alone():
    with Comparer(Grading(time_limit=1.0)) as comparer:
        problem = Problem("p", "q", "2")
        assert comparer.verdicts([(problem, [HANGS, "2.0", "3", None])]) == [["timeout", "correct", "wrong", "unanswered"]]
        assert comparer.verdicts([(Problem("p", "q", HANGS), [HANGS, "2"])]) == [["correct", "timeout"]]
        one, two, other = comparer.read([("q", HANGS), ("q", f" {HANGS}"), ("q", HANGS.replace("9", "8"))])
        assert one.key == two.key != other.key


@pytest.fixture(scope="module")
def impatient():
    with Comparer(Grading(time_limit=2.0)) as comparer:
        yield comparer


@pytest.mark.parametrize(
    "hostile",
    ["(" * 300 + ")" * 300, "1" * 900, r"\frac{" * 100, "x^" * 400, "{" * 900, r"\sqrt" * 150, "+1" * 450, "10^{10^{10}}!"],
)
def test_hostile_answers_are_never_right_and_never_fatal(impatient, hostile):
    ((verdict, right),) = impatient.verdicts([(Problem("p", "q", "2"), [hostile, "2.0"])])
    assert verdict in ("wrong", "timeout") and right == "correct"


SCRIPT = """
from itscale.data.records import Problem
from itscale.grading.comparison import Comparer
{before}
print("once")
with Comparer() as comparer:
    problem = Problem("p", "q", r"\\frac{{\\sqrt{{2}}}}{{2}}")
    print(*comparer.verdicts([(problem, [r"\\frac{{1}}{{\\sqrt{{2}}}}", "0.5", r"\\frac{{"])])[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "before", ["", "import mmap; mapped = mmap.mmap(-1, 50 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)"]
)
def test_a_script_without_a_main_guard_can_grade(tmp_path, before):
    """Nothing of the user's is imported again, a process that has mapped 50 GB can grade, and no warning reaches anybody."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(before=before))
    for name in ("json", "sympy", "worker"):  # files beside the script are not the worker's
        (tmp_path / f"{name}_.py").write_text("raise SystemExit('imported')")
    (tmp_path / "math_verify.py").write_text("raise SystemExit('imported')")
    (tmp_path / "latex2sympy2_extended.py").write_text("raise SystemExit('imported')")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.split() == ["once", "correct", "wrong", "wrong"] and not done.stderr


def test_a_worker_that_cannot_start_says_why(monkeypatch, tmp_path):
    (tmp_path / "sympy.py").write_text("raise ImportError('no sympy here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Reader(1.0) as reader, pytest.raises(RuntimeError, match="no sympy here"):
        reader.read(expressions("1+1"))
