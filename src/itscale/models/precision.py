"""The precision that this machine does well."""

from pathlib import Path

PRECISIONS = ("auto", "float32", "bfloat16", "float16")

# bfloat16 products in hardware; a processor without them is slower in bfloat16 than in float32.
_BFLOAT16 = ("amx_bf16", "avx512_bf16")
# Weights that stay in a processor's cache gain little (the toy model a seventh), and float32 draws the same samples everywhere.
_SMALL = 64 << 20


def precision(model: str | Path, asked: str = "auto") -> str:
    """What a model is to be computed in: `asked`, and where that is `auto`, on a GPU the precision of the file (`auto`).

    On a CPU it is bfloat16 where the processor multiplies it in hardware (AMX, AVX512-BF16), else float32; float32 also for a
    model of less than 64 MB, whose samples are thus the same on every processor but for rounding.
    """
    import torch

    if asked != "auto" or torch.cuda.is_available():
        return asked
    size = sum(file.stat().st_size for file in Path(model).glob("*.safetensors"))
    able = torch.cpu.get_capabilities()
    return "bfloat16" if size >= _SMALL and any(able.get(name) for name in _BFLOAT16) else "float32"
