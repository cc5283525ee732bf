"""The toy task's language model: a Llama of about a million parameters, trained on worked solutions with slips.

The corpus holds careless steps, so errors are diffuse and votes help; long questions and products are rare in it, so
some errors are systematic and votes fail.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itscale.data.journal import fingerprint, scratch_folder
from itscale.data.records import refuse_full_folder, write_folder
from itscale.errors import refuse_below
from itscale.models.prompts import user_turn
from itscale.toytask import problems as arithmetic
from itscale.toytask.tokenizer import build_tokenizer
from itscale.toytask.training import FitSettings, fit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def _levels() -> dict[int, float]:
    return {**dict.fromkeys(range(2, 7), 2.0), 7: 1.0, 8: 1.0, 9: 0.5}


@dataclass(frozen=True, slots=True)
class LanguageModelSettings:
    """Shape of the model, its corpus and its training."""

    layers: int = 3
    hidden: int = 128
    heads: int = 4
    intermediate: int = 384
    steps: int = 3000
    batch_size: int = 16
    learning_rate: float = 3e-3
    slip_rate: float = 0.04
    previous_share: float = 0.4
    previous_correct: float = 0.6
    levels: Mapping[int, float] = field(default_factory=_levels)
    operations: Mapping[str, float] = field(default_factory=arithmetic.usual_operations)

    def __post_init__(self) -> None:
        refuse_below(1, self, "layers", "hidden", "heads", "intermediate", "steps", "batch_size")
        refuse_below(0, self, "learning_rate", "slip_rate", "previous_share", "previous_correct")


def corpus(rng: np.random.Generator, settings: LanguageModelSettings, exclude: set[str]) -> Iterator[tuple[str, str]]:
    """Endless pairs of user turn and solution; a share of the turns carries a previous answer, right or wrong."""
    for expression in arithmetic.draw_expressions(rng, settings.levels, settings.operations, exclude):
        carries = rng.random() < settings.previous_share
        previous = str(_previous(rng, expression, settings.previous_correct)) if carries else None
        slips = arithmetic.draw_slips(rng, len(expression.operations), settings.slip_rate)
        yield user_turn(expression.question, previous), "\n".join(arithmetic.solution(expression, slips))


def _previous(rng: np.random.Generator, expression: arithmetic.Expression, correct: float) -> int:
    """A previous answer: right with probability `correct`, else from a solution with a slip or any other number."""
    right = arithmetic.answer(expression)
    if rng.random() < correct:
        return right
    if rng.random() < 0.5:
        step = int(rng.integers(len(expression.operations)))
        slipped = arithmetic.solution(expression, {step: int(rng.choice(arithmetic.SLIPS))})[-1]
        value = int(slipped.removeprefix("\\boxed{").removesuffix("}"))
        if value != right:
            return value
    return int((right + rng.integers(1, arithmetic.MODULUS)) % arithmetic.MODULUS)


def encode_prompts(tokenizer: "PreTrainedTokenizerFast", turns: list[str]) -> list[list[int]]:
    """Tokens of user turns as chat prompts, all at once: one call each would cost more than the training step."""
    chats = [[{"role": "user", "content": turn}] for turn in turns]
    texts = tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


def encode(tokenizer: "PreTrainedTokenizerFast", pairs: list[tuple[str, str]]) -> list[dict[str, list[int]]]:
    """Tokens of exchanges (user turn, solution), with labels on the assistant's tokens alone."""
    turns, texts = zip(*pairs, strict=True)
    prompts = encode_prompts(tokenizer, list(turns))
    completions = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    end = [tokenizer.eos_token_id]
    return [
        {"input_ids": prompt + completion + end, "labels": [-100] * len(prompt) + completion + end}
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def train(out: Path, seed: int, settings: LanguageModelSettings, exclude: set[str]) -> None:
    """Train the language model and save it with its tokenizer as a Hugging Face folder.

    A killed run continues from `out`.partial.

    Args:
        out: the folder.
        seed: of corpus, initial weights and order.
        settings: shape, corpus and training.
        exclude: questions that the corpus must not hold (those of every split).

    Raises:
        UserError: the folder is there already, or the partial run belongs to other settings or is another process's.
    """
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    refuse_full_folder(out)
    set_seed(seed)
    tokenizer = build_tokenizer()
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.hidden,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.heads,
            head_dim=settings.hidden // settings.heads,
            intermediate_size=settings.intermediate,
            max_position_embeddings=tokenizer.model_max_length,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    pairs = corpus(
        np.random.default_rng(seed),
        settings,
        {arithmetic.normalise(question) for question in exclude},
    )
    examples = encode(tokenizer, [next(pairs) for _ in range(settings.steps * settings.batch_size)])
    fit_settings = FitSettings(
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
    )
    with scratch_folder(Path(f"{out}.partial"), fingerprint([asdict(settings), seed, sorted(exclude)])) as scratch:
        fit(model, tokenizer, examples, fit_settings, seed, "language model", scratch)
        save(out, model, tokenizer)


def save(out: Path, model: Any, tokenizer: "PreTrainedTokenizerFast") -> None:
    """Save a model (safetensors) and its tokenizer as one folder, wholly or not at all."""
    with write_folder(out) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
