"""The smoke profile with the real notebooks: killed in the middle, gone on with, and repeated by papermill alone."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time

import nbformat
import pytest
from project_fixture import ROOT, Project

from lazyutils import checkpoints, data

NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("task*.ipynb"))
TASKS = [task for task in NOTEBOOKS if f'"{task}"' in (ROOT / "Snakefile").read_text()]
CANVAS, LAZY, RESNET = "task0_biased_canvas", "task1_lazycnn", "task1_resnet18"
CONTRACT = {
    CANVAS: "n_easy n_hard bias_ratio hard_own_colour mutual_information_easy_bits mutual_information_hard_bits "
    "seconds_generate",
    LAZY: "easy_accuracy hard_accuracy digit_share colour_share neither_share",
    RESNET: "easy_accuracy hard_accuracy digit_share colour_share neither_share weights",
    "task2_prober": "probe_accuracy inversion units",
    "task3_interrogation": "gradcam_max_diff_raw gradcam_max_diff_displayed heat_background_share "
    "pixels_background_share zero_map_share",
    "task4_intervention": "league brackets",
    "task5_invisible_cloak": "n_eligible success linf_max minimal_eps_median universal",
    "task6_decomposition": "spliced ablation probe_ceiling",
}
RECORD = "task profile parameters inputs seeds seconds peak_memory_mb device versions commit metrics"

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """A project whose smoke run was killed while LazyCNN trained, and then gone on with to its end."""
    project = Project(tmp_path_factory.mktemp("smoke") / "project")
    process = project.start(*TASKS, "--profile", "smoke")
    project.wait_for(f"{LAZY}: started", process)
    time.sleep(4)
    project.kill(process)
    project.untouched = project.snapshot("*/data/*", f"*/results/{CANVAS}.json")
    project.done = project.run(*TASKS, "--profile", "smoke")
    assert project.done.returncode == 0, project.done.stdout[-3000:]
    return project


def result(project, task, run_dir="runs/smoke"):
    return json.loads(
        (project.folder / run_dir / "results" / f"{task}.json").read_text(),
        parse_constant=lambda name: pytest.fail(f"{task}.json holds {name}, which is no JSON"),
    )


def papermill(project, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "papermill", *arguments],
        cwd=project.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=1200,
    )


def test_every_notebook_has_its_rule():
    assert TASKS == NOTEBOOKS


def test_a_killed_run_keeps_what_was_finished(smoke):
    assert f"{CANVAS}: started" not in smoke.done.stdout
    assert f"{LAZY}: finished" in smoke.done.stdout
    assert smoke.snapshot("*/data/*", f"*/results/{CANVAS}.json") == smoke.untouched


@pytest.mark.parametrize("task", TASKS)
def test_every_task_leaves_what_the_contract_promises(smoke, task):
    record = result(smoke, task)
    assert set(record) == set(RECORD.split())
    assert record["task"] == task and record["profile"] == "smoke"
    assert set(record["inputs"].values()) <= {"this run"}
    assert record["peak_memory_mb"] < 3000, "a task may use 3 GB"
    assert set(CONTRACT[task].split()) <= set(record["metrics"])
    notebook = nbformat.read(smoke.folder / f"runs/smoke/notebooks/{task}.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 3 and all(output.metadata["image/png"]["alt"] for output in pictures)
    noise = [output.text for output in outputs if output.get("name") == "stderr"]
    assert not [text for text in noise if "Warning" in text], noise


def test_task0_and_task1_figures_are_those_of_the_artefacts(smoke):
    metrics = result(smoke, CANVAS)["metrics"]
    assert (metrics["n_easy"], metrics["n_hard"], metrics["hard_own_colour"]) == (60_000, 10_000, 0)
    stored = smoke.folder / "runs/smoke/data/colored_mnist.safetensors"
    easy = data.load(stored, "easy")
    assert metrics["bias_ratio"] == pytest.approx(1 - easy.conflicting.double().mean().item())
    for name in ("lazycnn", "resnet18"):
        _, sidecar = checkpoints.load(smoke.folder / f"runs/smoke/models/{name}.safetensors")
        assert sidecar["parameters"] == result(smoke, f"task1_{name}")["parameters"]
        figure = result(smoke, f"task1_{name}")["metrics"]["easy_accuracy"]
        assert set(figure) == {"mean", "sd", "n", "values"} and 0 <= figure["mean"] <= 1


def test_a_second_run_does_nothing(smoke):
    before = smoke.snapshot("smoke/results/*", "smoke/models/*", "smoke/notebooks/*")
    done = smoke.run(*TASKS, "--profile", "smoke")
    assert done.returncode == 0 and "started" not in done.stdout
    assert smoke.snapshot("smoke/results/*", "smoke/models/*", "smoke/notebooks/*") == before


def test_the_command_on_a_page_gives_the_same_figures(smoke):
    """Plain papermill, the page's own command in another folder, against the killed and continued run."""
    notebook = nbformat.read(smoke.folder / f"runs/smoke/notebooks/{LAZY}.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [output.get("data", {}).get("text/markdown", "") for output in outputs]
    (command,) = [text.split("```bash\n")[1].split("\n```")[0] for text in texts if "```bash" in text]
    command = command.replace("runs/smoke", "runs/alone").replace("\\\n", " ")
    (smoke.folder / "runs/alone").mkdir()
    (smoke.folder / "runs/alone/data").symlink_to(smoke.folder / "runs/smoke/data")
    done = papermill(smoke, *shlex.split(command)[1:])
    assert done.returncode == 0, done.stdout[-2000:]
    assert result(smoke, LAZY, "runs/alone")["metrics"] == result(smoke, LAZY)["metrics"]
    first, second = (smoke.folder / f"runs/{run}/models/lazycnn.safetensors" for run in ("smoke", "alone"))
    assert first.read_bytes() == second.read_bytes()


def test_plain_papermill_says_what_is_wrong(smoke):
    done = papermill(smoke, f"notebooks/{LAZY}.ipynb", "out.ipynb", "-k", "python3", "-p", "epoch", "3")
    assert done.returncode != 0
    message = f"ClearError: {LAZY} has no parameter 'epoch': did you mean 'epochs'"
    assert message in done.stdout, done.stdout[-1500:]
