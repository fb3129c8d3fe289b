"""A task's run: parameters checked, missing inputs explained, results whole, valid JSON, and repeatable by command."""

from __future__ import annotations

import json
import math
import shlex

import pytest
import torch
from papermill.cli import _resolve_type

from lazyutils import parameters, run
from lazyutils.errors import ClearError, MissingArtefactError

KEYS = [
    "task",
    "profile",
    "parameters",
    "inputs",
    "seeds",
    "seconds",
    "peak_memory_mb",
    "device",
    "versions",
    "commit",
    "metrics",
]
KINDS = {
    "epochs": "int[1, 200]",
    "rate": "float[0, 10]",
    "export": "bool",
    "weights": "str",
    "seeds": "list[int[0, 99]]",
    "run_dir": "str",
    "threads": "int[1, 64]",
}
VALUES = {
    "epochs": 3,
    "rate": 1e-5,
    "export": False,
    "weights": "my weights/a'b.pth",
    "seeds": [1, 2],
    "run_dir": "runs/tiny",
    "threads": 1,
}


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """A notebook's working directory inside a project."""
    (tmp_path / "_config.yml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")


def start(**changes):
    return run.start("task1_lazycnn", {"__annotations__": KINDS, **VALUES, **changes})


def test_files_lie_below_the_projects_run_folder(tmp_path):
    task = start()
    assert task.directory == tmp_path / "runs" / "tiny"
    path = task.path("models/deep/lazy.safetensors")
    assert path == tmp_path / "runs/tiny/models/deep/lazy.safetensors" and path.parent.is_dir()


def test_outside_a_project_files_lie_below_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "_config.yml").unlink()
    assert start().directory == tmp_path / "notebooks" / "runs" / "tiny"


def test_threads_are_set():
    start(threads=2)
    assert torch.get_num_threads() == 2
    start(threads=1)
    assert torch.get_num_threads() == 1


def test_values_become_their_kind():
    namespace = {"__annotations__": KINDS, **VALUES, "rate": "1e-3"}
    run.start("task1_lazycnn", namespace)
    assert namespace["rate"] == 1e-3


def test_wrong_parameters_are_refused():
    with pytest.raises(ClearError, match=r"did you mean 'epochs'\?"):
        start(epoch=3)
    with pytest.raises(ClearError, match=r"threads = 0 is not allowed"):
        start(threads=0)


def test_a_file_of_the_run_comes_first():
    task = start()
    task.path("models/lazycnn.safetensors").touch()
    assert task.require("models/lazycnn.safetensors", "task1_lazycnn") == task.directory / "models/lazycnn.safetensors"
    assert task.inputs == {"models/lazycnn.safetensors": "this run"}


def test_a_file_that_nothing_can_stand_in_for_is_refused():
    task = start()
    with pytest.raises(MissingArtefactError, match="nothing can stand in for it") as caught:
        task.require("models/magic.safetensors", "task9_magic")
    assert isinstance(caught.value, ClearError) and isinstance(caught.value, FileNotFoundError)


def test_an_error_shows_as_one_line_in_a_notebook():
    assert ClearError("what to do")._render_traceback_() == ["ClearError: what to do"]


def test_results_keep_the_contract():
    task = start()
    task.finish({"easy_accuracy": {"mean": 0.5, "sd": None, "n": 1, "values": [0.5]}})
    record = json.loads((task.directory / "results/task1_lazycnn.json").read_text())
    assert list(record) == KEYS
    assert record["task"] == "task1_lazycnn" and record["profile"] == "tiny"
    assert record["parameters"] == VALUES and record["seeds"] == [1, 2]
    assert record["metrics"]["easy_accuracy"]["mean"] == 0.5
    assert record["seconds"] >= 0 and 10 < record["peak_memory_mb"] < 100_000
    assert record["device"].startswith("cpu (") and "1 thread" in record["device"]
    assert {"python", "torch", "numpy"} <= set(record["versions"]) and torch.__version__.startswith(
        record["versions"]["torch"]
    )


def test_results_are_valid_json_whatever_the_figures():
    task = start()
    task.finish({"shape_bias": {"mean": math.nan, "values": [math.nan, 0.5]}, "worst": math.inf})
    text = (task.directory / "results/task1_lazycnn.json").read_text()
    record = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert record["metrics"] == {"shape_bias": {"mean": None, "values": [None, 0.5]}, "worst": None}


def test_an_unfinished_write_leaves_the_earlier_results(monkeypatch):
    task = start()
    task.finish({"a": 1})
    with pytest.raises(TypeError):
        task.finish({"a": object()})
    folder = task.directory / "results"
    assert [path.name for path in folder.iterdir()] == ["task1_lazycnn.json"]
    assert json.loads((folder / "task1_lazycnn.json").read_text())["metrics"] == {"a": 1}


def test_the_command_on_the_page_repeats_the_run():
    task = start()
    page = task.finish({}).data
    command = page.split("```bash\n")[1].split("\n```")[0]
    program, notebook, _, *options = shlex.split(command.replace("\\\n", " "))
    assert (program, notebook, options[:2]) == ("papermill", "notebooks/task1_lazycnn.ipynb", ["-k", "python3"])
    values, position = {}, 2
    while position < len(options):
        if options[position] == "-p":
            values[options[position + 1]] = _resolve_type(options[position + 2])
            position += 3
        else:
            assert options[position] == "-y"
            name, text = options[position + 1].split(": ", 1)
            values[name] = json.loads(text)
            position += 2
    assert parameters.from_namespace("task1_lazycnn", {"__annotations__": KINDS, **values}) == task.parameters


def test_the_commit_is_named_only_inside_git(tmp_path, monkeypatch):
    assert run.commit() is None
    monkeypatch.setenv("PATH", "")
    assert run.commit() is None
