"""Models and benchmarks of the hub: a small server stands in for it, so that the download itself is what runs."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
import yaml

from itscale.errors import UserError
from itscale.models import hub
from itscale.models.hub import ModelSource, fetch_model, weights_digest
from itscale.sources.datasets import DatasetSource, lettered, read_dataset
from standins import language_model

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """The hub's two questions about models (what files, their bytes) for one folder, `org/tiny`; `org/gated` is gated."""

    def __init__(self, folder, wrong_hash: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder, self.wrong_hash = folder, wrong_hash
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if "gated" in self.path:
            return self.reply(401, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})
        if "tiny" not in self.path:
            return self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if REVISION not in self.path and self.path.partition("?")[0] != "/api/models/org/tiny":
            return self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if self.path.startswith("/api/models/"):
            listing = self.files() if "/tree/" in self.path else {"id": "org/tiny", "sha": REVISION, "siblings": self.siblings()}
            return self.reply(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})
        file = self.server.folder / self.path.rpartition("/")[2].partition("?")[0]
        data = file.read_bytes()
        headers = {"X-Repo-Commit": REVISION, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        return self.reply(200, data, headers)

    def files(self) -> list[dict]:
        entries = []
        for file in sorted(self.server.folder.iterdir()):
            data = file.read_bytes()
            entry = {"type": "file", "path": file.name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            if file.suffix == ".safetensors":
                digest = hashlib.sha256(b"other" if self.server.wrong_hash else data).hexdigest()
                entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 130}
            entries.append(entry)
        return entries

    def siblings(self) -> list[dict]:
        found = []
        for entry in self.files():
            sibling = {"rfilename": entry["path"], "size": entry["size"], "blobId": entry["oid"]}
            if "lfs" in entry:
                sibling["lfs"] = {"sha256": entry["lfs"]["oid"], "size": entry["size"], "pointerSize": 130}
            found.append(sibling)
        return found

    def reply(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *arguments) -> None: ...


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return language_model(tmp_path_factory.mktemp("hub") / "tiny", "llama")


def fetch(source: dict | str, home, endpoint: str, **environment: str) -> subprocess.CompletedProcess:
    """`itscale fetch-model` in a process of its own: the hub's library reads its settings when it is imported."""
    asked = ["--model", source] if isinstance(source, str) else ["--source", json.dumps(source)]
    command = [sys.executable, "-m", "itscale", "fetch-model", *asked, "--what", "model tiny"]
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home / "cache"), "HF_HUB_DISABLE_XET": "1", **environment}
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    return subprocess.run(
        [*command, "--out", str(home / "out")], env={**clean, **settings}, capture_output=True, text=True, timeout=240
    )


def test_a_model_that_is_named_alone_is_taken_at_its_newest_revision_which_is_printed(folder, tmp_path):
    done = fetch("org/tiny", tmp_path, Hub(folder).address)
    assert done.returncode == 0, done.stderr
    assert f"org/tiny at revision {REVISION}" in done.stdout and (tmp_path / "out" / "config.json").exists()


def test_a_model_of_the_hub_becomes_a_folder(folder, tmp_path):
    hub = Hub(folder)
    done = fetch({"path": "org/tiny", "revision": REVISION}, tmp_path, hub.address)
    assert done.returncode == 0, done.stderr
    for file in folder.iterdir():
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()
    hub.shutdown()
    # What the cache holds needs no network any more.
    assert fetch({"path": "org/tiny", "revision": REVISION}, tmp_path, hub.address, HF_HUB_OFFLINE="1").returncode == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"path": "org/gated", "revision": REVISION}, "gated: accept its terms at https://huggingface.co/org/gated and log in"),
        ({"path": "org/none", "revision": REVISION}, "does not exist on the hub, or is private"),
        ({"path": "org/tiny", "revision": REVISION[::-1]}, "has no such revision"),
        ({"path": "org/tiny", "revision": "main"}, "needs the 40 digits of a commit"),
    ],
)
def test_what_is_wrong_gets_one_sentence(folder, tmp_path, source, message):
    hub = Hub(folder)
    done = fetch(source, tmp_path, hub.address)
    hub.shutdown()
    assert done.returncode == 1
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_file_that_is_not_the_published_one_is_refused(folder, tmp_path):
    hub = Hub(folder, wrong_hash=True)
    done = fetch({"path": "org/tiny", "revision": REVISION}, tmp_path, hub.address)
    hub.shutdown()
    assert done.returncode == 1 and re.search(r"model\.safetensors is not the file that the hub has", done.stderr), done.stderr


def test_without_a_network_it_says_so(tmp_path):
    done = fetch({"path": "org/tiny", "revision": REVISION}, tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert done.returncode == 1 and "run this step where there is a network" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("error", "times"),
    [(ConnectionError("no route"), 4), (None, 3), (UserError("there is no such revision"), 1)],
    ids=["never", "later", "for good"],
)
def test_only_a_hub_that_does_not_answer_is_asked_again(monkeypatch, capsys, error, times):
    waits, asked = [], []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)

    def read() -> str:
        asked.append(1)
        with hub.hub_errors("model tiny", "org/tiny"):
            if error is not None or len(asked) < 3:
                raise error or ConnectionError("no route")
        return "read"

    if error is None:
        assert hub.patiently(read) == "read"
    else:
        with pytest.raises(UserError, match=r"the hub cannot be reached|no such revision"):
            hub.patiently(read)
    assert len(asked) == times and len(waits) == times - 1 and waits == sorted(waits)
    assert capsys.readouterr().err.count("the hub does not answer") == times - 1


def test_a_local_folder_needs_no_revision_and_must_be_whole(folder, tmp_path):
    fetch_model(ModelSource(str(folder)), "model tiny", tmp_path / "out")
    assert (tmp_path / "out" / "config.json").resolve() == folder / "config.json"
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"lacks tokenizer\.json"):
        fetch_model(ModelSource(str(tmp_path / "torn")), "model torn", tmp_path / "out")


PAPER = yaml.safe_load((Path(__file__).parents[2] / "config" / "paper.yaml").read_text())["datasets"]
# The first rows as the hub's data sets have them: columns, and what stands around an answer.
COLUMNS = {
    "math500": {"problem": "What is $x_{n}$?", "solution": "", "answer": "\\frac{{{n}}}{{7}}", "subject": "Algebra", "level": 3},
    "gsm8k": {"question": "Ann has {n}. How many?", "answer": "She has <<{n}={n}>>{n}.\n#### {n}"},
    "aime24": {"id": 60, "problem": "Find {n}.", "solution": "", "answer": "0{n}", "url": "", "year": "2024"},
    "aime25": {"problem": "Find {n}.", "answer": "{n}", "id": "0"},
    "amc23": {"id": 0, "answer": 27.0, "question": "Find {n}?", "url": ""},
    "gpqa": {"Question": "Which of {n}?", "Correct Answer": "r{n}", **{f"Incorrect Answer {i}": f"w{i}" for i in (1, 2, 3)}},
}
MATH = {"problem": "Show {n} of {name}.", "level": "Level 5", "type": "", "solution": "so $\\boxed{{1}}$, then $\\boxed{{{n}}}$"}
ANSWERS = {"math500": "\\frac{1}{7}", "gsm8k": "1", "aime24": "01", "aime25": "1", "amc23": "27.0"}


@pytest.mark.parametrize("label", PAPER)
def test_every_benchmark_of_the_paper_is_read_from_its_columns(label, tmp_path):
    given = {k: v for k, v in PAPER[label].items() if k not in ("questions", "answer_tokens", "revision", "take")}
    names = given.get("name", "default")
    names, split = [names] if isinstance(names, str) else names, given.get("split", "test")
    card = ["---", "configs:"]
    for name in names:
        card += [f"- config_name: {name}", f"  data_files: [{{split: {split}, path: {name}/{split}-*}}]"]
        rows = [
            {k: v.format(n=n, name=name) if isinstance(v, str) else v for k, v in COLUMNS.get(label, MATH).items()}
            for n in (1, 2)
        ]
        (tmp_path / name).mkdir()
        pd.DataFrame(rows).to_parquet(tmp_path / name / f"{split}-00000-of-00001.parquet")
    (tmp_path / "README.md").write_text("\n".join([*card, "---", ""]))
    found = read_dataset(DatasetSource(**{**given, "path": str(tmp_path)}), label)
    assert len(found) == 2 * len(names) and found[0].problem_id == f"{label}-0000"
    if label == "gpqa":
        assert found[0].question.startswith("Which of 1?\n(A) ") and f"({found[0].answer}) r1" in found[0].question
    else:
        assert found[0].answer == ANSWERS.get(label, "1") and "1" in found[0].question
    assert found[0].level == {"math500": "3"}.get(label, "Level 5" if label not in COLUMNS else "")


@pytest.mark.parametrize(
    ("path", "offline", "message"),
    [
        ("org/gated", "0", "accept its terms on the hub and log in with `hf auth login`"),
        ("org/none", "0", "doesn't exist on the Hub or cannot be accessed): correct its source"),
        ("org/tiny", "1", "is not in the cache and the hub cannot be reached from this machine"),
    ],
)
def test_what_is_wrong_with_a_data_set_gets_one_sentence(folder, tmp_path, path, offline, message):
    hub = Hub(folder)
    source = json.dumps({"path": path, "revision": REVISION})
    command = [
        sys.executable,
        "-m",
        "itscale",
        "dataset",
        "--source",
        source,
        "--label",
        "b",
        "--out",
        str(tmp_path / "b.parquet"),
    ]
    settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": offline}
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    done = subprocess.run(command, env={**clean, **settings}, capture_output=True, text=True, timeout=240)
    hub.shutdown()
    assert done.returncode == 1 and message in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_several_configurations_boxed_answers_and_a_drawn_part(tmp_path):
    for name, start in (("algebra", 0), ("geometry", 100)):
        rows = [{"problem": f"Find x{start + i}", "solution": f"so \\boxed{{{i}}} and done"} for i in range(20)]
        (tmp_path / "m" / name).mkdir(parents=True)
        pd.DataFrame(rows).to_parquet(tmp_path / "m" / name / "train-00000-of-00001.parquet")
    card = ["configs:"]
    for name in ("algebra", "geometry"):
        card += [f"- config_name: {name}", f"  data_files: [{{split: train, path: {name}/train-*}}]"]
    (tmp_path / "m" / "README.md").write_text("\n".join(["---", *card, "---", ""]))
    options = {"split": "train", "name": ["algebra", "geometry"], "question": "problem", "answer": "solution"}
    whole = read_dataset(DatasetSource(str(tmp_path / "m"), **options, answer_boxed=True), "math")
    assert len(whole) == 40 and whole[21].question == "Find x101" and whole[21].answer == "1"
    some = read_dataset(DatasetSource(str(tmp_path / "m"), **options, answer_boxed=True, take=10), "math")
    assert len(some) == 10 and {p.question for p in some} < {p.question for p in whole}
    # Which questions are drawn depends on nothing but their text.
    again = read_dataset(DatasetSource(str(tmp_path / "m"), **{**options, "name": "geometry"}, answer_boxed=True), "g")
    assert {p.question for p in some} & {p.question for p in again}


def test_multiple_choice_is_lettered_the_same_way_every_time():
    question, letter = lettered("Which?", "right", ["w1", "w2", "w3"])
    assert lettered("Which?", "right", ["w1", "w2", "w3"]) == (question, letter)
    assert f"({letter}) right" in question.splitlines() and len(question.splitlines()) == 5
    letters = {lettered(f"Which of {i}?", "right", ["w1", "w2", "w3"])[1] for i in range(40)}
    assert letters == set("ABCD")


def test_weights_are_hashed_once_for_as_long_as_they_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    read = []
    monkeypatch.setattr(hub, "_sha256", lambda file: read.append(file.name) or hashlib.sha256(file.read_bytes()).hexdigest())
    weights = tmp_path / "lm" / "model.safetensors"
    weights.parent.mkdir()

    def written(data: bytes, at: int) -> str:
        weights.write_bytes(data)
        os.utime(weights, ns=(at, at))
        return hashlib.sha256(hashlib.sha256(data).hexdigest().encode()).hexdigest()

    first, second = written(b"one", 10**18), None
    assert weights_digest(weights.parent) == weights_digest(weights.parent) == first and len(read) == 1
    second = written(b"two", 2 * 10**18)
    assert weights_digest(weights.parent) == second != first and len(read) == 2
    just_now = time.time_ns()
    for data in (b"six", b"ten"):  # within one tick of a clock: nothing is remembered
        assert written(data, just_now) == weights_digest(weights.parent)
    # The hub's cache names a file by its hash: it is not read.
    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"large")
    weights.unlink()
    weights.symlink_to(blob)
    before = len(read)
    assert weights_digest(weights.parent) == hashlib.sha256(b"ab" * 32).hexdigest() and len(read) == before
