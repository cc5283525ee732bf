"""The tiny world's process reward model, with the interface of Qwen2.5-Math-PRM.

Steps are joined by the separator token, and a two-class head reads P(right) at every separator. It starts from the
language model, whose prediction of the next symbol is what a written symbol must be compared with, and has further
layers on top to compare and to gather.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from itscale.errors import UserError
from itscale.records import Problem
from itscale.tinyworld import problems as arithmetic
from itscale.tinyworld.language_model import LanguageModelSettings, save
from itscale.tinyworld.tokenizer import SEPARATOR
from itscale.tinyworld.training import FitSettings, fit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class RewardModelSettings:
    """Layers above the language model's, the generated solutions, and the training."""

    extra_layers: int = 2
    steps: int = 1000
    batch_size: int = 32
    learning_rate: float = 2e-3
    slip_rate: float = 0.15
    sampled_share: float = 0.3
    corpus: LanguageModelSettings = field(default_factory=LanguageModelSettings)


def encode(tokenizer: "PreTrainedTokenizerFast", question: str, lines: list[str]) -> dict[str, list[int]]:
    """Tokens of a judged solution, with a label (1 right, 0 wrong) on each token of its steps.

    The label of a separator says whether its step is right; that of a token within a step says whether the step is right
    so far, which teaches the comparison symbol by symbol. Readers of the model look at separators only.
    """
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_dict=False,
    )
    separator = tokenizer.convert_tokens_to_ids(SEPARATOR)
    ids, labels = list(prompt), [-100] * len(prompt)
    for line, right in zip(lines, arithmetic.right_lines(arithmetic.parse(question), lines), strict=True):
        written, wanted = ([*tokenizer.encode(text, add_special_tokens=False), separator] for text in (line, right))
        ids += written
        labels += [int(written[: end + 1] == wanted[: end + 1]) for end in range(len(written))]
    return {"input_ids": [*ids, tokenizer.eos_token_id], "labels": [*labels, -100]}


def generated(rng: np.random.Generator, settings: RewardModelSettings) -> Iterator[tuple[str, list[str]]]:
    """Endless pairs of question and worked solution; half of the slips are the corpus's, half any other number."""
    corpus = settings.corpus
    for expression in arithmetic.draw_expressions(rng, corpus.levels, corpus.operations, set()):
        slips = arithmetic.draw_slips(rng, len(expression.operations), settings.slip_rate)
        for step in slips:
            if rng.random() < 0.5:
                slips[step] = int(rng.integers(1, arithmetic.MODULUS))
        yield expression.question, arithmetic.solution(expression, slips)


def sampled(samples: pd.DataFrame, problems: list[Problem]) -> list[tuple[str, list[str]]]:
    """Pairs of question and steps from a table of samples.

    Raises:
        UserError: a sample belongs to no problem given.
    """
    questions = {problem.problem_id: problem.question for problem in problems}
    unknown = set(samples["problem_id"]) - questions.keys()
    if unknown:
        raise UserError(
            f"the reward model's samples name the problem {min(unknown)}, which is not among its problems: give the split they were drawn from."
        )
    pairs = zip(samples["problem_id"], samples["text"], strict=True)
    return [(questions[problem], arithmetic.split_steps(text)) for problem, text in pairs]


def train(
    out: Path,
    language_model: Path,
    samples: pd.DataFrame | None,
    problems: list[Problem],
    seed: int,
    settings: RewardModelSettings,
) -> None:
    """Train the reward model and save it with its tokenizer as a Hugging Face folder.

    Args:
        out: the folder.
        language_model: folder of the language model to start from.
        samples: solutions drawn by the language model (schema SAMPLES), or None for generated ones alone.
        problems: the problems of `samples`.
        seed: of solutions, new weights and order.
        settings: layers, solutions and training.

    Raises:
        UserError: a sample belongs to no problem given.
    """
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        LlamaForTokenClassification,
        set_seed,
    )

    set_seed(seed)
    rng = np.random.default_rng(seed)
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    base = AutoModelForCausalLM.from_pretrained(language_model)
    config = base.config.__class__.from_dict(base.config.to_dict())
    config.num_hidden_layers += settings.extra_layers
    config.num_labels, config.classifier_dropout, config._attn_implementation = (
        2,
        0.0,
        "eager",
    )
    model = LlamaForTokenClassification(config)
    # Not strict: the layers on top have no counterpart.
    model.model.load_state_dict(base.model.state_dict(), strict=False)

    total = settings.steps * settings.batch_size
    drawn = sampled(samples, problems) if samples is not None and len(samples) else []
    chosen = rng.permutation(len(drawn))[: round(settings.sampled_share * total)]
    pairs = [drawn[index] for index in chosen]
    fresh = generated(rng, settings)
    pairs += [next(fresh) for _ in range(total - len(pairs))]
    examples = [encode(tokenizer, question, lines) for question, lines in pairs]
    fit_settings = FitSettings(
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
    )
    fit(model, tokenizer, examples, fit_settings, seed, "reward model")
    save(out, model, tokenizer)
