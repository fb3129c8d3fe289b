"""Copies of the project to run in: with its real notebooks, or with small ones that take a second each."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("lazyutils", "notebooks", "profiles", "Snakefile", "_config.yml", "jupytext.toml")
TOYS = {
    "task0_biased_canvas": ("data/colored_mnist.safetensors", "lazyutils.errors"),
    "task1_lazycnn": ("models/lazycnn.safetensors", "lazyutils.parameters"),
    "task1_resnet18": ("models/resnet18.safetensors", "lazyutils.errors"),
}
"""What each small notebook writes, and the module that it imports."""
TOY = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% tags=["parameters"]
value: "int[1, 9]" = 1
seconds: "float[0, 60]" = 0.0
fail: "bool" = False
run_dir: "str" = "runs/quick"
threads: "int[1, 64]" = 1

# %%
import json, os, time
from pathlib import Path
import {module}

run = Path(run_dir)
data = run / "data/colored_mnist.safetensors"
with open("executions", "a") as log:
    log.write("{task} started\\n")

# %%
start = time.time()
time.sleep(seconds)
assert not fail, "this cell was told to fail"

# %%
span = [start, time.time()]
before = data.read_text() if "{task}" != "task0_biased_canvas" else ""
for path, text in (
    (run / "{artefact}", f"{{before}}{task}={{value}};"),
    (run / "results/{task}.json", json.dumps({{"value": value, "span": span, "env": dict(os.environ)}})),
):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
with open("executions", "a") as log:
    log.write("{task} finished\\n")
"""


class Project:
    """A copy of this project in ``folder``, and its command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        shutil.rmtree(folder / "lazyutils" / "__pycache__", ignore_errors=True)
        (ROOT / "data").mkdir(exist_ok=True)
        (folder / "data").symlink_to(ROOT / "data")

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "lazyutils.cli", *arguments]

    def start(self, *arguments: str) -> subprocess.Popen:
        """A run in a process group of its own; its output goes to the file ``output``."""
        with open(self.folder / "output", "wb") as output:
            return subprocess.Popen(
                self.command("run", *arguments),
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        """A run to its end, output and errors together as text."""
        return subprocess.run(
            self.command("run", *arguments),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=1200,
        )

    def wait_for(self, text: str, process: subprocess.Popen, seconds: float = 300) -> None:
        """Return once ``text`` is in a started run's output."""
        end = time.monotonic() + seconds
        while text not in (self.folder / "output").read_text():
            if process.poll() is not None or time.monotonic() > end:
                if process.poll() is None:
                    self.kill(process)
                pytest.fail((self.folder / "output").read_text())
            time.sleep(0.05)

    def kill(self, process: subprocess.Popen) -> None:
        """SIGKILL to a started run and everything it started; returns once kernels have noticed."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        end = time.monotonic() + 15
        while self.processes():
            assert time.monotonic() < end, f"still running: {self.processes()}"
            time.sleep(0.1)

    def processes(self) -> list[int]:
        """Living processes whose working folder is this project's."""
        found = []
        for link in Path("/proc").glob("[0-9]*/cwd"):
            try:
                if link.resolve() == self.folder.resolve() and "State:\tZ" not in (link.parent / "status").read_text():
                    found.append(int(link.parent.name))
            except OSError:
                continue
        return found

    def snapshot(self, *patterns: str) -> dict[str, tuple[int, bytes]]:
        """Time and content of files below ``runs``."""
        paths = [path for pattern in patterns for path in (self.folder / "runs").glob(pattern)]
        paths = [path for path in paths if path.is_file() and path.name != ".lock"]
        return {str(path.relative_to(self.folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


class ToyProject(Project):
    """The project with small notebooks in place of tasks 0 and 1."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for task, (artefact, module) in TOYS.items():
            source = folder / "notebooks" / f"{task}.py"
            source.write_text(TOY.format(task=task, artefact=artefact, module=module))
            source.with_suffix(".ipynb").unlink()
            convert = [sys.executable, "-m", "jupytext", "--to", "ipynb", "--quiet", str(source)]
            subprocess.run(convert, check=True, cwd=folder)
        (folder / "profiles" / "toy.yaml").write_text("task1_lazycnn: {value: 2}\n")
        self.settings = {}

    def toys(self, **changes: object) -> list[str]:
        """Arguments of a run of the three small notebooks with the settings so far and ``changes`` (task__name)."""
        self.settings |= {name.replace("__", "."): value for name, value in changes.items()}
        return [*TOYS, "--profile", "toy", "--set", *(f"{name}={value}" for name, value in self.settings.items())]

    def executed(self) -> list[str]:
        """Tasks executed since the last call, sorted."""
        log = self.folder / "executions"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return sorted(match[1] for line in lines if (match := re.fullmatch(r"(\S+) started", line)))
