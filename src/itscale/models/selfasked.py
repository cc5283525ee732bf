"""P(True): how probable a model itself calls its answer right, asked in one more short request (arXiv 2207.05221).

After the question and the answer stands one more turn, `ASKED`; the score is the probability of `YES` as the next token, at
temperature 1 and before anything is left out. It is a score from 0 to 1 that costs verifier tokens: all that is read, and one.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from itscale.errors import UserError
from itscale.models.hub import model_files
from itscale.models.memory import fitting
from itscale.models.precision import precision
from itscale.models.prompts import PLAIN, PromptSettings, asked_again, can_read
from itscale.models.scores import Scores

ASKED = "Is this answer correct? Reply with Yes or No and nothing else."
YES = "Yes"


class SelfAsked:
    """The model that draws, loaded once more to be asked about its answers; scores as a verifier does.

    `prompts` are those that the answers were drawn with. What does not fit the model's window, and an empty text, has no score.

    Raises:
        UserError: the folder cannot be read, or the model's tokenizer has no letters for the question.
    """

    def __init__(
        self, model: Path | str, batch_size: int, prompts: PromptSettings = PLAIN, asked: str = ASKED, yes: str = YES
    ) -> None:
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        with model_files(model):
            network = AutoModelForCausalLM.from_pretrained(model, use_safetensors=True, dtype=precision(model))
            self._tokenizer = AutoTokenizer.from_pretrained(model)
        answer = self._tokenizer(yes, add_special_tokens=False)["input_ids"]
        if not answer or not can_read(self._tokenizer, asked + yes):
            raise UserError(f"model {model} cannot be asked whether an answer is correct: its tokenizer has no letters for it.")
        self._network = network.to(self._device).eval()
        self._prompts, self._asked, self._batch_size = prompts, asked, batch_size
        self._yes: int = answer[0]
        self.window: int = network.config.get_text_config().max_position_embeddings

    def score(self, questions: list[str], texts: list[str], advance: Callable[[int], object] = lambda done: None) -> Scores:
        """P(`yes`) of each question's answer text, in batches of similar length; `advance` hears how many are done.

        `last` is `mean`.
        """
        ids = [
            asked_again(self._tokenizer, question, text, self._asked, self._prompts) if text else []
            for question, text in zip(questions, texts, strict=True)
        ]
        found = np.full(len(ids), np.nan)
        left = sorted((i for i, row in enumerate(ids) if 0 < len(row) <= self.window), key=lambda i: -len(ids[i]))
        advance(len(ids) - len(left))
        read = {i: len(ids[i]) + 1 for i in left}
        while left:
            chunk = left[: self._batch_size]
            sure, size = fitting(self._sure, [ids[i] for i in chunk], "answers")
            if size < len(chunk):
                self._batch_size = size
            found[chunk[:size]] = sure
            advance(len(sure))
            left = left[len(sure) :]
        return Scores(mean=found, last=found.copy(), tokens=np.array([read.get(i, 0) for i in range(len(ids))], np.int64))

    @torch.inference_mode()
    def _sure(self, encoded: Sequence[list[int]]) -> np.ndarray:
        """P(yes) after each row of token ids."""
        width = max(map(len, encoded))
        # Left padding: the logits of the last place are all that is computed of the vocabulary.
        ids = torch.tensor([[0] * (width - len(row)) + row for row in encoded], device=self._device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in encoded], device=self._device)
        places = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = self._network(input_ids=ids, attention_mask=mask, position_ids=places, logits_to_keep=1).logits[:, -1]
        return logits.float().softmax(-1)[:, self._yes].cpu().numpy().astype(float)
