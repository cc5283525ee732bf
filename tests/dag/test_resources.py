"""What follows from a configuration and what jobs ask for, against numbers worked out by hand."""

import json
import math

import pytest

from itscale.dag.choices import (
    Choices,
    dataset_source,
    drawing_plan,
    grading_options,
    kept_out,
    options_of,
    price_option,
    published_on,
    rate_settings,
    read_choices,
    said_of_shard,
    trained_runs,
)
from itscale.dag.resources import (
    cpus_beside,
    doubled,
    mb_to_run_live,
    mb_to_train,
    mb_to_train_predictor,
    minutes_at,
    minutes_to_copy,
    minutes_to_draw,
    minutes_to_grade,
    minutes_to_run_live,
    minutes_to_score,
    minutes_to_train,
    minutes_to_train_predictor,
    stated_tokens,
    text_mb,
)
from itscale.errors import UserError

CONFIG = {
    "results": "out",
    "seed": 5,
    "datasets": {
        "math": {"path": "p", "question": "q", "questions": 500, "answer_tokens": 3000},
        "gpqa": {"path": "g", "choices": ["b", "c", "d"], "questions": 198, "answer_tokens": 5000},
        "calibration": {"path": "c", "questions": 200, "answer_tokens": 3000},
        "predictor_train": {"path": "t"},
        "predictor_validation": {"path": "v"},
    },
    "models": {
        "generator": "big",
        "generators": {"big": {"path": "m", "tokens_per_second": 1000, "gpus": 2, "max_model_len": 4096}, "other": {"path": "o"}},
        "verifier": {"path": "r", "tokens_per_second": 10000},
    },
    "engine": {"name": "auto", "batch_size": 8},
    "sampling": {"temperature": 0.7, "top_p": 1.0},
    "grading": {"answer": "hash", "time_limit": 2.0},
    "predictor": {},
    "official": {},
    "imported": {},
    "verifier": {},
    "pools": {
        name: {"parallel": {"samples": 64, "shards": 4}, "chain": {"chains": 2, "rounds": 8, "shards": 1}, "grading": grading}
        for name, grading in {
            "math": {"read_cut_off": True},
            "gpqa": {"answer": "regex:a b", "read_cut_off": False},
            "calibration": {},
        }.items()
    },
    "compare": {"benchmarks": ["math", "gpqa"], "published": {"math": "MATH500"}},
    "markovscale": {"benchmarks": ["math"]},
    "testtime": {
        "trained": "gpqa",
        "untouched": "math",
        "settings": {"prompts": 8, "steps": 80, "learning_rate": 1e-6},
        "evaluation": {"samples": 16, "every": 10},
        "sampling": {"max_tokens": 4000},
        "runs": {
            "ttrl": {"vote": {"policy": "self_consistency", "n": 64}},
            "optpo": {"vote": {"n_max": 48}},
            "untrained": {"steps": 0},
        },
        "seeds": [1, 2],
        "default": ["optpo"],
        "baseline": "ttrl",
        "learning_rate_steps": 20,
    },
}


def changed(*path, value):
    """CONFIG with one value in place of another."""
    config = json.loads(json.dumps(CONFIG))
    inner = config
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return config


def test_what_nobody_sets_of_sampling_is_the_toy_tasks_own_and_sent_to_no_other_model():
    assert read_choices(changed("sampling", value={})).sampling == {}
    assert read_choices(changed("sampling", value={"top_k": 5})).sampling == {"top_k": 5}
    toy = Choices({"datasets": {}, "imported": {}, "sampling": {"top_p": 0.9}})
    assert toy.sampling == {"temperature": 1.0, "top_p": 0.9, "max_tokens": 96}


def test_models_and_engine_follow_from_the_generator():
    choices = read_choices(CONFIG)
    assert not choices.toy and choices.results == "out/big" and choices.gpus == 2
    assert choices.engine == {"name": "auto", "batch_size": 8, "max_model_len": 4096, "tensor_parallel": 2}
    assert read_choices(changed("engine", "name", value="transformers")).gpus == 0
    assert json.loads(drawing_plan(choices, "math", "chain")) == {
        "chains": 2,
        "rounds": 8,
        "shards": 1,
        "kind": "chain",
        "seed": 5,
        "sampling": {"temperature": 0.7, "top_p": 1.0},
        "answer": "hash",
        "read_cut_off": True,
    }
    assert grading_options(choices, "math") == ["--answer=hash", "--time-limit=2.0", "--read-cut-off"]
    assert grading_options(choices, "gpqa") == ["--answer=regex:a b", "--time-limit=2.0"]
    assert json.loads(dataset_source(choices, "math")) == {"path": "p", "question": "q"}
    assert options_of(choices, "gpqa") == ["--choices=4"] and options_of(choices, "math") == []
    assert published_on(choices, "math") == ["--published-on=MATH500"] and published_on(choices, "gpqa") == []
    assert rate_settings(choices, "1e-5") == {
        "prompts": 8,
        "steps": 20,
        "learning_rate": 1e-5,
        "vote": {"policy": "self_consistency", "n": 64},
    }


def test_training_keeps_clear_of_what_is_evaluated_and_of_the_training_before_it():
    choices = read_choices(CONFIG)
    assert kept_out(choices, "math") == []
    assert kept_out(choices, "calibration") == ["math", "gpqa"]
    assert kept_out(choices, "predictor_validation") == ["math", "gpqa", "calibration", "predictor_train"]
    with pytest.raises(UserError, match="'aime' is named in markovscale"):
        kept_out(choices, "aime")


def test_minutes_and_memory_by_hand():
    choices = read_choices(CONFIG)
    assert stated_tokens(choices, "math", "parallel") == 500 * 64 * 3000 == 96_000_000
    assert stated_tokens(choices, "math", "chain") == 500 * 16 * 3000
    assert stated_tokens(choices, "predictor_train", "parallel") == 0  # says nothing of its length
    # A quarter of 96 million tokens at 1,000 a second are 400 minutes; twice over, and half an hour to load the model.
    assert minutes_to_draw(choices, "math", "parallel") == 2 * 400 + 30
    assert minutes_to_draw(choices, "math", "chain") == 2 * 400 + 30  # in one shard
    # The verifier reads 32,000 questions of 200 tokens besides, 10,000 tokens a second: 170.7 minutes.
    assert minutes_to_score(choices, "math", "parallel") == 342 + 30
    assert minutes_at(96_000_000, {"tokens_per_second": 10000}) == 2 * 160 + 30
    assert minutes_at(0, {"tokens_per_second": 10000}) == minutes_at(96_000_000, {}) == 720  # not stated
    assert minutes_to_grade(choices, "math", "parallel") == 16 + 30
    assert minutes_to_copy(choices, "math", "parallel") == 9 + 10
    assert text_mb(choices, "math", "parallel", 2000) == 2000 + 1536
    # 80 steps of 8 prompts with 64 votes and 9 evaluations of 198 x 16 of 4,000 tokens; 3 of 500 x 16 of 3,000; twice over.
    tokens = (80 * 8 * 64 + 9 * 198 * 16) * 4000 + 3 * 500 * 16 * 3000
    assert minutes_to_train(choices) == math.ceil(2 * 2 * tokens / 1000 / 60) + 30
    # 10 epochs of 600 questions, each read three times: 3.6 million tokens at 500 a second are 120 minutes.
    config = changed("predictor", value={"epochs": 10}) | {
        "datasets": {**CONFIG["datasets"], "predictor_train": {"questions": 600}}
    }
    config["models"] = {**CONFIG["models"], "backbone": {"path": "b", "tokens_per_second": 500}}
    assert minutes_to_train_predictor(read_choices(config)) == 2 * 120 + 30
    # 20 questions by two methods of different families and a fixed N of 16 beside each, by one engine: 3.84 million tokens at
    # 1,000 a second are 64 minutes.
    config["live"] = {"problems": 20, "budget": 16, "methods": ["asc", "Pandora"], "engines": ["vllm"]}
    assert minutes_to_run_live(read_choices(config)) == 2 * 64 + 30
    config["live"]["methods"] = ["asc", "vote_lead"]  # one fixed N stands beside both
    assert minutes_to_run_live(read_choices(config)) == 2 * 48 + 30


def test_memory_of_models_that_lie_side_by_side():
    toy, real = Choices(changed("datasets", value={})), read_choices(CONFIG)
    assert (mb_to_train(toy), mb_to_train_predictor(toy), mb_to_run_live(toy)) == (4000, 4000, 6000)
    # Where nothing is stated: 4,000 MB of a model, 16,000 of a backbone.
    assert (mb_to_train(real), mb_to_run_live(real), mb_to_train_predictor(real)) == (8000, 8000, 32_000)
    sized = {
        **CONFIG["models"],
        "generators": {"big": {"path": "m", "mem_mb": 20_000}},
        "verifier": {"path": "r", "mem_mb": 9000},
    }
    real = read_choices(changed("models", value=sized))
    assert (mb_to_train(real), mb_to_train_predictor(real), mb_to_run_live(real)) == (40_000, 40_000, 29_000)
    real = read_choices(changed("models", value={**sized, "backbone": {"path": "b"}}))
    assert mb_to_train_predictor(real) == 32_000
    assert cpus_beside(4) == 6


def test_what_is_trained_and_what_a_shard_says():
    choices = read_choices(CONFIG)
    runs = CONFIG["testtime"]["runs"]
    assert trained_runs(choices, full=True) == ([*runs], [1, 2])
    assert trained_runs(choices, full=False) == (["optpo"], [1])
    assert said_of_shard(choices, "math", "parallel", 1) == "math, shard 2 of 4: 64 samples a question"
    assert said_of_shard(choices, "gpqa", "chain", 0) == "gpqa: 2 chains of 8 rounds a question"
    one = changed("pools", "math", value={"parallel": {"samples": 1, "shards": 1}})
    assert said_of_shard(read_choices(one), "math", "parallel", 0) == "math: 1 sample a question"
    assert choices.predicted == ("calibration", "math", "gpqa") and choices.trains
    served = changed("models", value={**CONFIG["models"], "generators": {"big": {"url": "http://there", "model": "m"}}})
    assert not read_choices({**served, "predictor": None}).trains


def test_amounts_double_up_to_what_a_partition_gives():
    assert [doubled(30, times) for times in (0, 1, 2)] == [30, 60, 120]
    assert [doubled(30, times, 100) for times in (0, 1, 2)] == [30, 60, 100]
    assert doubled(300, 1, 100) == 300  # which no partition takes: refused before it is queued


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed("compare", "benchmarks", value=["math", "calibration"]), "compare on others"),
        (changed("testtime", "untouched", value="gpqa"), "'gpqa', which is trained on"),
        (changed("models", "generator", value="small"), "'small': choose one of big, other"),
        (changed("datasets", value={"math": {"path": "p"}}), "lacks 'gpqa'"),
        (changed("pools", value={}), "pools in the configuration lacks 'math'"),
    ],
)
def test_contradictions_are_named(config, message):
    with pytest.raises(UserError, match=message):
        read_choices(config)


def test_without_datasets_it_is_the_toy_task():
    config = changed("datasets", value={}) | {"compare": {"benchmarks": ["test"], "published": {}}}
    config |= {
        "markovscale": {"benchmarks": ["test"]},
        "testtime": {**CONFIG["testtime"], "trained": "shifted", "untouched": "test"},
    }
    config["pools"] = dict.fromkeys(("test", "calibration", "shifted"), CONFIG["pools"]["math"])
    choices = read_choices(config)
    assert choices.toy and choices.results == "out" and choices.generator == {}
    assert choices.evaluated == ("test", "calibration", "shifted")
    assert published_on(choices, "test") == ["--published-on=MATH500"]
    assert minutes_to_draw(choices, "test", "parallel") == 60 and minutes_to_score(choices, "test", "parallel") == 60


def test_a_stated_price_is_an_option_of_the_replay_and_a_setting_of_the_engine():
    assert price_option(read_choices(CONFIG)) == []
    price = {"prompt": 3, "completion": 15}
    priced = read_choices(changed("models", "generators", "big", "price", value=price))
    assert price_option(priced) == ['--price={"prompt": 3, "completion": 15}']
    assert priced.engine["price"] == price
