"""Process reward model: a probability that each step is right, and what becomes of it per solution.

The interface is that of Qwen2.5-Math-PRM: after every step stands a separator token, and a head with two classes gives the
probability of "right" (class 1) there.
"""

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


def score_table(samples: pd.DataFrame, problems: list[Problem], model: Path | str, batch_size: int) -> pd.DataFrame:
    """Scores (schema SCORES) of samples: mean and last step probability, NaN for a solution without steps.

    `verifier_tokens` counts the tokens that the reward model read.
    """
    tokenizer = AutoTokenizer.from_pretrained(model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = AutoModelForTokenClassification.from_pretrained(model, use_safetensors=True).to(device).eval()
    separator = tokenizer.convert_tokens_to_ids(SEPARATOR)
    questions = {p.problem_id: p.question for p in problems}
    encoded = [
        encode_solution(tokenizer, questions[problem_id], steps) if (steps := split_steps(text)) else []
        for problem_id, text in zip(samples["problem_id"], samples["text"], strict=True)
    ]
    mean, last = np.full(len(encoded), np.nan), np.full(len(encoded), np.nan)
    order = sorted((i for i, ids in enumerate(encoded) if ids), key=lambda i: -len(encoded[i]))
    with progress(description="verifier scores", unit="sample", total=len(order)) as bar, torch.inference_mode():
        for start in range(0, len(order), batch_size):
            chunk = order[start : start + batch_size]
            width = max(len(encoded[i]) for i in chunk)
            # Right padding: under a causal mask the padding changes nothing before it.
            ids = torch.tensor([encoded[i] + [0] * (width - len(encoded[i])) for i in chunk], device=device)
            length = torch.tensor([len(encoded[i]) for i in chunk], device=device)
            mask = torch.arange(width, device=device) < length[:, None]
            right = network(input_ids=ids, attention_mask=mask.long()).logits.float().softmax(-1)[..., 1].cpu().numpy()
            steps = ((ids == separator) & mask).cpu().numpy()
            for i, probability, is_step in zip(chunk, right, steps, strict=True):
                mean[i], last[i] = probability[is_step].mean(), probability[is_step][-1]
            bar.update(len(chunk))
    return samples[list(KEY)].assign(score_mean=mean, score_last=last, verifier_tokens=[len(ids) for ids in encoded])[
        SCORES.names
    ]
