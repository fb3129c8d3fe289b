"""From a profile to a pipeline: parameters of every task, checked, and what each task depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

import yaml

from lazyutils.errors import ClearError
from lazyutils.parameters import nearest, read_specs, refuse_unknown, resolve

NOTEBOOKS = Path("notebooks")
PROFILES = Path("profiles")


def load_profile(profile: str, overrides: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Every parameter of every task, from ``profiles/<profile>.yaml`` and overrides.

    Args:
        profile: a file's name below ``profiles/``, without suffix.
        overrides: such as ``"task1_lazycnn.epochs=3"``; values are YAML.

    Raises:
        ClearError: unknown profile, task or parameter, or a value out of range.
    """
    known = sorted(path.stem for path in PROFILES.glob("*.yaml"))
    if profile not in known:
        raise ClearError(f"there is no profile {profile!r}{nearest(profile, known)}")
    tasks = sorted(path.stem for path in NOTEBOOKS.glob("task*.ipynb"))
    values = read_profile(profile)
    refuse_unknown(f"profiles/{profile}.yaml", values, tasks)
    for override in overrides:
        task, name, value = parse_override(override)
        if task not in tasks:
            raise ClearError(f"there is no task {task!r}{nearest(task, tasks)}")
        values.setdefault(task, {})[name] = value
    return {task: resolve(task, read_specs(NOTEBOOKS / f"{task}.ipynb"), values.get(task, {})) for task in tasks}


def read_profile(profile: str) -> dict[str, dict[str, Any]]:
    """A profile's sections; a profile that names ``extends`` starts from another one's."""
    path = PROFILES / f"{profile}.yaml"
    try:
        own = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ClearError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(own, dict):
        raise ClearError(f"{path} must hold one section a task: `task: {{parameter: value}}`")
    base = own.pop("extends", None)
    if base is not None and not (PROFILES / f"{base}.yaml").is_file():
        raise ClearError(f"{path} extends {base!r}, which is no profile")
    for task, section in own.items():
        if not isinstance(section, dict | None):
            raise ClearError(f"{path}: {task} must hold parameters, `parameter: value`, not {section!r}")
    return merge(read_profile(base) if base else {}, own)


def merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Sections of both, ``own`` winning parameter by parameter."""
    return {task: {**base.get(task, {}), **(own.get(task) or {})} for task in (*base, *own)}


def parse_override(text: str) -> tuple[str, str, Any]:
    """``"task.name=value"`` as its three parts, the value read as YAML."""
    path, equals, value = text.partition("=")
    task, dot, name = path.strip().partition(".")
    try:
        if equals and dot and name:
            return task, name, yaml.safe_load(value)
    except yaml.YAMLError:
        pass
    raise ClearError(f"{text!r} is no override: write task.parameter=value, such as task1_lazycnn.epochs=3")


def modules_of(task: str) -> list[str]:
    """The ``lazyutils`` files that a notebook imports, directly or through others."""
    finder = ModuleFinder(path=[str(Path.cwd())])
    finder.run_script(str(NOTEBOOKS / f"{task}.py"))
    files = {Path(module.__file__) for name, module in finder.modules.items() if name.startswith("lazyutils")}
    return sorted(str(path.relative_to(Path.cwd())) for path in files)
