"""A sweep of 20 small training runs: with one core, with two, and killed in the middle and resumed.

Prints wall seconds of a sweep with one core and with two, and their ratio; then how many finished runs a resumed sweep
made again after a SIGKILL (none is right).
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from lazyutils import data, mnist, standins

ROOT = Path(__file__).resolve().parent.parent
SEEDS = [0, 1, 2, 3, 4]
PROFILE = {
    "task4_intervention": {
        "methods": ["erm"],
        "brackets": ["oracle"],
        "seeds": SEEDS,
        "method_seeds": SEEDS,
        "epochs": 4,
        "study_epochs": 4,
        "train_size": 3000,
        "validation_size": 500,
        "hard_size": 1000,
        "sizes": [3000],
    }
}
"""Three methods and one bracket at five seeds."""


def project(folder: Path, splits: dict) -> Path:
    """A root with this repository's code, the small profile and the data set, and no results."""
    for name in ("notebooks", "lazyutils", "sweep"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "profiles").mkdir()
    (folder / "profiles/small.yaml").write_text(yaml.safe_dump(PROFILE))
    standins.save_data(folder / "runs/small/data/colored_mnist.safetensors", splits)
    return folder


def start(root: Path, cores: int) -> subprocess.Popen:
    """The sweep, as `make sweep` calls it, in a process group of its own."""
    command = [sys.executable, "-m", "snakemake", "-s", "sweep/Snakefile", "--config", "profile=small"]
    options = ["--rerun-incomplete", "--keep-going", "--nolock", "--cores", str(cores), "--quiet", "rules", "progress"]
    return subprocess.Popen([*command, *options], cwd=root, start_new_session=True)


def finished(root: Path) -> dict[Path, bytes]:
    """Each finished run's file; it holds the seconds of its training, so that no second training repeats it."""
    files = (root / "runs/small/points").glob("*.json")
    return {file: file.read_bytes() for file in files if not file.name.endswith(".model.json")}


def complete(root: Path, cores: int) -> float:
    """Wall seconds of a sweep to its end."""
    started = time.perf_counter()
    if start(root, cores).wait():
        raise SystemExit("the sweep failed: its messages are above")
    return time.perf_counter() - started


def killed(root: Path, cores: int, after: int) -> dict[Path, bytes]:
    """Kill a sweep, and all it has started, once ``after`` runs are finished; what was finished."""
    process = start(root, cores)
    while len(finished(root)) < after:
        if process.poll() is not None:
            raise SystemExit("the sweep ended before it could be killed")
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return finished(root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(ROOT / "data"), help="folder of MNIST (default: %(default)s)")
    parser.add_argument("--kill-after", type=int, default=8, help="runs before the kill (default: %(default)s)")
    given = parser.parse_args()
    splits = data.colored_mnist(mnist.load(given.data, print), **standins.RECIPE)
    taken = {}
    with tempfile.TemporaryDirectory() as scratch:
        for cores in (1, 2):
            (folder := Path(scratch) / f"cores{cores}").mkdir()
            root = project(folder, splits)
            taken[cores] = complete(root, cores)
            print(f"{len(finished(root))} runs, {cores} core(s): {taken[cores]:.0f} s", flush=True)
        print(f"two cores are {taken[1] / taken[2]:.2f}x as fast as one")
        (folder := Path(scratch) / "killed").mkdir()
        root = project(folder, splits)
        before = killed(root, 2, given.kill_after)
        complete(root, 2)
        after = finished(root)
        again = sum(after[file] != content for file, content in before.items())
        print(
            f"killed after {len(before)} runs, then resumed: {len(after)} runs, {again} of the {len(before)} made again"
        )


if __name__ == "__main__":
    main()
