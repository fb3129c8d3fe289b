"""The published edition: a finished run, put below ``book/`` on purpose, so that readers need not run anything.

``python -m lazyutils.publish runs/full`` writes ``book/tasks``, ``book/results``, ``book/assets/hero.png``, all of
Task 4's training runs as ``book/points.jsonl``, the stamp ``book/edition.json``, and the small checkpoints into
``lazyutils/published``, so that they come with the package;
``python -m lazyutils.site`` shows the edition.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from lazyutils import pages, pipeline, points, run, site
from lazyutils.command import exit_code
from lazyutils.errors import ClearError
from lazyutils.files import replace_tree
from lazyutils.sources import statements

PAGE_LIMIT_MB = 1.5
MODELS_LIMIT_MB = 5.0
PLACES = {
    "tasks": "book/tasks",
    "results": "book/results",
    "edition.json": "book/edition.json",
    "hero.png": "book/assets/hero.png",
    "points.jsonl": "book/points.jsonl",
    "models": "lazyutils/published",
}
SETTINGS = ("run_dir", "data_dir", "threads")
"""Parameters that change no result."""


def publish(run_dir: Path, report: site.Report = print) -> Path:
    """Make a finished run the edition of the current folder's repository; all of it or nothing.

    Args:
        run_dir: such as ``runs/full``.
        report: receives the log, line by line.

    Returns:
        The edition stamp, ``book/edition.json``.

    Raises:
        ClearError: the run is incomplete, stale, made with other parameters than its profile's, with stand-ins for
            earlier tasks or from uncommitted code, or a page is larger than 1.5 MB. Nothing has changed then.
    """
    root = Path.cwd()
    folders = run_dir / "notebooks", run_dir / "results"
    tasks = {task: site.read_task(task, *folders, root) for task in site.task_names(root)}
    records = {task: record for task, (_, record) in tasks.items()}
    for task, (notebook, _) in tasks.items():
        site.refuse_stale(task, notebook, root)
    refuse_standins(records)
    refuse_other_parameters(records)
    refuse_other_code(records)
    fresh = root / "book" / ".edition"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        for task, (notebook, record) in tasks.items():
            site.write(fresh / "tasks" / f"{task}.ipynb", nbformat.writes(notebook) + "\n")
            site.write(fresh / "results" / f"{task}.json", json.dumps(record, indent=2) + "\n")
            refuse_heavy(fresh / "tasks" / f"{task}.ipynb")
        copy_models(run_dir / "models", fresh / "models", report)
        points.pack(run_dir / "points", fresh / "points.jsonl")
        site.write(fresh / "edition.json", json.dumps(stamp(records), indent=2) + "\n")
        (fresh / "hero.png").write_bytes(pages.hero(notebook for notebook, _ in tasks.values())[0])
        move_into_place(fresh, root)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    report(f"published {run_dir}: {len(tasks)} tasks; commit book/ and lazyutils/published/ to keep the edition")
    return root / "book" / "edition.json"


def refuse_standins(records: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise unless each task read what the earlier tasks of this very run had made."""
    for task, record in records.items():
        for name, origin in record["inputs"].items():
            if origin != run.THIS_RUN:
                raise ClearError(f"page {task} took {name} from {origin}: run it again in the same run")


def refuse_other_parameters(records: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise unless all records are of one profile and ran with the very values of its file."""
    profiles = {record["profile"] for record in records.values()}
    if len(profiles) > 1:
        raise ClearError(f"the run mixes profiles {', '.join(sorted(profiles))}: run one profile from start to end")
    wanted = pipeline.load_profile(profiles.pop())
    for task, record in records.items():
        for name, value in wanted[task].items():
            ran = record["parameters"].get(name)
            if name not in SETTINGS and ran != value:
                raise ClearError(f"page {task} ran with {name} = {ran!r}, its profile says {value!r}: run without SET")


def refuse_other_code(records: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise unless each task ran committed code, and that code is what is here now (comments aside)."""
    for task, record in records.items():
        commit = record["commit"]
        if not commit or commit.endswith("+changes"):
            raise ClearError(f"page {task} was made from uncommitted code: commit, then run it again")
        used = [f"notebooks/{task}.py", *pipeline.modules_of(task)]
        for path in git("diff", "--name-only", commit, "--", *used).splitlines():
            if statements(git("show", f"{commit}:{path}")) != statements(Path(path).read_text(encoding="utf-8")):
                raise ClearError(f"page {task} is stale: {path} has changed since commit {commit[:10]} made it")


def git(*arguments: str) -> str:
    """A git command's output."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClearError(f"git {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def refuse_heavy(path: Path) -> None:
    """Raise if a notebook is larger than 1.5 MB (10^6 bytes)."""
    size = path.stat().st_size / 1e6
    if size > PAGE_LIMIT_MB:
        raise ClearError(
            f"page {path.stem} has {size:.1f} MB, at most {PAGE_LIMIT_MB} MB: save fewer or smaller figures"
        )


def copy_models(models: Path, target: Path, report: site.Report) -> None:
    """Copy checkpoints and sidecars, smallest first, while they fit into 5 MB; say which do not."""
    target.mkdir(parents=True)
    left = MODELS_LIMIT_MB * 1e6
    for model in sorted(models.glob("*.safetensors"), key=lambda path: path.stat().st_size):
        left -= model.stat().st_size
        if left < 0:
            report(f"{model.name} is not published: {model.stat().st_size / 1e6:.1f} MB are too much")
            continue
        shutil.copyfile(model, target / model.name)
        sidecar = json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))
        sidecar = pages.scrub(sidecar, {str(Path.cwd()): "."})
        site.write(target / f"{model.stem}.json", json.dumps(sidecar, indent=2, sort_keys=True) + "\n")


def stamp(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What made the edition, and when."""
    first = next(iter(records.values()))
    return {
        "commit": git("rev-parse", "HEAD"),
        "profile": first["profile"],
        "versions": first["versions"],
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "seconds": sum(record["seconds"] for record in records.values()),
        "tasks": list(records),
    }


def move_into_place(fresh: Path, root: Path) -> None:
    """Replace the earlier edition by the fresh one."""
    for name, place in PLACES.items():
        if (fresh / name).is_dir():
            replace_tree(fresh / name, root / place)
        else:
            (fresh / name).replace(root / place)


def main(arguments: list[str] | None = None) -> int:
    """Publish from the command line."""
    parser = argparse.ArgumentParser(prog="python -m lazyutils.publish", description=__doc__)
    parser.add_argument("run_dir", type=Path, help="a finished run, such as runs/full")
    options = parser.parse_args(arguments)
    return exit_code(lambda: publish(options.run_dir))


if __name__ == "__main__":
    sys.exit(main())
