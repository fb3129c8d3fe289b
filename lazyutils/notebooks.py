"""Keeping each notebook's two files the same: ``python -m lazyutils.notebooks check | update``.

The ``.py`` file (jupytext's percent format) is the source; the ``.ipynb`` beside it is derived from
it, without outputs, for Colab and Kaggle.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat

Cell = tuple[str, str, tuple[str, ...]]


def cells(path: Path) -> list[Cell]:
    """Type, source and sorted tags of every cell of a ``.py`` or ``.ipynb`` notebook."""
    notebook = jupytext.read(path, fmt="py:percent" if path.suffix == ".py" else "ipynb")
    return [
        (cell.cell_type, cell.source.rstrip(), tuple(sorted(cell.metadata.get("tags", [])))) for cell in notebook.cells
    ]


def problems(source: Path) -> list[str]:
    """What is wrong with a notebook's pair, one line each."""
    derived = source.with_suffix(".ipynb")
    if not derived.is_file():
        return [f"{derived} is missing: run `python -m lazyutils.notebooks update`"]
    notebook = nbformat.read(derived, as_version=4)
    found = []
    if cells(source) != cells(derived):
        found.append(f"{derived} differs from {source}: run `python -m lazyutils.notebooks update`")
    if any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells):
        found.append(f"{derived} holds outputs: run `python -m lazyutils.notebooks update`")
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append(f"{derived} must name the kernel python3")
    return found


def update(source: Path) -> None:
    """Derive the ``.ipynb`` from the ``.py``; ids of unchanged cells stay."""
    command = [
        sys.executable,
        "-m",
        "jupytext",
        "--from",
        "py:percent",
        "--to",
        "ipynb",
        "--update",
        "--quiet",
        str(source),
    ]
    subprocess.run(command, check=True)


def main() -> int:
    """Check or update all pairs below ``notebooks/``."""
    parser = argparse.ArgumentParser(prog="python -m lazyutils.notebooks", description=__doc__)
    parser.add_argument("action", choices=["check", "update"])
    sources = sorted(Path("notebooks").glob("*.py"))
    if parser.parse_args().action == "update":
        for source in sources:
            update(source)
    found = [problem for source in sources for problem in problems(source)]
    print("\n".join(found) or f"{len(sources)} notebook pairs agree")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
