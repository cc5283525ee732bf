"""Progress bars that stay readable in a log file: a line every 15 seconds where there is no terminal."""

import sys

from tqdm import tqdm


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
