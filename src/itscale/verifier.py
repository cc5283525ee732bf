"""Process reward model: a probability that each step is right, and what becomes of it per solution.

The interface is that of Qwen2.5-Math-PRM: after every step stands a separator token, and a head with two classes gives the
probability of "right" (class 1) there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer

from itscale.progress import progress
from itscale.prompts import SEPARATOR, render, split_steps
from itscale.records import KEY, SCORES, Problem


def encode_solution(tokenizer, question: str, steps: list[str]) -> list[int]:
    """Token ids of a question and its steps, a separator after each."""
    body = "".join(step + SEPARATOR for step in steps)
    return render(tokenizer, question, None) + tokenizer(body, add_special_tokens=False)["input_ids"]


@dataclass(frozen=True, slots=True)
class Scores:
    """Of S solutions: mean and last step probability [S], NaN without steps, and the tokens that the model read [S]."""

    mean: np.ndarray
    last: np.ndarray
    tokens: np.ndarray


class Verifier:
    """A process reward model, loaded once."""

    def __init__(self, model: Path | str, batch_size: int) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._network = AutoModelForTokenClassification.from_pretrained(model, use_safetensors=True).to(self._device).eval()
        self._separator = self._tokenizer.convert_tokens_to_ids(SEPARATOR)
        self._batch_size = batch_size

    def score(self, questions: list[str], texts: list[str], advance: Callable[[int], object] = lambda done: None) -> Scores:
        """Scores of each question's solution text, in batches of similar length; `advance` hears how many are done."""
        encoded = [
            encode_solution(self._tokenizer, question, steps) if (steps := split_steps(text)) else []
            for question, text in zip(questions, texts, strict=True)
        ]
        mean, last = np.full(len(encoded), np.nan), np.full(len(encoded), np.nan)
        order = sorted((i for i, ids in enumerate(encoded) if ids), key=lambda i: -len(encoded[i]))
        for start in range(0, len(order), self._batch_size):
            chunk = order[start : start + self._batch_size]
            for i, probability in zip(chunk, self._steps([encoded[i] for i in chunk]), strict=True):
                mean[i], last[i] = probability.mean(), probability[-1]
            advance(len(chunk))
        return Scores(mean, last, np.array([len(ids) for ids in encoded], np.int64))

    @torch.inference_mode()
    def _steps(self, encoded: list[list[int]]) -> list[np.ndarray]:
        """P(right) of each step of each solution."""
        width = max(map(len, encoded))
        # Right padding: under a causal mask the padding changes nothing before it.
        ids = torch.tensor([row + [0] * (width - len(row)) for row in encoded], device=self._device)
        length = torch.tensor([len(row) for row in encoded], device=self._device)
        mask = torch.arange(width, device=self._device) < length[:, None]
        right = self._network(input_ids=ids, attention_mask=mask.long()).logits.float().softmax(-1)[..., 1].cpu().numpy()
        steps = ((ids == self._separator) & mask).cpu().numpy()
        return [probability[is_step] for probability, is_step in zip(right, steps, strict=True)]


def score_table(samples: pd.DataFrame, problems: list[Problem], model: Path | str, batch_size: int) -> pd.DataFrame:
    """Scores (schema SCORES) of samples (schema SAMPLES)."""
    questions = {p.problem_id: p.question for p in problems}
    with progress(description="verifier scores", unit="sample", total=len(samples)) as bar:
        asked = [questions[problem_id] for problem_id in samples["problem_id"]]
        scores = Verifier(model, batch_size).score(asked, samples["text"].tolist(), bar.update)
    values = {"score_mean": scores.mean, "score_last": scores.last, "verifier_tokens": scores.tokens}
    return samples[list(KEY)].assign(**values)[SCORES.names]
