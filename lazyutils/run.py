"""A task's run: its checked parameters, where its files are, and the results it leaves for others."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import math
import platform
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from IPython.display import Markdown, display
from tqdm import tqdm

from lazyutils import memory, parameters
from lazyutils.files import write_atomically

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "matplotlib")
THIS_RUN = "this run"
Item = TypeVar("Item")


@dataclass
class Run:
    """One execution of one task notebook. Made by ``start``."""

    task: str
    parameters: dict[str, Any]
    directory: Path
    device: torch.device
    inputs: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def path(self, relative: str) -> Path:
        """A file of this run, such as ``models/lazycnn.safetensors``; its folder exists."""
        path = self.directory / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def require(self, relative: str, task: str) -> Path:
        """A file that an earlier task made, or what stands in for it; a line says which.

        Raises:
            ClearError: it is not there, and nothing can stand in for it.
        """
        path, origin = self.directory / relative, THIS_RUN
        if not path.is_file():
            provide = importlib.import_module("lazyutils.standins").provide
            self.say(f"`{relative}`, which {task} makes, is not in {self.parameters['run_dir']}.")
            path, origin = provide(relative, self.directory, self.data_root(), self.device, self.say)
            self.say(f"`{relative}` is from {origin}. `make book` makes everything.")
        self.inputs[relative] = origin
        return path

    @staticmethod
    def say(line: str) -> None:
        """Show a line of text."""
        display(Markdown(line))

    def data_root(self) -> Path:
        """Where MNIST is kept."""
        return project_root() / self.parameters.get("data_dir", "data")

    def seconds(self) -> float:
        """Wall time since ``start``."""
        return time.perf_counter() - self.started

    def finish(self, metrics: Mapping[str, Any]) -> Markdown:
        """Write ``results/<task>.json`` (the contract of a run) and say how to repeat it."""
        record = {
            "task": self.task,
            "profile": self.directory.name,
            "parameters": self.parameters,
            "inputs": self.inputs,
            "seeds": self.parameters.get("seeds", [self.parameters.get("seed", 0)]),
            "seconds": round(self.seconds(), 2),
            "peak_memory_mb": round(peak_memory_mb(), 1),
            "device": device_name(self.device),
            "versions": versions(),
            "commit": commit(),
            "metrics": metrics,
        }
        content = json.dumps(without_nan(record), indent=2, allow_nan=False)
        write_atomically(self.path(f"results/{self.task}.json"), content.encode())
        return Markdown(f"This page again, on any machine with this book:\n\n```bash\n{self.command()}\n```")

    def command(self) -> str:
        """The papermill call that repeats this run."""
        flags = "".join(f" \\\n  {flag(name, value)}" for name, value in self.parameters.items())
        return f"papermill notebooks/{self.task}.ipynb out.ipynb -k python3{flags}"


def flag(name: str, value: Any) -> str:
    """One papermill option: ``-p`` for a plain value, ``-y`` (YAML) for a list."""
    if isinstance(value, list):
        return f"-y '{name}: {json.dumps(value)}'"
    return f"-p {name} {shlex.quote(str(value))}"


def without_nan(value: Any) -> Any:
    """``value`` with None for every number that JSON can't hold (NaN and the infinities)."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def start(task: str, namespace: MutableMapping[str, Any]) -> Run:
    """Check a notebook's parameters and prepare its run.

    Args:
        task: the notebook's name, such as ``"task1_lazycnn"``.
        namespace: the notebook's ``globals()``; ``run_dir`` and ``threads`` must be parameters. Values become their
            kind: YAML's ``1e-3``, which is text, a number.

    Raises:
        ClearError: an unknown parameter, or a value out of its range.
    """
    values = parameters.from_namespace(task, namespace)
    namespace.update(values)
    torch.set_num_threads(values["threads"])
    memory.keep_freed()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Run(task, values, project_root() / values["run_dir"], device)


def project_root() -> Path:
    """The nearest folder upwards that holds ``_config.yml``, or the current one."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "_config.yml").is_file()), here)


def progress(items: Iterable[Item], label: str, total: int | None = None) -> Iterable[Item]:
    """``items`` with a plain text bar on standard error."""
    return tqdm(items, desc=label, total=total, mininterval=1, file=sys.stderr)


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in MB (10^6 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def device_name(device: torch.device) -> str:
    """Hardware in words, such as ``"cpu (AMD EPYC, 1 thread)"``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"cpu ({cpu_model()}, {threads} thread{'s' * (threads > 1)})"


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Python's version and those of the packages that the numbers depend on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}


def commit() -> str | None:
    """The commit that made the numbers, with ``+changes`` when the tree differs; None outside git."""
    git: Sequence[str] = ("git", "-C", str(project_root()))
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")
