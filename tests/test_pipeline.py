"""Profiles and overrides become checked parameters; a task depends on exactly the modules that it imports."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from lazyutils import pipeline
from lazyutils.errors import ClearError

TASKS = sorted(path.stem for path in (ROOT / "notebooks").glob("task*.py"))
PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_four_profiles_are_there():
    assert {"smoke", "quick", "full", "gpu"} <= set(PROFILES)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_section_of_a_profile_names_only_known_parameters(profile):
    values = pipeline.load_profile(profile)
    assert list(values) == TASKS
    own = yaml.safe_load((ROOT / "profiles" / f"{profile}.yaml").read_text())
    own.pop("extends", None)
    for task, section in own.items():
        for name, value in section.items():
            assert values[task][name] == (float(value) if isinstance(values[task][name], float) else value)


def test_a_profile_extends_another(monkeypatch, tmp_path):
    (tmp_path / "base.yaml").write_text("a: {x: 1, y: 2}\nb: {x: 3}\n")
    (tmp_path / "middle.yaml").write_text("extends: base\na: {y: 5}\n")
    (tmp_path / "top.yaml").write_text("extends: middle\na: {z: 6}\nc:\n")
    monkeypatch.setattr(pipeline, "PROFILES", tmp_path)
    assert pipeline.read_profile("top") == {"a": {"x": 1, "y": 5, "z": 6}, "b": {"x": 3}, "c": {}}


def test_gpu_is_full_but_for_what_a_gpu_affords():
    full, gpu = pipeline.load_profile("full"), pipeline.load_profile("gpu")
    changed = {(task, name) for task in full for name in full[task] if full[task][name] != gpu[task][name]}
    assert gpu["task1_resnet18"]["image_size"] == 224 and ("task1_resnet18", "image_size") in changed
    assert gpu["task1_lazycnn"] == full["task1_lazycnn"]


def test_overrides_win_and_are_yaml():
    overrides = ["task1_lazycnn.learning_rate=1e-3", "task1_lazycnn.seeds=[1, 2]", "task0_biased_canvas.export=true"]
    values = pipeline.load_profile("smoke", overrides)
    assert values["task1_lazycnn"]["learning_rate"] == 0.001
    assert values["task1_lazycnn"]["seeds"] == [1, 2]
    assert values["task0_biased_canvas"]["export"] is True
    assert values["task1_resnet18"] == pipeline.load_profile("smoke")["task1_resnet18"]


@pytest.mark.parametrize(
    ("profile", "overrides", "message"),
    [
        ("quik", [], r"no profile 'quik': did you mean 'quick'\?"),
        ("smoke", ["task1_lazycn.epochs=3"], r"no task 'task1_lazycn': did you mean 'task1_lazycnn'\?"),
        ("smoke", ["task1_lazycnn.epoch=3"], r"no parameter 'epoch': did you mean 'epochs'\?"),
        ("smoke", ["task1_lazycnn.epochs=0"], r"task1_lazycnn.epochs = 0 is not allowed: .* from 1 to 500"),
        ("smoke", ["task1_lazycnn.epochs=many"], r"'many' is not allowed"),
        ("smoke", ["task1_lazycnn.epochs"], r"is no override: write task.parameter=value"),
        ("smoke", ["epochs=3"], r"is no override"),
        ("smoke", ["task1_lazycnn.seeds=[0,"], r"is no override"),
        ("smoke", ["task1_lazycnn.epochs="], r"None is not allowed"),
    ],
)
def test_a_wrong_profile_or_override_is_one_clear_line(profile, overrides, message):
    with pytest.raises(ClearError, match=message) as caught:
        pipeline.load_profile(profile, overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task1_lazycnn: {epoch: 3}", r"did you mean 'epochs'\?"),
        ("task1_lazycn: {epochs: 3}", r"did you mean 'task1_lazycnn'\?"),
        ("task1_lazycnn: 3", r"wrong\.yaml"),
        ("- task1_lazycnn", r"wrong\.yaml"),
        ("task1_lazycnn: {epochs: ", r"wrong\.yaml"),
        ("extends: ful", r"wrong\.yaml extends 'ful'"),
    ],
)
def test_a_wrong_profile_file_is_one_clear_line(monkeypatch, tmp_path, text, message):
    (tmp_path / "wrong.yaml").write_text(text)
    monkeypatch.setattr(pipeline, "PROFILES", tmp_path)
    with pytest.raises(ClearError, match=message) as caught:
        pipeline.load_profile("wrong")
    assert "\n" not in str(caught.value)


def imported(path: Path) -> set[str]:
    """The modules of lazyutils that a file's own import statements name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if re.match(r"lazyutils\b", name) and source_of(name).is_file()}


def source_of(name: str) -> Path:
    return ROOT / ("lazyutils/__init__.py" if name == "lazyutils" else f"{name.replace('.', '/')}.py")


@pytest.mark.parametrize("task", TASKS)
def test_a_task_depends_on_exactly_what_it_imports(task):
    reached, waiting = set(), [ROOT / "notebooks" / f"{task}.py"]
    while waiting:
        for name in imported(waiting.pop()) - reached:
            reached.add(name)
            waiting.append(source_of(name))
    expected = {source_of(name).relative_to(ROOT).as_posix() for name in reached | {"lazyutils"}}
    assert set(pipeline.modules_of(task)) == expected
    assert pipeline.modules_of(task) == sorted(expected)


def test_tasks_do_not_depend_on_the_site_or_the_runner():
    assert not {"lazyutils/site.py", "lazyutils/cli.py"} & {m for task in TASKS for m in pipeline.modules_of(task)}
