"""config/own_server.yaml against a small OpenAI-compatible server, through the workflow: killed, gone on, and priced."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
import yaml

from checkout import checkout

PROMPT_TOKENS, COMPLETION_TOKENS = 20, 10
PRICE = {"prompt": 500.0, "completion": 4000.0}  # dollars per million tokens: a prompt costs one cent, its completion four
SAMPLES, CHAINS, ROUNDS, QUESTIONS = 4, 1, 2, {"mine": 3, "calibration": 2}


# Results of a generator lie in a folder of its name.
RESULTS = "results/own_server/server"


class Handler(BaseHTTPRequestHandler):
    """Answers sums, right two times of three; counts what it sent, which is what its owner would bill."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self._say({"object": "list", "data": [{"id": "m", "object": "model"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        turn = body["messages"][-1]["content"]
        with self.server.lock:
            self.server.waiting += 1
            self.server.most = max(self.server.most, self.server.waiting)
        time.sleep(self.server.pause)
        with self.server.lock:
            self.server.waiting -= 1
            place = self.server.served[turn]
            self.server.served[turn] += 1
            self.server.total += 1
        left, right = map(int, re.search(r"What is (\d+) \+ (\d+)\?", turn).groups())
        answer = left + right + (place % 3 == 2)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": f"\\boxed{{{answer}}}"}}
        used = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS, "total_tokens": 30}
        self._say({"object": "chat.completion", "model": "m", "choices": [choice], "usage": used})

    def _say(self, said):
        data = json.dumps(said).encode()
        try:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:  # the client was killed
            self.close_connection = True


@pytest.fixture
def server():
    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.lock, found.pause, found.served = threading.Lock(), 0.0, Counter()
    found.total = found.waiting = found.most = 0
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def house(tmp_path, server):
    """A copy of the repository with questions, and the smallest settings over config/own_server.yaml."""
    folder = checkout(tmp_path / "house")
    (folder / "my_questions").mkdir()
    with open(folder / "my_questions" / "questions.jsonl", "w") as file:
        for i in range(8):
            file.write(json.dumps({"question": f"What is {i} + {i + 1}?", "answer": str(2 * i + 1)}) + "\n")
    size = {"parallel": {"samples": SAMPLES, "shards": 1}, "chain": {"chains": CHAINS, "rounds": ROUNDS, "shards": 1}}
    small = {
        "datasets": {name: {"take": count} for name, count in QUESTIONS.items()},
        "models": {"generators": {"server": {"url": f"http://127.0.0.1:{server.server_address[1]}/v1", "price": PRICE}}},
        "engine": {"batch_size": 2},
        "pools": dict.fromkeys(QUESTIONS, size),
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    return folder


def snakemake(folder, *options, targets=(f"{RESULTS}/tables/main.md",)):
    """A run of the workflow, in a group of processes of its own."""
    files = ["config/config.yaml", "config/own_server.yaml", "small.yaml"]
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *options, "--configfile", *files, "--", *targets]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def ended(run):
    said, _ = run.communicate(timeout=1800)
    assert run.returncode == 0, said[-3000:]
    return said


def test_a_server_draws_pools_and_chains_once_and_their_price_stands_in_the_tables(house, server):
    # Each of the four jobs that draw takes its share of what `--resources requests=...` allows.
    assert ended(snakemake(house, "-n", "-p")).count("requests=2") == 2 * len(QUESTIONS)
    assert server.total == 0

    server.pause = 0.3
    drawn = f"{RESULTS}/pools/mine/parallel/samples/0.parquet"
    run = snakemake(house, "--resources", "requests=2", targets=[drawn])
    while server.total < 6 and run.poll() is None:
        time.sleep(0.1)
    assert run.poll() is None, run.communicate()[0][-3000:]
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    time.sleep(1)
    asked = server.total
    assert asked < QUESTIONS["mine"] * SAMPLES and not (house / drawn).exists()

    server.pause = 0.0
    ended(snakemake(house, "--unlock"))
    ended(snakemake(house, "--resources", "requests=2"))
    # What was in flight when the run was killed is asked for again, nothing else.
    needed = sum(QUESTIONS.values()) * (SAMPLES + CHAINS * ROUNDS)
    assert needed <= server.total <= needed + 2 and server.most == 2

    tables = house / RESULTS / "tables"
    main = pd.read_csv(tables / "main.csv").set_index(["slug", "budget"])
    assert {"self_consistency", "asc", "esc", "vote_lead", "mr_thinking"} <= set(main.index.get_level_values("slug"))
    # A completion of 20 and 10 tokens costs 20 x 0.0005 + 10 x 0.004 = 0.05 dollars.
    assert main["dollars"].to_numpy() == pytest.approx(0.05 * main["samples_drawn"].to_numpy(), rel=1e-4)
    assert main.loc[("self_consistency", SAMPLES), "dollars"] == pytest.approx(0.2)
    assert main.loc[("mr_thinking", ROUNDS), "dollars"] == pytest.approx(0.1)
    page = (tables / "main.md").read_text()
    header, row = (next(line for line in page.splitlines() if word in line) for word in ("| limit", "| 4 samples"))
    cells = dict(zip(*([cell.strip() for cell in line.split("|")] for line in (header, row)), strict=True))
    assert cells["method"] == "self-consistency" and cells["dollars"] == "0.20000"
