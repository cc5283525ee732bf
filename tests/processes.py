"""`itscale` in a process of its own, which can be killed, limited and listened to."""

import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

# Processes of tests start from one that has imported what they use: real processes, without its seconds. There is one such server
# in a process of pytest, and the first use settles what it has imported.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "itscale.cli",
        "itscale.cli.pools",
        "itscale.cli.solving",
        "itscale.drivers.generate",
        "itscale.engines.transformers",
        "itscale.grading.comparison",
        "itscale.models.predictor",
        "itscale.models.verifier",
        "itscale.testtime.train",
        "pytest",
        "scipy.stats",
        "transformers.models.llama.modeling_llama",
        "transformers.trainer",
        "typer.testing",
    ]
)
_NUMBERS = count()


def _main(arguments: list[str], said: str, memory: int | None, where: Path | None) -> None:
    file = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = ["itscale", *arguments]
    if where is not None:
        os.chdir(where)
    import torch

    from itscale.cli import main

    torch.set_num_threads(1)
    if memory is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    main()


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and all that it wrote to the terminal."""

    code: int
    said: str


class Job:
    """A command under way, in the folder `where`; `memory` is the bytes that it may take beyond what it starts with."""

    def __init__(self, folder: Path, *arguments: object, memory: int | None = None, where: Path | None = None) -> None:
        self._said = folder / f"said-{next(_NUMBERS)}.txt"
        self._process = FORKS.Process(target=_main, args=([str(a) for a in arguments], str(self._said), memory, where))
        self._process.start()

    def kill_when(self, ready: Callable[[], bool], delay: float) -> bool:
        """SIGKILL `delay` seconds after something is so; False if the job ended before."""
        while self._process.is_alive() and not ready():
            time.sleep(0.002)
        time.sleep(delay)
        self._process.kill()
        self._process.join()
        return self._process.exitcode != 0

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def interrupt(self) -> None:
        """Ctrl-C."""
        os.kill(self._process.pid, signal.SIGINT)

    def pause(self, paused: bool) -> None:
        os.kill(self._process.pid, signal.SIGSTOP if paused else signal.SIGCONT)

    def end(self) -> Done:
        self._process.join(timeout=300)
        return Done(self._process.exitcode, self._said.read_text())


def itscale(folder: Path, *arguments: object, memory: int | None = None, where: Path | None = None) -> Done:
    """Run a command to its end."""
    return Job(folder, *arguments, memory=memory, where=where).end()
