"""What is wrong with a configuration is said in one sentence when it is read, before anything runs."""

from pathlib import Path

import pytest

from itscale.dag.checking import check
from itscale.dag.planning import read_configuration
from itscale.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config"
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"


def checked(tmp_path, overlay, *files):
    (tmp_path / "mine.yaml").write_text(overlay)
    return check(read_configuration([CONFIG / "config.yaml", *(CONFIG / f for f in files), tmp_path / "mine.yaml"]), SCHEMA)


@pytest.mark.parametrize("files", [(), ("test.yaml",), ("paper.yaml",), ("official_pools.yaml",), ("paper.yaml", "one_gpu.yaml")])
def test_the_configurations_of_the_repository_are_right(tmp_path, files):
    assert len(checked(tmp_path, "{}", *files)) > 10


@pytest.mark.parametrize(
    ("overlay", "said"),
    [
        ("samplign: {temperature: 1.0}", "samplign is no key of the configuration: did you mean 'sampling'?"),
        ("compare: {order: 3}", "compare.order is no key of the configuration: did you mean 'orders'?"),
        ("compare: {orders: many}", "compare.orders in the configuration is 'many': give a whole number."),
        ("grading: {answer: boxes}", "grading in the configuration: there is no answer format 'boxes': choose among auto, boxed"),
        ("pools: {test: {grading: {answer: 'regex:('}}}", "pools.test.grading in the configuration: the answer format 'regex:('"),
        ("toy_task: {models: nowhere}", "'nowhere', and there is no language_model/model.safetensors in it: give shipped, or"),
        ("seed: -1", "seed in the configuration is -1: give at least 0."),
        ("engine: {name: vlm}", "engine.name in the configuration is 'vlm': choose auto, transformers, vllm"),
        ("predictor: {dropout: [1.5]}", "predictor.dropout.0 in the configuration is 1.5: give less than 1."),
        (
            "testtime: {settings: {rowsperpass: 4}}",
            "testtime.settings.rowsperpass is no key of the configuration: did you mean 'rows_per_pass'?",
        ),
        (
            "testtime: {runs: {optpo: {optimizer: sgd}}}",
            "testtime.runs.optpo.optimizer in the configuration is 'sgd': choose adamw, adamw_8bit.",
        ),
        (
            "testtime: {runs: {optpo: {lora: {rank: 0}}}}",
            "testtime.runs.optpo.lora.rank in the configuration is 0: give at least 1.",
        ),
        ("methods: {reservation: null}", "policy 'reservation' is now called 'pandora': rename it."),
        (
            "methods: {ascc: null}",
            "methods.ascc in the configuration is null, to leave the method out: there is no policy 'ascc'",
        ),
        ("live: {methods: [gate]}", "policy 'gate' is now called 'markovscale_gate': rename it."),
        ("methods: {mine: {policy: strek}}", "methods.mine in the configuration: there is no policy 'strek': choose one of"),
        (
            "methods: {vote_lead: {settings: {led: 3}}}",
            "policy 'vote_lead' has no setting 'led'",
        ),
        (
            "methods: {vote_lead: {grid: {leed: [3]}}}",
            "policy 'vote_lead' has no setting 'leed'",
        ),
        (
            "live: {methods: [vote_leed]}",
            "names 'vote_leed', which is not among methods: did you mean 'vote_lead'?",
        ),
        (
            "testtime: {runs: {optpo: {vote: {policy: posterior}}}}",
            "testtime.runs.optpo.vote in the configuration: there is no",
        ),
        ("pools: {Test: {parallel: {samples: 1, shards: 1}}}", "pools.Test cannot be a name in the configuration"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, overlay, said):
    with pytest.raises(UserError) as caught:
        checked(tmp_path, overlay)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_section_that_is_missing_is_named(tmp_path):
    config = read_configuration([CONFIG / "config.yaml"])
    del config["live"]
    with pytest.raises(UserError, match=r"^the configuration lacks live: add it\.$"):
        check(config, SCHEMA)
