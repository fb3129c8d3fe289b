"""Parameters: the grammar of kinds, and messages that name what was wrong and what is allowed."""

from __future__ import annotations

import math
import subprocess
import sys

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_notebook

from lazyutils import parameters
from lazyutils.errors import ClearError

CELL = """
epochs: "int[1, 200]" = 15  # passes
rate: "float[0, 10]" = 0.01
export: "bool" = True
weights: "str" = "imagenet"
palette: "choice[study, tab10]" = "study"
seeds: "list[int[0, 99]]" = [0]
"""


def write(path, *sources, tag="parameters"):
    cells = [new_code_cell(source, metadata={"tags": [tag]}) for source in sources]
    nbformat.write(new_notebook(cells=[new_code_cell("x: 'int[1, 2]' = 1"), *cells]), path)
    return path


@pytest.fixture
def specs(tmp_path):
    return parameters.read_specs(write(tmp_path / "task.ipynb", CELL))


def test_specs_are_read_from_the_tagged_cell(specs):
    assert specs["epochs"] == ("int[1, 200]", 15)
    assert specs["seeds"] == ("list[int[0, 99]]", [0])
    assert list(specs) == ["epochs", "rate", "export", "weights", "palette", "seeds"]


@pytest.mark.parametrize("sources", [[], [CELL, CELL]])
def test_not_exactly_one_parameters_cell_is_refused(tmp_path, sources):
    with pytest.raises(ClearError, match=f"{len(sources)} cells tagged 'parameters': it needs exactly one"):
        parameters.read_specs(write(tmp_path / "task.ipynb", *sources))


def test_a_choice_that_looks_like_a_number_is_text():
    assert parameters.convert("choice[7, 14]", 14) == parameters.convert("choice[7, 14]", "14") == "14"
    assert parameters.convert("choice[7, 14]", 8) is None


def test_a_missing_notebook_is_named(tmp_path):
    with pytest.raises(ClearError, match=r"no notebook .*gone\.ipynb"):
        parameters.read_specs(tmp_path / "gone.ipynb")


def test_defaults_are_filled_in_and_values_win(specs):
    values = parameters.resolve("task", specs, {"epochs": 3, "seeds": [4, 5]})
    assert values == {
        "epochs": 3,
        "rate": 0.01,
        "export": True,
        "weights": "imagenet",
        "palette": "study",
        "seeds": [4, 5],
    }


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("epochs", 0, "a whole number from 1 to 200"),
        ("epochs", 201, "a whole number from 1 to 200"),
        ("epochs", 1.5, "a whole number from 1 to 200"),
        ("epochs", True, "a whole number from 1 to 200"),
        ("epochs", "3", "a whole number from 1 to 200"),
        ("epochs", None, "a whole number from 1 to 200"),
        ("rate", -0.1, "a number from 0 to 10"),
        ("rate", math.nan, "a number from 0 to 10"),
        ("rate", math.inf, "a number from 0 to 10"),
        ("rate", "fast", "a number from 0 to 10"),
        ("rate", False, "a number from 0 to 10"),
        ("rate", [1], "a number from 0 to 10"),
        ("export", "yes", "true or false"),
        ("export", 1, "true or false"),
        ("weights", 3, "text"),
        ("palette", "neon", "one of study, tab10"),
        ("seeds", 3, "a non-empty list, each item a whole number from 0 to 99"),
        ("seeds", [], "a non-empty list, each item a whole number from 0 to 99"),
        ("seeds", [1, 100], "a non-empty list, each item a whole number from 0 to 99"),
        ("seeds", "12", "a non-empty list, each item a whole number from 0 to 99"),
    ],
)
def test_what_is_not_allowed_is_said(specs, name, value, allowed):
    with pytest.raises(ClearError) as caught:
        parameters.resolve("task", specs, {name: value})
    assert str(caught.value) == f"task.{name} = {value!r} is not allowed: it takes {allowed}"


@pytest.mark.parametrize(("value", "expected"), [("1e-3", 0.001), (1, 1.0), (0, 0.0), (10, 10.0), ("0.5", 0.5)])
def test_a_number_may_come_as_yaml_reads_it(specs, value, expected):
    found = parameters.resolve("task", specs, {"rate": value})["rate"]
    assert found == expected and isinstance(found, float)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("epoch", "did you mean 'epochs'?"), ("Seeds", "did you mean 'seeds'?"), ("xyzzy", "choose one of epochs, rate")],
)
def test_an_unknown_name_gets_the_nearest_known_one(specs, name, hint):
    with pytest.raises(ClearError) as caught:
        parameters.resolve("task", specs, {name: 1})
    assert f"task has no parameter {name!r}" in str(caught.value) and hint in str(caught.value)


@given(low=st.integers(-100, 100), width=st.integers(0, 100), value=st.integers(-300, 300))
def test_bounds_belong_to_the_range(low, width, value):
    kind = f"int[{low}, {low + width}]"
    assert (parameters.convert(kind, value) == value) == (low <= value <= low + width)
    assert (parameters.convert(kind.replace("int", "float"), value) == value) == (low <= value <= low + width)


@pytest.mark.parametrize("kind", ["int", "integer[1, 2]", "list", "choice[]", "bool[1]", "", "int[1, 2] or str"])
def test_a_kind_outside_the_grammar_is_refused(kind):
    with pytest.raises(ClearError, match="no kind of parameter"):
        parameters.parse_kind(kind)


def namespace(**values):
    kinds = {"epochs": "int[1, 200]", "seeds": "list[int[0, 99]]", "hint": int}
    return {"__annotations__": kinds, "epochs": 15, "seeds": [0], "In": [""], "Out": {}, "_": "last", **values}


def test_a_notebooks_parameters_are_its_annotated_names():
    assert parameters.from_namespace("task", namespace(epochs=3)) == {"epochs": 3, "seeds": [0]}


def test_what_a_notebook_imports_is_no_parameter():
    values = namespace(math=math, display=print, ClearError=ClearError, hint=3)
    values["__annotations__"].pop("hint")
    values.pop("hint")
    assert parameters.from_namespace("task", values) == {"epochs": 15, "seeds": [0]}


@pytest.mark.parametrize("value", [3, 0.5, True, "text", [1]])
def test_an_unknown_name_injected_into_a_notebook_is_refused(value):
    with pytest.raises(ClearError, match=r"task has no parameter 'epoch': did you mean 'epochs'\?"):
        parameters.from_namespace("task", namespace(epoch=value))


def test_a_value_out_of_range_injected_into_a_notebook_is_refused():
    with pytest.raises(ClearError, match=r"task\.epochs = 0 is not allowed"):
        parameters.from_namespace("task", namespace(epochs=0))


def test_checking_needs_nothing_heavy():
    check = "import sys, lazyutils.cli; print([m for m in ('torch', 'matplotlib', 'sklearn') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout == "[]\n"
