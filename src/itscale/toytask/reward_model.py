"""The toy task's process reward model, with the interface of Qwen2.5-Math-PRM.

Steps are joined by the separator token, and a two-class head reads P(right) at every separator. It starts from the
language model, whose prediction of the next symbol is what a written symbol must be compared with, and has further
layers on top to compare and to gather.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from itscale.data.journal import fingerprint, scratch_folder
from itscale.data.records import Problem, refuse_full_folder, refuse_strangers
from itscale.errors import refuse_below
from itscale.models.hub import model_files, weights_digest
from itscale.models.prompts import SEPARATOR, split_steps
from itscale.toytask import problems as arithmetic
from itscale.toytask.language_model import encode_prompts, save
from itscale.toytask.training import FitSettings, fit

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast


def _levels() -> dict[int, float]:
    return arithmetic.even_levels(2, 10)


@dataclass(frozen=True, slots=True)
class RewardModelSettings:
    """Layers above the language model's, the generated solutions, and the training.

    Long questions are as frequent as short ones: what scores has seen what the language model has hardly.
    """

    extra_layers: int = 3
    steps: int = 1600
    batch_size: int = 16
    learning_rate: float = 3e-3
    base_pace: float = 0.25
    symbol_weight: float = 1.0
    flaw_rate: float = 0.2
    misprint_rate: float = 0.08
    sampled_share: float = 0.33
    levels: Mapping[int, float] = field(default_factory=_levels)
    operations: Mapping[str, float] = field(default_factory=arithmetic.usual_operations)

    def __post_init__(self) -> None:
        refuse_below(1, self, "steps", "batch_size")
        refuse_below(2, self, "extra_layers")  # one names what ought to be written, one compares
        refuse_below(0, self, "learning_rate", "symbol_weight", "flaw_rate", "misprint_rate", "sampled_share")


def encode(tokenizer: "PreTrainedTokenizerFast", pairs: list[tuple[str, list[str]]]) -> list[dict[str, list[int]]]:
    """Tokens of scored solutions (question, lines), labelled with the token that ought to stand there (-100 outside its steps).

    What is written is right where it equals its label; a line is labelled up to its first wrong symbol. The separators after
    a wrong step and after all that follow it are labelled with the end token: as with Qwen2.5-Math-PRM, a step is right while
    the solution is.
    """
    separator, end = tokenizer.convert_tokens_to_ids(SEPARATOR), tokenizer.eos_token_id
    scored = [(lines, arithmetic.right_lines(arithmetic.parse(question), lines)) for question, lines in pairs]
    texts = list(dict.fromkeys(text for both in scored for side in both for text in side))
    tokens = dict(zip(texts, tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True))
    examples = []
    for prompt, (lines, rights) in zip(encode_prompts(tokenizer, [question for question, _ in pairs]), scored, strict=True):
        ids, labels, sound = list(prompt), [-100] * len(prompt), True
        for line, right in zip(lines, rights, strict=True):
            written, wanted = tokens[line], tokens[right]
            agree = next((i for i, pair in enumerate(zip(written, wanted, strict=False)) if pair[0] != pair[1]), len(wanted))
            ids += [*written, separator]
            # What follows a wrong symbol on its line has no right symbol to be compared with.
            labels += [([*wanted, end][i] if i <= agree else -100) for i in range(len(written))]
            sound = sound and line == right
            labels.append(separator if sound else end)
        examples.append({"input_ids": [*ids, end], "labels": [*labels, -100]})
    return examples


def step_loss(separator: int, layer: int, symbol_weight: float) -> "Callable[[Any, dict[str, torch.Tensor]], torch.Tensor]":
    """Cross-entropy of the two classes at the separators, plus what makes it learnable.

    Off hidden `layer` every written symbol is read and the right token in its place, and one layer on whether the two agree; the
    layers above gather. A comparison has no gradient to speak of until what is to be compared is there, nor a gathering until
    there is something to gather. Right and wrong symbols weigh the same: most are right, and to name what is written would do.
    """
    from torch.nn.functional import cross_entropy

    def loss(model: Any, inputs: "dict[str, torch.Tensor]") -> "torch.Tensor":
        ids, labels = inputs["input_ids"], inputs["labels"]
        out = model.model(input_ids=ids, attention_mask=inputs["attention_mask"], output_hidden_states=True)
        known, right = labels != -100, (labels == ids).long()
        steps, symbols = known & (ids == separator), known & (ids != separator)
        scored = cross_entropy(model.score(out.last_hidden_state)[steps], right[steps])
        named = cross_entropy(model.reader(out.hidden_states[layer][symbols]), labels[symbols], reduction="none")
        read = cross_entropy(model.echo(out.hidden_states[layer][symbols]), ids[symbols])
        compared = cross_entropy(model.compare(out.hidden_states[layer + 1][symbols]), right[symbols], reduction="none")
        return scored + read + evenly(compared + symbol_weight * named, right[symbols].bool())

    return loss


def evenly(values: "torch.Tensor", right: "torch.Tensor") -> "torch.Tensor":
    """The mean [] of values [S] of which those of right symbols count half, and those of wrong ones the other half."""
    means = [values[chosen].mean() for chosen in (right, ~right) if chosen.any()]
    return sum(means) / len(means)


def generated(rng: np.random.Generator, settings: RewardModelSettings, exclude: set[str]) -> Iterator[tuple[str, list[str]]]:
    """Endless pairs of question and worked solution, every other one with flawed steps, the others with misprints."""
    drawn = arithmetic.draw_expressions(rng, settings.levels, settings.operations, exclude)
    for number, expression in enumerate(drawn):
        if number % 2:
            lines = [misprint(rng, line, settings.misprint_rate) for line in arithmetic.solution(expression)]
        else:
            lines = flawed(rng, expression, settings.flaw_rate)
        yield expression.question, lines


def misprint(rng: np.random.Generator, line: str, rate: float) -> str:
    """A line of which digits and operators are replaced at random with probability `rate` each."""
    kinds = {**dict.fromkeys("0123456789", "0123456789"), **dict.fromkeys("+-*", "+-*")}
    return "".join(str(rng.choice(list(kinds[c]))) if c in kinds and rng.random() < rate else c for c in line)


def flawed(rng: np.random.Generator, expression: arithmetic.Expression, rate: float) -> list[str]:
    """The lines of a solution of which each step is wrong with probability `rate`.

    Two fifths of the flaws are careless slips, and a fifth each any other result, another operation than the question's, and
    an operation left out or worked twice, after which every line is out of step with the question.
    """
    value, lines = expression.start, []
    operations = list(expression.operations)
    while operations:
        operator, operand = operations[0]
        kind = rng.random() / rate
        if 0.6 <= kind < 0.8:
            ((operator, operand),) = arithmetic.draw_expression(rng, 1, dict.fromkeys(arithmetic.OPERANDS, 1.0)).operations
        if not 0.9 <= kind < 1:
            del operations[0]
        if 0.8 <= kind < 0.9:
            continue
        result = arithmetic.apply(value, operator, operand)
        if kind < 0.4:
            result += int(rng.choice(arithmetic.SLIPS))
        elif kind < 0.6:
            result += int(rng.integers(1, arithmetic.MODULUS))
        result %= arithmetic.MODULUS
        lines.append(f"{value}{operator}{operand}={result}")
        value = result
    return [*lines, f"\\boxed{{{value}}}"]


def mixed(
    rng: np.random.Generator,
    drawn: list[tuple[str, list[str]]],
    fresh: Iterator[tuple[str, list[str]]],
    total: int,
    share: float,
) -> list[tuple[str, list[str]]]:
    """`total` pairs in random order: a `share` of them from `drawn`, each as often as any other, the rest `fresh` ones."""
    wanted = round(share * total) if drawn else 0
    rounds = [rng.permutation(len(drawn)) for _ in range(-(-wanted // max(1, len(drawn))))]
    pairs = [drawn[i] for order in rounds for i in order][:wanted]
    pairs += [next(fresh) for _ in range(total - wanted)]
    return [pairs[i] for i in rng.permutation(total)]


def sampled(samples: pd.DataFrame, problems: list[Problem]) -> list[tuple[str, list[str]]]:
    """Pairs of question and steps from a table of samples.

    Raises:
        UserError: a sample belongs to no problem given.
    """
    refuse_strangers("the reward model's samples", samples, problems)
    questions = {problem.problem_id: problem.question for problem in problems}
    pairs = zip(samples["problem_id"], samples["text"], strict=True)
    return [(questions[problem], split_steps(text)) for problem, text in pairs]


def train(
    out: Path,
    language_model: Path,
    samples: pd.DataFrame | None,
    problems: list[Problem],
    seed: int,
    settings: RewardModelSettings,
    exclude: set[str],
) -> None:
    """Train the reward model and save it with its tokenizer as a Hugging Face folder.

    A killed run continues from `out`.partial.

    Args:
        out: the folder.
        language_model: folder of the language model to start from.
        samples: solutions drawn by the language model (schema SAMPLES), or None for generated ones alone.
        problems: the problems of `samples`.
        seed: of solutions, new weights and order.
        settings: layers, solutions and training.
        exclude: questions that no generated solution may answer (those of every split).

    Raises:
        UserError: a sample belongs to no problem given, the folder of the language model cannot be read, `out` is there already,
            or the partial run belongs to other settings or is another process's.
    """
    import torch
    from torch import nn
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        LlamaForTokenClassification,
        set_seed,
    )

    refuse_full_folder(out)
    set_seed(seed)
    rng = np.random.default_rng(seed)
    with model_files(language_model):
        tokenizer = AutoTokenizer.from_pretrained(language_model)
        base = AutoModelForCausalLM.from_pretrained(language_model)
    config = base.config.__class__.from_dict(base.config.to_dict())
    config.num_hidden_layers += settings.extra_layers
    config.num_labels = 2
    config.classifier_dropout = 0.0
    model = LlamaForTokenClassification(config)
    # Not strict: the layers on top have no counterpart.
    model.model.load_state_dict(base.model.state_dict(), strict=False)
    # A separator stands where the language model knows a new line.
    separator = tokenizer.convert_tokens_to_ids(SEPARATOR)
    with torch.no_grad():
        embedding = model.model.embed_tokens.weight
        embedding[separator] = embedding[tokenizer.convert_tokens_to_ids("\n")]
    # For training only: what names the right token, as the language model's own head does, repeats the written one, and compares.
    model.reader = nn.Sequential(copy.deepcopy(base.model.norm), copy.deepcopy(base.lm_head))
    model.echo = nn.Sequential(copy.deepcopy(base.model.norm), nn.Linear(config.hidden_size, config.vocab_size))
    model.compare = nn.Sequential(copy.deepcopy(base.model.norm), nn.Linear(config.hidden_size, 2))

    drawn = sampled(samples, problems) if samples is not None and len(samples) else []
    fresh = generated(rng, settings, {arithmetic.normalise(question) for question in exclude})
    pairs = mixed(rng, drawn, fresh, settings.steps * settings.batch_size, settings.sampled_share)
    examples = encode(tokenizer, pairs)
    fit_settings = FitSettings(
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
    )
    known = base.config.num_hidden_layers
    loss = step_loss(separator, known + 1, settings.symbol_weight)
    added = ("score.", "reader.", "echo.", "compare.", *(f"model.layers.{known + i}." for i in range(settings.extra_layers)))

    def pace(name: str) -> float:
        """New layers learn; the language model's change slowly, so that they keep the arithmetic that they know."""
        return 1.0 if name.startswith(added) else settings.base_pace

    begun_with = [asdict(settings), seed, weights_digest(language_model), pairs]
    with scratch_folder(Path(f"{out}.partial"), fingerprint(begun_with)) as scratch:
        fit(model, tokenizer, examples, fit_settings, seed, "reward model", scratch, loss, pace)
        del model.reader, model.echo, model.compare
        save(out, model, tokenizer)
