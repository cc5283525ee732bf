"""The built wheel where nothing but the core's packages is installed, on whatever else stands in their place."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What the extras bring: here it is as if it were not installed, or were too old to be looked at.
ABSENT = (
    "torch transformers tokenizers safetensors accelerate huggingface_hub trl datasets openai tenacity matplotlib jinja2 yaml "
)
ABSENT += "snakemake jsonschema networkx grimp tabulate"
START = f"""
import sys
sys.path.insert(0, sys.argv.pop(1))
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ABSENT.split()!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that the wheel is unpacked in."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    source = folder / "source"
    source.mkdir()
    tracked = subprocess.run(
        ["git", "ls-files", "src", "examples", "pyproject.toml", "README.md", "LICENSE"], cwd=ROOT, capture_output=True, text=True
    )
    if tracked.returncode:
        pytest.skip("not a git checkout")
    subprocess.run(["cp", "-P", "--parents", *tracked.stdout.split(), str(source)], cwd=ROOT, check=True)
    subprocess.run([*build, str(source)], check=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed, code, *arguments, cwd):
    command = [sys.executable, "-c", START + code, str(installed), *map(str, arguments)]
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd, env=clean)


COMMAND = "from itscale.cli import main; import itscale; assert itscale.__file__.startswith(sys.path[0]); main()"


@pytest.mark.slow
def test_advice_on_the_example_and_on_samples_of_ones_own(installed, tmp_path):
    done = run(installed, COMMAND, "advise", "--orders", 2, cwd=tmp_path)
    assert done.returncode == 0 and "next: itscale solve" in done.stdout, done.stderr
    rows = [
        {"question": f"{q}+{q}", "gold": str(2 * q), "text": f"\\boxed{{{2 * q + (s == 2)}}}"} for q in range(6) for s in range(4)
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(installed, COMMAND, "import", "mine.jsonl", "--out", "pool", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run(installed, COMMAND, "advise", "--pool", "pool", "--out", "advice", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "advice" / "advice.json").exists(), done.stderr
    assert "no picture: matplotlib is not installed: pip install 'itscale[workflow]'." in done.stdout
    loop = "import itscale\nstop = itscale.Stopper.from_advice('advice')\nwhile not stop.done: stop.add('4')\nprint(stop.answer)"
    assert run(installed, loop, cwd=tmp_path).stdout.strip() == "4"


@pytest.mark.slow
def test_what_an_extra_brings_is_asked_for_by_its_name(installed, tmp_path):
    (tmp_path / "q.jsonl").write_text('{"question": "1+1"}\n')
    for model, extra in (("http://127.0.0.1:9/v1", "serve"), (str(tmp_path), "local")):
        done = run(installed, COMMAND, "solve", "--model", model, "--policy", "asc", "--problems", "q.jsonl", cwd=tmp_path)
        assert done.returncode == 1 and f"pip install 'itscale[{extra}]'" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
