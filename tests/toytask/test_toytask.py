"""The toy task: its arithmetic against Python's own, its tokenizer's texts, its folders through the Auto classes."""

import itertools
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itscale.data.journal import scratch_folder
from itscale.data.records import Pool, Problem, Unit
from itscale.engines import EngineSettings, open_engine
from itscale.engines.protocol import Sampling
from itscale.errors import UserError
from itscale.models.hub import SUMS, model_files
from itscale.models.prompts import SEPARATOR, split_steps
from itscale.models.verifier import Verifier
from itscale.toytask import language_model, reward_model, sanity, shipped, splits
from itscale.toytask import problems as arithmetic
from itscale.toytask.tokenizer import build_tokenizer
from itscale.toytask.training import bucketed
from itscale.toytask.trial import plans_of, trial

REANSWER = "\nThe assistant's previous answer is: $\\boxed{15}$, and please re-answer."
operations = st.lists(st.tuples(st.sampled_from("+-*"), st.integers(1, 9)), min_size=1, max_size=10)
expressions = st.builds(arithmetic.Expression, st.integers(0, 99), operations.map(tuple))


def step_truth(question: str, lines: list[str]) -> list[bool]:
    """Whether each written line is what it ought to be."""
    rights = arithmetic.right_lines(arithmetic.parse(question), lines)
    return [line == right for line, right in zip(lines, rights, strict=True)]


@given(expressions)
def test_answer_is_python_s_own(expression):
    nested = str(expression.start)
    for operator, operand in expression.operations:
        nested = f"({nested}{operator}{operand})"
    assert arithmetic.answer(expression) == eval(nested) % 100
    assert arithmetic.parse(f" {expression.question}\n") == expression


def test_solution_by_hand():
    expression = arithmetic.parse("12+3-4*2")
    assert arithmetic.solution(expression) == ["12+3=15", "15-4=11", "11*2=22", "\\boxed{22}"]
    slipped = arithmetic.solution(expression, {1: -10})
    assert slipped == ["12+3=15", "15-4=1", "1*2=2", "\\boxed{2}"]
    assert step_truth("12+3-4*2", slipped) == [True, False, True, True]


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("12+3=15\n15-4=11\n11*2=22\n\\boxed{23}", [True, True, True, False]),
        ("12+3=15\n15-4=11\n\\boxed{11}", [True, True, False]),
        ("12+3=\n\n15-4=11\n11*2=22\n\\boxed{22}\n1", [False, True, True, True, False]),
        ("12+3=15\n16-4=12\n12*2=24\n\\boxed{24}", [True, False, True, True]),
    ],
)
def test_step_truth_by_hand(text, truth):
    assert step_truth("12+3-4*2", split_steps(text)) == truth


@given(expressions, st.dictionaries(st.integers(0, 9), st.sampled_from(arithmetic.SLIPS)))
def test_step_truth_finds_the_slips(expression, slips):
    slips = {step: slip for step, slip in slips.items() if step < len(expression.operations)}
    truth = step_truth(expression.question, arithmetic.solution(expression, slips))
    assert [step for step, right in enumerate(truth) if not right] == sorted(slips)


def test_parse_refuses_other_text():
    with pytest.raises(ValueError, match="not a question"):
        arithmetic.parse("What is 1+1?")


def test_slips_come_at_their_rate():
    drawn = [len(arithmetic.draw_slips(np.random.default_rng(seed), 10, 0.05)) for seed in range(2000)]
    assert np.mean(drawn) == pytest.approx(0.5, abs=4 * np.sqrt(10 * 0.05 * 0.95 / 2000))


@settings(deadline=None)  # the first call imports transformers
@given(expressions, st.booleans())
def test_tokenizer_decodes_to_the_text(expression, again):
    tokenizer = build_tokenizer()
    text = expression.question + REANSWER * again + "\n".join(arithmetic.solution(expression))
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False), skip_special_tokens=True) == text


def test_chat_template_and_cost_of_a_previous_answer():
    tokenizer = build_tokenizer()
    turn = "12+3" + REANSWER
    chat = [{"role": "user", "content": turn}, {"role": "assistant", "content": f"12+3=15{SEPARATOR}"}]
    for name in shipped.MODELS:
        assert (shipped.WEIGHTS / name / "chat_template.jinja").read_text() == tokenizer.chat_template
    assert tokenizer.apply_chat_template(chat, tokenize=False) == f"<bos><user>{turn}<assistant>12+3=15<extra_0><eos>"
    prompt = tokenizer.apply_chat_template(chat[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == f"<bos><user>{turn}<assistant>"
    assert len(tokenizer.tokenize(turn)) == len(tokenizer.tokenize("12+3")) + 4
    assert tokenizer.unk_token not in tokenizer.tokenize(turn)


def test_benchmarks_are_disjoint_and_reproducible():
    sizes = splits.SplitSettings(test=40, calibration=30, shifted=20, predictor_train=30, predictor_validation=10)
    built = splits.build_splits(3, sizes)
    assert built == splits.build_splits(3, sizes) != splits.build_splits(4, sizes)
    assert {name: len(split) for name, split in built.items()} == {
        "test": 40,
        "calibration": 30,
        "shifted": 20,
        "predictor_train": 30,
        "predictor_validation": 10,
    }
    problems = [problem for split in built.values() for problem in split]
    assert len({arithmetic.normalise(problem.question) for problem in problems}) == len(problems) == 130
    assert len({problem.problem_id for problem in problems}) == 130
    for problem in problems:
        assert str(arithmetic.answer(arithmetic.parse(problem.question))) == problem.answer
    assert {problem.level for problem in built["shifted"]} <= {"7", "8", "9", "10"}


def test_corpus_excludes_and_carries_previous_answers():
    additions = language_model.LanguageModelSettings(levels={2: 1.0}, operations={"+": 1.0}, slip_rate=0.0)
    excluded = {f"{start}+{one}+{two}" for start in range(50) for one in range(1, 10) for two in range(1, 10)}
    pairs = language_model.corpus(np.random.default_rng(0), additions, excluded)
    drawn = [next(pairs) for _ in range(3000)]
    carried = right = 0
    for turn, text in drawn:
        question, _, sentence = turn.partition("\n")
        assert question not in excluded
        assert text.endswith(f"\\boxed{{{arithmetic.answer(arithmetic.parse(question))}}}")
        carried += bool(sentence)
        right += f"$\\boxed{{{arithmetic.answer(arithmetic.parse(question))}}}$" in sentence
    assert carried / 3000 == pytest.approx(0.4, abs=0.04)
    assert right / carried == pytest.approx(0.6, abs=0.06)


def test_reward_labels_by_hand():
    tokenizer = build_tokenizer()
    (encoded,) = reward_model.encode(tokenizer, [("12+3", ["12+3=25", "\\boxed{25}"])])
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    wanted = [tokenizer.convert_ids_to_tokens(label) if label >= 0 else None for label in encoded["labels"]]
    scored = [(token, label) for token, label in zip(tokens, wanted, strict=True) if label is not None]
    # 12+3 is 15, not 25: wrong from the 2 on, so the 5 is not scored. The symbols after it are right, given what was written,
    # but the solution is not any more.
    first = [("1", "1"), ("2", "2"), ("+", "+"), ("3", "3"), ("=", "="), ("2", "1"), (SEPARATOR, "<eos>")]
    assert scored == [*first, ("\\boxed{", "\\boxed{"), ("2", "2"), ("5", "5"), ("}", "}"), (SEPARATOR, "<eos>")]


def test_flaws_come_at_their_rate_and_are_found():
    rng = np.random.default_rng(0)
    first, lengths = [], set()
    for expression in (arithmetic.parse("12+3-4*2+7"), arithmetic.parse("99-9*3+1")):
        for _ in range(1000):
            lines = reward_model.flawed(rng, expression, 0.2)
            truth = step_truth(expression.question, lines)
            first.append(not truth[0])
            lengths.add(len(lines) - len(expression.operations) - 1)
            # Whoever leaves an operation out, or works one twice, is found out at the end at the latest.
            assert len(lines) == len(expression.operations) + 1 or not all(truth)
    # Nine tenths of the flaws of the first step show in the first line (not an operation that is worked twice), but for an
    # operation drawn in place of another that happens to be the same.
    assert {-1, 0, 1} <= lengths
    assert 0.15 < np.mean(first) < 0.18 + 4 * np.sqrt(0.16 / len(first))


def test_batches_hold_examples_of_like_length_and_every_example_once():
    lengths = np.random.default_rng(0).integers(5, 100, 1000)
    examples = [{"input_ids": list(range(n)), "number": i} for i, n in enumerate(lengths)]
    ordered = bucketed(examples, 8, seed=1)
    assert sorted(e["number"] for e in ordered) == list(range(1000))

    def padding(batch_of):
        batches = [[len(e["input_ids"]) for e in batch_of[i : i + 8]] for i in range(0, 1000, 8)]
        return sum(max(b) * len(b) - sum(b) for b in batches)

    assert padding(ordered) < 0.3 * padding(examples)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny")
    small = {"layers": 1, "hidden": 64, "heads": 2, "intermediate": 64, "steps": 4, "batch_size": 4}
    shape = language_model.LanguageModelSettings(**small)
    for name in ("one", "two"):
        language_model.train(root / name, 5, shape, set())
    samples = pd.DataFrame({"problem_id": ["p", "p"], "text": ["1+1=2\n\\boxed{2}", "1+1=3\n\\boxed{3}"]})
    reward = reward_model.RewardModelSettings(steps=4, batch_size=4)
    reward_model.train(root / "reward", root / "one", samples, [Problem("p", "1+1", "2")], 5, reward, set())
    return root


def test_language_model_loads_generates_and_repeats(folders):
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folders / "one")
    tokenizer = AutoTokenizer.from_pretrained(folders / "one")
    assert tokenizer.chat_template == build_tokenizer().chat_template
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1+1"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert model.generate(**prompt, max_new_tokens=3).shape[1] > prompt["input_ids"].shape[1]
    one, two = (load_file(folders / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all((one[name] == two[name]).all() for name in one)
    assert not list(folders.rglob("*.bin")) + list(folders.rglob("*.pt"))


def test_reward_model_loads_as_a_token_classifier(folders):
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folders / "reward")
    model, information = AutoModelForTokenClassification.from_pretrained(
        folders / "reward", num_labels=2, output_loading_info=True
    )
    assert not information["missing_keys"]
    assert not information["unexpected_keys"]
    assert len(tokenizer.encode(SEPARATOR, add_special_tokens=False)) == 1
    ids = torch.tensor([tokenizer.encode(f"1+1=2{SEPARATOR}", add_special_tokens=False)])
    assert model(ids).logits.shape == (1, 6, 2)


def test_both_kinds_of_solutions_are_learnt_from_all_along():
    drawn, fresh = [(f"drawn{i}", ["1"]) for i in range(30)], ((f"fresh{i}", ["1"]) for i in itertools.count())
    pairs = reward_model.mixed(np.random.default_rng(0), drawn, fresh, 300, 0.4)
    assert len(pairs) == 300 and set(Counter(pair[0] for pair in pairs if pair in drawn).values()) == {4}
    for start in range(0, 300, 100):
        assert 25 <= sum(pair in drawn for pair in pairs[start : start + 100]) <= 55
    assert len(reward_model.mixed(np.random.default_rng(0), [], fresh, 10, 0.4)) == 10


def test_reward_model_names_an_unknown_problem():
    samples = pd.DataFrame({"problem_id": ["elsewhere"], "text": ["\\boxed{1}"]})
    with pytest.raises(UserError, match="elsewhere"):
        reward_model.sampled(samples, [Problem("p", "1+1", "2")])


def pool(cluster, correct, score, unit=Unit.SAMPLE):
    cluster, correct, score = np.array(cluster), np.array(correct, bool), np.array(score, float)
    rows = len(cluster)
    zeros = np.zeros_like(cluster)
    ids = tuple(f"p{row}" for row in range(rows))
    return Pool(unit, np.arange(rows), ids, cluster, correct, score, zeros, zeros, zeros, zeros)


def test_measure_by_hand():
    test = pool([[0, 1, 1], [0, -1, 0]], [[1, 0, 0], [1, 0, 1]], [[0.9, 0.2, 0.3], [0.1, np.nan, 0.8]])
    weak = replace(test, score=np.array([[0.2, 0.9, 0.3], [0.1, np.nan, 0.8]]))
    chains = pool([[0, 1, 0, 0]], [[1, 0, 1, 1]], [[0.5] * 4], Unit.ROUND)
    shifted = pool([[0, 0, 1], [-1, -1, -1]], [[0, 0, 1], [0, 0, 0]], np.full((2, 3), 0.5))
    table = sanity.measure(test, weak, chains, shifted).set_index("quantity")
    wanted = {
        "mean accuracy": 0.5,
        "share of problems solved less than 20 %": 0.0,
        "majority minus mean": 0.0,
        "best-of-N minus mean": 0.5,
        "verifier AUC": 4 / 6,
        "verifier AUC minus weak verifier AUC": 4 / 6 - 1 / 6,
        "transitions from correct to wrong": 1,
        "transitions from wrong to correct": 1,
        "shifted: mean accuracy": 1 / 6,
        "shifted: majority minus mean": -1 / 6,
        "shifted: pass@N": 0.5,
    }
    assert {name: table.loc[name, "value"] for name in wanted} == pytest.approx(wanted)
    assert list(table.index) == [check.name for check in sanity.CHECKS]
    assert table.loc["mean accuracy", "within"]
    assert not table.loc["verifier AUC", "within"]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auc_is_the_share_of_ordered_pairs(rows):
    score, correct = np.array([row[0] for row in rows], float), np.array([row[1] for row in rows])
    good, bad = score[correct], score[~correct]
    value = sanity.auc(score, correct)
    if not len(good) or not len(bad):
        assert np.isnan(value)
        return
    gap = good[:, None] - bad
    assert value == pytest.approx(((gap > 0) + 0.5 * (gap == 0)).mean())


def test_a_trial_measures_a_toy_task_and_leaves_its_models(tmp_path):
    sizes = splits.SplitSettings(test=4, calibration=1, shifted=3, predictor_train=3, predictor_validation=1)
    language = language_model.LanguageModelSettings(layers=1, hidden=32, heads=1, intermediate=48, steps=5, batch_size=4)
    reward = reward_model.RewardModelSettings(extra_layers=2, steps=5, batch_size=4)
    pools = {
        "test": {"parallel": {"samples": 3, "shards": 2}, "chain": {"chains": 1, "rounds": 2, "shards": 1}},
        "shifted": {"parallel": {"samples": 3, "shards": 1}},
        "predictor_train": {"parallel": {"samples": 2, "shards": 1}},
    }
    plans, engine = plans_of(pools, Sampling(max_tokens=24), 1), EngineSettings("", "transformers", 16)
    folder, models = tmp_path / "partial", tmp_path / "models"
    found = trial(1, folder, models, sizes, language, reward, plans, engine)
    assert found["quantity"].tolist() == [check.name for check in sanity.CHECKS] and (found["seed"] == 1).all()
    assert not folder.exists()
    # The three models can take the place of the shipped ones.
    shipped.unpack(tmp_path / "results", models)
    assert {path.name for path in (tmp_path / "results").iterdir()} == set(shipped.MODELS)
    # Another setting is another trial, also where an earlier one was killed.
    with pytest.raises(UserError), scratch_folder(folder, "another trial's"):
        raise UserError("killed")
    with pytest.raises(UserError, match="begun with other settings"):
        trial(1, folder, tmp_path / "others", sizes, language, reward, plans, engine)


def test_shipped_weights_are_those_of_the_documentation():
    assert sum(f.stat().st_size for f in shipped.WEIGHTS.rglob("*") if f.is_file()) < 8e6
    page = (Path(__file__).parents[2] / "docs" / "reproducing.md").read_text()
    stated = re.findall(r"^\| `(\w+)` \| .*`([0-9a-f]{64})` \|$", page, re.MULTILINE)
    sums = {name: (shipped.WEIGHTS / name / SUMS).read_text() for name in shipped.MODELS}
    assert [name for name, _ in stated] == list(shipped.MODELS)
    assert all(f"{digest}  model.safetensors\n" in sums[name] for name, digest in stated)


def test_shipped_models_are_float32_in_use_and_answer(tmp_path):
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    shipped.unpack(tmp_path)
    folder = tmp_path / "language_model"
    file = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in file.values()} == {torch.float16}
    model = AutoModelForCausalLM.from_pretrained(folder)
    state = model.state_dict()
    assert all(state[name].dtype == torch.float32 and torch.equal(state[name], file[name].float()) for name in file)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    (prompt,) = language_model.encode_prompts(tokenizer, ["12+3-4"])
    written = model.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False)[0, len(prompt) :]
    assert tokenizer.decode(written, skip_special_tokens=True) == "12+3=15\n15-4=11\n\\boxed{11}"
    good, weak = (Verifier(tmp_path / name, 8) for name in ("reward_model", "weak_reward_model"))
    right, wrong = "12+3=15\n15-4=11\n\\boxed{11}", "12+3=16\n16-4=12\n\\boxed{12}"
    (right_good, wrong_good), (right_weak, wrong_weak) = (v.score(["12+3-4"] * 2, [right, wrong]).mean for v in (good, weak))
    assert right_good > 0.5 > wrong_good
    assert right_good - wrong_good > right_weak - wrong_weak


def test_packing_rounds_to_half_and_what_is_altered_is_refused(folders, tmp_path):
    import torch
    from safetensors.torch import load_file

    shipped.pack(folders / "one", tmp_path / "packed")
    whole, half = (load_file(folder / "model.safetensors") for folder in (folders / "one", tmp_path / "packed"))
    assert all(torch.equal(half[name], whole[name].half()) for name in whole)
    with model_files(tmp_path / "packed"):
        pass
    weights = tmp_path / "packed" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    settings = EngineSettings(str(tmp_path / "packed"), "transformers", 8)
    with pytest.raises(UserError, match=r"model\.safetensors is not the file of SHA256SUMS \(SHA-256 differs\): restore it\."):
        open_engine(settings).__enter__()
