"""Training that fits its machine: LoRA, checkpointing, bfloat16, passes that halve themselves where memory runs out."""

import sys

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from test_testtime import CUDA, job_of, killed_and_resumed, results, run_in_child, toy  # noqa: F401 (toy is a fixture)
from transformers import AutoModelForCausalLM

from itscale.data.journal import Journal
from itscale.errors import UserError
from itscale.testtime import trainers
from itscale.testtime.optimisers import make_optimizer
from itscale.testtime.settings import Lora, RunSettings
from itscale.testtime.train import Run, train
from itscale.testtime.trainers import VoteGRPO, VoteRLOO
from itscale.testtime.weights import engine_dtype, passing_folder, read_model, whole_weights, write_model

LORA = Lora(rank=4, targets=("q_proj", "v_proj", "down_proj"))
ON_EVERY_DEVICE = ["any", pytest.param("cuda", marks=CUDA)]


def learnt(model, seed=0):
    """Adapters that are not zero, as after training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    return model


def test_merged_weights_are_the_model_with_its_adapter(toy, tmp_path):  # noqa: F811
    model = learnt(read_model(toy[0] / "lm", RunSettings(lora=LORA)))
    before = {name: p.clone() for name, p in model.named_parameters()}
    write_model(model, tmp_path)
    merged, ids = AutoModelForCausalLM.from_pretrained(tmp_path), torch.randint(5, 20, (3, 12))
    base = AutoModelForCausalLM.from_pretrained(toy[0] / "lm")
    with torch.no_grad():
        apart, together, untouched = (m.eval()(input_ids=ids).logits for m in (model, merged, base))
    assert torch.allclose(apart, together, atol=1e-4) and not torch.allclose(apart, untouched, atol=1e-2)
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())  # merging rounds nothing
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {n for n in before if "lora_" in n}


def test_weights_go_out_in_the_engines_precision_and_tied_ones_once(toy, tmp_path):  # noqa: F811
    folder = toy[0] / "lm"
    model = read_model(folder, RunSettings())
    write_model(model, tmp_path, torch.bfloat16)
    saved = load_file(tmp_path / "model.safetensors")
    assert {t.dtype for t in saved.values()} == {torch.bfloat16} and "lm_head.weight" not in saved
    assert all(t.dtype is torch.float32 for t in whole_weights(model).values())
    assert engine_dtype(folder, "bfloat16") is torch.bfloat16
    if not torch.cuda.is_available():
        assert engine_dtype(folder, "auto") is torch.float32  # a small model


def test_weights_pass_through_the_folder_that_is_named(tmp_path):
    run = tmp_path / "run"
    with passing_folder(str(tmp_path), 10, run) as folder:
        assert folder.parent == tmp_path and not folder.stat().st_mode & 0o077
        with passing_folder(str(tmp_path), 10, tmp_path / "another run") as other:
            assert other != folder
    assert not folder.exists()
    with pytest.raises(UserError, match="is no folder"), passing_folder(str(tmp_path / "none"), 10, run):
        pass
    with pytest.raises(UserError, match="less room"), passing_folder(str(tmp_path), 1 << 60, run):
        pass
    with passing_folder(None, 1 << 60, run) as folder:  # no room in memory: the system's temporary folder
        assert "shm" not in str(folder)


def test_what_a_killed_run_left_of_its_weights_goes_with_the_next(tmp_path):
    with passing_folder(str(tmp_path), 10, tmp_path / "run") as folder:
        pass
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(bytes(10))  # as after kill -9
    with passing_folder(str(tmp_path), 10, tmp_path / "run") as again:
        assert again == folder and not list(again.iterdir())
    assert not folder.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "float64"}, "choose one of float32, mixed"),
        ({"lora": Lora(rank=2, targets=("none_such",))}, "no such layers"),
    ],
)
def test_what_cannot_be_trained_is_named(toy, settings, message):  # noqa: F811
    with pytest.raises(UserError, match=message):
        read_model(toy[0] / "lm", RunSettings(**settings))
    with pytest.raises(UserError, match="rank"):
        Lora(rank=0)


@pytest.mark.parametrize("device", ON_EVERY_DEVICE)
@pytest.mark.parametrize("algorithm", ["grpo", "rloo", "sft", "ppo"])
@pytest.mark.parametrize("precision", ["float32", "mixed"])
def test_adapters_learn_with_checkpointing(toy, tmp_path, algorithm, precision, device):  # noqa: F811
    settings = {"algorithm": algorithm, "precision": precision, "lora": LORA, "gradient_checkpointing": True, "steps": 2}
    train(job_of(toy, {**settings, "rows_per_pass": 4}), tmp_path)
    last, start = (AutoModelForCausalLM.from_pretrained(p).state_dict() for p in (tmp_path / "last", toy[0] / "lm"))
    changed = {name for name in start if not torch.equal(last[name].cpu(), start[name].to(last[name].dtype))}
    assert changed == {n for n in start if n.removesuffix(".weight").endswith(LORA.targets)}
    assert len(pd.read_csv(tmp_path / "evaluation.csv")) > 0


def curve(folder):
    """Figures of steps but for the clock, as numbers."""
    rows, evaluation, _ = results(folder)
    return [{k: v for k, v in row.items() if isinstance(v, float)} for row in rows], [row["votes"] for row in rows], evaluation


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_checkpointing_changes_no_number(toy, tmp_path, algorithm):  # noqa: F811
    for name, chosen in (("without", False), ("with", True)):
        settings = {"algorithm": algorithm, "gradient_checkpointing": chosen, "steps": 2}
        train(job_of(toy, settings), tmp_path / name)
    assert curve(tmp_path / "without")[0] == [pytest.approx(row, rel=1e-5) for row in curve(tmp_path / "with")[0]]


def scarce(monkeypatch, most, steps=()):
    """Memory for passes of `most` rows; more run out of it between the forward and the backward pass, in every algorithm."""
    seen = []

    def limit(place, name, rows_of, begun):
        real = getattr(place, name)

        def compute(first, *rest):
            loss, rows = real(first, *rest), rows_of(rest)
            seen.append(rows)
            if rows > most and begun(first):
                raise torch.OutOfMemoryError("CUDA out of memory (a stand-in for it)")
            return loss

        monkeypatch.setattr(place, name, compute)

    def late(trainer):
        return trainer.first_step + trainer.state.global_step >= min(steps, default=0)

    for trainer in (VoteGRPO, VoteRLOO):
        limit(trainer, "_compute_loss", lambda rest: len(rest[1]["completion_ids"]), late)
    limit(trainers, "likelihood_loss", lambda rest: len(rest[0]["labels"]), lambda model: True)
    return seen


@pytest.fixture(scope="module")
def undisturbed(toy, tmp_path_factory):  # noqa: F811
    """A job, and the folder of its run with memory for all rows."""
    job, out = job_of(toy, {"checkpoint_every": 2, "lora": LORA}), tmp_path_factory.mktemp("undisturbed")
    train(job, out)
    return job, out


@pytest.mark.parametrize("from_step", [0, 2])
def test_where_memory_runs_out_passes_are_halved_and_the_curve_stays(undisturbed, tmp_path, monkeypatch, capsys, from_step):
    job, whole = undisturbed
    with monkeypatch.context() as patch:
        seen = scarce(patch, 3, [from_step])
        train(job, tmp_path / "halved")
    assert "out of memory with 12 rows of a training pass at once: going on with 6" in capsys.readouterr().err
    assert seen[0] == 12 and seen[-1] == 3
    alike(whole, tmp_path / "halved")


def alike(whole, halved, rel=1e-3):
    """The same curve; `rel` of TRL's own means, which are over passes whatever their lengths."""
    (one, votes, evaluation), (two, others, again) = curve(whole), curve(halved)
    means = {"entropy", "kl", "clip_ratio/region_mean"}
    for ours, theirs in zip(one, two, strict=True):
        for name, value in ours.items():
            assert theirs[name] == pytest.approx(value, rel=rel if name in means else 1e-3, abs=1e-6), name
    assert votes == others and evaluation == again


@pytest.mark.parametrize(
    "settings",
    [{"algorithm": "ppo"}, {"algorithm": "rloo"}, {"algorithm": "sft"}, {"optimizer": "adamw_8bit"}],
    ids=str,
)
def test_passes_are_halved_in_every_algorithm(toy, tmp_path, monkeypatch, capsys, settings):  # noqa: F811
    if "optimizer" in settings:
        pytest.importorskip("bitsandbytes")
    job = job_of(toy, {"steps": 2, **settings})
    train(job, tmp_path / "whole")
    with monkeypatch.context() as patch:
        most = 1 if settings.get("algorithm") == "sft" else 4  # few rollouts agree, and only they are read
        seen = scarce(patch, most)
        train(job, tmp_path / "halved")
    assert "out of memory with" in capsys.readouterr().err and max(seen) > most >= seen[-1]
    alike(tmp_path / "whole", tmp_path / "halved", rel=0.02)


def test_a_single_row_that_does_not_fit_is_said(toy, tmp_path, monkeypatch):  # noqa: F811
    scarce(monkeypatch, 0)
    with pytest.raises(UserError, match="not enough memory for one of the rows of a training pass"):
        train(job_of(toy, {}), tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_full_gpu_halves_the_passes(toy, tmp_path, capsys):  # noqa: F811
    """The real thing: a GPU with too little memory left for all rows at once."""
    job = job_of(toy, {"prompts": 6, "group": 64, "vote": {"policy": "self_consistency", "n": 64}, "steps": 2})
    train(job, tmp_path / "whole")
    torch.cuda.empty_cache()
    peak = torch.cuda.max_memory_allocated()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 0.6 * peak) / total)
    try:
        train(job, tmp_path / "halved")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "out of memory with" in capsys.readouterr().err
    for one, two in zip(curve(tmp_path / "whole")[0], curve(tmp_path / "halved")[0], strict=True):
        assert one["label_accuracy"] == pytest.approx(two["label_accuracy"], abs=0.1)


def run_where_memory_is_scarce(job, out, threads):
    with pytest.MonkeyPatch.context() as patch:
        scarce(patch, 3)
        run_in_child(job, out, threads)


@pytest.mark.parametrize("device", ON_EVERY_DEVICE)
def test_a_run_killed_at_every_step_with_adapters_checkpointing_and_halving_ends_with_the_same_curve(
    toy,  # noqa: F811
    tmp_path,
    monkeypatch,
    capsys,
    device,
):
    job = job_of(toy, {"lora": LORA, "gradient_checkpointing": True, "checkpoint_every": 2, "steps": 5})
    scarce(monkeypatch, 3)
    one, two = killed_and_resumed(job, tmp_path, run_where_memory_is_scarce, steps=(1, 2, 3, 4))
    assert "out of memory with 12 rows" in capsys.readouterr().err
    assert one == two


def eight_bit(groups, module):
    pytest.importorskip("bitsandbytes")
    return make_optimizer("adamw_8bit", groups, [module])


def test_moments_in_8_bits_step_nearly_as_those_in_32_and_embeddings_keep_32():
    """Least squares by both: the same path to within the rounding of a block's scale."""
    ends = {}
    for name in ("adamw", "adamw_8bit"):
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Embedding(96, 64), torch.nn.Linear(64, 96), torch.nn.Linear(96, 8))
        start = [p.detach().clone() for p in module.parameters()]
        groups = [{"params": list(module.parameters()), "lr": 3e-3}]
        optimizer = eight_bit(groups, module) if name == "adamw_8bit" else make_optimizer(name, groups, [module])
        ids, target = torch.arange(96), torch.randn(96, 8)
        for _ in range(40):
            optimizer.zero_grad()
            loss = (module(ids) - target).square().mean()
            loss.backward()
            optimizer.step()
        moved = torch.cat([(p.detach() - s).flatten() for p, s in zip(module.parameters(), start, strict=True)])
        ends[name] = moved, loss.item(), target.square().mean().item()
        if name == "adamw_8bit":
            kinds = [values["state1"].dtype for values in optimizer.state.values()]
            assert kinds == [torch.float32, torch.uint8, torch.float32, torch.float32, torch.float32]  # small ones stay as well
    (exact, loss, before), (rounded, other, _) = ends["adamw"], ends["adamw_8bit"]
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=0) > 0.98
    assert loss < 0.5 * before and other == pytest.approx(loss, rel=0.2)


@pytest.mark.parametrize("device", ON_EVERY_DEVICE)
def test_moments_in_8_bits_are_killed_and_resumed_to_the_bit(toy, tmp_path, device):  # noqa: F811
    pytest.importorskip("bitsandbytes")
    one, two = killed_and_resumed(job_of(toy, {"optimizer": "adamw_8bit", "algorithm": "ppo", "steps": 3}), tmp_path, steps=(2,))
    assert one == two
    plain = tmp_path / "plain"
    train(job_of(toy, {"algorithm": "ppo", "steps": 3}), plain)
    assert results(plain)[2] != one[2]  # they were used


def test_8_bits_without_bitsandbytes_are_refused_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="bitsandbytes is not installed: pip install"):
        make_optimizer("adamw_8bit", [], [])
    with pytest.raises(UserError, match="choose one of adamw, adamw_8bit"):
        RunSettings(optimizer="sgd")


@pytest.mark.parametrize(("asked", "taken"), [(None, 12), (100, 12), (6, 6), (5, 4)])
def test_passes_are_equal_parts_of_a_step(toy, tmp_path, asked, taken):  # noqa: F811
    run = Run(job_of(toy, {"rows_per_pass": asked}), tmp_path, Journal(tmp_path / "journal.jsonl", "x"), None, None, 0)
    assert run.rows_per_pass == taken  # 3 prompts of 4 rows: 5 does not divide them, 4 does
