"""One loop for all algorithms: draw votes, update, log, evaluate, keep a checkpoint; a killed run goes on with the same curve.

The loop is the Hugging Face trainer's. What makes a step (its problems, the seeds of its rollouts, torch's own seed) derives
from the run's seed and the step's number, so weights and optimiser moments are all that a checkpoint must hold.
"""

import importlib.util
import logging
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tqdm import tqdm
from transformers import AutoTokenizer, PrinterCallback, TrainerCallback, set_seed
from transformers.utils.logging import disable_progress_bar
from trl import GRPOConfig, RLOOConfig, SFTConfig

from itscale.data.journal import Journal, fingerprint, scratch_folder
from itscale.data.ledger import Ledger
from itscale.data.records import Problem, write_atomic, write_json
from itscale.drivers.generate import request_seed
from itscale.engines import EngineSettings, open_engine
from itscale.engines.protocol import ReloadingEngine, Sampling
from itscale.errors import UserError
from itscale.grading.comparison import Comparer
from itscale.grading.settings import Grading
from itscale.models.checkpoints import restore_moments
from itscale.models.hub import model_files
from itscale.models.memory import halved, out_of_memory
from itscale.policies.calibration import Calibration
from itscale.progress import progress
from itscale.testtime import checkpoints
from itscale.testtime.evaluation import METRICS, EvaluationSettings, averages, evaluate, merged
from itscale.testtime.optimisers import make_optimizer
from itscale.testtime.ppo import Critic, CriticGradient, VotePPO
from itscale.testtime.processes import ALONE, Processes
from itscale.testtime.rewards import NEED_TYPES
from itscale.testtime.rollouts import Roller, make_schedule, rollout_func, vote_reward
from itscale.testtime.settings import RunSettings
from itscale.testtime.trainers import VoteGRPO, VoteRLOO, VoteSFT
from itscale.testtime.weights import base_of, engine_dtype, passing_folder, read_model, write_model

# What is kept of a trainer's own log.
_LOGGED = ("loss", "grad_norm", "learning_rate", "entropy", "kl", "clip_ratio/region_mean", "value_loss")


@dataclass(frozen=True, slots=True)
class Job:
    """Where a run finds what it needs: `trained` is learnt from without its answers, `untouched` shows what is forgotten."""

    model: Path
    trained: Sequence[Problem]
    untouched: Sequence[Problem]
    settings: RunSettings
    evaluation: EvaluationSettings
    sampling: Sampling
    engine: EngineSettings
    known: Calibration
    seed: int
    name: str
    grading: Grading = field(default_factory=Grading)


def train(job: Job, out: Path) -> None:
    """Run the loop and write `metrics.jsonl`, `evaluation.csv`, `run.json` and the folders `last` and `best` under `out`."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(out / "tensorboard"))
    disable_progress_bar()  # loading and saving weights at every step is not worth a bar
    # TRL warns at every step that an unused slot has no reward, transformers of other ends in the model's files.
    for name in ("trl.trainer.grpo_trainer", "trl.trainer.rloo_trainer", "transformers.trainer_utils"):
        logging.getLogger(name).setLevel(logging.ERROR)
    processes = Processes.started()
    _refuse_several(job, processes)
    if job.settings.reward in NEED_TYPES and job.known.types is None:
        raise UserError(
            f"reward {job.settings.reward} reads from the calibration split's votes how sure a vote is, and there are none: give "
            "a calibration whose samples have answers."
        )
    if job.sampling.max_tokens is None:
        raise UserError("test-time training pads its rollouts to max_tokens, which is not set: set it in testtime.sampling.")
    identity, partial = _identity(job), out / "partial"
    with ExitStack() as stack:
        if processes.first:
            stack.enter_context(scratch_folder(partial, identity))
        processes.gather(None)  # the folder is there
        state = checkpoints.newest(partial) or {}
        engine = stack.enter_context(open_engine(job.engine))
        if not hasattr(engine, "reload"):
            raise UserError(f"engine.name is {job.engine.name}, which cannot take new weights: train with transformers or vllm.")
        comparer = stack.enter_context(Comparer(job.grading))
        rows = min((r for r in (state.get("rows_per_pass"), job.settings.rows_per_pass) if r), default=None)
        while rows := _from_the_last_checkpoint(job, partial, identity, engine, comparer, rows, out, processes):
            if processes.count > 1:
                raise UserError(
                    f"there is not enough memory for {rows} rows of a training pass, and several processes do not halve them by "
                    "themselves: set rows_per_pass to half as many; the run goes on from its last checkpoint."
                )
            rows = halved(rows, "rows of a training pass")


def _refuse_several(job: Job, processes: Processes) -> None:
    """Refuse several GPUs for one process, and what several processes do not do."""
    gpus, count = torch.cuda.device_count(), processes.count
    if count == 1:
        if gpus > 1:
            raise UserError(
                f"{gpus} GPUs are visible, and a test-time training run takes one: set CUDA_VISIBLE_DEVICES=0 (one run on each "
                f"is as good), or give it all of them with `accelerate launch --num_processes {gpus} -m itscale train-on-votes`."
            )
        return
    if job.settings.algorithm not in ("grpo", "rloo"):
        raise UserError(f"algorithm {job.settings.algorithm} trains in one process, not in {count}: choose grpo or rloo.")
    if job.settings.prompts % count:
        raise UserError(
            f"prompts of a test-time training run is {job.settings.prompts}, which {count} processes cannot share alike: choose "
            "a multiple."
        )
    if job.engine.name != "transformers":
        raise UserError(
            f"engine.name is {job.engine.name}, which draws for one process of training: take transformers for {count}."
        )


def _from_the_last_checkpoint(
    job: Job,
    partial: Path,
    identity: str,
    engine: ReloadingEngine,
    comparer: Comparer,
    rows: int | None,
    out: Path,
    processes: Processes,
) -> int | None:
    """Train from the newest checkpoint to the end, in passes of `rows`; the rows that did not fit into memory, if so.

    A step may break off between its optimiser steps, so that what it left is given up.
    """
    step = (checkpoints.newest(partial) or {"step": 0})["step"]
    with ExitStack() as stack:
        journal = None
        if processes.first:
            journal = stack.enter_context(closing(_resume_journal(partial / "journal.jsonl", identity, step)))
        run = Run(job, partial, journal, engine, comparer, step, rows, processes)
        try:
            run.loop()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return run.rows_per_pass
        run.finish(out)
    return None


def _identity(job: Job) -> str:
    problems = [[asdict(p) for p in split] for split in (job.trained, job.untouched)]
    # How many rows share a pass changes no result: a run that did not fit may go on with fewer.
    trained_with = {name: value for name, value in asdict(job.settings).items() if name != "rows_per_pass"}
    settings = [trained_with, asdict(job.evaluation), asdict(job.sampling), asdict(job.grading)]
    return fingerprint(
        [job.engine.identity(), problems, settings, repr(job.settings.policy(job.known)), repr(job.known.types), job.seed]
    )


def _resume_journal(path: Path, identity: str, step: int) -> Journal:
    """The journal up to a step; what was written after the checkpoint is written again."""
    journal = Journal(path, identity)
    rows = list(journal.rows())
    kept = [row for row in rows if row["step"] <= step]
    if len(kept) == len(rows):
        return journal
    journal.close()
    fresh = path.with_suffix(".tmp")
    fresh.unlink(missing_ok=True)
    rewritten = Journal(fresh, identity)
    rewritten.append(kept)
    rewritten.close()
    os.replace(fresh, path)
    return Journal(path, identity)


class Run:
    """A run under way: `step` counts finished steps; rows of the journal are steps or evaluations."""

    def __init__(
        self,
        job: Job,
        folder: Path,
        journal: Journal | None,
        engine: ReloadingEngine,
        comparer: Comparer,
        step: int,
        rows_per_pass: int | None = None,
        processes: Processes = ALONE,
    ) -> None:
        """`rows_per_pass` in place of the settings', where those did not fit into memory. The first process has the journal."""
        self.job, self.folder, self.journal, self.engine, self.comparer = job, folder, journal, engine, comparer
        self.processes = processes
        self.first = self.step = step
        self.rows: list[dict[str, Any]] = processes.gather([] if journal is None else list(journal.rows()))[0]
        settings = job.settings
        with model_files(job.model):
            self.tokenizer = AutoTokenizer.from_pretrained(job.model)
            set_seed(job.seed)
            self.model = read_model(job.model, settings)
        self.critic = Critic(job.model, settings.gradient_checkpointing) if settings.algorithm == "ppo" else None
        groups = [{"params": [p for p in self.model.parameters() if p.requires_grad], "lr": settings.learning_rate}]
        if self.critic is not None:
            groups.append({"params": list(self.critic.parameters()), "lr": settings.critic_learning_rate})
        models = [self.model] if self.critic is None else [self.model, self.critic]
        self.optimizer = make_optimizer(settings.optimizer, groups, models)
        if step:
            checkpoint = checkpoints.step_folder(folder, step)
            checkpoints.load_weights(self.model, checkpoint)
            restore_moments(self.optimizer, checkpoint / checkpoints.MOMENTS)
            if self.critic is not None:
                from safetensors.torch import load_file

                self.critic.load_state_dict(load_file(checkpoint / checkpoints.CRITIC))
        self.roller = Roller(
            engine,
            settings.policy(job.known),
            comparer,
            make_schedule(job.trained, settings.steps, settings.prompts, job.seed) if settings.steps else [],
            sampling=job.sampling,
            seed=job.seed,
            group=settings.group,
            retain=settings.retain,
            reward=settings.reward,
            types=job.known.types,
            eps=settings.reward_eps,
            reads=settings.updates,
            agreeing=settings.algorithm == "sft",
            prefetch=settings.prefetch,
            hand_over=self._hand_over,
            processes=processes,
        )
        self._most_rows = rows_per_pass or settings.rows_per_pass

    @property
    def rows_per_pass(self) -> int:
        """Rows of a forward pass: the most that share a process's step in equal parts."""
        rows = self.job.settings.prompts * self.roller.slots // self.processes.count
        most = min(self._most_rows or rows, rows)
        return next(size for size in range(most, 0, -1) if rows % size == 0)

    def _hand_over(self) -> None:
        """Give the engine the model's present weights, in the engine's precision; the first process writes them for all."""
        dtype = engine_dtype(self.job.model, self.job.engine.dtype)
        need = sum(p.numel() for p in base_of(self.model).parameters()) * dtype.itemsize
        with ExitStack() as stack:
            written = None
            if self.processes.first:
                written = stack.enter_context(passing_folder(self.job.settings.weights_folder, need, self.folder))
                write_model(self.model, written, dtype)
            self.engine.reload(self.processes.gather(written)[0])
            self.processes.gather(None)  # all have read them

    def loop(self) -> None:
        """Evaluate the model as it is, then train what is left of the steps."""
        settings = self.job.settings
        if self.step == 0:
            self.evaluate(0, "trained", self.job.trained)
            self.evaluate(0, "untouched", self.job.untouched)
        if self.step == settings.steps:
            return
        with progress(description=self.job.name, unit="step", total=settings.steps, shown=self.processes.first) as bar:
            bar.update(self.step)
            with tempfile.TemporaryDirectory() as scratch:
                trainer = self._trainer(scratch, _Loop(self, bar))
                trainer.remove_callback(PrinterCallback)
                trainer.train()

    def evaluate(self, step: int, benchmark: str, problems: Sequence[Problem]) -> None:
        """Evaluate the engine's weights, unless the journal has it or there is no problem."""
        if not problems or any(_is(row, "evaluation", benchmark) and row["step"] == step for row in self.rows):
            return
        if self.processes.first:  # minutes with a real model
            asked = f"{len(problems)} questions of the {benchmark} benchmark, {self.job.evaluation.samples} samples each"
            tqdm.write(f"{self.job.name}: evaluating after step {step}: {asked}", file=sys.stderr)
        seed = request_seed(self.job.seed, ("evaluation", 0, 0, 0))
        share = self.processes.share(problems)
        own = evaluate(share, self.engine, self.comparer, self.job.evaluation, self.job.sampling.max_tokens, seed)
        found = merged(self.processes.gather(own))
        self._write({"kind": "evaluation", "step": step, "benchmark": benchmark, **found})

    def _write(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if self.journal is not None:
            self.journal.append([row])

    @property
    def best(self) -> int:
        """The step after which the evaluation on the trained benchmark was best (it reads the answers); 0 without training."""
        found = [(averages(r)["mean"], -r["step"]) for r in self.rows if _is(r, "evaluation", "trained") and r["step"] > 0]
        return -max(found)[1] if found else 0

    def after_step(self, figures: dict[str, Any]) -> None:
        """Write a step down, evaluate and keep a checkpoint where it is time."""
        settings, evaluation = self.job.settings, self.job.evaluation
        self.step += 1
        self._write({"kind": "step", "step": self.step, **figures})
        final = self.step == settings.steps
        look = final or self.step % evaluation.every == 0
        if look:
            self.roller.refresh(self.step * settings.updates)
            self.evaluate(self.step, "trained", self.job.trained)
        if look or self.step % settings.checkpoint_every == 0:
            self._keep()

    def _keep(self) -> None:
        """Keep a checkpoint; no process goes on before it is there."""
        if self.processes.first:
            folder = checkpoints.step_folder(self.folder, self.step)
            state = {"step": self.step, "best": self.best, "rows_per_pass": self.rows_per_pass}
            checkpoints.save_checkpoint(folder, self.model, self.tokenizer, self.optimizer, self.critic, state)
            checkpoints.keep_only(self.folder, {self.step, self.best})
        self.processes.gather(None)

    def finish(self, out: Path) -> None:
        """Evaluate the untouched benchmark with the last and the best weights, and write the results, the manifest last."""
        for name, step in (("last", self.step), ("best", self.best)):
            folder = checkpoints.step_folder(self.folder, step) if step else self.job.model
            if step:
                self.engine.reload(folder)
                self.evaluate(step, "untouched", self.job.untouched)
            if self.processes.first:
                shutil.rmtree(out / name, ignore_errors=True)
                shutil.copytree(folder, out / name, ignore=shutil.ignore_patterns(checkpoints.TRAINING, checkpoints.STATE))
        self.processes.gather(None)  # the folder of checkpoints is read no longer
        if not self.processes.first:
            return
        write_results(self.rows, out)
        steps = [row for row in self.rows if row["kind"] == "step"]
        purposes = {"prompt": "prompt", "cached_prompt": "cached_prompt", "completion": "completion"}
        purposes |= {"prefetched": "unused", "training": "training"}
        ledger = Ledger(**{purpose: sum(row[f"{name}_tokens"] for row in steps) for purpose, name in purposes.items()})
        write_json(
            out / "run.json",
            {
                "name": self.job.name,
                "seed": self.job.seed,
                "settings": asdict(self.job.settings),
                "policy": repr(self.roller.policy),
                "evaluation": asdict(self.job.evaluation),
                "grading": asdict(self.job.grading),
                "steps": self.step,
                "best": self.best,
                "rollouts": sum(row["rollouts"] for row in steps),
                "ledger": asdict(ledger),
                "evaluation_tokens": sum(row["tokens"] for row in self.rows if row["kind"] == "evaluation"),
                "answering_tokens": next(row["tokens"] for row in self.rows if _is(row, "evaluation", "trained")),
            },
        )

    def _trainer(self, scratch: str, callback: TrainerCallback) -> Any:
        settings, roller = self.job.settings, self.roller
        rows, per_pass = settings.prompts * roller.slots // self.processes.count, self.rows_per_pass
        left = (settings.steps - self.first) * settings.updates
        common: dict[str, Any] = {
            "output_dir": scratch,
            "max_steps": left,
            "lr_scheduler_type": "constant",  # the schedule is given
            "logging_steps": settings.updates,
            "save_strategy": "no",
            "report_to": trackers(),
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            "remove_unused_columns": False,
            "use_cpu": not torch.cuda.is_available(),
            "bf16": settings.precision == "mixed",
            "gradient_checkpointing": settings.gradient_checkpointing,
            "gradient_checkpointing_kwargs": {"use_reentrant": False},
            "seed": self.job.seed,
            "run_name": f"{self.job.name}-{self.job.seed}",
        }
        # SFT reads no rows of a dataset: its only row is drawn again and again.
        given = {"args": None, "model": self.model, "processing_class": self.tokenizer, "callbacks": [callback]}
        given["optimizers"] = (self.optimizer, self._schedule())
        if settings.algorithm == "sft":
            arguments = SFTConfig(**common, per_device_train_batch_size=1, dataset_kwargs={"skip_prepare_dataset": True})
            data = Dataset.from_dict({"input_ids": [[0]] * left, "labels": [[0]] * left})
            trainer = VoteSFT(**{**given, "args": arguments}, train_dataset=data, data_collator=lambda batch: {})
            trainer.rows_per_pass = self.rows_per_pass
        else:
            questions = [p.question for step in roller.schedule[self.first :] for p in step]
            data = Dataset.from_dict({"prompt": questions})
            common |= {
                "per_device_train_batch_size": per_pass,
                "gradient_accumulation_steps": rows // per_pass,
                "num_generations": roller.slots,
                "num_iterations": settings.updates,
                "max_completion_length": self.job.sampling.max_tokens,
                "temperature": self.job.sampling.heat,
                "beta": settings.kl,
                "epsilon": settings.clip,
                "shuffle_dataset": False,
            }
            given |= {"reward_funcs": vote_reward, "train_dataset": data}
            if settings.algorithm == "rloo":
                trainer = VoteRLOO(**{**given, "args": RLOOConfig(**common)})
            else:
                kind = VotePPO if settings.algorithm == "ppo" else VoteGRPO
                plain = {"loss_type": "dr_grpo", "scale_rewards": "group", "use_bias_correction_kl": False}
                arguments = GRPOConfig(**common, **plain)
                draw = rollout_func(roller, self.first, settings.updates)
                trainer = kind(**{**given, "args": arguments}, rollout_func=draw)
        trainer.roller, trainer.first_step, trainer.updates = roller, self.first, settings.updates
        if settings.lora is not None and "ref" in self.model.peft_config:
            # TRL's reference is a copy of the adapter as it is now; a run that goes on means the model that it began with.
            self.model.delete_adapter("ref")
        if settings.precision == "mixed" and getattr(trainer, "ref_model", None) is not None:
            trainer.ref_model.bfloat16()  # which autocast computes in: half the memory
        if settings.algorithm == "ppo":
            trainer.critic, trainer.gae_lambda, trainer.value_clip = self.critic, settings.gae_lambda, settings.value_clip
            trainer.add_callback(CriticGradient(self.critic))
            self.critic.to(trainer.accelerator.device)
        return trainer

    def _schedule(self) -> torch.optim.lr_scheduler.LambdaLR:
        """Linear warm-up, then cosine to 0 over all updates of the run, from where it stands."""
        settings = self.job.settings
        total, begin = settings.steps * settings.updates, self.first * settings.updates
        warm = max(1, round(settings.warmup * total))

        def share(update: int) -> float:
            done = begin + update
            if done < warm:
                return (done + 1) / (warm + 1)
            return 0.5 * (1 + math.cos(math.pi * (done - warm) / max(1, total - warm)))

        return torch.optim.lr_scheduler.LambdaLR(self.optimizer, share)


class _Loop(TrainerCallback):
    """Between the trainer's loop and a run: seeds, clocks, and what happens after a step."""

    def __init__(self, run: Run, bar: Any) -> None:
        self.run, self.bar = run, bar
        self.mark = time.perf_counter()
        self.inside = self.began = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        run = self.run
        set_seed(request_seed(run.job.seed, ("step", 0, run.first * run.job.settings.updates + state.global_step, 0)) % 2**31)
        self.began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.inside += time.perf_counter() - self.began

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not logs or "loss" not in logs:
            return
        run = self.run
        drawn = run.roller.last.figures()
        now = time.perf_counter()
        reload, run.roller.seconds_reload = run.roller.seconds_reload, 0.0
        figures = {
            **{name: logs[name] for name in _LOGGED if name in logs},
            **drawn,
            "seconds_reload": reload,
            "seconds_update": self.inside - reload - drawn["seconds_sampling"],
            "seconds": now - self.mark,
        }
        run.after_step(figures)
        run.roller.seconds_reload = 0.0  # an evaluation's is no part of the next step
        self.bar.set_postfix(votes=sum(drawn["votes"]), label_accuracy=f"{drawn['label_accuracy']:.2f}", refresh=False)
        self.bar.update()
        self.mark, self.inside = time.perf_counter(), 0.0


def write_results(rows: list[dict[str, Any]], out: Path) -> None:
    """`metrics.jsonl`, a line a step, and `evaluation.csv`, a row a problem, step and benchmark."""
    import json

    import pandas as pd

    steps = [{k: v for k, v in row.items() if k != "kind"} for row in rows if row["kind"] == "step"]
    write_atomic(out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in steps).encode())
    frames = [
        pd.DataFrame({"step": row["step"], "benchmark": row["benchmark"], **{k: row[k] for k in ("problem_id", *METRICS)}})
        for row in rows
        if row["kind"] == "evaluation"
    ]
    write_atomic(out / "evaluation.csv", pd.concat(frames, ignore_index=True).to_csv(index=False).encode())


def trackers() -> list[str]:
    """TensorBoard where it is installed, Weights & Biases where it is installed and its environment is set up; else none."""
    found = ["tensorboard"] if importlib.util.find_spec("tensorboard") else []
    if importlib.util.find_spec("wandb") and (os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE")):
        found.append("wandb")
    return found


def _is(row: dict[str, Any], kind: str, benchmark: str) -> bool:
    return row["kind"] == kind and row.get("benchmark") == benchmark
