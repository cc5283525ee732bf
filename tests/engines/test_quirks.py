"""Servers that call themselves OpenAI-compatible, with every quirk that was seen in public: a real HTTP server for each."""

import json
import threading
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from itscale.engines import EngineSettings, open_engine
from itscale.engines.protocol import Finish, Request, Sampling, Usage
from itscale.errors import UserError

PROMPT = "What is 6 times 7?"
SAMPLING = Sampling(temperature=0.7, top_p=0.9, max_tokens=50)


@dataclass
class Say:
    """An answer: a body and its type, or messages of a stream (objects, or lines as they are)."""

    body: Any = None
    status: int = 200
    kind: str = "application/json"
    events: list | None = None
    done: bool = True
    headers: dict = field(default_factory=dict)
    pause: float = 0.0  # seconds before each message of a stream


def chunk(content=None, finish=None, usage=None, **delta):
    """One ordinary message of a stream."""
    said = {"object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": {"content": content, **delta}}]}
    said["choices"][0]["finish_reason"] = finish
    return said if usage is None else {**said, "usage": usage}


def used(prompt=9, completion=2, **more):
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **more}


ORDINARY = Say(events=[chunk("forty-"), chunk("two", "stop"), {"choices": [], "usage": used()}])
MODELS = Say({"object": "list", "data": [{"id": "m", "object": "model"}]})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self._say(self.server.models)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        said = self.server.answer
        self._say(said(body) if callable(said) else said)

    def _say(self, said):
        if said.events is not None:
            self.send_response(said.status)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            for event in said.events:
                time.sleep(said.pause)
                line = event if isinstance(event, str) else f"data: {json.dumps(event)}"
                try:
                    self.wfile.write(f"{line}\n\n".encode())
                    self.wfile.flush()
                except OSError:  # the client has left
                    return
            if said.done:
                self.wfile.write(b"data: [DONE]\n\n")
            self.close_connection = True
            return
        data = said.body.encode() if isinstance(said.body, str) else json.dumps(said.body).encode()
        self.send_response(said.status)
        self.send_header("Content-Type", said.kind)
        self.send_header("Content-Length", str(len(data)))
        for name, text in said.headers.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server():
    """A server whose `answer` (or function of the request's body) and `models` a test sets; `asked` are the bodies it got."""
    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.answer, found.models, found.asked = ORDINARY, MODELS, []
    found.url = f"http://127.0.0.1:{found.server_address[1]}/v1"
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def ask(server, answer=None, count=1, prompt=PROMPT, sampling=SAMPLING, **settings):
    """The completions of some requests, in their order, and the engine's usage."""
    if answer is not None:
        server.answer = answer
    with open_engine(EngineSettings(server.url, batch_size=4, **settings)) as engine:
        engine.submit([Request(str(i), engine.encode(prompt, None), sampling, i) for i in range(count)])
        came = []
        while engine.outstanding:
            came += engine.poll()
        total = sum((Usage(c.prompt_tokens, c.cached_prompt_tokens, c.completion_tokens) + c.lost for c in came), Usage())
        assert engine.usage() == total
    return sorted(came, key=lambda c: int(c.request_id))


def refusal(parameter, words, **more):
    return Say({"error": {"message": words, "type": "invalid_request_error", "param": parameter, **more}}, 400)


def refusing(words, *names, param=True, status=400):
    """A server that refuses some parameters, one after the other."""

    def answer(body):
        for name in names:
            if name in body:
                said = refusal(name if param else None, words.format(name))
                said.status = status
                return said
        return ORDINARY if body.get("stream") else whole("forty-two")

    return answer


def whole(content, finish="stop", usage=None, **message):
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return Say({"object": "chat.completion", "choices": [choice], "usage": used() if usage is None else usage})


# Parameters.


def test_an_ordinary_server_gets_what_was_set(server):
    (came,) = ask(server)
    assert (came.text, came.finish, came.prompt_tokens, came.completion_tokens) == ("forty-two", Finish.STOP, 9, 2)
    assert not came.estimated and came.failure is None
    (body,) = server.asked
    assert body.pop("messages") == [{"role": "user", "content": PROMPT}]
    assert body == {
        "model": "m",
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 50,
        "seed": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_every_setting_reaches_the_server(server):
    sampling = Sampling(0.7, 0.9, 50, top_k=20, min_p=0.05, repetition_penalty=1.1, stop=("\n\n", "END"), confidence=True)
    prompts = {"system_prompt": "Be brief.", "instruction": " Box it.", "template_arguments": {"enable_thinking": False}}
    ask(server, sampling=sampling, **prompts)
    (body,) = server.asked
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"{PROMPT} Box it."}],
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 50,
        "top_k": 20,
        "min_p": 0.05,
        "repetition_penalty": 1.1,
        "stop": ["\n\n", "END"],
        "logprobs": True,
        "top_logprobs": 20,
        "chat_template_kwargs": {"enable_thinking": False},
        "seed": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_nothing_is_sent_that_nobody_has_set(server):
    ask(server, sampling=Sampling())
    assert set(server.asked[0]) == {"model", "messages", "seed", "stream", "stream_options"}


def test_a_parameter_that_is_none_is_refused_before_anything_is_sent(server):
    with pytest.raises(UserError, match=r"engine\.parameters has the unknown key 'temprature'"):
        ask(server, parameters={"temprature": None})
    assert not server.asked


def test_vllm_is_asked_to_count_with_every_message(server):
    server.models = Say({"data": [{"id": "m", "owned_by": "vllm"}]})
    ask(server)
    assert server.asked[0]["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


def test_settings_rename_and_leave_out(server):
    names = {"max_tokens": "max_completion_tokens", "temperature": None, "top_p": None, "seed": None, "stream_options": None}
    ask(server, parameters=names)
    assert set(server.asked[0]) == {"model", "messages", "max_completion_tokens", "stream"}
    assert server.asked[0]["max_completion_tokens"] == 50


def test_settings_forbid_streaming(server):
    (came,) = ask(server, whole("forty-two"), parameters={"stream": None})
    assert "stream" not in server.asked[0] and "stream_options" not in server.asked[0]
    assert (came.text, came.completion_tokens, came.estimated) == ("forty-two", 2, False)


OPENAI = "Unsupported parameter: '{}' is not supported with this model. Use 'max_completion_tokens' instead."
DEFAULT = "Unsupported value: '{}' does not support 0.7 with this model. Only the default (1) value is supported."
PYDANTIC = "[{{'type': 'extra_forbidden', 'loc': ('body', '{}'), 'msg': 'Extra inputs are not permitted', 'input': 1}}]"


@pytest.mark.parametrize(
    ("words", "name", "param", "status"),
    [
        (OPENAI, "max_tokens", True, 400),
        (OPENAI, "max_tokens", False, 400),
        (DEFAULT, "temperature", True, 400),
        (DEFAULT, "top_p", True, 400),
        (PYDANTIC, "seed", False, 422),
        (PYDANTIC, "stream_options", False, 400),
        ("Unrecognized request argument supplied: {}", "seed", False, 400),
        ("unknown field `{}`", "stream_options", False, 422),
        ("Your organization must be verified to {} this model.", "stream", True, 400),
    ],
)
def test_a_parameter_that_is_refused_goes_another_way_and_that_is_said_once(server, capsys, words, name, param, status):
    came = ask(server, refusing(words, name, param=param, status=status), count=6)
    assert [c.text for c in came] == ["forty-two"] * 6
    said = capsys.readouterr().err
    assert said.count("refuses") == 1 and f"refuses {name}" in said
    last = server.asked[-1]
    assert name not in last
    if name == "max_tokens":
        assert last["max_completion_tokens"] == 50 and "sent as max_completion_tokens" in said
    else:
        assert "it is left out from now on" in said
    if name == "stream":
        assert "stream_options" not in last
    assert all(c.lost == Usage() for c in came)


def test_one_parameter_after_the_other_is_refused(server, capsys):
    names = ("temperature", "top_p", "max_tokens", "seed", "stream_options")
    (came,) = ask(server, refusing("Unsupported parameter: '{}'", *names))
    assert came.text == "forty-two" and len(server.asked) == 6
    assert capsys.readouterr().err.count("refuses") == 5


def test_a_renamed_parameter_that_is_refused_too_is_left_out(server):
    (came,) = ask(server, refusing("unknown parameter {}", "max_tokens", "max_completion_tokens"))
    assert came.text == "forty-two" and not {"max_tokens", "max_completion_tokens"} & set(server.asked[-1])


@pytest.mark.parametrize(
    "words",
    [
        "'max_tokens' or 'max_completion_tokens' is too large: 50. This model's maximum context length is 40 tokens.",
        "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens.",
        "the prompt was flagged",
    ],
)
def test_a_value_that_is_refused_is_one_failed_row(server, capsys, words):
    def answer(body):
        return refusal("max_tokens" if "max_tokens" in words else None, words) if body["seed"] == 1 else ORDINARY

    came = ask(server, answer, count=3)
    assert [c.finish for c in came] == [Finish.STOP, Finish.FAILED, Finish.STOP]
    assert came[1].failure == f"the server refuses the request (status 400: {words})"
    assert (came[1].text, came[1].completion_tokens) == ("", 0) and not capsys.readouterr().err
    assert len(server.asked) == 3


# Texts.


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thinking_is_kept_marked_and_counted(server, name):
    events = [chunk(None, **{name: "six sevens "}), chunk("", **{name: "are 42"}), chunk("\\boxed{42}", "stop")]
    (came,) = ask(server, Say(events=[*events, {"choices": [], "usage": used(9, 600)}]))
    assert came.text == "<think>\nsix sevens are 42\n</think>\n\n\\boxed{42}"
    assert came.completion_tokens == 600
    (one,) = ask(server, whole("\\boxed{42}", **{name: "six sevens are 42"}), parameters={"stream": None})
    assert one.text == came.text


def test_thinking_that_was_cut_off_stays_open(server):
    events = [chunk(None, reasoning_content="hm, "), chunk(None, "length", reasoning_content="perhaps \\boxed{7}?")]
    (came,) = ask(server, Say(events=[*events, {"choices": [], "usage": used(9, 50)}]))
    assert came.text == "<think>\nhm, perhaps \\boxed{7}?" and came.finish is Finish.LENGTH


def test_an_aborted_stream_of_thinking_counts_what_arrived(server):
    events = [chunk(None, reasoning_content="hm ") for _ in range(300)]
    server.answer = Say(events=events, pause=0.01)
    with open_engine(EngineSettings(server.url, batch_size=1)) as engine:
        engine.submit([Request("a", engine.encode(PROMPT, None), SAMPLING, 0)])
        deadline = time.monotonic() + 20
        while not server.asked and time.monotonic() < deadline:
            engine.poll()
        time.sleep(0.5)
        cut = engine.abort(["a"])["a"]
    assert 3 <= cut.aborted < 300 and cut.completion == 0


def test_parts_of_a_content_are_put_together(server):
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "six sevens"}]}, {"type": "text", "text": "forty-"}]
    events = [chunk(parts), chunk([{"type": "text", "text": "two"}, "!"], "stop"), {"choices": [], "usage": used()}]
    (came,) = ask(server, Say(events=events))
    assert came.text == "<think>\nsix sevens\n</think>\n\nforty-two!"


def test_nulls_and_lists_where_objects_are_due(server):
    odd = [
        {"choices": None},
        {"choices": [{"delta": None}]},
        {"choices": [{"index": 0}]},
        {"choices": [{"delta": [{"content": "forty-"}]}]},
        {"choices": {"delta": {"content": "two"}, "finish_reason": "stop"}},
        {"choices": [{"delta": {"content": None, "tool_calls": None}, "finish_reason": ""}]},
        {"choices": [], "usage": used()},
        [],
        None,
    ]
    (came,) = ask(server, Say(events=odd))
    assert (came.text, came.finish, came.completion_tokens) == ("forty-two", Finish.STOP, 2)


def test_halves_of_a_surrogate_pair_are_joined_or_escaped(server):
    lines = [
        r'data: {"choices": [{"delta": {"content": "\ud83d"}}]}',
        r'data: {"choices": [{"delta": {"content": "\ude00 \ud83d"}}]}',
    ]
    (came,) = ask(server, Say(events=[*lines, chunk("!", "stop"), {"choices": [], "usage": used()}]), prompt="?\ud83d")
    assert came.text == "😀 \\ud83d!" and came.text.encode()
    assert server.asked[0]["messages"][0]["content"] == "?\\ud83d"


def test_a_server_that_does_not_stream_though_it_was_asked_to(server):
    (came,) = ask(server, whole("forty-two"))
    assert (came.text, came.completion_tokens) == ("forty-two", 2)


# Ends.


@pytest.mark.parametrize("missing", [False, True])
def test_no_finish_reason_but_usage_is_an_end(server, missing):
    events = [chunk("forty-"), chunk("two"), {"choices": [], "usage": used()}]
    if missing:
        for event in events[:2]:
            del event["choices"][0]["finish_reason"]
    for done in (True, False):
        (came,) = ask(server, Say(events=events, done=done))
        assert (came.text, came.finish, came.completion_tokens, came.lost) == ("forty-two", Finish.STOP, 2, Usage())


def test_no_finish_reason_at_the_limit_is_a_cut(server):
    (came,) = ask(server, Say(events=[chunk("forty-two"), {"choices": [], "usage": used(9, 50)}]))
    assert came.finish is Finish.LENGTH


def test_usage_with_every_message_of_vllm_is_no_end(server, monkeypatch):
    monkeypatch.setattr("itscale.engines.openai._BACKOFF", lambda state: 0.0)
    server.models = Say({"data": [{"id": "m", "owned_by": "vllm"}]})
    broken = Say(events=[chunk("forty-", usage=used(9, 1))], done=False)
    answers = iter([broken, ORDINARY])
    (came,) = ask(server, lambda body: next(answers))
    assert came.text == "forty-two" and came.lost == Usage(prompt=9, aborted=1)


# Usage.

TEXT = "the answer is forty-two, as everybody knows"


@pytest.mark.parametrize(
    ("messages", "prompt", "completion", "estimated"),
    [
        ([{"choices": [], "usage": None}], 5, 11, True),
        ([], 5, 11, True),
        ([{"choices": [], "usage": used(0, 0)}], 5, 11, True),
        ([{"choices": [], "usage": {"total_tokens": 25}}], 5, 20, True),
        ([{"choices": [], "usage": {"prompt_tokens": 9, "total_tokens": 25}}], 9, 16, False),
        ([{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": None}}], 9, 11, True),
        ([{"choices": [], "usage": {"completion_tokens": 12}}], 5, 12, True),
        ([{"choices": [], "usage": {"input_tokens": 9, "output_tokens": 12}}], 9, 12, False),
        ([{"choices": [], "usage": used(9, 12, prompt_tokens_details=None)}], 9, 12, False),
    ],
)
def test_usage_is_counted_as_well_as_it_can_be(server, messages, prompt, completion, estimated):
    words = [chunk(f"{word} ") for word in TEXT.split()]
    (came,) = ask(server, Say(events=[*words, chunk(None, "stop"), *messages]))
    assert (came.prompt_tokens, came.completion_tokens, came.estimated) == (prompt, completion, estimated)


def test_usage_of_each_message_alone_is_added_up(server):
    words = [chunk(f"{word} ", usage=used(9, 2)) for word in TEXT.split()]
    (came,) = ask(server, Say(events=[*words, chunk(None, "stop", usage=used(9, 1))]))
    assert (came.prompt_tokens, came.completion_tokens, came.estimated) == (9, 15, True)


def test_usage_that_grows_with_every_message_is_its_last(server):
    words = [chunk(f"{word} ", usage=used(9, i)) for i, word in enumerate(TEXT.split(), 1)]
    (came,) = ask(server, Say(events=[*words, chunk(None, "stop", usage=used(9, 8))]))
    assert (came.completion_tokens, came.estimated) == (8, False)


@pytest.mark.parametrize("details", [{"prompt_tokens_details": {"cached_tokens": 8}}, {"prompt_cache_hit_tokens": 8}])
def test_cached_tokens_are_counted(server, details):
    (came,) = ask(server, whole("42", usage=used(9, 2, **details)), parameters={"stream": None})
    assert (came.prompt_tokens, came.cached_prompt_tokens) == (9, 8)


def test_a_prompt_that_was_counted_once_is_known(server):
    answers = iter([ORDINARY, Say(events=[chunk("forty-two", "stop")])])
    server.answer = lambda body: next(answers)
    with open_engine(EngineSettings(server.url, batch_size=1)) as engine:
        counts = []
        for name in "ab":
            engine.submit([Request(name, engine.encode(PROMPT, None), SAMPLING, 0)])
            while engine.outstanding:
                counts += [(c.prompt_tokens, c.estimated) for c in engine.poll()]
    assert counts == [(9, False), (9, True)]


# Errors.


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("itscale.engines.openai._BACKOFF", lambda state: 0.0)


@pytest.mark.parametrize(
    "event",
    [
        {"error": {"message": "the engine has died", "code": 500}},
        {"object": "error", "message": "the engine has died", "code": 500},
        {"error": "the engine has died"},
        {"choices": [{"delta": {}, "finish_reason": "error", "error": {"message": "the engine has died"}}]},
    ],
)
def test_an_error_in_the_stream_is_tried_again_and_shown(server, impatient, event):
    def answer(body):
        return Say(events=[chunk("forty-"), event], done=False) if body["seed"] == 0 else ORDINARY

    came = ask(server, answer, count=2)
    assert came[0].finish is Finish.FAILED and came[1].text == "forty-two"
    assert "the engine has died" in came[0].failure and came[0].failure.startswith("the server")
    assert len(server.asked) == 7 and came[0].lost.aborted == 6 * 2  # of six characters, two tokens by estimate


def test_a_refusal_in_the_stream_is_not_tried_again(server, impatient):
    event = {"object": "error", "message": "the prompt is too long", "code": 400}
    (came,) = ask(server, Say(events=[event]))
    assert "the prompt is too long" in came.failure and len(server.asked) == 1


def test_a_message_that_is_no_json_breaks_the_stream_off(server, impatient):
    answers = iter([Say(events=["data: {forty"]), ORDINARY])
    (came,) = ask(server, lambda body: next(answers))
    assert came.text == "forty-two"


@pytest.mark.parametrize("status", [500, 502, 503, 529])
def test_a_server_that_fails_is_blamed_after_six_attempts(server, impatient, status):
    def answer(body):
        return Say("<html><body>Bad gateway</body></html>", status, "text/html") if body["seed"] == 1 else ORDINARY

    came = ask(server, answer, count=3)
    assert came[1].failure == f"the server failed 6 times (status {status}: a web page)"
    assert [c.finish is Finish.FAILED for c in came] == [False, True, False] and len(server.asked) == 8


@pytest.mark.parametrize("pause", ["0.4", "date", "nonsense"])
def test_a_busy_server_says_how_long_to_wait(server, monkeypatch, pause):
    monkeypatch.setattr("itscale.engines.openai._BACKOFF", lambda state: 0.01)
    times = []

    def answer(body):
        times.append(time.time())
        after = formatdate(time.time() + 2, usegmt=True) if pause == "date" else pause
        return Say({"error": {"message": "slow down"}}, 429, headers={"Retry-After": after}) if len(times) == 1 else ORDINARY

    (came,) = ask(server, answer)
    waited = times[1] - times[0]
    assert came.text == "forty-two"
    assert {"0.4": 0.39 <= waited, "date": 0.9 <= waited <= 2.5, "nonsense": True}[pause]


def test_a_server_that_stays_busy_is_a_failed_row(server):
    (came,) = ask(server, Say({"error": {"message": "slow down"}}, 429, headers={"Retry-After": "0"}))
    assert came.failure == "the server was too busy 6 times (status 429: slow down)"


def test_a_used_up_account_ends_the_job_at_once(server):
    said = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota", "type": "insufficient_quota"}}
    with pytest.raises(UserError, match=r"wants to be paid first \(.*exceeded your current quota.*\): see to the account"):
        ask(server, Say(said, 429))
    assert len(server.asked) == 1


# Addresses.


def test_an_address_without_v1(server):
    server.models = Say({"detail": "Not Found"}, 404)
    server.url = server.url.removesuffix("/v1")
    with pytest.raises(
        UserError, match=r"has no list of models \(status 404\): most servers want an address that ends in /v1, http"
    ):
        ask(server)


@pytest.mark.parametrize("kind", ["text/html", "text/plain"])
def test_an_address_of_a_web_page(server, kind):
    server.models = Say("<!DOCTYPE html><html><body>Welcome</body></html>", kind=kind)
    with pytest.raises(UserError, match="/models is a web page, no list of models: check the address"):
        ask(server)


def test_a_server_without_a_list_of_models_serves_the_one_that_is_named(server):
    server.models = Say({"detail": "Not Found"}, 404)
    server.url += "#m"
    (came,) = ask(server)
    assert came.text == "forty-two" and server.asked[0]["model"] == "m"


@pytest.mark.parametrize("models", [{"data": None}, {"data": []}, [], "nothing"])
def test_a_server_that_lists_nothing_wants_a_name(server, models):
    server.models = Say(models)
    with pytest.raises(UserError, match=r"lists no models: name one as http.*#MODEL"):
        ask(server)


def test_an_address_whose_completions_are_elsewhere(server):
    server.url += "#m"
    server.models = server.answer = Say({"detail": "Not Found"}, 404)
    with pytest.raises(UserError, match=r"has no chat completions of the model 'm' \(status 404: .*\): check the address"):
        ask(server)


def test_completions_that_are_a_web_page(server):
    with pytest.raises(UserError, match="answers with a web page where a completion was to come"):
        ask(server, Say("<html>Welcome</html>", kind="text/html"))


def test_nobody_is_there(server, impatient):
    server.url = "http://127.0.0.1:9/v1"
    with pytest.raises(UserError, match=r"does not answer \(APIConnectionError\): start the server or check the address"):
        ask(server)
