"""Reads expressions in processes of its own, each with a limit: what hangs costs one of them, once, and holds nobody else up."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from itscale.grading.readings import Expression, Number, Text, Tree, Value, Words, ordered

_WORKERS = 2
_SECOND_AFTER = 0.2  # of the limit, at most a second: from then on another worker takes what waits behind an expression


class Worker:
    """A process that runs `itscale.grading.worker`; it imports that alone, nothing of the user's."""

    def __init__(self, limit: float) -> None:
        self._errors = tempfile.TemporaryFile()
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "itscale.grading.worker", str(limit)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        if self._process.stdout.readline() != b"ready\n":
            self._process.wait()
            self._errors.seek(0)
            reason = self._errors.read().decode(errors="replace").strip()[-2000:]
            self.close()
            raise RuntimeError(f"the process that reads mathematics did not start: {reason}")

    def ask(self, expression: Expression) -> Any:
        """The reply of `mathematics.evaluate`.

        Raises:
            EOFError: the process ended, since the expression took too long or too much memory.
        """
        names, flags = expression.names, {"ratio": expression.ratio, "positive": expression.positive}
        try:
            self._process.stdin.write(json.dumps({"latex": expression.latex, "names": names, **flags}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise EOFError from None
        if not (line := self._process.stdout.readline()):
            raise EOFError
        return json.loads(line)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):
                stream.close()


class Reader:
    """Readings of expressions, each read once; a context manager, since it owns processes.

    `limit` is the processor time in seconds that one expression may take.
    """

    def __init__(self, limit: float = 5.0) -> None:
        self.limit = limit
        self._read: dict[Expression, Tree] = {}
        self._waiting: deque[Expression] = deque()
        self._asked: set[Expression] = set()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._workers: set[Worker] = set()
        self._asking, self._since = 0, 0.0  # how many expressions are being read, and since when the last of them
        self._closed = False
        self._failed: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            for worker in self._workers:
                worker.close()
        for thread in self._threads:
            thread.join()

    def start(self) -> None:
        """Start the first process, whose imports take seconds, unless it is there."""
        self.read([Expression("1+1", ())])

    def read(self, wanted: Iterable[Expression], patience: float | None = None) -> dict[Expression, Tree]:
        """The readings of expressions; with `patience` (seconds), those of which there are readings by then."""
        wanted = list(dict.fromkeys(wanted))
        with self._changed:
            new = [e for e in wanted if e not in self._read and e not in self._asked]
            self._asked.update(new)
            self._waiting.extend(new)
            self._changed.notify_all()
            if new and not self._threads:
                self._threads = [threading.Thread(target=self._work, args=(i == 0,), daemon=True) for i in range(_WORKERS)]
                for thread in self._threads:
                    thread.start()
            self._changed.wait_for(lambda: self._failed or all(e in self._read for e in wanted), patience)
            if self._failed:
                raise self._failed
            return {e: self._read[e] for e in wanted if e in self._read}

    def _work(self, first: bool) -> None:
        """What a thread does: ask its worker for what waits, and take another worker where one ended."""
        worker = None
        try:
            while self._wanted(first or worker is not None):
                worker = worker or self._hire()
                with self._changed:
                    if self._closed or not self._waiting:
                        continue
                    expression = self._waiting.popleft()
                    self._asking, self._since = self._asking + 1, time.monotonic()
                    self._changed.notify_all()
                try:
                    found = tree_of(worker.ask(expression), expression.text)
                except EOFError:
                    found = Text(expression.text, hangs=True)
                    worker = self._dismiss(worker)
                with self._changed:
                    self._asking -= 1
                    self._read[expression] = found
                    self._changed.notify_all()
        except Exception as error:
            with self._changed:
                self._failed = error
                self._changed.notify_all()

    def _wanted(self, ready: bool) -> bool:
        """Wait until this thread has something to do; False where all is over.

        A second worker (not `ready`) is wanted only where one expression has held the others up for a while.
        """
        with self._changed:
            while not self._closed:
                patience = self._since + min(1.0, _SECOND_AFTER * self.limit) - time.monotonic() if self._asking else None
                if self._waiting and (ready or (patience is not None and patience <= 0)):
                    return True
                self._changed.wait(None if ready or not self._waiting else patience)
            return False

    def _hire(self) -> Worker:
        worker = Worker(self.limit)
        with self._changed:
            self._workers.add(worker)
            if self._closed:
                worker.close()
        return worker

    def _dismiss(self, worker: Worker) -> None:
        with self._changed:
            self._workers.discard(worker)
        worker.close()


def tree_of(reply: Any, text: str) -> Tree:
    """The reading that a worker replied; what it could not read is text."""
    match reply:
        case None:
            return Text(text)
        case ["number", value]:
            return Number(Fraction(value))
        case ["words", words]:
            return Words(words)
        case ["sequence", kind, items]:
            return ordered(kind, tuple(tree_of(item, text) for item in items))
    return Value(reply[0], tuple(reply[1:]))
