"""Each notebook far from the repository: a fresh environment with the book's wheel, one .ipynb, and MNIST."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import nbformat
import pytest
import torch
from project_fixture import ROOT

from lazyutils import kaggle, pipeline, standins

TASKS = sorted(path.stem for path in (ROOT / "notebooks").glob("task*.ipynb"))
SMOKE = pipeline.load_profile("smoke")
SMALLER = {"task4_intervention": {"train_size": 1000, "sizes": [1000], "epochs": 1, "study_epochs": 1}}
"""Here no later task needs what a task has learnt."""

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """An environment that sees the installed packages but for the book's own, which it has from a wheel."""
    folder = tmp_path_factory.mktemp("environment")
    kaggle.build_wheel(ROOT, folder)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv")
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    (packages / "installed.pth").write_text(sysconfig.get_path("purelib"))  # its own .pth files are not followed
    install = [sys.executable, "-m", "pip", "-q", "install", "--no-deps", "--target", packages, wheel]
    subprocess.run(install, check=True, capture_output=True)
    return folder / "venv/bin/python"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory, splits) -> Path:
    """A folder with MNIST, and a run for each task that has nothing but what was made on the spot for another.

    ResNet-18, whose training takes minutes, is there after a few steps; test_standins has it made.
    """
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "data").symlink_to(ROOT / "data")
    standins.save_data(folder / "few.safetensors", splits)
    resnet = folder / "standins/models/resnet18.safetensors"
    standins.resnet18(resnet, folder / "few.safetensors", torch.device("cpu"), size=400)
    for task in TASKS:
        (folder / "runs" / task).mkdir(parents=True)
        (folder / "runs" / task / "standins").symlink_to(folder / "standins")
    return folder


@pytest.fixture(scope="module")
def run_alone(python, elsewhere, digits):
    def run(task: str) -> subprocess.CompletedProcess[str]:
        notebook = shutil.copyfile(ROOT / f"notebooks/{task}.ipynb", elsewhere / f"{task}.ipynb")
        values = SMOKE[task] | SMALLER.get(task, {}) | {"run_dir": f"runs/{task}"}
        command = [python, "-m", "papermill", notebook, f"{task}.out.ipynb", "-k", "python3", "-y", json.dumps(values)]
        return subprocess.run(
            command, cwd=elsewhere, capture_output=True, text=True, check=False, timeout=1200, env=ENVIRONMENT
        )

    return run


ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(Path.home())}


def test_the_package_is_the_wheels(python, elsewhere):
    command = [python, "-c", "import lazyutils; print(lazyutils.__file__)"]
    where = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=True).stdout
    assert where.startswith(str(python.parent.parent))


@pytest.mark.parametrize("task", TASKS)
def test_a_notebook_runs_alone_and_says_what_it_took(run_alone, elsewhere, task):
    done = run_alone(task)
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((elsewhere / f"runs/{task}/results/{task}.json").read_text())
    assert bool(record["inputs"]) == (task != "task0_biased_canvas")
    assert "this run" not in record["inputs"].values()
    notebook = nbformat.read(elsewhere / f"{task}.out.ipynb", as_version=4)
    shown = [output.get("data", {}).get("text/markdown", "") for c in notebook.cells for output in c.get("outputs", [])]
    for name, origin in record["inputs"].items():
        assert any(line.startswith(f"`{name}` is from {origin}") for line in shown)
