"""Everything that needs a GPU, in pieces of at most ten minutes, and one table: `make gpu`.

Needs torch and transformers and no network; ITSCALE_REAL_MODEL names the folder of a real model. What is not installed or not
there is left out and named. Pieces: `tests` (pytest -m gpu), `sampling` (tokens per second and peak memory of the transformers
engine with 1 to 1,024 in flight), `memory` (peaks of training steps beside what `itscale plan` states), `training` (one OptPO
run: seconds and memory of a step), `study` (config/laptop.yaml's study on all of GSM8K: as far as the time goes, the next call
goes on; ITSCALE_GSM8K names a folder with the dataset's files where there is no network).
Writes OUT/gpu.md and OUT/gpu.json after each piece; ends with status 1 where one failed.
"""

import argparse
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 600  # seconds of a piece
BATCHES = (1, 16, 64, 256, 1024)
TOKENS = 256
NO_TESTS = 5  # pytest's status where none was chosen
Row = tuple[str, str]
# What a piece imports beside torch and transformers.
TRAINER = ("trl", "peft", "datasets")
NEEDS = {
    "tests": ("pytest", "hypothesis"),
    "memory": TRAINER,
    "training": TRAINER,
    "study": ("snakemake", "datasets", "matplotlib"),
}
STUDY = ("config.yaml", "laptop.yaml", "one_gpu_gsm8k.yaml")
ENGINE = ("pandas", "pyarrow", "sklearn", "math_verify")


def tests(model: str, out: Path, limit: int) -> list[Row]:
    """The tests that need CUDA; those of what is not installed skip themselves and say so."""
    folders = ["tests/engines", "tests/testtime", "tests/drivers", "tests/models"]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    (out / "gpu_tests.log").write_text(done.stdout + done.stderr)
    print(done.stdout[-3000:])
    skipped = sorted(set(re.findall(r"could not import '(\w+)'", done.stdout)))
    why = f" (not installed: {', '.join(skipped)})" if skipped else ""
    last = (done.stdout.strip() or done.stderr.strip() or "no output").splitlines()[-1].strip("= ")
    failed = "" if done.returncode in (0, NO_TESTS) else f"failed with status {done.returncode}: "
    return [("tests that need a GPU", failed + last + why)]


def sampling(model: str, out: Path, limit: int) -> list[Row]:
    """The engine's speed by batch."""
    import torch

    from itscale.engines import EngineSettings, open_engine
    from itscale.engines.protocol import Request, Sampling

    question = (
        "A shop sells {} pens at 3 dollars each and gives back 7 dollars. How many dollars does it keep? Explain each step."
    )
    rows = []
    for batch in BATCHES:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        with open_engine(EngineSettings(model, "transformers", batch)) as engine:

            def draw(number: int, tokens: int, engine=engine) -> float:
                sampled = Sampling(1.0, 1.0, tokens)
                asked = [
                    Request(f"{tokens}-{i}", engine.encode(question.format(7 + i % 8), None), sampled, i) for i in range(number)
                ]
                torch.cuda.synchronize()
                begun, before = time.perf_counter(), engine.usage().completion
                engine.submit(asked)
                while engine.outstanding:
                    engine.poll()
                torch.cuda.synchronize()
                return (engine.usage().completion - before) / (time.perf_counter() - begun)

            draw(batch, 8)  # warm up
            rate = draw(batch, TOKENS)
        peak = torch.cuda.max_memory_allocated() / 1e9
        rows.append((f"transformers engine, {batch} in flight", f"{rate:,.0f} tokens/s, peak {peak:.1f} GB"))
    return rows


def memory(model: str, out: Path, limit: int) -> list[Row]:
    """Peaks of training steps beside what is stated."""
    from training_memory import ON_GPU, measured, predicted

    rows: list[Row] = []
    for case in ON_GPU:
        parts, peak = predicted(case), measured(case)
        total = sum(parts.values())
        shown = ", ".join(f"{part} {size:.1f}" for part, size in parts.items())
        found = "not measured" if peak is None else f"measured {peak:.1f} GB ({total / peak - 1:+.0%})"
        rows.append((f"training step: {case.name}", f"stated {total:.1f} GB, {found}: {shown}"))
        print(*rows[-1], flush=True)
        (out / "gpu_memory.json").write_text(json.dumps(rows, indent=1))  # what is measured stays if the piece is broken off
    return rows


def training(model: str, out: Path, limit: int) -> list[Row]:
    """One OptPO run on word problems that are made here: bfloat16 with float32 weights, checkpointing, votes of 16 to 32."""
    import tempfile

    import numpy as np
    import torch

    from itscale.data.records import Problem
    from itscale.engines import EngineSettings
    from itscale.engines.protocol import Sampling
    from itscale.models.prompts import BOX
    from itscale.policies.calibration import Calibration
    from itscale.testtime.evaluation import EvaluationSettings
    from itscale.testtime.settings import Lora, RunSettings
    from itscale.testtime.train import Job, train
    from itscale.theory.voting import VoteModel

    rng = np.random.default_rng(0)

    def problem(i: int) -> Problem:
        a, b, c, d = (int(v) for v in rng.integers((12, 3, 5, 2), (60, 12, 40, 9)))
        text = (
            f"A shop sells {a} boxes of {b} pens at {d} dollars a box and {c} pens alone at 1 dollar each. It pays {2 * c + d} "
        )
        return Problem(f"w{i}", f"{text}dollars of rent. How many dollars are left?", str(a * d + c - 2 * c - d))

    problems = [problem(i) for i in range(24)]
    vote = {"policy": "vote_posterior", "eps": 0.05, "n_min": 16, "n_max": 32, "chunk": 4}
    shared = {"vote": vote, "prompts": 8, "group": 16, "precision": "mixed", "gradient_checkpointing": True, "rows_per_pass": 32}
    rows = []
    for name, own in (
        ("all weights", {"steps": 6, "learning_rate": 1e-6}),
        ("LoRA 16", {"steps": 2, "learning_rate": 1e-5, "lora": Lora(16)}),
    ):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        job = Job(
            model=Path(model),
            trained=problems,
            untouched=[],
            settings=RunSettings(**shared, **own),
            evaluation=EvaluationSettings(samples=8, every=own["steps"]),
            sampling=Sampling(1.0, 1.0, 384),
            engine=EngineSettings(model, "transformers", 256, instruction=BOX),
            known=Calibration(votes=VoteModel(0.4, 10)),
            seed=1,
            name=name,
        )
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            train(job, Path(folder))
            took = time.perf_counter() - begun
            steps = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
            (out / f"gpu_{name.replace(' ', '_')}.jsonl").write_text((Path(folder) / "metrics.jsonl").read_text())
            table = [line.split(",") for line in (Path(folder) / "evaluation.csv").read_text().splitlines()[1:]]
        means = {s: np.mean([float(r[3]) for r in table if r[0] == s]) for s in ("0", str(own["steps"]))}

        def mean(key: str, steps=steps) -> float:
            return float(np.mean([row[key] for row in steps]))

        votes = np.mean([v for row in steps for v in row["votes"]])
        rate = sum(r["completion_tokens"] for r in steps) / sum(r["seconds_sampling"] for r in steps)
        rows.append(
            (
                f"OptPO, {name}: a step of 8 prompts",
                f"{mean('seconds'):.1f} s: votes {mean('seconds_sampling'):.1f} ({votes:.1f} a prompt, {rate:,.0f} tokens/s), "
                f"update {mean('seconds_update'):.1f}, weights to the engine {mean('seconds_reload'):.1f}; peak "
                f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB; {own['steps']} steps and two evaluations in {took:.0f} s; "
                f"mean@8 {means['0']:.2f}, {means[str(own['steps'])]:.2f} after; labels {mean('label_accuracy'):.0%} right",
            )
        )
        print(*rows[-1], flush=True)
    return rows


def study(model: str, out: Path, limit: int) -> list[Row]:
    """The samples, tables and figures of both sampling papers on all of GSM8K, interrupted in time to be taken up again."""
    engine = "vllm" if importlib.util.find_spec("vllm") else "transformers"
    settings = [f"engine={{name: {engine}}}", f"models={{generators: {{qwen_coder_0_5b: {{path: '{model}'}}}}}}"]
    if folder := os.environ.get("ITSCALE_GSM8K"):
        names = ("gsm8k", "calibration", "predictor_train", "predictor_validation")
        settings.append(f"datasets={{{', '.join(f'{name}: {{path: {folder!r}}}' for name in names)}}}")
    files = [str(ROOT / "config" / name) for name in STUDY]
    # Jobs of the transformers engine ask for no GPU, which only one of them may fill. A killed call leaves a lock behind.
    cores = "all" if engine == "vllm" else "1"
    command = [sys.executable, "-m", "snakemake", "optscale", "markovscale", "--cores", cores, "--resources", "gpu=1"]
    command += ["--nolock", "--rerun-incomplete", "--configfile", *files, "--config", *settings]
    begun, log = time.perf_counter(), out / "gpu_study.log"
    status = run_for(command, log, limit - 90)
    end = "ended" if status == 0 else f"failed with status {status}" if status else "the next call goes on"
    reached = re.findall(r"^ *(\d+ %) ", log.read_text(), re.M)
    print(log.read_text()[-3000:])
    share = f", {reached[-1]} of what was left" if reached else ""
    return [(f"laptop.yaml at full size, {engine}", f"{end} (after {time.perf_counter() - begun:.0f} s{share}; {log})")]


def run_for(command: list[str], log: Path, limit: float, grace: float = 45) -> int | None:
    """The exit status of a command, or None after `limit` seconds: then it and what it began get Ctrl-C, to keep what they have.

    This process must lead their group; whoever began it kills what is left of the group.
    """
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with log.open("w") as lines:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=lines, stderr=lines)
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # for this process alone: the others are there already
            os.killpg(os.getpgrp(), signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(grace)
            return None


PIECES = {"tests": tests, "sampling": sampling, "memory": memory, "training": training, "study": study}


def card() -> str:
    """The GPU and what computes on it, in words."""
    import torch
    import transformers

    device = torch.cuda.get_device_properties(0)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, Python {sys.version.split()[0]}"
    return f"{device.name}, {device.total_memory / 2**30:.0f} GiB; {versions}"


def left_out(name: str, model: str) -> list[Row]:
    """Why a piece cannot run here, if so."""
    lacking = [module for module in (*ENGINE, *NEEDS.get(name, ())) if importlib.util.find_spec(module) is None]
    if lacking:
        return [(name, f"left out: not installed: {', '.join(lacking)}")]
    if name in ("sampling", "training", "study") and not Path(model, "config.json").exists():
        return [(name, "left out: ITSCALE_REAL_MODEL names no model folder")]
    if name == "study" and not os.environ.get("ITSCALE_GSM8K") and not hub_answers():
        return [(name, "left out: the hub cannot be reached, and ITSCALE_GSM8K names no folder with the dataset's files")]
    return []


def hub_answers() -> bool:
    """Whether datasets can be fetched."""
    with suppress(OSError), socket.create_connection(("huggingface.co", 443), timeout=5):
        return True
    return False


def piece(name: str, model: str, out: Path, limit: int) -> list[Row]:
    """A piece in a process of its own, so that one that hangs or fails takes no other with it."""
    command = [sys.executable, __file__, "--only", name, "--out", str(out), "--limit", str(limit)]
    environment = {**os.environ, "ITSCALE_REAL_MODEL": model, "PYTHONPATH": f"{ROOT / 'src'}:{os.environ.get('PYTHONPATH', '')}"}
    result = out / f"gpu_{name}.json"
    result.unlink(missing_ok=True)
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        try:
            status = process.wait(limit)
            end = [(name, f"failed with status {status}")] if status else []
        except subprocess.TimeoutExpired:
            end = [(name, f"broken off after {limit} s")]
        finally:
            with suppress(ProcessLookupError):  # what it started holds the GPU
                os.killpg(process.pid, signal.SIGKILL)
    return (json.loads(result.read_text()) if result.exists() else []) + end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pieces", nargs="*", help=f"some of {', '.join(PIECES)}; all without")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "timings", help="folder of gpu.md and gpu.json")
    parser.add_argument("--limit", type=int, default=LIMIT, help="seconds of a piece at most")
    parser.add_argument("--only", choices=PIECES, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    model, out = os.environ.get("ITSCALE_REAL_MODEL", ""), chosen.out
    out.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("torch") is None:
        sys.exit("torch is not installed: install it for this machine's CUDA first")
    if chosen.only:
        rows = PIECES[chosen.only](model, out, chosen.limit)
        (out / f"gpu_{chosen.only}.json").write_text(json.dumps(rows, indent=1))
        return
    import torch

    if not torch.cuda.is_available():
        sys.exit("there is no CUDA device here: nothing is measured")
    rows: list[Row] = [("machine", card())]
    for name in chosen.pieces or PIECES:
        rows += left_out(name, model) or piece(name, model, out, chosen.limit)
        table = "\n".join(["| What | Measured |", "|---|---|", *(f"| {what} | {found} |" for what, found in rows)])
        (out / "gpu.md").write_text(table + "\n")
        (out / "gpu.json").write_text(json.dumps(rows, indent=1))
    print((out / "gpu.md").read_text())
    if any(found.startswith(("failed", "broken off")) for _, found in rows):
        sys.exit(1)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "benchmarks"))
    main()
