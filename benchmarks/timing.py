"""What the benchmarks share: sides that take turns, and how their times are written."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")


def in_turns(
    sides: Mapping[str, Callable[[], T]], repeats: int
) -> Iterator[tuple[str, T, float, float]]:
    """Run all sides in each repeat, another one first every time.

    What else the machine does then hits all of them.

    Yields:
        Name, result, seconds by the clock, and CPU seconds of this process.
    """
    names = list(sides)
    for repeat in range(repeats):
        turn = repeat % len(names)
        for name in [*names[turn:], *names[:turn]]:
            wall, cpu = time.perf_counter(), time.process_time()
            result = sides[name]()
            finish()
            yield name, result, time.perf_counter() - wall, time.process_time() - cpu


def finish() -> None:
    """Wait until the accelerator, if there is one, has done what it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range."""
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"
