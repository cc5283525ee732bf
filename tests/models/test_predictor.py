"""The predictor: what its parts compute, that it learns, resumes and loads, and that its splits are disjoint."""

import json
import signal
import time
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import BertConfig, BertModel, DebertaV2Config, DebertaV2Model, LlamaConfig, LlamaForCausalLM

from itscale.data.records import FEATURES, Problem, Unit, with_predictions
from itscale.errors import UserError
from itscale.models import predictor
from itscale.models.labels import Labels, labels_of
from itscale.models.predictor import (
    HEADS,
    ParameterPredictor,
    PredictorSettings,
    binomial,
    collate,
    encode,
    load,
    predict,
    remember,
    squared_error,
    train,
)
from itscale.sources.datasets import refuse_overlap
from itscale.toytask.tokenizer import build_tokenizer
from pools import random_pool
from processes import FORKS

SMALL = PredictorSettings(widths=(16,), dropout=(0.0,), learning_rate=1e-2, batch_size=8, epochs=15, patience=15)


def backbone(folder):
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=64,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def questions(count, seed):
    """Questions whose number of 7s decides every parameter."""
    rng = np.random.default_rng(seed)
    found = ["+".join(rng.choice(list("1237"), 6)) + f"-{seed}{i % 10}{i // 10}=" for i in range(count)]
    problems = [Problem(f"{seed}-{i}", q, "1") for i, q in enumerate(found)]
    share = np.array([q.count("7") / 8 + 0.1 for q in found])
    trials = {h: rng.integers(0, 9, count) for h in ("p0", "a", "b")}
    value = {"score_mean": share, "score_sd": share / 4}
    value |= {h: rng.binomial(trials[h], share) / np.maximum(trials[h], 1) for h in trials}
    ones = np.ones(count)
    return problems, Labels(tuple(p.problem_id for p in problems), value, {"score_mean": ones, "score_sd": ones, **trials})


def test_labels_are_moments_and_counts():
    parallel = random_pool(1, rows=4, size=6)
    chain = random_pool(2, rows=8, size=5, unit=Unit.ROUND, chains=2)
    labels = labels_of(parallel, chain)
    for p in range(4):
        scores = [s for s in parallel.score[p] if not np.isnan(s)]
        assert labels.value["score_mean"][p] == pytest.approx(np.mean(scores))
        assert labels.value["score_sd"][p] == pytest.approx(np.std(scores))
        mine = chain.correct[2 * p : 2 * p + 2].tolist()
        first = parallel.correct[p].tolist() + [row[0] for row in mine]
        assert (labels.value["p0"][p], labels.count["p0"][p]) == (pytest.approx(np.mean(first)), 8)
        moves = [(x, y) for row in mine for x, y in pairwise(row)]
        for head, state in (("a", True), ("b", False)):
            left = [y != x for x, y in moves if x is state]
            assert labels.count[head][p] == len(left)
            assert labels.value[head][p] == pytest.approx(np.mean(left) if left else 0)


def test_losses_by_hand():
    p, value, count = torch.tensor([0.2, 0.5, 0.9]), torch.tensor([0.5, 0.25, 0.7]), torch.tensor([2.0, 4.0, 0.0])
    assert float(squared_error(p, value, count)) == pytest.approx((0.3**2 + 0.25**2) / 2)
    by_hand = -(np.log(0.2) + np.log(0.8) + np.log(0.5) + 3 * np.log(0.5)) / 6
    assert float(binomial(p, value, count)) == pytest.approx(by_hand, rel=1e-6)
    assert float(binomial(p, value, torch.zeros(3))) == 0


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_padding_changes_nothing_and_parameters_stay_within_bounds(kind):
    torch.manual_seed(0)
    shape = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    core = BertModel(BertConfig(**shape)) if kind == "encoder" else LlamaForCausalLM(LlamaConfig(**shape)).model
    model = ParameterPredictor(core, PredictorSettings(widths=(8,), dropout=(0.3,))).eval()
    torch.nn.init.normal_(model.attention.weight)
    short, long = [3, 4, 5], [6] * 9
    alone = model(**collate([{"input_ids": short}], 0))
    padded = model(**collate([{"input_ids": short}, {"input_ids": long}], 0))
    for name, values in padded.items():
        assert float(values[0]) == pytest.approx(float(alone[name][0]), abs=1e-5)
        assert 0 < float(values.min()) and float(values.max()) < HEADS[name].high


@pytest.mark.parametrize("trained", [0, 1, 2])
@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_remembered_states_stand_for_the_frozen_layers(kind, trained):
    torch.manual_seed(0)
    shape = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
    core = BertModel(BertConfig(**shape)) if kind == "encoder" else LlamaForCausalLM(LlamaConfig(**shape)).model
    model = ParameterPredictor(core, PredictorSettings(widths=(8,), dropout=(0.0,), trained_layers=trained)).eval()
    rows = [{"input_ids": ids} for ids in ([3, 4, 5], [6] * 9, [7, 8])]
    remember(model, rows, 0, 2)
    calls = []
    for layer in core.encoder.layer if kind == "encoder" else core.layers:
        (layer.attention if kind == "encoder" else layer.mlp).register_forward_hook(lambda *_: calls.append(1))
    found, gradients = {}, {}
    for name, batch in (("whole", [{"input_ids": r["input_ids"]} for r in rows]), ("remembered", rows)):
        calls.clear()
        model.zero_grad()
        found[name] = model(**collate(batch, 0))
        sum(v.sum() for v in found[name].values()).backward()
        gradients[name] = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        assert len(calls) == (3 if name == "whole" else trained)
    for head, values in found["whole"].items():
        assert torch.allclose(values, found["remembered"][head], atol=1e-6)
    assert gradients["whole"].keys() == gradients["remembered"].keys()
    assert all(torch.allclose(g, gradients["remembered"][n], atol=1e-6) for n, g in gradients["whole"].items())


def test_layers_that_give_more_than_states_are_not_stood_in_for():
    shape = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
    core = DebertaV2Model(DebertaV2Config(**shape, relative_attention=True, pos_att_type=["p2c", "c2p"]))
    model = ParameterPredictor(core, PredictorSettings(widths=(8,), dropout=(0.0,), trained_layers=1)).eval()
    rows = [{"input_ids": [3, 4, 5]}, {"input_ids": [6] * 9}]
    remember(model, rows, 0, 2)
    assert not any("states" in row for row in rows)


def test_an_empty_question_is_something_to_pool_over(tmp_path):
    class Bare:
        chat_template, eos_token_id = None, 2

        def __call__(self, question, **_):
            return {"input_ids": []}

    assert encode(Bare(), "", 8) == [2]


def test_training_on_remembered_states_ends_with_the_same_weights(tmp_path, monkeypatch):
    folder = backbone(tmp_path / "lm")
    training, validation = questions(24, 1), questions(8, 2)
    settings = replace(SMALL, dropout=(0.3,), epochs=4, patience=4, trained_layers=1)
    train(tmp_path / "whole", folder, training, validation, 0, settings)
    monkeypatch.setattr(predictor, "_LARGE", 0)
    train(tmp_path / "remembered", folder, training, validation, 0, settings)
    one, two = (load(tmp_path / name)[0].state_dict() for name in ("whole", "remembered"))
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


def test_only_the_last_layers_and_the_heads_are_trained():
    shape = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 48}
    model = ParameterPredictor(BertModel(BertConfig(**shape)), PredictorSettings(widths=(8,), dropout=(0.3,)))
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    layers = {n.split(".")[3] for n in trained if n.startswith("backbone.")}
    assert layers == {"2", "3"} and any(n.startswith("heads.") for n in trained)
    model.train()
    on = [layer.output.dropout.training for layer in model.backbone.encoder.layer]
    assert on == [False, False, True, True] and model.heads["p0"][2].training


def test_it_learns_saves_and_predicts_every_head(tmp_path):
    folder = backbone(tmp_path / "lm")
    training, validation = questions(96, 1), questions(24, 2)
    train(tmp_path / "out", folder, training, validation, 0, SMALL)
    assert not (tmp_path / "out.partial").exists()
    table = predict(validation[0], tmp_path / "out")
    assert (table["predictor_tokens"] > 5).all()
    for name in FEATURES:
        truth = validation[1].value["score_mean"] * (0.25 if name == "score_sd" else 1)
        assert np.corrcoef(table[name], truth)[0, 1] > 0.6, name
    one = predict(validation[0][:1], tmp_path / "out", batch_size=1)
    assert one["p0"][0] == pytest.approx(table["p0"][0], abs=1e-5)
    history = json.loads((tmp_path / "out" / "predictor.json").read_text())
    assert history["validation_loss"] == min(history["history"])


def test_a_head_that_is_not_there_is_no_feature(tmp_path):
    folder = backbone(tmp_path / "lm")
    settings = replace(SMALL, heads=("score_mean",), epochs=1)
    train(tmp_path / "out", folder, questions(16, 1), questions(8, 2), 0, settings)
    problems = [Problem(f"p{i}", "7+1=", "8") for i in range(12)]
    pool = with_predictions(random_pool(1), predict(problems, tmp_path / "out"))
    assert set(pool.features) == {"score_mean"}


def test_dropout_is_off_where_it_predicts(tmp_path):
    settings = replace(SMALL, dropout=(0.5,), epochs=2)
    train(tmp_path / "out", backbone(tmp_path / "lm"), questions(16, 1), questions(8, 2), 0, settings)
    problems = questions(12, 3)[0]
    one, two = (predict(problems, tmp_path / "out") for _ in range(2))
    assert one.equals(two)
    model, _, _ = load(tmp_path / "out")
    assert not any(module.training for module in model.modules())


def test_a_killed_run_continues_to_the_same_end(tmp_path):
    folder = backbone(tmp_path / "lm")
    training, validation = questions(32, 1), questions(8, 2)
    settings = replace(SMALL, dropout=(0.3,), epochs=12, patience=12)  # random numbers go on where they were, too
    train(tmp_path / "whole", folder, training, validation, 0, settings)
    process = FORKS.Process(target=train, args=(tmp_path / "killed", folder, training, validation, 0, settings))
    process.start()
    while process.is_alive() and last_epoch(tmp_path / "killed.partial") < 2:
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL and not (tmp_path / "killed").exists()
    left = {path.suffix for path in (tmp_path / "killed.partial").rglob("*") if path.is_file()}
    assert {".safetensors", ".json"} <= left <= {".safetensors", ".json", ".jsonl", ".jinja"}  # no pickle
    with pytest.raises(UserError, match="begun with other settings"):
        train(tmp_path / "killed", folder, training, validation, 1, settings)
    train(tmp_path / "killed", folder, training, validation, 0, settings)
    one, two = (load(tmp_path / name)[0].state_dict() for name in ("whole", "killed"))
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)


def last_epoch(partial):
    """The epoch of the latest whole checkpoint; one that is being written is none."""
    found = [0]
    for path in partial.glob("checkpoint-*/trainer_state.json"):
        with suppress(ValueError, FileNotFoundError):
            found.append(json.loads(path.read_text())["epoch"])
    return max(found)


@pytest.mark.parametrize(("other", "what"), [(Problem("x", "1  + 1 = ?", "2"), "text"), (Problem("p", "2 + 2 = ?", "4"), "id")])
def test_overlapping_splits_are_refused(other, what):
    with pytest.raises(UserError, match=f"the same {what}"):
        refuse_overlap({"train": [Problem("p", "1 + 1 = ?", "2")], "test": [other]})


def test_a_wrong_head_is_named():
    with pytest.raises(UserError, match="unknown head 'mu'"):
        PredictorSettings(heads=("mu",))
    assert pd.Series(FEATURES).isin(HEADS).all()
