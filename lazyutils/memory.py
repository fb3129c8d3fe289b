"""What the C library does with freed memory."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3)
LARGEST_POOLED = 32 << 20
"""Bytes; glibc pools no larger block than this."""
KEPT = 256 << 20
"""Bytes of freed memory that may stay with the process."""


def keep_freed() -> None:
    """Let glibc keep freed memory for the next request of its kind; without glibc nothing changes.

    By default it returns the buffers of every training step to the system, from which the next step gets them anew,
    zeroed page by page: up to a quarter of the time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, LARGEST_POOLED)
        mallopt(TRIM_THRESHOLD, KEPT)
