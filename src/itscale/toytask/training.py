"""One thin layer over the Hugging Face trainer: fixed steps, random batches, a progress bar, checkpoints to go on from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itscale.data.journal import last_checkpoint
from itscale.progress import progress

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class FitSettings:
    """Optimiser and schedule: AdamW, cosine decay to zero after a linear warm-up."""

    steps: int = 2000
    batch_size: int = 16
    learning_rate: float = 3e-3
    adam_beta2: float = 0.95
    weight_decay: float = 0.1
    warmup_steps: int = 50


# Batches that are sorted by length together: enough that a batch pads little, few enough that batches stay mixed over time.
_BUCKET = 16
_CHECKPOINTS = 10  # in a run: a kill costs a tenth of it at most


def bucketed(examples: list[dict[str, list[int]]], batch_size: int, seed: int) -> list[dict[str, list[int]]]:
    """The examples in an order in which consecutive batches hold examples of like length, the batches themselves shuffled.

    Lengths differ fivefold, so that random batches would be padding for the greater part.
    """
    rng = np.random.default_rng(seed)
    ordered = []
    for start in range(0, len(examples), batch_size * _BUCKET):
        part = sorted(examples[start : start + batch_size * _BUCKET], key=lambda e: len(e["input_ids"]))
        batches = [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
        ordered += [example for i in rng.permutation(len(batches)) for example in batches[i]]
    return ordered


def fit(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerFast",
    examples: list[dict[str, list[int]]],
    settings: FitSettings,
    seed: int,
    description: str,
    scratch: Path,
    loss: "Callable[[PreTrainedModel, dict[str, torch.Tensor]], torch.Tensor] | None" = None,
    pace: Callable[[str], float] = lambda name: 1.0,
) -> None:
    """Train `model` in place on examples of `input_ids` and `labels` (one a token, -100 where there is none).

    It goes on from the latest checkpoint in the folder `scratch`, which must be this run's own, to the same weights.
    `loss` maps the model and a padded batch to what is minimised; by default it is the model's own. `pace` maps a parameter's
    name to its share of the learning rate.
    """
    from torch.optim import AdamW
    from transformers import (
        DataCollatorForTokenClassification,
        PrinterCallback,
        TrainerCallback,
        TrainingArguments,
        get_cosine_schedule_with_warmup,
    )

    from itscale.models.checkpoints import PlainTrainer

    begun = last_checkpoint(scratch)
    done = int(begun.rpartition("-")[2]) if begun is not None else 0
    bar = progress(description=description, unit="step", total=settings.steps, initial=done)

    class Bar(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            bar.update()

    class LossTrainer(PlainTrainer):
        def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
            if loss is None:
                return super().compute_loss(model, inputs, *arguments, **options)
            return loss(model, inputs)

    groups: dict[tuple[float, float], list[Any]] = {}
    for name, parameter in model.named_parameters():
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((pace(name), decay), []).append(parameter)
    optimizer = AdamW(
        [
            {"params": chosen, "lr": share * settings.learning_rate, "weight_decay": decay}
            for (share, decay), chosen in groups.items()
        ],
        betas=(0.9, settings.adam_beta2),
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, settings.warmup_steps, settings.steps)

    with bar:
        arguments = TrainingArguments(
            output_dir=str(scratch),
            max_steps=settings.steps,
            per_device_train_batch_size=settings.batch_size,
            seed=seed,
            save_strategy="steps",
            save_steps=max(1, settings.steps // _CHECKPOINTS),
            save_total_limit=1,
            train_sampling_strategy="sequential",  # the order is bucketed's
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = LossTrainer(
            model=model,
            args=arguments,
            train_dataset=bucketed(examples, settings.batch_size, seed),
            data_collator=DataCollatorForTokenClassification(tokenizer),
            callbacks=[Bar()],
            optimizers=(optimizer, schedule),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=begun)
    model.eval()
