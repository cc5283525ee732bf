"""Every environment is pinned once: pyproject.toml, the locks and the conda files agree."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS_OF = {
    "cpu.lock": ["all", "slurm"],
    "cpu-test.lock": ["all", "slurm", "test", "vllm-cpu"],
    "cuda.lock": ["all", "cuda", "slurm"],
    "cuda-test.lock": ["all", "cuda", "slurm", "test"],
}
LOCK_OF = {"cpu.yaml": "cpu.lock", "vllm.yaml": "cuda.lock"}


def pins(lines: list[str]) -> dict[str, str]:
    """Version by normalised name; a line that pins nothing exactly fails."""
    found: dict[str, str] = {}
    for line in lines:
        match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[a-z,-]+\])?==([^\s;]+)(?: *;.*)?", line)
        assert match, f"not an exact pin: {line!r}"
        name = re.sub(r"[-_.]+", "-", match[1]).lower()
        assert name not in found, f"{name} is pinned twice"
        found[name] = match[2]
    return found


def locked(name: str) -> dict[str, str]:
    return pins((ROOT / "envs" / name).read_text().splitlines())


def test_every_lock_is_described_here():
    assert {p.name for p in (ROOT / "envs").glob("*.lock")} == set(EXTRAS_OF)
    assert {p.name for p in (ROOT / "envs").glob("*.yaml")} == set(LOCK_OF)


def wanted(extras: list[str]) -> list[Requirement]:
    """What the project asks for with some extras, those that extras name in turn among them."""
    found, left, seen = [], [*map(Requirement, PROJECT["dependencies"])], set()
    left += [Requirement(f"itscale[{','.join(extras)}]")]
    while left:
        requirement = left.pop()
        if requirement.name != "itscale":
            found.append(requirement)
            continue
        for extra in requirement.extras - seen:
            seen.add(extra)
            left += map(Requirement, PROJECT["optional-dependencies"][extra])
    return found


@pytest.mark.parametrize("lock", EXTRAS_OF)
def test_locks_hold_what_the_project_asks_for(lock):
    have = locked(lock)
    for requirement in wanted(EXTRAS_OF[lock]):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name in have and requirement.specifier.contains(have[name], prereleases=True), requirement


def test_the_core_pins_nothing_exactly_and_brings_no_engine():
    names = {requirement.name for requirement in map(Requirement, PROJECT["dependencies"])}
    assert not names & {"torch", "transformers", "openai", "trl", "datasets", "snakemake", "matplotlib"}
    for requirement in wanted(["all"]):
        assert "==" not in str(requirement.specifier), requirement


@pytest.mark.parametrize(("lock", "part"), [("cpu-test.lock", "cpu.lock"), ("cuda-test.lock", "cuda.lock")])
def test_the_test_lock_holds_the_run_lock_so_that_it_serves_both(lock, part):
    assert locked(part).items() <= locked(lock).items()


@pytest.mark.parametrize("file", LOCK_OF)
def test_conda_files_hold_their_lock_but_for_what_pip_would_refuse(file):
    content = yaml.safe_load((ROOT / "envs" / file).read_text())
    python, pip, packages = content["dependencies"]
    assert python.startswith("python=3.11") and pip == "pip"
    left_out = {"snakemake-executor-plugin-slurm": "2.8.0"}
    assert pins([p for p in packages["pip"] if not p.startswith("--")]) | left_out == locked(LOCK_OF[file])


def lacking(lock: str) -> set[str]:
    """What packages of a lock require and it does not hold, by what is installed of them here: no lock is resolved later."""
    have, found = locked(lock), set()
    for name in have:
        for line in metadata.requires(name) or []:
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                found.add(re.sub(r"[-_.]+", "-", wanted.name).lower())
    return found - set(have)


# vLLM asks for these for sound, pictures and GPU kernels; text on a CPU runs without.
UNUSED = {"torchaudio", "torchcodec", "torchvision", "triton"}


@pytest.mark.parametrize(("lock", "left_out"), [("cpu.lock", set()), ("cpu-test.lock", UNUSED)])
def test_what_a_locked_package_requires_is_locked_too(lock, left_out):
    assert lacking(lock) == left_out
