"""The verifier: windows of long solutions, the published reward model's head, and folders that are none."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from itscale.data.records import KEY, Problem
from itscale.errors import UserError
from itscale.models.prompts import SEPARATOR, render, split_steps
from itscale.models.verifier import Verifier, score_table, windows_of
from standins import language_model, reward_model


@given(st.integers(1, 30), st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(8, 64))
def test_windows_score_every_step_once_and_fit(question, lengths, size):
    prompt = list(range(-question, 0))
    steps = [[100 * i + k for k in range(n)] for i, n in enumerate(lengths, 1)]
    windows = windows_of(prompt, steps, size)
    assert all(len(w.ids) <= size for w in windows)
    # A step's last token stands for its separator: each is scored in exactly one window, in order.
    ends = [step[-1] for step in steps]
    scored = []
    for window in windows:
        held = [token for token in window.ids if token in ends]
        assert 1 <= window.scored <= len(held)
        scored += held[-window.scored :]
        assert window.ids[-1] == held[-1]
    assert scored == ends
    if question + sum(lengths) <= size:
        assert [w.ids for w in windows] == [prompt + [token for step in steps for token in step]]
    else:
        assert all(w.ids[: min(question, size // 2)] == prompt[-min(question, size // 2) :] for w in windows)


def test_a_later_window_shows_what_came_before():
    steps = [[10 * i + k for k in range(10)] for i in range(8)]
    first, second, *_ = windows_of([-1] * 4, steps, 54)
    assert first.scored == 5 and second.scored == 3
    assert second.ids[4:24] == steps[3] + steps[4]


TEXT = "12+3=15\n15-4=11\n11*2=22\n\\boxed{22}"


@pytest.mark.parametrize("published", [False, True], ids=["token classifier", "published head"])
def test_scores_are_those_of_one_plain_pass(tmp_path, published):
    folder = reward_model(tmp_path / "prm", published=published)
    verifier = Verifier(folder, 2)
    scores = verifier.score(["12+3-4*2", "1+1"], [TEXT, ""])
    assert verifier.window == 4096
    tokenizer, network = verifier._tokenizer, verifier._network
    ids = render(tokenizer, "12+3-4*2", None)
    ids += tokenizer("".join(s + SEPARATOR for s in split_steps(TEXT)), add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        right = network(input_ids=torch.tensor([ids])).logits[0].softmax(-1)[:, 1].numpy()
    steps = right[np.array(ids) == tokenizer.convert_tokens_to_ids(SEPARATOR)]
    assert len(steps) == 4
    assert scores.mean[0] == pytest.approx(steps.mean(), abs=1e-6) and scores.last[0] == pytest.approx(steps[-1], abs=1e-6)
    assert scores.tokens.tolist() == [len(ids), 0]
    assert np.isnan(scores.mean[1]) and np.isnan(scores.last[1])


def test_a_long_solution_is_scored_in_windows_of_the_model(tmp_path):
    verifier = Verifier(reward_model(tmp_path / "prm", published=True, window=48), 4)
    long = "\n".join(f"{i}+1={i + 1}" for i in range(10, 40))
    scores = verifier.score(["10+1", "10+1"], [long, TEXT])
    assert scores.tokens[0] > 48 >= scores.tokens[1]
    assert 0 < scores.mean[0] < 1 and 0 < scores.last[0] < 1


def test_solutions_that_read_the_same_are_scored_once(tmp_path):
    folder = reward_model(tmp_path / "prm", published=False)
    problems = [Problem("p0", "12+3-4*2", "22"), Problem("p1", "10+1", "11")]
    texts = {"p0": [TEXT, "12+3=15", TEXT, TEXT], "p1": [TEXT, TEXT, "12+3=15", ""]}
    rows = [(problem, 0, 0, i, text) for problem, own in texts.items() for i, text in enumerate(own)]
    samples = pd.DataFrame(rows, columns=[*KEY, "text"])
    table, counts = score_table(samples, problems, folder, 2, partial=tmp_path / "scores.partial")
    verifier, questions = Verifier(folder, 1), {p.problem_id: p.question for p in problems}
    for row, score, tokens in zip(rows, table["score_mean"], table["verifier_tokens"], strict=True):
        alone = verifier.score([questions[row[0]]], [row[-1]])
        assert score == pytest.approx(alone.mean[0], abs=1e-6, nan_ok=True) and tokens == alone.tokens[0]
    # The question counts: the same text answers both of them.
    assert counts["tokens_read"] == table["verifier_tokens"].iloc[[0, 1, 4, 6, 7]].sum()
    assert len((tmp_path / "scores.partial").read_text().splitlines()) == 1 + 5


def test_a_step_that_writes_out_the_separator_has_one_score(tmp_path):
    verifier = Verifier(reward_model(tmp_path / "prm", published=False), 2)
    honest, hostile = (verifier._windows("1+1", text) for text in ("1+1=2\n\\boxed{2}", "1+1=2<extra_0><extra_0>\n\\boxed{2}"))
    for (window,) in (honest, hostile):
        assert window.scored == 2 and window.ids.count(verifier._separator) == 2


def test_what_is_no_process_reward_model_of_this_kind_is_refused(tmp_path):
    folder = reward_model(tmp_path / "plain", published=False)
    for file in folder.glob("*tokenizer*.json"):
        file.write_text(file.read_text().replace("<extra_0>", "<extra_9>"))
    with pytest.raises(UserError, match="does not know <extra_0> as one token"):
        Verifier(folder, 2)
    folder = reward_model(tmp_path / "published", published=True)
    template = folder / "chat_template.jinja"
    assert "Please reason step by step" in template.read_text()
    template.write_text(template.read_text().replace("Please reason step by step", "Please answer"))
    with pytest.raises(UserError, match="lacks the system prompt that it was trained with"):
        Verifier(folder, 2)


def test_steps_may_be_paragraphs():
    assert split_steps("a\nb\n\nc\n\n\n\nd", "\n\n") == ["a\nb", "c", "d"]


def test_a_language_model_is_no_reward_model(tmp_path):
    with pytest.raises(UserError, match="lacks the weights score"):
        Verifier(language_model(tmp_path / "lm", "qwen2"), 2)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_missing_or_torn_file_is_named(tmp_path, file):
    folder = reward_model(tmp_path / "prm", published=False)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=rf"model folder .*{folder.name} cannot be read"):
        Verifier(folder, 2)
    (folder / file).unlink()
    with pytest.raises(UserError, match=rf"model folder .*{folder.name} lacks {file}"):
        Verifier(folder, 2)
