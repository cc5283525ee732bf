"""The process that reads expressions: one request a line on standard input, one reply a line on standard output, both JSON.

The system itself ends the process when a request takes longer than its limit of processor time, which no computation can hold up.
"""

import json
import logging
import signal
import sys
import warnings

_MEMORY_BYTES = 4 << 30


def _limit_memory() -> None:
    import resource

    if sys.platform.startswith("linux"):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(limit: float) -> None:
    """Answer requests until there are no more; `limit` is in seconds of processor time."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    from itscale.grading.mathematics import evaluate

    _limit_memory()
    evaluate(r"\frac{\sqrt{x}}{2}", {}, ratio=False, positive=False)  # the parser's first time is long
    replies = sys.stdout
    sys.stdout = sys.stderr
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, limit)
        signal.setitimer(signal.ITIMER_REAL, 10 * limit)  # on a busy machine, where processor time comes slowly
        try:
            found = evaluate(request["latex"], dict(request["names"]), ratio=request["ratio"], positive=request["positive"])
        except MemoryError:
            raise SystemExit(1) from None  # the parent takes it for an answer that hangs
        except (Exception, RecursionError):
            found = None
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(found), file=replies, flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
