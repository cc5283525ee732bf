"""From the question alone to the parameters of a stopping rule: one backbone, named heads (docs/optscale.md).

Any Hugging Face decoder or encoder; all of it frozen but for its last layers. Each head has its own bounds and its own loss:
squared error for score moments, binomial likelihood for rates of which only counts are known.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer

from itscale.data.journal import fingerprint, last_checkpoint, scratch_folder
from itscale.data.records import FEATURES, PREDICTIONS, Problem, read_json, refuse_full_folder, write_folder, write_json
from itscale.errors import UserError, refuse_below
from itscale.models.checkpoints import PlainTrainer
from itscale.models.frozen import FrozenLayers
from itscale.models.hub import model_files, weights_digest
from itscale.models.labels import Labels
from itscale.models.memory import give_back_large_blocks
from itscale.models.prompts import render
from itscale.progress import progress

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
_TOKENS = 8192  # of one pass that predicts, padding included
_MOST = 2_000_000_000  # bytes of remembered states
_LARGE = 50_000_000  # parameters: on a CPU, a pass of so many frozen ones is worth remembering


def squared_error(prediction: torch.Tensor, value: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Mean squared error [] over the rows with a label (count > 0); all arguments [B]."""
    known = (count > 0).float()
    return ((prediction - value) ** 2 * known).sum() / known.sum().clamp(min=1)


def binomial(prediction: torch.Tensor, value: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood [] per trial of rates `value` in `count` trials; rows without trials weigh nothing."""
    p = prediction.clamp(1e-6, 1 - 1e-6)
    nll = -(count * value * p.log() + count * (1 - value) * (1 - p).log())
    return nll.sum() / count.sum().clamp(min=1)


@dataclass(frozen=True, slots=True)
class Head:
    """A parameter lies in (0, high) and is fitted by `loss`."""

    high: float
    loss: Loss


# Scores lie in [0, 1], so their standard deviation in [0, 1/2].
HEADS: dict[str, Head] = {
    "score_mean": Head(1.0, squared_error),
    "score_sd": Head(0.5, squared_error),
    "p0": Head(1.0, binomial),
    "a": Head(1.0, binomial),
    "b": Head(1.0, binomial),
}


@dataclass(frozen=True, slots=True)
class PredictorSettings:
    """Heads, sizes and training; the defaults are the paper's."""

    heads: tuple[str, ...] = FEATURES
    widths: tuple[int, ...] = (512, 256, 128)
    dropout: tuple[float, ...] = (0.2, 0.2, 0.1)
    trained_layers: int = 2
    max_length: int = 768
    learning_rate: float = 8e-6
    weight_decay: float = 0.01
    batch_size: int = 16
    epochs: int = 40
    patience: int = 5
    warmup_share: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", tuple(self.heads))
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "dropout", tuple(self.dropout))
        unknown = sorted(set(self.heads) - set(HEADS))
        if unknown or not self.heads:
            what = f"the unknown head {unknown[0]!r}" if unknown else "no head"
            raise UserError(f"the predictor has {what}: choose among {', '.join(HEADS)}.")
        if len(self.dropout) != len(self.widths):
            raise UserError("the predictor's widths and dropout differ in length: give one dropout per width.")
        refuse_below(1, self, "max_length", "batch_size", "epochs", "patience")
        refuse_below(0, self, "trained_layers", "learning_rate", "weight_decay", "warmup_share")


class ParameterPredictor(nn.Module):
    """Backbone, attention pooling over the question's own tokens, one bounded MLP a head."""

    def __init__(self, backbone: nn.Module, settings: PredictorSettings) -> None:
        super().__init__()
        self.backbone = backbone
        hidden = backbone.config.hidden_size
        self.attention = nn.Linear(hidden, 1)
        nn.init.zeros_(self.attention.weight)  # begins as the mean
        self.heads = nn.ModuleDict({name: _mlp(hidden, settings) for name in settings.heads})
        for parameter in backbone.parameters():
            parameter.requires_grad = False
        for parameter in (p for layer in self._trained(settings.trained_layers) for p in layer.parameters()):
            parameter.requires_grad = True
        self._trained_layers = settings.trained_layers
        layers = _layers(backbone)
        self.frozen = FrozenLayers(layers[: max(0, len(layers) - settings.trained_layers)])

    def _trained(self, count: int) -> list[nn.Module]:
        layers = _layers(self.backbone)
        return list(layers[max(0, len(layers) - count) :])

    def train(self, mode: bool = True) -> "ParameterPredictor":
        super().train(mode)
        self.backbone.eval()  # what is frozen has no dropout either
        for layer in self._trained(self._trained_layers):
            layer.train(mode)
        return self

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, states: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Parameters {head: [B]} of token ids [B, L] and their mask [B, L] (1: the question's own).

        `states` [B, L, H] are what the frozen layers make of them, where that is known.
        """
        with nullcontext() if states is None else self.frozen.giving(states):
            found = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight = self.attention(found)[..., 0].masked_fill(attention_mask == 0, -torch.inf).softmax(dim=1)
        pooled = (weight[..., None] * found.nan_to_num()).sum(dim=1)
        return {name: HEADS[name].high * torch.sigmoid(head(pooled)[:, 0]) for name, head in self.heads.items()}


def _mlp(hidden: int, settings: PredictorSettings) -> nn.Sequential:
    parts: list[nn.Module] = []
    for width, dropout in zip(settings.widths, settings.dropout, strict=True):
        parts += [nn.Linear(hidden, width), nn.GELU(), nn.Dropout(dropout)]
        hidden = width
    return nn.Sequential(*parts, nn.Linear(hidden, 1))


def _layers(backbone: nn.Module) -> nn.ModuleList:
    """The stack of the backbone's layers: its longest list of modules."""
    lists = [m for m in backbone.modules() if isinstance(m, nn.ModuleList)]
    if not lists:
        raise UserError(f"{type(backbone).__name__} has no stack of layers: choose a transformer as the predictor's backbone.")
    return max(lists, key=len)


def encode(tokenizer: Any, question: str, max_length: int) -> list[int]:
    """Token ids of a question: as a chat prompt where the tokenizer has a template, cut to `max_length`."""
    if tokenizer.chat_template:
        return render(tokenizer, question, None)[:max_length]
    # An empty question without a mark of beginning still is something to pool over.
    return tokenizer(question, truncation=True, max_length=max_length)["input_ids"] or [tokenizer.eos_token_id]


def collate(rows: list[dict[str, Any]], pad: int) -> dict[str, torch.Tensor]:
    """A padded batch; where the rows carry them, `labels` [B, heads, 2] are value and count, and `states` [B, L, H]."""
    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([row["input_ids"] + [pad] * (width - len(row["input_ids"])) for row in rows])
    length = torch.tensor([len(row["input_ids"]) for row in rows])
    batch = {"input_ids": ids, "attention_mask": (torch.arange(width) < length[:, None]).long()}
    if "labels" in rows[0]:
        batch["labels"] = torch.tensor(np.stack([row["labels"] for row in rows]), dtype=torch.float32)
    if "states" in rows[0]:
        batch["states"] = nn.utils.rnn.pad_sequence([row["states"] for row in rows], batch_first=True)
    return batch


def remember(model: ParameterPredictor, examples: list[dict[str, Any]], pad: int, batch_size: int) -> None:
    """Give every example its `states` [L, H], what the frozen layers make of it, where they give states alone."""
    order = sorted(range(len(examples)), key=lambda i: len(examples[i]["input_ids"]))
    tqdm.write(f"{len(order)} questions go through the frozen layers, once", file=sys.stderr)  # a bar is the epochs'
    model.eval()
    for start in range(0, len(order), batch_size):
        chunk = order[start : start + batch_size]
        batch = collate([{"input_ids": examples[i]["input_ids"]} for i in chunk], pad)
        states = model.frozen.read(lambda batch=batch: model(**batch))
        if states is None:
            return
        for i, found in zip(chunk, states, strict=True):
            examples[i]["states"] = found[: len(examples[i]["input_ids"])].clone()


def joint_loss(heads: tuple[str, ...], predictions: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """The sum over heads of each one's own loss."""
    parts = [HEADS[name].loss(predictions[name], labels[:, i, 0], labels[:, i, 1]) for i, name in enumerate(heads)]
    return torch.stack(parts).sum()


def _examples(tokenizer: Any, problems: list[Problem], labels: Labels, settings: PredictorSettings) -> list[dict[str, Any]]:
    index = {problem: i for i, problem in enumerate(labels.problem_ids)}
    missing = [p.problem_id for p in problems if p.problem_id not in index]
    if missing:
        raise UserError(f"the predictor has no labels for problem {missing[0]}: make the pools of its split first.")
    rows = [index[p.problem_id] for p in problems]
    values = np.stack([np.stack([labels.value[h][rows], labels.count[h][rows]], axis=1) for h in settings.heads], axis=1)
    return [
        {"input_ids": encode(tokenizer, p.question, settings.max_length), "labels": v}
        for p, v in zip(problems, values, strict=True)
    ]


def _begin_at_the_mean(model: ParameterPredictor, examples: list[dict[str, Any]], heads: tuple[str, ...]) -> None:
    """Each head's last bias such that an untrained head predicts the training questions' weighted mean."""
    labels = np.stack([e["labels"] for e in examples])
    for i, name in enumerate(heads):
        value, count = labels[:, i, 0], labels[:, i, 1]
        weight = (count > 0) if HEADS[name].loss is squared_error else count
        share = float(np.average(value, weights=weight) / HEADS[name].high) if weight.sum() else 0.5
        last = model.heads[name][-1]
        nn.init.constant_(last.bias, float(np.log(np.clip(share, 1e-3, 1 - 1e-3) / (1 - np.clip(share, 1e-3, 1 - 1e-3)))))
        with torch.no_grad():
            last.weight.mul_(0.1)


def train(
    out: Path,
    backbone: Path | str,
    training: tuple[list[Problem], Labels],
    validation: tuple[list[Problem], Labels],
    seed: int,
    settings: PredictorSettings,
) -> None:
    """Train a predictor into a folder: backbone, tokenizer, heads.safetensors and predictor.json.

    The epoch with the lowest validation loss is kept; training ends when `patience` epochs have not improved on it. A killed
    run continues from `out`.partial.

    Raises:
        UserError: a question has no labels, or the partial run belongs to other data or settings.
    """
    from transformers import (
        EarlyStoppingCallback,
        PrinterCallback,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )

    set_seed(seed)
    out = Path(out)
    refuse_full_folder(out)
    with model_files(backbone):
        tokenizer = AutoTokenizer.from_pretrained(backbone)
        network = AutoModel.from_pretrained(backbone, use_safetensors=True, dtype=torch.float32)
    give_back_large_blocks(network)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    model = ParameterPredictor(network, settings)
    examples, held_out = (_examples(tokenizer, problems, labels, settings) for problems, labels in (training, validation))
    _begin_at_the_mean(model, examples, settings.heads)
    rows = [[e["input_ids"], e["labels"].tolist()] for e in examples + held_out]
    content = [asdict(settings), seed, str(backbone), weights_digest(backbone), rows]
    steps = -(-len(examples) // settings.batch_size)
    bar = progress(description="predictor", unit="epoch", total=settings.epochs)

    class Epochs(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
            bar.n = round(state.epoch)
            bar.set_postfix(validation_loss=f"{metrics['eval_loss']:.4f}")

    class HeadTrainer(PlainTrainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            labels = inputs.pop("labels")
            predictions = model(**inputs)
            loss = joint_loss(settings.heads, predictions, labels)
            return (loss, predictions) if return_outputs else loss

    with bar, scratch_folder(Path(f"{out}.partial"), fingerprint(content)) as scratch:
        held = 4 * network.config.hidden_size * sum(len(e["input_ids"]) for e in examples + held_out)
        if not torch.cuda.is_available() and model.frozen.parameters >= _LARGE and held <= _MOST:
            remember(model, examples + held_out, pad, settings.batch_size)
        trainer = HeadTrainer(
            model=model,
            args=TrainingArguments(
                output_dir=str(scratch),
                num_train_epochs=settings.epochs,
                per_device_train_batch_size=settings.batch_size,
                per_device_eval_batch_size=4 * settings.batch_size,
                learning_rate=settings.learning_rate,
                weight_decay=settings.weight_decay,
                lr_scheduler_type="linear",
                warmup_steps=round(settings.warmup_share * steps * settings.epochs),
                eval_strategy="epoch",
                save_strategy="epoch",
                save_total_limit=1,
                load_best_model_at_end=True,
                metric_for_best_model="loss",
                greater_is_better=False,
                prediction_loss_only=True,
                label_names=["labels"],
                remove_unused_columns=False,
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
                dataloader_pin_memory=False,
                seed=seed,
            ),
            train_dataset=examples,
            eval_dataset=held_out,
            data_collator=lambda rows: collate(rows, pad),
            callbacks=[EarlyStoppingCallback(settings.patience), Epochs()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=last_checkpoint(scratch))
        history = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
        save(out, model, tokenizer, settings, {"seed": seed, "validation_loss": trainer.state.best_metric, "history": history})


def save(out: Path, model: ParameterPredictor, tokenizer: Any, settings: PredictorSettings, meta: dict[str, Any]) -> None:
    """Write a predictor's folder, wholly or not at all."""
    from safetensors.torch import save_file

    own = {name: t.contiguous() for name, t in model.state_dict().items() if not name.startswith("backbone.")}
    with write_folder(out) as folder:
        model.backbone.save_pretrained(folder / "backbone")
        tokenizer.save_pretrained(folder / "backbone")
        save_file(own, folder / "heads.safetensors")
        write_json(folder / "predictor.json", {"settings": asdict(settings), **meta})


def load(folder: Path) -> tuple[ParameterPredictor, Any, PredictorSettings]:
    """(model in evaluation mode, tokenizer, settings) of a folder that `train` wrote."""
    from safetensors.torch import load_file

    folder = Path(folder)
    settings = PredictorSettings(**read_json(folder / "predictor.json")["settings"])
    with model_files(folder / "backbone"):
        tokenizer = AutoTokenizer.from_pretrained(folder / "backbone")
        backbone = AutoModel.from_pretrained(folder / "backbone", use_safetensors=True, dtype=torch.float32)
    give_back_large_blocks(backbone)
    model = ParameterPredictor(backbone, settings)
    with model_files(folder / "backbone"):
        heads = load_file(folder / "heads.safetensors")
    missing, unexpected = model.load_state_dict(heads, strict=False)
    if unexpected or any(not name.startswith("backbone.") for name in missing):
        raise UserError(f"{folder / 'heads.safetensors'} does not hold the heads that predictor.json names: train it anew.")
    return model.eval(), tokenizer, settings


def predict(problems: list[Problem], folder: Path, batch_size: int = 64) -> pd.DataFrame:
    """Predicted parameters (schema PREDICTIONS) of questions; a head that the predictor lacks is NaN."""
    model, tokenizer, settings = load(folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    encoded = [encode(tokenizer, p.question, settings.max_length) for p in problems]
    values = {name: np.full(len(problems), np.nan) for name in FEATURES}

    def chunks() -> Iterator[list[int]]:
        order = sorted(range(len(encoded)), key=lambda i: -len(encoded[i]))
        while order:
            count = min(batch_size, max(1, _TOKENS // len(encoded[order[0]])))
            yield order[:count]
            del order[:count]

    with progress(description="predictions", unit="question", total=len(encoded)) as bar, torch.inference_mode():
        for chunk in chunks():
            batch = collate([{"input_ids": encoded[i]} for i in chunk], pad)
            for name, found in model(**{k: v.to(device) for k, v in batch.items()}).items():
                values[name][chunk] = found.float().cpu().numpy()
            bar.update(len(chunk))
    table = {"problem_id": [p.problem_id for p in problems], "predictor_tokens": [len(ids) for ids in encoded], **values}
    return pd.DataFrame(table)[PREDICTIONS.names]
