"""What a task may be told: names, types and ranges, read from the notebook's own parameters cell.

A parameter is one annotated literal, ``epochs: "int[1, 200]" = 15  # passes over the images``. Kinds:
``int[low, high]``, ``float[low, high]``, ``bool``, ``str``, ``choice[a, b]`` and ``list[<kind>]``.
This module imports nothing heavy, so that a wrong name is refused at once.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lazyutils.errors import ClearError

LITERALS = (bool, int, float, str, list)


def read_specs(notebook: str | Path) -> dict[str, tuple[str, Any]]:
    """Kind and default of each parameter in a notebook's cell tagged ``parameters``.

    Raises:
        ClearError: no such notebook, or not exactly one such cell.
    """
    path = Path(notebook)
    if not path.is_file():
        raise ClearError(f"no notebook {path}")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise ClearError(f"{path} has {len(tagged)} cells tagged 'parameters': it needs exactly one")
    tree = ast.parse("".join(tagged[0]["source"]))
    return {
        node.target.id: (ast.literal_eval(node.annotation), ast.literal_eval(node.value))
        for node in tree.body
        if isinstance(node, ast.AnnAssign)
    }


def resolve(task: str, specs: Mapping[str, tuple[str, Any]], values: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter of a task: ``values`` where given, defaults elsewhere, all checked."""
    refuse_unknown(task, values, specs)
    return {name: check(task, name, kind, values.get(name, default)) for name, (kind, default) in specs.items()}


def refuse_unknown(task: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise a ``ClearError`` with the nearest known name for the first unknown one."""
    for name in names:
        if name not in known:
            raise ClearError(f"{task} has no parameter {name!r}{nearest(name, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """``": did you mean 'x'?"``, or the list of all names when none is near."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]!r}?" if close else f": choose one of {', '.join(known)}"


def check(task: str, name: str, kind: str, value: Any) -> Any:
    """``value`` as its kind, or a ``ClearError`` that names the parameter and what is allowed."""
    converted = convert(kind, value)
    if converted is None:
        raise ClearError(f"{task}.{name} = {value!r} is not allowed: it takes {describe(kind)}")
    return converted


def convert(kind: str, value: Any) -> Any | None:
    """``value`` as ``kind``, None where it is no such value."""
    base, arguments = parse_kind(kind)
    if base == "list":
        items = [convert(arguments, item) for item in value] if isinstance(value, (list, tuple)) else [None]
        return None if None in items or not items else items
    if base == "bool":
        return value if isinstance(value, bool) else None
    if base == "str":
        return value if isinstance(value, str) else None
    choices = [part.strip() for part in arguments.split(",")]
    if base == "choice":
        return str(value) if str(value) in choices else None
    number = as_number(base, value)
    low, high = (float(bound) for bound in choices)
    return number if number is not None and low <= number <= high else None


def as_number(base: str, value: Any) -> int | float | None:
    """``value`` as int or float; text such as ``"1e-3"`` (which YAML reads as text) counts as a float."""
    if isinstance(value, bool):
        return None
    if base == "int":
        return value if isinstance(value, int) else None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def parse_kind(kind: str) -> tuple[str, str]:
    """``"int[1, 9]"`` as ``("int", "1, 9")``."""
    match = re.fullmatch(r"(int|float|choice|list)\[(.+)\]|(bool|str)", kind.strip())
    if match is None:
        raise ClearError(f"{kind!r} is no kind of parameter: see lazyutils/parameters.py")
    return match[1] or match[3], match[2] or ""


def describe(kind: str) -> str:
    """A kind in words."""
    base, arguments = parse_kind(kind)
    if base == "list":
        return f"a non-empty list, each item {describe(arguments)}"
    if base == "choice":
        return f"one of {arguments}"
    if base in ("int", "float"):
        low, high = (part.strip() for part in arguments.split(","))
        return f"{'a whole number' if base == 'int' else 'a number'} from {low} to {high}"
    return {"bool": "true or false", "str": "text"}[base]


def from_namespace(task: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a running notebook, checked, from its global variables.

    Annotated names are the known parameters; any other plain literal was injected under a wrong name.
    """
    kinds = {name: kind for name, kind in namespace["__annotations__"].items() if isinstance(kind, str)}
    literals = [
        name
        for name, value in namespace.items()
        if isinstance(value, LITERALS) and not name.startswith("_") and name not in ("In", "Out")
    ]
    refuse_unknown(task, literals, kinds)
    return {name: check(task, name, kind, namespace[name]) for name, kind in kinds.items()}
