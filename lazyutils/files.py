"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside ``path`` and rename, so that a killed process leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_bytes(content)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def whole_tree(target: Path) -> Iterator[Path]:
    """A scratch folder beside ``target`` that takes its place at the end, or is removed after an error."""
    scratch = target.with_name(f".{target.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
        replace_tree(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def replace_tree(scratch: Path, target: Path) -> None:
    """Rename ``scratch`` to ``target``; an earlier tree steps aside whole, so that half a tree is never in place."""
    earlier = target.with_name(f".{target.name}.earlier")
    shutil.rmtree(earlier, ignore_errors=True)
    if target.exists():
        target.rename(earlier)
    scratch.rename(target)
    shutil.rmtree(earlier, ignore_errors=True)
