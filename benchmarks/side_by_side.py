"""What the benchmarks share: ways of doing the same thing, timed in turn in one run."""

from __future__ import annotations

import time
from collections.abc import Callable


def seconds(
    ways: dict[str, Callable[[], object]], repeats: int, summary: Callable[[list[float]], float] = min
) -> dict[str, float]:
    """Fastest (or ``summary``) seconds of each way, the ways taking turns after a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: summary(values) for name, values in times.items()}
