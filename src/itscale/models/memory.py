"""A batch that does not fit into memory: halve it, say so, go on."""

import gc
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from tqdm import tqdm

from itscale.errors import UserError

T, R = TypeVar("T"), TypeVar("R")


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
