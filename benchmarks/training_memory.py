"""Peak memory of a training step beside what `itscale plan` states: seven small steps on the CPU, real ones on a GPU.

A step is the real trainer's, on given rollouts of random tokens, all of the same length. Of two steps the second holds all:
moments are there when activations are. On a GPU the peak is torch's count of allocated bytes; on a CPU the process's highest
resident memory less what it held before the model was read, each shape in a process of its own.
"""

from harness import Measurement, Options, run  # before torch: it sets the number of threads

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from itscale.models.footprint import Shape, training_memory
from itscale.testtime.settings import Lora, RunSettings


@dataclass(frozen=True, slots=True)
class Case:
    """A model's shape, what is trained how, and the tokens of a row."""

    name: str
    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool = True
    precision: str = "float32"
    checkpointing: bool = False
    lora: int | None = None
    kl: float = 1e-3
    algorithm: str = "grpo"
    optimizer: str = "adamw"
    prompt: int = 64
    completion: int = 448
    rows: int = 8
    rows_per_pass: int = 4


QWEN_05B = {"hidden": 896, "layers": 24, "intermediate": 4864, "heads": 14, "kv_heads": 2, "vocabulary": 151936}
QWEN_15B = {"hidden": 1536, "layers": 28, "intermediate": 8960, "heads": 12, "kv_heads": 2, "vocabulary": 151936}
QWEN_7B = {"hidden": 3584, "layers": 28, "intermediate": 18944, "heads": 28, "kv_heads": 4, "vocabulary": 152064, "tied": False}
SMALL = {"layers": 8, "heads": 8, "kv_heads": 2, "vocabulary": 32000}
ON_CPU = [
    Case("512 wide, all weights", 512, intermediate=1536, **SMALL),
    Case("512 wide, checkpointing", 512, intermediate=1536, checkpointing=True, rows_per_pass=8, **SMALL),
    Case("768 wide, LoRA", 768, intermediate=2304, lora=16, **SMALL),
    Case("512 wide, SFT", 512, intermediate=1536, algorithm="sft", **SMALL),
    Case("512 wide, no KL, long", 512, intermediate=1536, kl=0.0, completion=960, **SMALL),
]
_BARE = {"rows_per_pass": 1, "checkpointing": True, "kl": 0.0, **SMALL}
ON_CPU += [
    Case("768 wide, little but weights", 768, intermediate=2304, **_BARE),
    Case("768 wide, little but weights, moments in 8 bits", 768, intermediate=2304, optimizer="adamw_8bit", **_BARE),
]
LONG = {"precision": "mixed", "prompt": 256, "completion": 3072}
ON_GPU = [
    Case("0.5 B, all weights, float32, 512 tokens", **QWEN_05B),
    Case("0.5 B, all weights, mixed, 512 tokens", **QWEN_05B, precision="mixed"),
    Case("0.5 B, all weights, checkpointing, 3,328 tokens", **QWEN_05B, **LONG, checkpointing=True, rows_per_pass=2),
    Case("0.5 B, LoRA 16, checkpointing, 3,328 tokens", **QWEN_05B, **LONG, checkpointing=True, lora=16),
    Case("1.5 B, all weights, checkpointing, 3,328 tokens", **QWEN_15B, **LONG, checkpointing=True),
    Case("1.5 B, PPO, checkpointing, 3,328 tokens", **QWEN_15B, **LONG, checkpointing=True, algorithm="ppo", rows_per_pass=2),
    Case(
        "0.5 B, all weights, moments in 8 bits, 3,328 tokens",
        **QWEN_05B,
        **LONG,
        checkpointing=True,
        rows_per_pass=2,
        optimizer="adamw_8bit",
    ),
    Case("7 B, LoRA 32, checkpointing, 3,328 tokens", **QWEN_7B, **LONG, checkpointing=True, lora=32),
]


def shape_of(case: Case) -> Shape:
    width = case.hidden // case.heads
    return Shape(
        hidden=case.hidden,
        layers=case.layers,
        intermediate=case.intermediate,
        vocabulary=case.vocabulary,
        queries=case.heads * width,
        keys=case.kv_heads * width,
        tied=case.tied,
        bias=True,
    )


def settings_of(case: Case) -> RunSettings:
    rows = case.rows // 2
    return RunSettings(
        algorithm=case.algorithm,
        optimizer=case.optimizer,
        vote={"policy": "self_consistency", "n": rows},
        group=rows,
        prompts=2,
        steps=2,
        kl=case.kl,
        rows_per_pass=case.rows_per_pass,
        precision=case.precision,
        gradient_checkpointing=case.checkpointing,
        lora=None if case.lora is None else Lora(case.lora),
    )


def predicted(case: Case) -> dict[str, float]:
    """GB by part."""
    settings = settings_of(case)
    lengths = {"prompt": case.prompt, "completion": case.completion}
    found = training_memory(shape_of(case), rows=case.rows_per_pass, **lengths, **options_of(settings), gpu=on_gpu())
    return {part: size / 1e9 for part, size in found.items()}


def options_of(settings: RunSettings) -> dict:
    return {
        "algorithm": settings.algorithm,
        "mixed": settings.precision == "mixed",
        "checkpointing": settings.gradient_checkpointing,
        "rank": settings.lora.rank if settings.lora else None,
        "reference": settings.kl > 0,
        "eight_bit": settings.optimizer == "adamw_8bit",
    }


def on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def peak_of(case: Case) -> float:
    """GB at the highest point of two steps."""
    import numpy as np
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM, TrainerCallback

    from itscale.data.journal import Journal
    from itscale.data.ledger import Ledger
    from itscale.data.records import Problem
    from itscale.drivers.assess import Assessment
    from itscale.drivers.driver import Sample, Solved
    from itscale.engines import EngineSettings
    from itscale.engines.protocol import Completion, Finish, Sampling
    from itscale.policies.calibration import Calibration
    from itscale.policies.protocol import Reason
    from itscale.testtime.evaluation import EvaluationSettings
    from itscale.testtime.rewards import Vote, rewards, row_weights
    from itscale.testtime.rollouts import Rollouts
    from itscale.testtime.train import Job, Run
    from itscale.toytask.tokenizer import build_tokenizer

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    settings, tokenizer, rng = settings_of(case), build_tokenizer(), np.random.default_rng(0)

    def solved(number: int) -> Solved:
        def sample(i: int) -> Sample:
            ids = tuple(rng.integers(10, 20, case.completion).tolist())
            return Sample(Completion(f"{i}", ids, "", Finish.STOP, case.prompt, 0), Assessment("", i % 2, np.nan, np.nan, 0))

        samples = tuple(sample(i) for i in range(settings.group))
        return Solved(Problem(f"p{number}", f"{number}", "0"), 0, samples, 0, Reason.FIXED, 0, 0, Ledger())

    rows = tuple(solved(p) for p in range(settings.prompts))
    votes = tuple(Vote(np.arange(settings.group) % 2, np.arange(settings.group) % 2 == 0, settings.group) for _ in rows)
    prompts = tuple(tuple(rng.integers(10, 20, case.prompt).tolist()) for _ in rows)
    paid = tuple(rewards(v, "votes") for v in votes)
    drawn = Rollouts(rows, prompts, votes, paid, tuple(row_weights([v.kept for v in votes])), Ledger(), 0.0)

    class Given:
        slots, last = settings.group, drawn
        schedule = [[row.problem for row in rows]] * settings.steps

        def refresh(self, updates: int) -> None: ...

        def draw(self, step: int) -> Rollouts:
            return drawn

    with tempfile.TemporaryDirectory() as folder:
        config = Qwen2Config(
            hidden_size=case.hidden,
            num_hidden_layers=case.layers,
            intermediate_size=case.intermediate,
            num_attention_heads=case.heads,
            num_key_value_heads=case.kv_heads,
            vocab_size=case.vocabulary,
            tie_word_embeddings=case.tied,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            dtype="bfloat16",
        )
        torch.set_default_dtype(torch.bfloat16)
        device = torch.device("cuda" if on_gpu() else "cpu")
        with device:
            model = Qwen2ForCausalLM(config)
        torch.set_default_dtype(torch.float32)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        del model
        before = resident()
        if on_gpu():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        sampling, engine = Sampling(max_tokens=case.completion), EngineSettings(folder)
        problems = [row.problem for row in rows]
        job = Job(Path(folder), problems, [], settings, EvaluationSettings(), sampling, engine, Calibration(), 0, "memory")
        made = Run(job, Path(folder), Journal(Path(folder) / "journal.jsonl", "x"), None, None, 0)
        made.roller = Given()
        trainer = made._trainer(f"{folder}/scratch", TrainerCallback())
        trainer.train()
        return torch.cuda.max_memory_allocated() / 1e9 if on_gpu() else resident(highest=True) - before


def resident(highest: bool = False) -> float:
    """GB of this process that are in memory, now or at most so far."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM" if highest else "VmRSS"].split()[0]) * 1024 / 1e9


def measured(case: Case) -> float | None:
    """`peak_of` in a process of its own; None where it does not fit, or takes more than five minutes."""
    # Freed memory goes back at once, so that a process's highest memory is that of its tensors.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, __file__, "--case", json.dumps(asdict(case))]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        print(f"{case.name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return float(done.stdout.strip().splitlines()[-1])


def measure(options: Options) -> list[Measurement]:
    found = []
    for case in (ON_GPU if on_gpu() else ON_CPU)[: 1 if options.short else None]:
        parts, peak = predicted(case), measured(case)
        total = sum(parts.values())
        if peak is None:
            print(f"{case.name}: not measured (stated: {total:.1f} GB)")
            continue
        details = {"measured_gb": peak, "stated_gb": total, "parts_gb": parts, "case": asdict(case)}
        found.append(Measurement(f"{case.name}: stated / measured ({peak:.2f} GB)", total / peak, "", "at most 1.15", details))
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        print(peak_of(Case(**json.loads(sys.argv[2]))))
    else:
        run(__doc__, measure)
