"""One contract for every engine, on a real if tiny model; and a generation job that is killed for real."""

import json
import random
import shutil
import time
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen3NextConfig

from itscale.cli.pools import generate
from itscale.data.records import SAMPLES, Problem, read_table, write_problems
from itscale.engines import EngineSettings, open_engine
from itscale.engines import transformers as transformers_engine
from itscale.engines.cache import prefill, refuse_other_memory
from itscale.engines.protocol import Finish, Request, Sampling, reading
from itscale.engines.vllm import VllmSettings, _cpu_room
from itscale.errors import UserError
from itscale.toytask import language_model
from itscale.toytask.tokenizer import build_tokenizer
from pools import CUDA, ENGINES, ON_EVERY_DEVICE
from processes import FORKS

QUESTIONS = ["12+3", "45-6*2", "7*8+1-4", "99+9"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "lm"
    language_model.train(folder, 0, language_model.LanguageModelSettings(steps=30), set())
    return folder


@pytest.fixture(scope="module", params=ON_EVERY_DEVICE)
def engine(request, model):
    if request.param == "vllm":
        pytest.importorskip("vllm")
    with open_engine(EngineSettings(model=str(model), name=request.param, batch_size=16)) as opened:
        yield opened


def requests(engine, tag, sampling, seed=0, copies=1):
    return [
        Request(f"{tag}-{i}-{c}", engine.encode(question, None), sampling, seed + 100 * i + c)
        for i, question in enumerate(QUESTIONS)
        for c in range(copies)
    ]


def draw(engine, asked):
    engine.submit(asked)
    done = {}
    while engine.outstanding:
        for completion in engine.poll():
            assert completion.request_id not in done
            done[completion.request_id] = completion
    assert set(done) == {r.request_id for r in asked}
    return [done[r.request_id] for r in asked]


def test_samples_are_valid_and_usage_is_what_came_back(engine):
    before = engine.usage()
    asked = requests(engine, "valid", Sampling(max_tokens=20), copies=5)
    done = draw(engine, asked)
    for request, completion in zip(asked, done, strict=True):
        assert 1 <= len(completion.token_ids) <= 20
        assert completion.prompt_tokens == len(request.prompt_ids)
        if completion.finish is Finish.LENGTH:
            assert len(completion.token_ids) == 20
        assert "<eos>" not in completion.text
    after = engine.usage()
    assert after.completion - before.completion == sum(len(c.token_ids) for c in done)
    assert after.prompt - before.prompt == sum(len(r.prompt_ids) for r in asked)


def test_a_seed_decides_a_sample(engine):
    sampling = Sampling(max_tokens=16)
    one, two, other = (draw(engine, requests(engine, tag, sampling, seed)) for tag, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert [c.token_ids for c in one] == [c.token_ids for c in two]
    assert [c.token_ids for c in one] != [c.token_ids for c in other]


def test_a_stop_token_ends_a_sample_and_is_counted(engine):
    done = draw(engine, requests(engine, "stop", Sampling(max_tokens=90), seed=5, copies=8))
    stopped = [c for c in done if c.finish is Finish.STOP]
    assert stopped
    ends = {c.token_ids[-1] for c in stopped}
    assert len(ends) == 1
    assert all(c.token_ids.count(next(iter(ends))) == 1 for c in stopped)


def test_a_prompt_that_does_not_fit_fails_alone(engine):
    before = engine.usage()
    asked = requests(engine, "long", Sampling(max_tokens=4))
    asked[1] = replace(asked[1], prompt_ids=tuple(asked[1].prompt_ids) * 1000)
    done = draw(engine, asked)
    assert [c.finish is Finish.FAILED for c in done] == [i == 1 for i in range(len(done))]
    assert "leaves no room in the model's window of" in done[1].failure and done[1].text == ""
    assert (engine.usage() - before).completion == sum(c.completion_tokens for c in done)


def test_a_nucleus_of_one_token_is_greedy(engine):
    greedy = draw(engine, requests(engine, "greedy", Sampling(temperature=0.0, max_tokens=16)))
    nucleus = draw(engine, requests(engine, "nucleus", Sampling(top_p=1e-6, max_tokens=16), seed=9))
    assert [c.token_ids for c in greedy] == [c.token_ids for c in nucleus]


@pytest.mark.parametrize("started", [False, True], ids=["at once", "once some have finished"])
def test_aborted_requests_never_come_back(engine, started):
    asked = requests(engine, f"abort-{started}", Sampling(max_tokens=60), seed=7, copies=8)
    before = engine.usage()
    engine.submit(asked)
    done = engine.poll() if started else []
    came = {c.request_id for c in done}
    gone = {r.request_id for r in asked[::2]} - came
    engine.abort([*gone, "never submitted"])
    while engine.outstanding:
        found = engine.poll()
        assert not came & {c.request_id for c in found}
        came |= {c.request_id for c in found}
        done += found
    assert gone and came == {r.request_id for r in asked} - gone
    after = engine.usage()
    assert after.completion - before.completion == sum(len(c.token_ids) for c in done)
    assert 0 <= after.aborted - before.aborted <= 60 * len(gone)
    assert engine.poll() == []


def test_an_aborted_request_counts_what_vllm_had_decoded(model):
    pytest.importorskip("vllm")
    with open_engine(EngineSettings(model=str(model), name="vllm", batch_size=16)) as engine:
        long = Request("long", engine.encode("9+9", None), Sampling(max_tokens=60), 1)
        shorts = [Request(f"short-{i}", engine.encode("9+9", None), Sampling(max_tokens=1), i) for i in range(3)]
        engine.submit([long, *shorts])
        while engine.outstanding > 1:
            engine.poll()
        engine.abort(["long"])
        assert engine.usage().aborted >= 1


def test_vllm_counts_prompt_tokens_that_it_had_cached(model):
    pytest.importorskip("vllm")
    question = "+".join(["12"] * 60)
    with open_engine(EngineSettings(model=str(model), name="vllm", batch_size=4)) as engine:
        for tag in ("first", "second"):
            engine.submit([Request(tag, engine.encode(question, None), Sampling(max_tokens=2), 0)])
            found = []
            while engine.outstanding:
                found += engine.poll()
            (done,) = found
        assert 0 < done.cached_prompt_tokens < done.prompt_tokens
        assert engine.usage().cached_prompt == done.cached_prompt_tokens


def test_new_weights_change_the_output_and_old_ones_bring_it_back(engine, model, tmp_path):
    other = AutoModelForCausalLM.from_pretrained(model)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    other.save_pretrained(tmp_path)
    asked = requests(engine, "before", Sampling(temperature=0.0, max_tokens=12))
    before = [c.token_ids for c in draw(engine, asked)]
    engine.reload(tmp_path)
    after = draw(engine, requests(engine, "after", Sampling(temperature=0.0, max_tokens=12)))
    # What was cached of the prompts under the old weights is gone.
    assert all(c.cached_prompt_tokens == 0 for c in after[:1])
    for request, completion in zip(asked, after, strict=True):
        expected = other.generate(
            torch.tensor([request.prompt_ids], device=other.device), do_sample=False, max_new_tokens=12, attention_mask=None
        )[0, len(request.prompt_ids) :].tolist()
        assert list(completion.token_ids) == expected[: len(completion.token_ids)]
    engine.reload(model)
    assert [c.token_ids for c in draw(engine, requests(engine, "again", Sampling(temperature=0.0, max_tokens=12)))] == before


def test_a_stop_string_ends_a_sample_before_it(engine):
    plain = draw(engine, requests(engine, "free", Sampling(temperature=0.0, max_tokens=30)))
    stopped = draw(engine, requests(engine, "ended", Sampling(temperature=0.0, max_tokens=30, stop=("=", "\n4"))))
    assert any("=" in c.text for c in plain)
    for free, ended in zip(plain, stopped, strict=True):
        places = [free.text.find(text) for text in ("=", "\n4") if text in free.text]
        assert ended.text == free.text[: min(places, default=None)]
        if places:
            assert ended.finish is Finish.STOP and len(ended.token_ids) <= len(free.token_ids)


def test_top_k_of_one_is_greedy_and_a_penalty_is_that_of_transformers(engine, model):
    greedy = draw(engine, requests(engine, "0", Sampling(temperature=0.0, max_tokens=12)))
    first = draw(engine, requests(engine, "k", Sampling(top_k=1, max_tokens=12), seed=3))
    assert [c.token_ids for c in greedy] == [c.token_ids for c in first]
    asked = requests(engine, "p", Sampling(temperature=0.0, max_tokens=12, repetition_penalty=1.4))
    reference = AutoModelForCausalLM.from_pretrained(model)
    for request, completion in zip(asked, draw(engine, asked), strict=True):
        prompt = torch.tensor([request.prompt_ids])
        expected = reference.generate(prompt, do_sample=False, max_new_tokens=12, repetition_penalty=1.4)
        assert list(completion.token_ids) == expected[0, prompt.shape[1] :].tolist()[: len(completion.token_ids)]


def test_confidence_is_that_of_a_pass_over_the_whole_text(engine, model):
    reference = AutoModelForCausalLM.from_pretrained(model)
    asked = requests(engine, "c", Sampling(temperature=0.7, top_p=0.9, max_tokens=14, confidence=True), seed=2, copies=2)
    for request, completion in zip(asked, draw(engine, asked), strict=True):
        whole = torch.tensor([[*request.prompt_ids, *completion.token_ids]])
        with torch.no_grad():
            logits = reference(whole).logits[0, len(request.prompt_ids) - 1 : -1]
        logp = torch.log_softmax(logits, -1)
        chosen = logp.gather(1, torch.tensor(completion.token_ids)[:, None])
        best = logp.sort(descending=True).values[:, :20]
        assert completion.confidence.logprob_mean == pytest.approx(float(chosen.mean()), abs=1e-4)
        assert completion.confidence.conf_mean == pytest.approx(-float(best.mean()), abs=1e-3)
    assert all(c.confidence is None for c in draw(engine, requests(engine, "off", Sampling(max_tokens=2))))


def test_tokens_under_way_are_counted_while_they_are_drawn(engine):
    engine.submit(requests(engine, "way", Sampling(max_tokens=40)))
    seen = []
    while engine.outstanding:
        engine.poll()
        seen.append(engine.under_way())
    assert max(seen) > 4 and seen[-1] == 0


def test_prompts_are_read_a_pass_at_a_time_and_counted_before_a_token_is_drawn(model, monkeypatch):
    found = []
    for pass_tokens in (8192, 1):  # all prompts in one pass, and each in one of its own
        monkeypatch.setattr(transformers_engine, "_PREFILL", pass_tokens)
        with open_engine(EngineSettings(str(model), "transformers", batch_size=64)) as engine:
            asked, read, done = requests(engine, "p", Sampling(max_tokens=12)), [], {}
            engine.submit(asked)
            while engine.outstanding:
                done |= {c.request_id: c.token_ids for c in engine.poll()}
                if not engine.under_way() and not done:
                    read.append(reading(engine)["prompts"])
            found.append(done)
            assert reading(engine) == {"prompts": len({r.prompt_ids for r in asked})}
    assert read == list(range(1, len(QUESTIONS))) and found[0] == found[1]


def test_every_stop_token_of_tokenizer_and_configuration_counts(model, tmp_path):
    pytest.importorskip("vllm")
    shutil.copytree(model, tmp_path / "lm")
    tokenizer = AutoTokenizer.from_pretrained(model)
    newline = tokenizer.convert_tokens_to_ids("\n")
    config = json.loads((model / "generation_config.json").read_text())
    (tmp_path / "lm" / "generation_config.json").write_text(json.dumps({**config, "eos_token_id": [newline]}))
    for name in ENGINES:
        with open_engine(EngineSettings(model=str(tmp_path / "lm"), name=name, batch_size=8)) as engine:
            done = draw(engine, requests(engine, name, Sampling(max_tokens=60), copies=4))
        ends = {c.token_ids[-1] for c in done if c.finish is Finish.STOP}
        assert newline in ends and ends <= {newline, tokenizer.eos_token_id}
        assert all(newline not in c.token_ids[:-1] for c in done)


def test_a_model_that_never_ends_a_text_is_refused(model, tmp_path):
    shutil.copytree(model, tmp_path / "lm")
    for name in ("generation_config.json", "config.json", "tokenizer_config.json"):
        values = json.loads((tmp_path / "lm" / name).read_text())
        values = {key: value for key, value in values.items() if key not in ("eos_token", "eos_token_id")}
        (tmp_path / "lm" / name).write_text(json.dumps(values))
    with (
        pytest.raises(UserError, match="names no token that ends a text"),
        open_engine(EngineSettings(model=str(tmp_path / "lm"), name="transformers")),
    ):
        pass


@pytest.mark.parametrize(
    ("window", "sums", "slots"),
    [
        (None, (2, 40, 3, 25, 1, 70, 9, 12), 3),
        (6, (2, 40, 3, 25, 1, 70, 9, 12), 3),
        # Wide enough to be read in parts, each as far back as its longest row begins.
        (None, (130, 2, 160, 40, 3, 25, 1, 70, 9, 12, 90, 5, 150, 30), 10),
        (200, (130, 2, 160, 40, 3, 25, 1, 70, 9, 12, 90, 5, 150, 30), 10),
    ],
    ids=["whole", "sliding window", "in parts", "in parts, sliding window"],
)
def test_rows_that_come_and_go_are_those_of_a_model_alone(window, sums, slots, tmp_path):
    """Grouped queries, prompts of other lengths, rows that begin while others run, buffers that move."""
    tokenizer = build_tokenizer()
    options = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    torch.manual_seed(0)
    config = MistralConfig(
        **options,
        vocab_size=len(tokenizer),
        sliding_window=window,
        eos_token_id=tokenizer.eos_token_id,
        max_position_embeddings=640,
    )
    reference = MistralForCausalLM(config).eval()
    reference.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    questions = ["+".join(["7"] * n) for n in sums]
    with open_engine(EngineSettings(str(tmp_path), "transformers", batch_size=slots)) as engine:
        asked = [
            Request(f"{i}", engine.encode(q, None), Sampling(temperature=0.0, max_tokens=15 + 11 * i), i)
            for i, q in enumerate(questions)
        ]
        done = draw(engine, asked)
    for request, completion in zip(asked, done, strict=True):
        prompt = torch.tensor([request.prompt_ids])
        expected = reference.generate(prompt, do_sample=False, max_new_tokens=request.sampling.max_tokens)
        assert list(completion.token_ids) == expected[0, prompt.shape[1] :].tolist()


def test_a_sample_depends_on_its_own_numbers_alone_and_a_prompt_is_computed_once(model, monkeypatch):
    computed = []
    monkeypatch.setattr(
        transformers_engine, "prefill", lambda model, prompts, pad: computed.extend(prompts) or prefill(model, prompts, pad)
    )
    found = []
    for slots in (2, 5, 64):
        with open_engine(EngineSettings(str(model), "transformers", batch_size=slots)) as engine:
            computed.clear()
            found.append([c.token_ids for c in draw(engine, requests(engine, "s", Sampling(0.9, 0.9, 30), seed=4, copies=6))])
            assert len(computed) == len(set(computed)) == len(QUESTIONS)
    assert found[0] == found[1] == found[2]


def test_a_model_that_remembers_more_than_keys_and_values_is_refused():
    with pytest.raises(UserError, match="layers of linear_attention"):
        refuse_other_memory(Qwen3NextConfig())
    refuse_other_memory(MistralConfig(sliding_window=8))


def test_vllm_that_does_not_start_says_why(model):
    pytest.importorskip("vllm")
    for changes, words in (
        ({"max_model_len": 10**6}, "max_model_len"),
        ({"kv_cache_gb": 1e-6}, "engine.kv_cache_gb" if not torch.cuda.is_available() else "vLLM"),
        ({"tensor_parallel": 3}, "heads .* divisible|GPU"),
    ):
        with pytest.raises(UserError, match=words) as said, open_engine(EngineSettings(str(model), "vllm", 4, **changes)):
            pass
        assert str(said.value).startswith("vLLM cannot serve") and "delete" not in str(said.value)


def test_vllm_on_a_cpu_gets_room_for_the_models_window_unless_it_is_told_otherwise(capsys):
    """By hand: Qwen2.5-0.5B keeps 2 x 24 x 2 x 64 numbers of 2 bytes a token, 12,288 bytes."""
    config = Qwen2Config(num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2, hidden_size=896)
    token, window = 12_288, config.max_position_embeddings
    assert window == 32_768
    room, fits = _cpu_room(config, 16, "bfloat16", VllmSettings())
    assert fits == window and int(1.1 * token * window) <= room < 1.2 * token * window
    assert _cpu_room(config, 16, "float32", VllmSettings())[0] >= 2 * int(1.1 * token * window)
    assert capsys.readouterr().err == ""
    room, fits = _cpu_room(config, 16, "bfloat16", VllmSettings(kv_cache_gb=0.2))
    assert room == 200_000_000 and fits == int(200_000_000 / 1.1 / token)
    assert f"makes room for {fits} of the model's 32768 tokens" in capsys.readouterr().err
    assert _cpu_room(config, 16, "bfloat16", VllmSettings(max_model_len=1000))[1] == 1000


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_is_computed_in_the_precision_that_is_asked_for(model, dtype):
    with open_engine(EngineSettings(str(model), "transformers", 4, dtype=dtype)) as engine:
        assert {str(weights.dtype) for weights in engine._model.parameters()} == {f"torch.{dtype}"}


def greedy_outputs(model) -> list[list[tuple[int, ...]]]:
    pytest.importorskip("vllm")
    outputs = []
    for name in ENGINES:
        with open_engine(EngineSettings(model=str(model), name=name, batch_size=8)) as engine:
            outputs.append([c.token_ids for c in draw(engine, requests(engine, "g", Sampling(temperature=0.0, max_tokens=24)))])
    return outputs


@pytest.mark.parametrize("device", ["any", pytest.param("cuda", marks=CUDA)])
def test_prompts_and_greedy_output_are_the_same_on_both_engines(model, device):
    first, second = greedy_outputs(model)
    assert first == second


def test_auto_is_vllm_on_a_gpu_and_transformers_otherwise(model):
    if torch.cuda.is_available():
        pytest.importorskip("vllm")
    with open_engine(EngineSettings(model=str(model), name="auto", batch_size=4)) as engine:
        assert type(engine).__name__ == ("VllmEngine" if torch.cuda.is_available() else "TransformersEngine")


def test_an_engine_that_does_not_exist_is_named(model):
    with (
        pytest.raises(UserError, match="'vlm': choose auto, transformers"),
        open_engine(EngineSettings(model=str(model), name="vlm")),
    ):
        pass


def test_closing_ends_what_is_outstanding(model):
    for name in ENGINES:
        if name == "vllm":
            pytest.importorskip("vllm")
        with open_engine(EngineSettings(model=str(model), name=name, batch_size=4)) as engine:
            engine.submit(requests(engine, "left", Sampling(max_tokens=20)))
        assert engine.outstanding == 0


@pytest.mark.parametrize(
    "plan",
    [{"kind": "parallel", "samples": 12}, {"kind": "chain", "chains": 3, "rounds": 4}],
    ids=["parallel", "chain"],
)
def test_a_killed_job_resumes_to_the_same_samples(model, tmp_path, plan):
    problems = [Problem(f"p{i}", question, "0") for i, question in enumerate(QUESTIONS)]
    write_problems(tmp_path / "problems.parquet", problems)
    plan = {**plan, "shards": 1, "seed": 3, "sampling": {"max_tokens": 40}}

    def start(out):
        arguments = {
            "plan": json.dumps(plan),
            "model": str(model),
            "problems": tmp_path / "problems.parquet",
            "out": out,
            "engine": '{"name": "transformers", "batch_size": 2}',
        }
        job = FORKS.Process(target=generate, kwargs=arguments)
        job.start()
        return job

    def ended(job):
        job.join(timeout=200)
        return job.exitcode

    whole, resumed = tmp_path / "whole.parquet", tmp_path / "resumed.parquet"
    assert ended(start(whole)) == 0
    partial = tmp_path / "resumed.parquet.partial"
    rng, kills = random.Random(0), 0
    while kills < 6:
        lines = rng.randint(0, 47)
        job = start(resumed)
        while job.is_alive() and not (partial.exists() and partial.read_bytes().count(b"\n") >= lines):
            time.sleep(0.002)
        time.sleep(rng.random() * 0.05)
        job.kill()
        if ended(job) == 0:
            break
        kills += 1
        assert not resumed.exists()
    assert kills >= 2
    if not resumed.exists():
        assert ended(start(resumed)) == 0
    first, second = read_table(whole, SAMPLES), read_table(resumed, SAMPLES)
    key = ["problem_id", "chain", "round", "sample"]
    assert not second.duplicated(key).any()
    assert first[key].equals(second[key])
    assert first["text"].tolist() == second["text"].tolist()
    assert not partial.exists()
