"""What follows from the parts of a configuration that stand for each other: budget forcing, and a model that is asked itself."""

import json
from pathlib import Path

import pytest

from itscale.dag.choices import Choices, asked_option, drawing_plan, read_choices
from itscale.dag.planning import pool_costs, read_configuration
from itscale.errors import UserError

CONFIG = Path(__file__).resolve().parents[2] / "config"
FORCING, LAPTOP = "budget_forcing.yaml", "laptop.yaml"


def choices(*files, **changed) -> Choices:
    return read_choices(read_configuration([CONFIG / name for name in ("config.yaml", *files)]) | changed)


def test_budget_forcing_draws_chains_alone_and_writes_within_the_run_that_it_stands_beside():
    toy, real = choices(FORCING), choices(LAPTOP, FORCING)
    assert (toy.beside, toy.results) == ("results", "results/budget_forcing")
    assert (real.beside, real.results) == (choices(LAPTOP).results, f"{choices(LAPTOP).results}/budget_forcing")
    assert (toy.engine["wait"], "wait" in real.engine, "wait" in choices().engine) == ("\n", False, False)
    assert toy.kinds == real.kinds == ("chain",) and not real.predicts and choices().kinds == ("parallel", "chain")
    drawn = {(cost.benchmark, cost.kind): cost.samples for cost in pool_costs(real.config)}
    questions = {name: real.config["datasets"][name]["questions"] for name in ("gsm8k", "calibration")}
    assert drawn == {(name, "chain"): 2 * 4 * count for name, count in questions.items()}


def test_a_model_that_is_asked_scores_in_the_place_of_a_verifier():
    asked = choices(LAPTOP, verifier={"confidence": "p_true", "batch_size": 8, "step_break": "\n"})
    assert (asked.verifiers, asked.confidence, asked.scored) == (("p_true",), None, True)
    assert asked.verifier == asked.generator and "confidence" not in json.loads(drawing_plan(asked, "gsm8k", "chain"))["sampling"]
    flag, engine = asked_option(asked)
    assert flag == "--p-true" and json.loads(engine.removeprefix("--engine="))["instruction"] == asked.engine["instruction"]
    assert all(cost.scoring_gpu_hours > 0 for cost in pool_costs(asked.config))
    own = choices(LAPTOP)
    assert (own.confidence, asked_option(own)) == ("logprob_mean", [])
    assert all(cost.scoring_gpu_hours == 0 for cost in pool_costs(own.config))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((), "the toy task's knows no words here"),
        (("own_server.yaml",), "a server draws"),
        (("own_samples.yaml",), "nothing draws"),
    ],
)
def test_who_cannot_be_asked_is_said(files, said):
    with pytest.raises(UserError, match=f"verifier.confidence is p_true, for which a model in a folder is asked, and {said}"):
        choices(*files, verifier={"confidence": "p_true"})
