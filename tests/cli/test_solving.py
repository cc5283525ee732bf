"""`itscale solve` and `itscale advise`: as a user calls them, with a real Ctrl-C; and the study of live runs."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file
from stored import StoredScores, table_of
from test_live import TOY

import itscale
from itscale.cli.pools import generate
from itscale.cli.solving import accuracy, live
from itscale.cli.solving import solve as answering
from itscale.data.ledger import Ledger
from itscale.data.records import POOL, SAMPLES, Problem, read_json, read_table, write_json, write_problems, write_table
from itscale.drivers.assess import Assessment
from itscale.drivers.driver import Sample, Solved, right_answers
from itscale.drivers.live import solve
from itscale.drivers.replay import replay
from itscale.engines import EngineSettings, open_engine
from itscale.engines.protocol import Completion, Finish, Sampling
from itscale.engines.replaying import ReplayingEngine
from itscale.engines.transformers import TransformersEngine
from itscale.errors import UserError
from itscale.grading.comparison import Comparer
from itscale.grading.settings import Grading
from itscale.models import verifier
from itscale.models.verifier import Verifier as verifier_class
from itscale.policies import POLICIES, make_policy
from itscale.policies.calibration import Calibration, ScoreMap
from itscale.policies.frozen import known_to_json
from itscale.policies.optpo import VoteLead
from itscale.policies.protocol import Reason
from itscale.sources.samples import read_questions
from itscale.studies import live as live_study
from itscale.studies.advice import named_policy
from itscale.studies.live import Bench, arrival_bias, arrival_order, study
from itscale.testtime.rollouts import assess_votes
from itscale.toytask import language_model, reward_model
from pools import KNOWN, random_pool
from processes import Job
from processes import itscale as run

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "lm"
    language_model.train(folder, 0, TOY, set())
    return folder


def questions(path, count=6, **more):
    rows = [{"question": f"{10 + i}+{i}", **more} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def solving(model, tmp_path, out, count=6, n=6, batch=8):
    given = ["--model", model, "--policy", "self_consistency", "--set", f"n={n}", "--out", tmp_path / out]
    given += ["--engine", json.dumps({"name": "transformers", "batch_size": batch})]
    asked = questions(tmp_path / "my.jsonl", count, answer="15")
    return ["solve", *given, "--temperature", 0.5, "--max-tokens", 40, "--problems", asked]


def test_solve_answers_and_says_what_it_saved(model, tmp_path):
    done = run(tmp_path, *solving(model, tmp_path, "a.jsonl"))
    assert done.code == 0, done.said
    assert "completion tokens drawn" in done.said and "saved" in done.said and "accuracy" in done.said
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["problem_id"] for row in rows] == [f"q{i:04d}" for i in range(6)]
    assert all(len(row["samples"]) == 6 for row in rows)


def test_the_models_own_confidence_takes_the_place_of_a_reward_model(model, tmp_path):
    known = known_to_json(Calibration(score_map=ScoreMap(np.array([-2.0, 0.0]), np.array([0.2, 0.9]))))
    entry = {"method": "Score threshold", "slug": "score_threshold", "policy": "score_threshold"}
    entry |= {"settings": {"n_max": 4}, "hyperparameters": {"s_min": 0.45}}
    write_json(tmp_path / "calibration.json", {"verifier": "logprob_mean", "known": known, "methods": [entry]})
    asked = ["--model", model, "--problems", questions(tmp_path / "my.jsonl"), "--max-tokens", 40]
    asked += ["--engine", json.dumps({"name": "transformers"}), "--allow-unanswered"]
    for name, options in {
        "mapped": ["--policy", "score_threshold", "--calibration", tmp_path / "calibration.json"],
        "raw": ["--policy", "score_threshold", "--set", "s_min=-1.2857", "--set", "n_max=4", "--confidence", "logprob_mean"],
    }.items():
        done = run(tmp_path, "solve", *asked, *options, "--out", tmp_path / f"{name}.jsonl")
        assert done.code == 0, done.said
        assert read_json(tmp_path / f"{name}.json")["scored_with"]["confidence"] == "logprob_mean"
    rows = {
        name: [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()] for name in ("mapped", "raw")
    }
    for mapped, raw in zip(rows["mapped"], rows["raw"], strict=True):  # 0.45 is what -1.2857 is mapped to
        assert [s["text"] for s in mapped["samples"]] == [s["text"] for s in raw["samples"]]
        scores = [[s["score"] for s in row["samples"]] for row in (mapped, raw)]
        assert scores[0] == pytest.approx([max(0.2, 0.9 + 0.35 * score) for score in scores[1]]) and all(s < 0 for s in scores[1])


def test_ctrl_c_ends_cleanly_and_the_same_command_continues(model, tmp_path):
    assert run(tmp_path, *solving(model, tmp_path, "a.jsonl", 8, 8, 2)).code == 0
    partial = tmp_path / "b.jsonl.partial"
    job = Job(tmp_path, *solving(model, tmp_path, "b.jsonl", 8, 8, 2))
    while job.alive and not (partial.exists() and partial.read_bytes().count(b'"completion"') >= 4):
        time.sleep(0.005)
    job.interrupt()
    done = job.end()
    assert done.code == 130, done.said
    assert "the same command continues" in done.said and "Traceback" not in done.said
    kept = [json.loads(line) for line in partial.read_text().splitlines()]
    finished = sum("completion" in row for row in kept)
    assert 0 < finished < 64
    assert run(tmp_path, *solving(model, tmp_path, "b.jsonl", 8, 8, 2)).code == 0
    assert not partial.exists()
    # All is as without the interruption, and what it cut short, as the journal says, is paid.
    expected = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    for row in kept:
        for kind, tokens in row.get("cut", {}).items():
            expected[row["row"]]["tokens"][kind] += tokens
    assert [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()] == expected


def test_a_second_call_says_that_it_is_done_and_another_run_is_not_overwritten(model, tmp_path):
    command = solving(model, tmp_path, "a.jsonl", 2, 2)
    first = run(tmp_path, *command)
    assert first.code == 0, first.said
    answers, record = (tmp_path / "a.jsonl").read_bytes(), read_json(tmp_path / "a.json")
    assert record["tokens"]["completion"] > 0 and record["failed"] == 0
    again = run(tmp_path, *command)
    assert again.code == 0 and "holds the answers of this very run, which is done" in again.said
    other = run(tmp_path, *solving(model, tmp_path, "a.jsonl", 2, 3))
    assert other.code == 1 and "is there already and does not hold the answers of this run" in other.said
    assert (tmp_path / "a.jsonl").read_bytes() == answers


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--policy", "best_of_n"], "give the folder of a process reward model with --verifier"),
        (["--policy", "markovscale_gate"], "give --calibration"),
        (
            ["--policy", "optscale_paper", "--confidence", "logprob_mean"],
            "which logprob_mean as it stands is not: give a --calib",
        ),
        (["--policy", "cisc", "--confidence", "conf"], "there is no confidence 'conf': choose among logprob_mean"),
        (["--policy", "cisc", "--confidence", "conf_min", "--verifier", "prm"], "--verifier and --confidence are both given"),
        (["--policy", "nonsense"], "there is no policy 'nonsense'"),
        (["--policy", "vote_lead", "--set", "leed=2"], "no setting 'leed'"),
        (["--policy", "vote_lead", "--set", "lead"], "--set lead is no KEY=VALUE: write --set lead=3."),
        (["--policy", "vote_lead", "--set", "lead=2", "--set", "lead=3"], "--set lead is given twice"),
    ],
)
def test_a_wrong_call_is_said_before_anything_is_drawn(arguments, said, tmp_path):
    given = ["--model", tmp_path / "nowhere" / "lm", "--problems", questions(tmp_path / "my.jsonl"), *arguments]
    done = run(tmp_path, "solve", *given)
    assert done.code == 1
    assert said in done.said and len(done.said.strip().splitlines()) == 1


def test_questions_are_read_with_what_they_have(tmp_path):
    (tmp_path / "q.jsonl").write_text(
        '{"question": "1+1", "answer": 2, "problem_id": "x"}\n{"question": "2+2", "problem_id": "y"}\n'
    )
    assert read_questions(tmp_path / "q.jsonl") == [Problem("x", "1+1", "2"), Problem("y", "2+2", "")]
    (tmp_path / "bad.jsonl").write_text('{"question": "1+1"}\n{"question": " "}\n')
    with pytest.raises(UserError, match="row 2 has no question"):
        read_questions(tmp_path / "bad.jsonl")


ROOT = Path(__file__).parents[2]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.S)


@pytest.fixture(scope="module")
def desk(model, tmp_path_factory):
    """A folder with what the examples on the pages find after a run of the workflow."""
    folder = tmp_path_factory.mktemp("desk")
    models = folder / "results" / "models"
    shutil.copytree(model, models / "language_model")
    reward_model.train(models / "reward_model", model, None, [], 0, reward_model.RewardModelSettings(2, 4, 8), set())
    pool = random_pool(1, rows=12, size=16)
    table = table_of(pool).assign(seed=0, answer=None, cluster=pool.cluster.ravel(), verdict="wrong")
    table["verdict"] = np.where(pool.correct.ravel(), "correct", "wrong")
    write_table(folder / "results" / "pools" / "calibration" / "parallel" / "pool.parquet", table, POOL)
    return folder


def as_written(command, folder):
    """A command of a page, its words as a shell reads them."""
    program, *words = shlex.split(command, comments=True)
    assert program == "itscale" and not set("|<>;&$`*").intersection("".join(words))
    done = run(folder, *words, where=folder)
    assert done.code == 0, done.said
    return done.said


def test_the_first_page_runs_as_written(tmp_path):
    rows = [
        {"problem_id": f"q{i}", "gold": "4", "text": f"The answer is {4 + (i + j) % 3 // 2}."}
        for i in range(12)
        for j in range(16)
    ]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [line for block in blocks("README.md", "bash") for line in block.splitlines()]
    commands = [line for line in lines if line.startswith(("itscale import", "itscale advise"))]
    assert len(commands) == 4
    for command in commands:
        assert "next: itscale solve" in as_written(command, tmp_path) or "advise" not in command
    (loop,) = blocks("README.md", "python")
    names = {"question": "2+2", "draw": lambda question: ("The answer is 4.", 5), "extract": lambda text: text.split()[-1]}
    exec(loop, names)
    assert names["stop"].answer == "4." and names["stop"].reason


@pytest.mark.parametrize("page", ["docs/live.md"])
def test_the_examples_run_as_written(page, desk):
    (desk / "my.jsonl").write_text('{"question": "12+3*4", "answer": "60"}\n')
    commands = [
        line
        for block in blocks(page, "bash")
        for line in block.splitlines()
        if line.startswith(("itscale solve", "itscale advise")) and "http://" not in line
    ]
    assert len(commands) >= 2
    for command in commands:
        for old in desk.glob("answers.json*"):  # of another example, which is not overwritten
            old.unlink()
        assert "tokens" in as_written(command, desk)
    (script,) = (block for block in blocks(page, "python") if "open_engine" in block)
    assert len([line for line in script.splitlines() if line.strip()]) <= 5
    done = subprocess.run([sys.executable, "-c", script], cwd=desk, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "saved" in done.stdout and "q0000" in done.stdout


def test_importing_the_package_is_light_and_its_names_are_there():
    code = "import sys, itscale; assert not {'torch', 'numpy', 'pandas'} & set(sys.modules); print(itscale.make_policy)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=300).returncode == 0
    assert dir(itscale) == itscale.__all__
    for name in itscale.__all__:
        assert getattr(itscale, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        itscale.nothing  # noqa: B018


def test_usual_settings_make_policies():
    assert named_policy("optscale_paper", {"n_max": 8}, None).limit == 8
    for slug, rule in POLICIES.items():
        if slug == "dsc_oracle":  # which no live run can ask for
            continue
        with pytest.raises(UserError, match="give --calibration") if rule.calibrated else nullcontext():
            named_policy(slug, {}, None)


def test_a_calibrated_method_is_taken_with_its_hyperparameters_at_its_largest_budget():
    methods = [
        {"method": "votes", "slug": "votes", "policy": "vote_lead", "settings": {"n_max": n}, "hyperparameters": {"lead": lead}}
        for n, lead in ((8, 2), (16, 5))
    ]
    record = {"known": known_to_json(KNOWN), "methods": methods}
    assert named_policy("votes", {}, record) == make_policy("vote_lead", n_max=16, lead=5)
    assert named_policy("vote_lead", {"n_max": 8}, record) == make_policy("vote_lead", n_max=8, lead=2)
    assert named_policy("OptPO vote lead", {}, record) == make_policy("vote_lead", n_max=16, lead=5)
    with pytest.raises(UserError, match="no method 'markovscale_gate'"):
        named_policy("markovscale_gate", {}, record)


def test_arrival_order_is_that_of_an_engine_with_so_many_slots():
    tokens = np.array([5, 1, 4, 1, 3])
    assert arrival_order(tokens, 1).tolist() == [0, 1, 2, 3, 4]
    assert arrival_order(tokens, 5).tolist() == [1, 3, 4, 2, 0]
    assert arrival_order(tokens, 2).tolist() == [1, 0, 2, 3, 4]  # 1 at 1, 0 and 2 at 5, then 3 at 6 and 4 at 8


def test_deciding_by_arrival_favours_what_is_short():
    pool = random_pool(5, rows=40, size=16)
    pool = replace(pool, completion_tokens=np.where(pool.correct, 40, 10))  # wrong answers are short here
    table = arrival_bias(pool, [("votes", make_policy("vote_lead", lead=2, n_max=16))], slots=16, orders=5, seed=0)
    assert table["accuracy_difference_high"][0] < 0
    assert table["tokens_per_sample_arrival"][0] < table["tokens_per_sample_submission"][0]
    same = replace(pool, completion_tokens=np.full((40, 16), 7))
    level = arrival_bias(same, [("votes", make_policy("vote_lead", lead=2, n_max=16))], slots=16, orders=5, seed=0)
    assert level["accuracy_difference"][0] == 0


class Arrays(VoteLead):
    """A policy without a hash, as those are that a calibration has given arrays."""

    __hash__ = None


def test_a_study_compares_each_method_with_its_fixed_budget():
    pool = random_pool(6, rows=12, size=16)
    table = table_of(pool)
    problems = [Problem(i, f"question {i}", "0") for i in pool.problem_ids]
    policies = [
        ("votes", make_policy("vote_lead", lead=2, n_max=16)),
        ("threshold", make_policy("score_threshold", s_min=0.6, n_max=16)),
        ("arrays", Arrays(lead=3, n_max=16)),
    ]
    bench = Bench(ReplayingEngine(table, 12), Sampling(), StoredScores(table))
    found = study(problems, policies, bench, "stored")
    assert found["method"].tolist() == ["self-consistency", "votes", "best-of-N", "threshold", "arrays"]
    whole = pool.completion_tokens.sum() / 12
    assert found["tokens_drawn"][0] == pytest.approx(whole)
    assert found["token_saving"][1] == pytest.approx(1 - found["tokens_drawn"][1] / whole)
    assert (found["token_saving_low"] <= found["token_saving"]).all()
    used = replay(policies[0][1], pool, orders=1).drawn.mean()
    assert found["samples_drawn"][1] == pytest.approx(used)
    # Paired differences on the same samples, and two readings of the clock, one a half of the problems.
    replayed = [replay(p, pool, orders=1).correct for p in (policies[0][1], make_policy("self_consistency", n=16))]
    assert found["accuracy_difference"][1] == pytest.approx(replayed[0].mean() - replayed[1].mean())
    assert (found["accuracy_difference_low"] <= found["accuracy_difference"]).all()
    assert found["accuracy_difference"][0] == found["wall_saving_low"][0] == found["wall_saving_high"][0] == 0
    assert (found["wall_saving_low"] <= found["wall_saving"] + 1e-9).all()
    assert (found["wall_saving"] <= found["wall_saving_high"] + 1e-9).all()
    assert (found["problems"] == 12).all()


def test_the_study_draws_and_scores_as_the_configuration_says(desk, monkeypatch):
    """The generator's engine settings and the verifier's reach a real run; the study sets the engine's name and its slots."""
    opened, loaded = [], []
    monkeypatch.setattr(live_study, "open_engine", lambda settings: opened.append(settings) or open_engine(settings))
    monkeypatch.setattr(verifier, "Verifier", lambda *given: loaded.append(given) or verifier_class(*given))
    models, out = desk / "results" / "models", desk / "study"
    pool = desk / "results" / "pools" / "calibration" / "parallel" / "pool.parquet"
    write_problems(out / "problems.parquet", [Problem(f"p{i}", f"{10 + i}+{i}", "15") for i in range(2)])
    methods = [
        {
            "method": "score threshold",
            "slug": "score_threshold",
            "policy": "score_threshold",
            "settings": {"n_max": 2},
            "hyperparameters": {"s_min": 0.9},
        },
        {"method": "ASC", "slug": "asc", "policy": "asc", "settings": {"n_max": 2}, "hyperparameters": {}},
    ]
    write_json(out / "calibration.json", {"known": known_to_json(KNOWN), "methods": methods})
    options = {
        "engines": ["transformers"],
        "methods": ["score_threshold"],
        "problems": 2,
        "budget": 2,
        "batch_size": 4,
        "prefetch": 0,
        "gpu_memory": 0.5,
    }
    engine = {"name": "auto", "batch_size": 384, "instruction": "\nBox it.", "max_model_len": 200, "tensor_parallel": 2}
    live(
        model=models / "language_model",
        verifier=models / "reward_model",
        problems=out / "problems.parquet",
        calibration=out / "calibration.json",
        pool=pool,
        options=json.dumps(options),
        sampling=json.dumps({"max_tokens": 8}),
        engine=json.dumps(engine),
        scoring=json.dumps({"batch_size": 3, "step_break": "\n\n"}),
        seed=0,
        out=out,
    )
    settings = {**engine, "name": "transformers", "batch_size": 4, "gpu_memory": 0.5, "model": str(models / "language_model")}
    assert opened == [EngineSettings(**settings)]
    assert loaded == [(models / "reward_model", 3, "\n\n")]
    # ASC is not among the methods that run live, and is shown in order of arrival all the same.
    assert "ASC" not in pd.read_csv(out / "live.csv")["method"].tolist()
    assert pd.read_csv(out / "arrival.csv")["method"].tolist() == ["score threshold", "ASC"]


def test_an_answer_is_right_if_its_own_text_is():
    """As in a pool that is graded: whatever else is in its cluster, and in whatever order."""
    answers = {"a": ["0.33", "1/3", "1/3"], "b": ["1/3", "0.33", None], "c": [None, "2", "1/3"]}
    clusters = {"a": [0, 1, 1], "b": [0, 1, -1], "c": [-1, 0, 1]}
    rows = []
    for name, column in (("a", 1), ("b", 1), ("b", -1), ("c", 1), ("c", 2)):
        assessments = [Assessment(a, c, np.nan, np.nan, 0) for a, c in zip(answers[name], clusters[name], strict=True)]
        done = Completion("", (), "", Finish.STOP, 1, 0, counted=1)
        samples = tuple(Sample(done, assessment) for assessment in assessments)
        rows.append(Solved(Problem(name, "?", "\\frac{1}{3}"), 0, samples, column, Reason.FIXED, 0, 0, Ledger()))
    with Comparer() as comparer:
        assert right_answers(rows, comparer) == [True, False, False, False, True]
        found = [vote.correct.tolist() for vote in assess_votes(rows[:2], comparer, None)]
    assert found == [[False, True, True], [True, False, False]]
    assert accuracy([rows[0], rows[3]], Grading()).startswith("accuracy 50.0 %")


def test_no_run_of_a_study_finds_what_another_left(monkeypatch):
    known, dropped = [], []

    def run(*given, comparer, **options):
        known.append(len(comparer._readings))
        return solve(*given, comparer=comparer, **options)

    class Caching(ReplayingEngine):
        def drop_caches(self):
            dropped.append(self.outstanding)

    monkeypatch.setattr(live_study, "solve", run)
    table = table_of(random_pool(6, rows=4, size=8))
    problems = [Problem(f"p{i}", f"question {i}", "0") for i in range(4)]
    bench = Bench(Caching(table, 12), Sampling(), None)
    study(problems, [("votes", make_policy("vote_lead", lead=2, n_max=8))], bench, "stored")
    assert known == dropped == [0] * 5  # the first warms the engine up; then each rule on each half of the problems


class Killed(Exception):
    pass


def begin(command, other, monkeypatch):
    """Kill a job after two polls, and see that it does not continue as another."""
    original, left = TransformersEngine.poll, iter(range(2))

    def poll(self):
        if next(left, None) is None:
            raise Killed
        return original(self)

    with monkeypatch.context() as patched:
        patched.setattr(TransformersEngine, "poll", poll)
        with pytest.raises(Killed):
            command()
    for changed in other:
        with pytest.raises(UserError, match="begun with other settings, model or problems"):
            changed()


@pytest.fixture
def twins(model, tmp_path):
    """A model folder, and what puts other weights of the same shape into it and takes them out again."""
    folder = tmp_path / "lm"
    shutil.copytree(model, folder)
    file = folder / "model.safetensors"
    before = file.read_bytes()
    return folder, lambda: save_file({k: 2 * v for k, v in load_file(file).items()}, file, {"format": "pt"}), before, file


def test_a_pool_is_not_continued_by_another_sampler(twins, tmp_path, monkeypatch):
    folder, retrain, before, file = twins
    write_problems(tmp_path / "problems.parquet", [Problem(f"p{i}", f"{10 + i}+{i}", "15") for i in range(4)])
    out = tmp_path / "samples.parquet"

    def draw(batch_size=4, **engine):
        plan = json.dumps({"kind": "parallel", "samples": 4, "sampling": {"max_tokens": 20}})
        settings = json.dumps({"name": "transformers", "batch_size": batch_size, **engine})
        generate(plan, str(folder), tmp_path / "problems.parquet", out, 0, settings)

    begin(draw, [lambda: draw(instruction=" Why?"), lambda: (retrain(), draw())], monkeypatch)
    file.write_bytes(before)
    draw(batch_size=3)  # how fast it goes changes no sample
    table, manifest = read_table(out, SAMPLES), read_json(out.with_suffix(".json"))
    assert len(table) == 16
    assert manifest["usage"]["completion"] == table["completion_tokens"].sum()
    assert manifest["usage"]["prompt"] == table["prompt_tokens"].sum()


def test_a_run_is_not_continued_by_another_sampler(twins, tmp_path, monkeypatch):
    folder, retrain, before, file = twins
    asked = questions(tmp_path / "my.jsonl", 4)

    def answer(batch_size=4, **engine):
        given = json.dumps({"name": "transformers", "batch_size": batch_size, **engine})
        sampling = json.dumps({"max_tokens": 20})
        options = {"settings": ["n=4"], "engine": given, "sampling": sampling, "out": tmp_path / "a.jsonl"}
        answering(str(folder), "self_consistency", asked, **options)

    begin(answer, [lambda: answer(instruction=" Why?"), lambda: (retrain(), answer())], monkeypatch)
    file.write_bytes(before)
    answer(batch_size=3)
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 4
