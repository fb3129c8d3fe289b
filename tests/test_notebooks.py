"""Every task notebook keeps the form that the book promises, and the pair check sees every kind of difference."""

from __future__ import annotations

import ast
import re
import shutil
import statistics
import subprocess
import sys

import jupytext
import nbformat
import pytest
from conftest import ROOT

from lazyutils import notebooks, parameters

SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
TEXT = re.compile(r"""(caption=|alt=)?\(?f?["'].*["'][,)]*$""")
ENDING = ["Try it", "What we found", "What did not work", "References"]

every_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)


def code(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def lines(source):
    """Lines of code: no comment, and no line that holds only text (captions, alt texts, sentences)."""
    return [line for line in map(str.strip, source.splitlines()) if line and line[0] != "#" and not TEXT.match(line)]


def tagged(notebook, tag):
    return [i for i, cell in enumerate(notebook.cells) if tag in cell.metadata.get("tags", [])]


def tree(source):
    """One syntax tree of all code cells; magics become comments."""
    text = "\n".join(code(jupytext.read(source)))
    return ast.parse("\n".join("pass" if line.lstrip().startswith("%") else line for line in text.split("\n")))


def calls(source, name):
    return [node for node in ast.walk(tree(source)) if isinstance(node, ast.Call) and ast.unparse(node.func) == name]


def test_there_are_notebooks_and_each_has_its_pair():
    assert {"task0_biased_canvas", "task1_lazycnn", "task1_resnet18"} <= {source.stem for source in SOURCES}
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == {source.stem for source in SOURCES}


@every_notebook
def test_pairs_agree_hold_no_outputs_and_name_the_kernel(source):
    assert notebooks.problems(source) == []
    assert jupytext.read(source).metadata["kernelspec"]["name"] == "python3"


@every_notebook
def test_size(source):
    notebook = jupytext.read(source)
    sizes = [len(lines(cell)) for cell in code(notebook)]
    assert 20 <= len(notebook.cells) <= 35
    assert 70 <= sum(sizes) <= 200
    assert statistics.median(sizes) <= 9 and max(sizes) <= 25


@every_notebook
def test_prose_carries_the_code(source):
    notebook = jupytext.read(source)
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    assert 4 <= words / sum(len(lines(cell)) for cell in code(notebook)) <= 20


@every_notebook
def test_no_class_and_at_most_one_small_function(source):
    kinds = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
    found = [node for node in ast.walk(tree(source)) if isinstance(node, kinds)]
    assert not [node.name for node in found if isinstance(node, ast.ClassDef)]
    assert len(found) <= 1 and all(node.end_lineno - node.lineno < 12 for node in found)


@every_notebook
def test_order_of_the_parts(source):
    notebook = jupytext.read(source)
    title = notebook.cells[0]
    first = title.source.splitlines()
    assert title.cell_type == "markdown" and first[0].startswith("# Task ")
    assert first[1] == "" and first[2].startswith("**") and "?**" in " ".join(first[2:])
    assert len([line for line in first if line.startswith("- ")]) == 3, "three bullets: what you will see"
    assert tagged(notebook, "bootstrap") == [1]
    assert "## Parameters" in notebook.cells[2].source and tagged(notebook, "parameters") == [3]
    markdown = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    headings = [line[3:] for text in markdown for line in text.splitlines() if line.startswith("## ")]
    assert headings[0] == "Parameters" and headings[-4:] == ENDING
    assert sum(line.startswith("# ") for text in markdown for line in text.splitlines()) == 1
    tries = next(text for text in markdown if "## Try it" in text)
    assert 2 <= tries.count("\n- ") <= 4 and ("`-p " in tries or "`-y " in tries)
    assert "http" in markdown[-1], "a reference can be followed"


@every_notebook
def test_parameters_are_commented_literals_with_kinds_that_take_them(source):
    specs = parameters.read_specs(source.with_suffix(".ipynb"))
    values = parameters.resolve(source.stem, specs, {})
    assert {"run_dir", "threads"} <= set(specs)
    assert values["run_dir"] == "runs/quick"
    notebook = jupytext.read(source)
    cell = notebook.cells[tagged(notebook, "parameters")[0]].source
    for node, line in zip(ast.parse(cell).body, cell.splitlines(), strict=True):
        assert isinstance(node, ast.AnnAssign), f"not an annotated literal: {line}"
        comment = line.partition("  # ")[2]
        assert comment, f"no comment: {line}"


@every_notebook
def test_bootstraps_are_the_same_and_never_install_dependencies(source):
    notebook, first = jupytext.read(source), jupytext.read(SOURCES[0])
    cell = notebook.cells[1].source
    assert cell == first.cells[1].source
    assert "%pip" not in cell or "--no-deps" in cell


@every_notebook
def test_a_notebook_starts_and_finishes_its_run_by_name(source):
    (start,) = calls(source, "run.start")
    assert ast.literal_eval(start.args[0]) == source.stem and ast.unparse(start.args[1]) == "globals()"
    assert len(calls(source, "task.finish")) == 1


@every_notebook
def test_every_figure_is_shown_with_caption_and_alt_text(source):
    shown = calls(source, "plots.show")
    assert len(shown) >= 3
    for call in shown:
        texts = {keyword.arg: keyword.value for keyword in call.keywords}
        assert {"caption", "alt"} <= set(texts), ast.unparse(call)[:80]
        assert all(len(ast.unparse(texts[name])) > 30 for name in ("caption", "alt"))
    imported = {name for node in ast.walk(tree(source)) if isinstance(node, ast.Import) for name in node.names}
    assert not [alias.name for alias in imported if "matplotlib" in alias.name or "seaborn" in alias.name]
    assert "plt." not in source.read_text() and "savefig" not in source.read_text()


@every_notebook
def test_global_random_state_is_not_touched(source):
    for forbidden in ("torch.manual_seed", "np.random.seed", "random.seed", "cuda.manual_seed"):
        assert forbidden not in source.read_text()


@pytest.fixture
def pair(tmp_path):
    source = tmp_path / SOURCES[0].name
    shutil.copy(SOURCES[0], source)
    shutil.copy(SOURCES[0].with_suffix(".ipynb"), source.with_suffix(".ipynb"))
    return source


def edit(pair, change):
    notebook = nbformat.read(pair.with_suffix(".ipynb"), as_version=4)
    change(notebook)
    nbformat.write(notebook, pair.with_suffix(".ipynb"))


def change_source(notebook):
    notebook.cells[-1].source += " more"


def change_tag(notebook):
    notebook.cells[3].metadata["tags"] = []


def drop_cell(notebook):
    del notebook.cells[5]


def add_output(notebook):
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.outputs = [nbformat.v4.new_output("stream", text="hello")]


def add_count(notebook):
    next(cell for cell in notebook.cells if cell.cell_type == "code").execution_count = 1


def change_kernel(notebook):
    notebook.metadata.kernelspec.name = "my-env"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (change_source, "differs"),
        (change_tag, "differs"),
        (drop_cell, "differs"),
        (add_output, "outputs"),
        (add_count, "outputs"),
        (change_kernel, "kernel"),
    ],
)
def test_the_pair_check_sees_every_difference(pair, change, problem):
    edit(pair, change)
    (found,) = notebooks.problems(pair)
    assert problem in found and pair.stem in found


def test_the_pair_check_sees_a_missing_pair(pair):
    pair.with_suffix(".ipynb").unlink()
    assert "is missing" in notebooks.problems(pair)[0]


def test_update_lets_the_text_win_and_keeps_cell_ids(pair):
    before = nbformat.read(pair.with_suffix(".ipynb"), as_version=4)
    pair.write_text(pair.read_text().replace("## The recipe", "## A better recipe"))
    shutil.copy(ROOT / "jupytext.toml", pair.parent)
    assert notebooks.problems(pair)
    notebooks.update(pair)
    assert notebooks.problems(pair) == []
    after = nbformat.read(pair.with_suffix(".ipynb"), as_version=4)
    changed = sum(one.id != other.id for one, other in zip(before.cells, after.cells, strict=True))
    assert changed <= 1


def test_the_command_checks_all_pairs(tmp_path):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    check = [sys.executable, "-m", "lazyutils.notebooks", "check"]
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{len(SOURCES)} notebook pairs agree\n")
    (tmp_path / "notebooks" / SOURCES[0].name).write_text("# %%\n1\n")
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "differs" in done.stdout
