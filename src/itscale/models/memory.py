"""A batch that does not fit into memory: halve it, say so, go on. And memory that is let go of goes back to the system."""

import ctypes
import gc
import platform
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import nn
from tqdm import tqdm

from itscale.errors import UserError

T, R = TypeVar("T"), TypeVar("R")

_MMAP_THRESHOLD = -3  # glibc's M_MMAP_THRESHOLD
_LARGE = 8 << 20  # bytes: more than what a step of decoding allocates time and again, but for its logits
_LARGE_MODEL = 50_000_000  # parameters; the work of a small model would take a seventh longer, and there is little to give back


def fitting(work: Callable[[Sequence[T]], R], batch: Sequence[T], what: str) -> tuple[R, int]:
    """work(batch[:n]) and n: the whole batch if it fits into memory, else its half, and so on; `what` the batch holds.

    Raises:
        UserError: not even one fits.
    """
    size = len(batch)
    while True:
        try:
            return work(batch[:size]), size
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        # Here, where the error no longer holds on to what had been allocated.
        size = halved(size, what)


def halved(size: int, what: str) -> int:
    """Half of a batch that does not fit, which is said; what was allocated for it is given back.

    Raises:
        UserError: it was one.
    """
    if size == 1:
        raise UserError(
            f"there is not enough memory for one of the {what} alone: give more, lower max_tokens, or take a smaller model."
        )
    tqdm.write(f"out of memory with {size} {what} at once: going on with {size // 2}", file=sys.stderr)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return size // 2


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory could not be had; on a CPU torch has no class for it."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def give_back_large_blocks(model: nn.Module) -> None:
    """Let glibc return blocks of 8 MiB and more to the system once they are freed, where a model is large.

    By itself it raises that bound to 32 MiB as it goes, and the keys and values of a layer, laid anew as they grow, leave
    holes in the heap that are as large as all that is in use.
    """
    if platform.libc_ver()[0] == "glibc" and sum(p.numel() for p in model.parameters()) >= _LARGE_MODEL:
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE)
