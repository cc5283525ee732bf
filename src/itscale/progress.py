"""Progress bars that stay readable in a log file: a line every 15 seconds where there is no terminal."""

import re
import sys
from pathlib import Path

from tqdm import tqdm

_SHARE = re.compile(rb"(\d{1,3})%\|")
_TAIL = 4096  # bytes: many times the longest line of a bar


def progress(
    *,
    description: str,
    unit: str,
    total: int | None = None,
    initial: int = 0,
    shown: bool = True,
) -> tqdm:
    """A tqdm bar that is updated by hand; `initial` was done before."""
    interval = 0.5 if sys.stderr.isatty() else 15.0
    return tqdm(
        desc=description,
        unit=unit,
        total=total,
        initial=initial,
        mininterval=interval,
        maxinterval=interval,
        dynamic_ncols=True,
        disable=not shown,
    )


def advance(bar: tqdm, done: int) -> None:
    """Count what is done; shows the bar from time to time also while nothing is, since what stands beside it changes."""
    bar.update(done)
    if not bar.disable and bar._time() - bar.last_print_t >= bar.mininterval:
        bar.refresh()
        bar.last_print_t = bar._time()


def share_done(log: Path) -> float | None:
    """The share of the work, 0 to 1, that the last bar in a log file says is done; None where it holds no bar."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL))
            found = _SHARE.findall(file.read())
    except OSError:
        return None
    return min(int(found[-1]), 100) / 100 if found else None
