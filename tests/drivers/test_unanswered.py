"""Live runs whose samples have no answer are stopped and counted; an answer that is slow to read holds up its own row alone."""

import pandas as pd
import pytest

from itscale.data.records import Problem, Unit, make_pool
from itscale.drivers.assess import Assessor
from itscale.drivers.live import solve
from itscale.drivers.replay import replay
from itscale.engines.replaying import ReplayingEngine
from itscale.errors import UserError
from itscale.grading.clusters import grade_table
from itscale.grading.comparison import Comparer
from itscale.grading.settings import Grading
from itscale.policies import make_policy

COUNTS = ("prompt_tokens", "cached_prompt_tokens", "completion_tokens", "verifier_tokens")
HANGS = r"\boxed{\sum_{k=1}^{10^{9}} \lfloor \sin k \rfloor}"


def table(texts: list[str], finish: str = "stop", problems: int = 4) -> pd.DataFrame:
    rows = [
        {"problem_id": f"p{p}", "chain": 0, "round": 0, "sample": i, "text": text, "finish_reason": finish, "failure": None}
        for p in range(problems)
        for i, text in enumerate(texts)
    ]
    return pd.DataFrame(rows).assign(seed=-1, score_mean=0.5, score_last=0.5, **dict.fromkeys(COUNTS, 1))


def run(samples: pd.DataFrame, **options):
    problems = [Problem(f"p{p}", "q", "1") for p in range(4)]
    policy = make_policy("self_consistency", n=8)
    return solve(problems, ReplayingEngine(samples, 8), policy, shown=False, **options)


def test_a_run_without_answers_is_stopped_after_sixteen_samples(tmp_path):
    samples = table(["so it is 7"] * 8)
    with pytest.raises(UserError, match=r"16 of 16 samples have no answer.*--answer last_number reads 16 of them"):
        run(samples, prefetch=0, background=False, journal=tmp_path / "j")
    assert run(samples, allow_unanswered=True).unanswered == 32
    read = run(samples, grading=Grading(answer="last_number"))
    assert read.unanswered == 0 and set(read.answers.values()) == {"7"}
    half = run(table([r"\boxed{1}", "none"] * 4))
    assert half.unanswered == 16 and half.cut_off == 0


def test_samples_that_were_cut_off_are_counted_live_and_in_a_replay():
    samples = table([r"\boxed{1}"] * 8, finish="length")
    assert samples["finish_reason"].eq("length").all()
    graded = samples.merge(grade_table(samples, [Problem(f"p{p}", "q", "1") for p in range(4)]))
    outcomes = replay(make_policy("self_consistency", n=4), make_pool(graded, Unit.SAMPLE), orders=1)
    assert outcomes.unanswered.tolist() == outcomes.cut_off.tolist() == [4] * 4 and not outcomes.correct.any()


@pytest.mark.slow
def test_an_answer_that_is_slow_to_read_holds_up_its_own_row_alone():
    work = [
        (0, "q", [(r"\boxed{1}", "stop"), (HANGS, "stop"), (r"\boxed{2}", "stop")]),
        (1, "q", [(r"\boxed{\sqrt{4}}", "stop")] * 2),
    ]
    with Comparer(Grading(time_limit=30.0)) as comparer, Assessor(comparer, None) as assessor:
        comparer.start()
        slow, quick = assessor.submit(work).result()
        while not quick:  # until the second process is there
            slow, quick = assessor.submit([(0, "q", work[0][2][len(slow) :]), work[1]]).result()
        assert [a.cluster for a in quick] == [0, 0] and len(slow) <= 1
