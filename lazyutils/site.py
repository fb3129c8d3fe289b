"""The site: a staged copy of ``book/`` with one run's notebooks and results, built by Jupyter Book.

``python -m lazyutils.site runs/quick`` shows that run; without a run, the published edition.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat

from lazyutils import pages, sitecheck
from lazyutils.address import repository
from lazyutils.command import exit_code
from lazyutils.errors import ClearError, MissingArtefactError
from lazyutils.files import replace_tree

VENDOR = {
    "mathjax/es5/tex-chtml.js": "mathjax",
    "mathjax/es5/output/chtml/fonts/woff-v2/*.woff": "mathjax/output/chtml/fonts/woff-v2",
    "@jupyter-widgets/html-manager/dist/embed.js": "widgets",
    "@jupyter-widgets/html-manager/dist/*.woff2": "widgets",
}
"""Files of npm packages that the offline site needs, and their folder below ``assets/vendor``."""
EDITION = ("tasks", "results", "edition.json")
"""What ``make publish`` puts below ``book/``."""
PROBLEM = re.compile(r"^(?:(?P<place>\S.*?): )?(?:WARNING|ERROR|CRITICAL): (?P<text>.+)$", re.MULTILINE)
Report = Callable[[str], None]


def build(run_dir: Path | None = None, root: Path = Path(), report: Report = print) -> Path:
    """Build ``_build/html``; an earlier site stays as it is until the new one is whole.

    Args:
        run_dir: a finished run such as ``runs/quick``; None shows the published edition.
        root: the repository.
        report: receives the log, line by line.

    Returns:
        The site's first page.

    Raises:
        ClearError: a missing or failed task page, an unknown key, a broken link, a figure without
            alt text: whatever is wrong, with the page's name.
    """
    started, root = time.perf_counter(), root.resolve()
    source = stage(run_dir, root, report)
    work = root / "_build" / "work"
    shutil.rmtree(work, ignore_errors=True)
    jupyter_book(source, work)
    built = work / "_build" / "html"
    sitecheck.check(built)
    site = root / "_build" / "html"
    replace_tree(built, site)
    shutil.rmtree(work)
    count = len(list(site.rglob("*.html")))
    report(f"site: {site / 'index.html'} ({count} pages, {time.perf_counter() - started:.0f} s)")
    return site / "index.html"


def task_names(root: Path) -> list[str]:
    """The book's tasks: every notebook in ``notebooks/``, in order."""
    return sorted(path.stem for path in (root / "notebooks").glob("task*.ipynb"))


def stage(run_dir: Path | None, root: Path, report: Report) -> Path:
    """Copy pages, notebooks, results and assets to ``_build/source`` and return it."""
    source = root / "_build" / "source"
    shutil.rmtree(source, ignore_errors=True)
    skip = (*EDITION, "__pycache__") if run_dir else ("__pycache__",)
    shutil.copytree(root / "book", source / "book", ignore=shutil.ignore_patterns(*skip))
    for name in ("_config.yml", "_toc.yml"):
        shutil.copyfile(root / name, source / name)
    address = repository(root)
    if address is None:
        report("repository.url is not set in _config.yml: the site has no launch buttons")
    folders = (run_dir / "notebooks", run_dir / "results") if run_dir else (root / "book/tasks", root / "book/results")
    notebooks = []
    for task in task_names(root):
        notebook, record = read_task(task, *folders, root)
        notebooks.append(notebook)
        try:
            refuse_stale(task, notebook, root)
        except ClearError as error:
            if run_dir:
                raise
            report(f"the published edition is older than the notebooks: {error}")
        pages.add_facts(notebook, record, address.launch(task) if address else {})
        write(source / f"book/tasks/{task}.ipynb", nbformat.writes(notebook))
        write(source / f"book/results/{task}.json", json.dumps(record))
    picture, _ = pages.hero(notebooks)
    (source / "book/assets/hero.png").write_bytes(picture)
    copy_vendor(root, source / "book/assets/vendor", report)
    return source


def read_task(task: str, notebooks: Path, results: Path, root: Path) -> tuple[nbformat.NotebookNode, dict[str, Any]]:
    """A task's cleaned notebook and its results.

    Raises:
        MissingArtefactError: the run has no such page.
        ClearError: a failed cell, or a figure without alt text.
    """
    path, record_path = notebooks / f"{task}.ipynb", results / f"{task}.json"
    for needed in (path, record_path):
        if not needed.is_file():
            remedy = "make publish" if notebooks == root / "book/tasks" else "make book"
            raise MissingArtefactError(f"page {task}: {needed} is missing: run `{remedy}` to make it")
    private = {str(root): ".", str(Path.home()): "~"}
    record = pages.scrub(json.loads(record_path.read_text(encoding="utf-8")), private)
    notebook = nbformat.read(path, as_version=4)
    pages.take_prose(notebook, nbformat.read(root / "notebooks" / f"{task}.ipynb", as_version=4))
    return pages.clean(notebook, f"page {task}", private), record


def refuse_stale(task: str, executed: nbformat.NotebookNode, root: Path) -> None:
    """Raise unless the page ran the very code of the clean notebook; how lazyutils gets installed is no part of it."""
    clean = nbformat.read(root / "notebooks" / f"{task}.ipynb", as_version=4)
    ran = {cell.source.strip() for cell in executed.cells if cell.cell_type == "code"}
    for number, cell in enumerate(clean.cells, start=1):
        if cell.cell_type != "code" or "bootstrap" in cell.metadata.get("tags", []):
            continue
        if cell.source.strip() not in ran:
            raise ClearError(f"page {task} is stale: cell {number} of notebooks/{task}.ipynb has changed since it ran")


def write(path: Path, text: str) -> None:
    """Write a text file, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def copy_vendor(root: Path, target: Path, report: Report) -> None:
    """Copy the npm packages' files; without npm the site takes them from CDNs, and the log says so."""
    modules = root / "node_modules"
    if shutil.which("npm") and not up_to_date(root):
        install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        outcome = subprocess.run(install, cwd=root, capture_output=True, text=True, check=False)
        if outcome.returncode:
            report(f"npm ci failed: {(outcome.stderr.strip() or 'no message').splitlines()[0]}")
    found = {pattern: list(modules.glob(pattern)) for pattern in VENDOR}
    for pattern, files in found.items():
        if not files:
            report(f"npm is missing or gave no {pattern}: maths and widgets come from CDNs and need a network")
            return
    for pattern, folder in VENDOR.items():
        (target / folder).mkdir(parents=True, exist_ok=True)
        for file in found[pattern]:
            shutil.copyfile(file, target / folder / file.name)


def up_to_date(root: Path) -> bool:
    """Whether ``node_modules`` holds what ``package-lock.json`` names (npm keeps a copy of it there)."""
    installed = root / "node_modules" / ".package-lock.json"
    if not installed.is_file():
        return False
    wanted = json.loads((root / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    wanted.pop("")
    return json.loads(installed.read_text(encoding="utf-8"))["packages"] == wanted


def jupyter_book(source: Path, work: Path) -> None:
    """Run Jupyter Book strictly; raise with the first problem of each page."""
    program = Path(sys.executable).with_name("jupyter-book")
    command = [str(program), "build", str(source), "--path-output", str(work), "-W", "-n", "--keep-going"]
    package = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if outcome.returncode:
        raise ClearError(f"the site was not built: {problems(outcome.stdout + outcome.stderr, source)}")


def problems(log: str, source: Path) -> str:
    """What Sphinx complained about, page by page, in one line."""
    log = re.sub(r"\x1b\[[0-9;]*m", "", log)
    found = [f"{match['place'] or 'book'}: {match['text']}" for match in PROBLEM.finditer(log)]
    found = [line.replace(f"{source}/", "") for line in dict.fromkeys(found)]
    return "; ".join(found) if found else log.strip().splitlines()[-1]


def main(arguments: list[str] | None = None) -> int:
    """Build the site from the command line."""
    parser = argparse.ArgumentParser(prog="python -m lazyutils.site", description=__doc__)
    parser.add_argument("run_dir", nargs="?", type=Path, help="a finished run (default: the published edition)")
    options = parser.parse_args(arguments)
    return exit_code(lambda: build(options.run_dir))


if __name__ == "__main__":
    sys.exit(main())
