"""The command line: ``python -m lazyutils.cli run | site``."""

from __future__ import annotations

import argparse
import fcntl
import json
import shutil
import subprocess
import sys
from pathlib import Path

from lazyutils import site
from lazyutils.command import exit_code
from lazyutils.errors import ClearError
from lazyutils.parameters import nearest
from lazyutils.pipeline import load_profile


def main(arguments: list[str] | None = None) -> int:
    """Run one command; an error that a person can act on is one line and exit code 2."""
    options = parser().parse_args(arguments)
    return exit_code(lambda: options.command(options))


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python -m lazyutils.cli", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run the task notebooks of a profile, in order")
    run.add_argument("tasks", nargs="*", metavar="TASK", help="only these tasks and what they need (default: all)")
    run.add_argument("--profile", default="quick", help="a file of profiles/ (default: %(default)s)")
    run.add_argument("--set", nargs="*", default=[], metavar="TASK.PARAMETER=VALUE", help="override parameters")
    run.add_argument("--cores", type=int, default=2, help="tasks run side by side (default: %(default)s)")
    run.add_argument("--dry-run", action="store_true", help="say what would run, run nothing")
    run.set_defaults(command=run_tasks)
    site = commands.add_parser("site", help="build the site from a finished run")
    site.add_argument("--profile", default="quick", help="whose run to show (default: %(default)s)")
    site.set_defaults(command=build_site)
    return top


def run_tasks(options: argparse.Namespace) -> int:
    """Check all parameters, then let Snakemake run what is missing or stale.

    The lock is the operating system's and shared with Snakemake: it ends with both processes, however
    they end, so Snakemake's own lock files, which a killed process leaves behind, are not needed.
    """
    known = load_profile(options.profile, options.set)
    for task in options.tasks:
        if task not in known:
            raise ClearError(f"there is no task {task!r}{nearest(task, known)}")
    run = Path("runs") / options.profile
    run.mkdir(parents=True, exist_ok=True)
    with open(run / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClearError(f"another run of profile {options.profile!r} is going on in this folder") from None
        for left_by_a_killed_run in run.glob(".work-*"):
            shutil.rmtree(left_by_a_killed_run)
        log = run / "logs" / "snakemake.log"
        log.parent.mkdir(exist_ok=True)
        with open(log, "w") as reasons:
            stderr = None if options.dry_run else reasons
            code = subprocess.run(snakemake(options), pass_fds=[lock.fileno()], stderr=stderr, check=False).returncode
    if code:
        raise ClearError(f"not every task was finished: the reason is above, or in {log}")
    return code


def snakemake(options: argparse.Namespace) -> list[str]:
    """The Snakemake call for these options."""
    targets = [f"runs/{options.profile}/notebooks/{task}.ipynb" for task in options.tasks] or ["all"]
    return [
        *(sys.executable, "-m", "snakemake", *targets, "--cores", str(options.cores)),
        *("--nolock", "--rerun-incomplete", "--keep-going", "--nocolor"),
        *(["--dry-run"] if options.dry_run else []),
        *("--config", f"profile={options.profile}", f"set={json.dumps(options.set)}"),
    ]


def build_site(options: argparse.Namespace) -> int:
    """Build ``_build/html`` from ``runs/<profile>``."""
    site.build(Path("runs") / options.profile)
    return 0


if __name__ == "__main__":
    sys.exit(main())
