"""What the benchmarks share: ways of doing the same thing, timed in turn in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
Clock = Callable[[], float]


def timed(way: Callable[[], Result], clock: Clock = time.process_time) -> tuple[float, Result]:
    """Seconds and result of one call; by default processor seconds, in which a busy machine's waiting doesn't count."""
    start = clock()
    result = way()
    return clock() - start, result


def seconds(
    ways: dict[str, Callable[[], object]],
    repeats: int,
    summary: Callable[[list[float]], float] = min,
    clock: Clock = time.perf_counter,
) -> dict[str, float]:
    """Fastest (or ``summary``) seconds of each way, the ways taking turns after a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            taken, _ = timed(way, clock)
            if turn:
                times[name].append(taken)
    return {name: summary(values) for name, values in times.items()}
