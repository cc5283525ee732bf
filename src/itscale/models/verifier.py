"""Process reward model: a probability that each step is right, and what becomes of it per solution.

The interface is that of Qwen2.5-Math-PRM: after every step stands a separator token, and a head with two classes gives the
probability of "right" (class 1) there. A solution that is longer than the model's window is scored in several windows.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer, Qwen2ForTokenClassification

from itscale.data.journal import Journal, fingerprint
from itscale.data.records import KEY, SCORES, Problem, refuse_strangers
from itscale.errors import UserError
from itscale.models.hub import model_files, weights_digest
from itscale.models.memory import fitting
from itscale.models.prompts import CARD_PROMPT, SEPARATOR, PromptSettings, encode_text, marks, render, rendered, split_steps
from itscale.models.scores import Scores
from itscale.models.selfasked import SelfAsked
from itscale.progress import progress


class Qwen2ForProcessRewardModel(Qwen2ForTokenClassification):
    """The published Qwen2.5-Math-PRM: its head has two layers (its own code is not needed, and not run)."""

    def __init__(self, config) -> None:
        config.num_labels = 2
        super().__init__(config)
        width = config.hidden_size
        self.score = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
        self.post_init()


def load_network(model: Path | str, dtype: torch.dtype | str) -> nn.Module:
    """A reward model with all its weights.

    Raises:
        UserError: the folder cannot be read, or it lacks weights (which would be random).
    """
    with model_files(model):
        published = "Qwen2ForProcessRewardModel" in (AutoConfig.from_pretrained(model).architectures or [])
        cls = Qwen2ForProcessRewardModel if published else AutoModelForTokenClassification
        network, report = cls.from_pretrained(model, use_safetensors=True, dtype=dtype, output_loading_info=True)
    if missing := sorted(report["missing_keys"]):
        raise UserError(f"reward model {model} lacks the weights {missing[0]} ({len(missing)} missing): it is no reward model.")
    return network


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a solution that fits the model: token ids, of whose steps the last `scored` are new here."""

    ids: list[int]
    scored: int


def windows_of(prompt: list[int], steps: list[list[int]], size: int) -> list[Window]:
    """A solution's windows of at most `size` tokens: the question, then steps (each with its separator at the end).

    A window begins with as many of the steps before it as half the room holds, and each step is scored once. What is longer
    than the window by itself keeps its end: half the window of a question, the room beside the question of a step.
    """
    prompt = prompt[-(size // 2) :] if len(prompt) > size // 2 and len(prompt) + sum(map(len, steps)) > size else prompt
    room = size - len(prompt)
    steps = [step[-room:] for step in steps]
    windows: list[Window] = []
    first = begin = 0  # the first step that is not scored yet, and where its window begins
    while first < len(steps):
        end = first + 1
        while begin < first and sum(map(len, steps[begin:end])) > room:
            begin += 1
        while end < len(steps) and sum(map(len, steps[begin : end + 1])) <= room:
            end += 1
        windows.append(Window(prompt + [token for step in steps[begin:end] for token in step], end - first))
        first = begin = end
        while begin > 0 and sum(map(len, steps[begin - 1 : end])) <= room // 2:
            begin -= 1
    return windows


class Verifier:
    """A process reward model, loaded once; `step_break` stands between the steps of a solution."""

    def __init__(self, model: Path | str, batch_size: int, step_break: str = "\n") -> None:
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        network = load_network(model, "auto" if self._device == "cuda" else torch.float32)
        with model_files(model):
            self._tokenizer = AutoTokenizer.from_pretrained(model)
        separator = self._tokenizer(SEPARATOR, add_special_tokens=False)["input_ids"]
        if self._tokenizer.convert_ids_to_tokens(separator) != [SEPARATOR]:
            raise UserError(
                f"reward model {model} does not know {SEPARATOR} as one token, where a step's score is read: give a process "
                "reward model of the kind of Qwen2.5-Math-PRM."
            )
        if isinstance(network, Qwen2ForProcessRewardModel) and CARD_PROMPT not in rendered(self._tokenizer, "1"):
            raise UserError(
                f"the chat template of reward model {model} lacks the system prompt that it was trained with ({CARD_PROMPT!r}): "
                "fetch its tokenizer files again."
            )
        self._network = network.to(self._device).eval()
        self._separator, self._marks = separator[0], marks(self._tokenizer)
        self._batch_size = batch_size
        self._break = step_break
        self.window: int = network.config.get_text_config().max_position_embeddings

    def score(self, questions: list[str], texts: list[str], advance: Callable[[int], object] = lambda done: None) -> Scores:
        """Scores of each question's solution text, in batches of similar length; `advance` hears how many are done.

        Raises:
            UserError: the network gives NaN for a step.
        """
        own = [self._windows(question, text) for question, text in zip(questions, texts, strict=True)]
        parts = [(i, k) for i, windows in enumerate(own) for k in range(len(windows))]
        parts.sort(key=lambda part: -len(own[part[0]][part[1]].ids))
        found: dict[tuple[int, int], np.ndarray] = {}
        start = 0
        while start < len(parts):
            chunk = parts[start : start + self._batch_size]
            steps, size = fitting(self._steps, [own[i][k].ids for i, k in chunk], "solutions")
            if size < len(chunk):
                self._batch_size, chunk = size, chunk[:size]
            for (i, k), p in zip(chunk, steps, strict=True):
                if np.isnan(p).any():
                    raise UserError(
                        f"the reward model gives NaN for a solution of {questions[i][:60]!r}: its weights or their precision are "
                        "broken, restore it."
                    )
                found[i, k] = p[-own[i][k].scored :]
            advance(sum(k == 0 for _, k in chunk))
            start += len(chunk)
        steps = [np.concatenate([found[i, k] for k in range(len(w))]) if w else np.array([np.nan]) for i, w in enumerate(own)]
        return Scores(
            mean=np.array([p.mean() for p in steps]),
            last=np.array([p[-1] for p in steps]),
            tokens=np.array([sum(len(w.ids) for w in windows) for windows in own], np.int64),
        )

    def _windows(self, question: str, text: str) -> list[Window]:
        # A separator is a token of its own, so that steps may be encoded one by one.
        steps = [[*encode_text(self._tokenizer, step, self._marks), self._separator] for step in split_steps(text, self._break)]
        return windows_of(render(self._tokenizer, question, None), steps, self.window) if steps else []

    @torch.inference_mode()
    def _steps(self, encoded: Sequence[list[int]]) -> list[np.ndarray]:
        """P(right) of each step of each window."""
        width = max(map(len, encoded))
        # Right padding: under a causal mask the padding changes nothing before it.
        ids = torch.tensor([row + [0] * (width - len(row)) for row in encoded], device=self._device)
        length = torch.tensor([len(row) for row in encoded], device=self._device)
        mask = torch.arange(width, device=self._device) < length[:, None]
        right = self._network(input_ids=ids, attention_mask=mask.long()).logits.float().softmax(-1)[..., 1].cpu().numpy()
        steps = ((ids == self._separator) & mask).cpu().numpy()
        return [probability[is_step] for probability, is_step in zip(right, steps, strict=True)]


# Batches that are scored between two writes to the journal.
_BATCHES = 4


def score_table(
    samples: pd.DataFrame,
    problems: list[Problem],
    model: Path | str,
    batch_size: int,
    step_break: str = "\n",
    partial: Path | None = None,
    prompts: PromptSettings | None = None,
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Scores (schema SCORES) of samples (schema SAMPLES), and for the manifest the window, how many needed several, and tokens.

    Solutions of a question that read the same are scored once, so that fewer tokens are read than the table's rows add up to:
    a row says what its sample costs a rule that scores it. What is scored goes to the file `partial` at once, from which a
    killed job continues; the caller removes it when the table is written.

    With `prompts`, those that the samples were drawn with, the model is no reward model but the one that drew them, and is
    asked itself (`SelfAsked`).

    Raises:
        UserError: a sample of no problem given, NaN from the model, or a partial file of something else.
    """
    refuse_strangers("the samples", samples, problems)
    questions = {p.problem_id: p.question for p in problems}
    asked = [questions[problem_id] for problem_id in samples["problem_id"]]
    verifier = Verifier(model, batch_size, step_break) if prompts is None else SelfAsked(model, batch_size, prompts)
    hashes = pd.util.hash_pandas_object(samples.assign(question=asked)[[*KEY, "question", "text"]], index=False)
    content = [
        weights_digest(model),
        step_break if prompts is None else asdict(prompts),
        hashlib.sha256(hashes.to_numpy().tobytes()).hexdigest(),
    ]
    journal = Journal(partial, fingerprint(content)) if partial is not None else None
    done = {row["row"]: row for row in journal.rows()} if journal is not None else {}
    texts = samples["text"].tolist()
    first: dict[tuple[str, str], int] = {}  # (question, text) -> the row that is scored for all like it
    scored_by = [first.setdefault(pair, i) for i, pair in enumerate(zip(asked, texts, strict=True))]
    left = sorted(set(scored_by) - done.keys(), key=lambda i: -len(texts[i]))
    kept = nullcontext() if journal is None else closing(journal)
    with kept, progress(description="verifier scores", unit="solution", total=len(first), initial=len(done)) as bar:
        for start in range(0, len(left), _BATCHES * batch_size):
            block = left[start : start + _BATCHES * batch_size]
            scores = verifier.score([asked[i] for i in block], [texts[i] for i in block], bar.update)
            found = zip(block, scores.mean.tolist(), scores.last.tolist(), scores.tokens.tolist(), strict=True)
            rows = [{"row": i, "mean": mean, "last": last, "tokens": tokens} for i, mean, last, tokens in found]
            done |= {row["row"]: row for row in rows}
            if journal is not None:
                journal.append(rows)
    columns = {"score_mean": "mean", "score_last": "last", "verifier_tokens": "tokens"}
    table = samples[list(KEY)].assign(**{ours: [done[i][name] for i in scored_by] for ours, name in columns.items()})
    windowed = int((table["verifier_tokens"] > verifier.window).sum())
    if windowed:
        print(f"{windowed} of {len(samples)} solutions exceed the verifier's {verifier.window} tokens: scored in windows")
    unscored = int(table["score_mean"].isna().sum())
    if unscored:
        why = "have no step" if prompts is None else "are empty or do not fit the model's window"
        print(f"{unscored} of {len(samples)} solutions {why}, so they have no score (NaN) and are never chosen by it")
    read = sum(done[i]["tokens"] for i in first.values())
    counts = {"window": verifier.window, "in_several_windows": windowed, "unscored": unscored, "tokens_read": read}
    return table[SCORES.names], counts
