"""The repo's own address reaches every file that names it, and leaves no trace when it is unset."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import jupytext
import nbformat
import pytest
import yaml
from conftest import ROOT
from IPython.core.inputtransformer2 import TransformerManager
from packaging.requirements import Requirement
from site_fixture import set_repository

from lazyutils import address, notebooks, site
from lazyutils.errors import ClearError

URL = "https://github.com/an-owner/a-repo"
PLACES = ("README.md", "CITATION.cff")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the files that follow the address."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    for name in ("_config.yml", "jupytext.toml", *PLACES):
        shutil.copyfile(ROOT / name, tmp_path / name)
    set_repository(tmp_path, "")
    address.update(tmp_path)
    return tmp_path


@pytest.fixture
def addressed(root: Path) -> Path:
    """The copy, after an address was set."""
    set_repository(root, URL)
    changed = {path.relative_to(root).as_posix() for path in address.update(root)}
    sources = {f"notebooks/{path.name}" for path in (root / "notebooks").glob("task*.*")}
    assert changed == {*PLACES, *sources}
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def cells(root: Path) -> list[str]:
    found = [nbformat.read(path, as_version=4).cells for path in sorted((root / "notebooks").glob("*.ipynb"))]
    return [cell.source for part in found for cell in part if "bootstrap" in cell.metadata.get("tags", [])]


def test_this_repository_follows_its_address() -> None:
    address.check(ROOT)


def test_without_an_address_no_file_names_one(root: Path) -> None:
    for name in PLACES:
        assert not re.search(r"github\.com|github\.io|colab|kernels/welcome|repository-code", (root / name).read_text())
    assert len(cells(root)) == len(site.task_names(root))
    assert all("pip install ." in cell and "http" not in cell for cell in cells(root))


def test_the_readme_has_badges_and_the_citation_the_code(addressed: Path) -> None:
    page = (addressed / "README.md").read_text()
    links = re.findall(r"\[!\[[^\]]+\]\((\S+)\)\]\((\S+)\)", page)
    launch = address.repository(addressed).launch("task0_biased_canvas")
    assert [place for _, place in links] == ["https://an-owner.github.io/a-repo/", launch["Colab"], launch["Kaggle"]]
    assert links[0][0].startswith(f"{URL}/actions/workflows/")
    assert (ROOT / ".github/workflows" / links[0][0].split("/")[-2]).is_file()
    assert f"  url = {{{URL}}},\n" in page
    citation = yaml.safe_load((addressed / "CITATION.cff").read_text())
    assert (citation["repository-code"], citation["url"]) == (URL, links[0][1])


def test_every_bootstrap_installs_the_code_alone_and_is_python_for_ipython(addressed: Path) -> None:
    (cell,) = set(cells(addressed))
    (install,) = [line for line in cell.splitlines() if "%pip" in line]
    options, requirement = re.fullmatch(r'    %pip install (.*) "(.+)"', install).groups()
    assert options == "-q --no-deps"
    assert Requirement(requirement).name == "lazyutils" and Requirement(requirement).url == f"git+{URL}@main"
    ast.parse(TransformerManager().transform_cell(cell))


def test_pairs_still_agree_and_the_text_is_python(addressed: Path) -> None:
    for source in sorted((addressed / "notebooks").glob("task*.py")):
        assert notebooks.problems(source) == []
        ast.parse(source.read_text())
        derived = source.with_suffix(".ipynb").read_bytes()
        notebooks.update(source)
        assert source.with_suffix(".ipynb").read_bytes() == derived, "jupytext writes the same"
        assert jupytext.read(source).cells[1].metadata["tags"] == ["bootstrap"]


def test_an_update_is_idempotent_and_can_be_taken_back(root: Path) -> None:
    before = contents(root)
    set_repository(root, URL)
    address.update(root)
    assert address.update(root) == []
    address.check(root)
    set_repository(root, "https://github.com/another/name.git")
    address.update(root)
    assert "an-owner" not in "".join(path.read_text() for path in root.rglob("*") if path.is_file())
    set_repository(root, "")
    address.update(root)
    assert contents(root) == before


def test_an_address_makes_no_page_stale(addressed: Path) -> None:
    for task in site.task_names(ROOT):
        site.refuse_stale(task, nbformat.read(ROOT / "notebooks" / f"{task}.ipynb", as_version=4), addressed)


def test_the_check_names_what_differs(root: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(root)
    assert address.main(["check"]) == 0
    set_repository(root, URL)
    assert address.main(["check"]) == 2
    assert "README.md, CITATION.cff, notebooks/task0_biased_canvas.py, " in capsys.readouterr().err
    assert address.main(["update"]) == 0 and address.main(["check"]) == 0
    page = (root / "README.md").read_text()
    (root / "README.md").write_text(page.replace("colab-badge", "other"))
    assert address.main(["check"]) == 2
    assert capsys.readouterr().err.startswith("error: README.md: not what")


def test_a_readme_without_markers_is_refused(root: Path) -> None:
    (root / "README.md").write_text("# A page\n")
    with pytest.raises(ClearError, match="no place for badges"):
        address.check(root)


def test_a_user_site_is_at_the_root() -> None:
    assert address.Repository("Me", "me.github.io", "main").site == "https://me.github.io/"
    assert address.Repository("Me", "book", "main").site == "https://me.github.io/book/"


def test_the_workflow_for_pages_follows_the_repository_that_it_runs_in() -> None:
    text = (ROOT / ".github/workflows/pages.yml").read_text()
    assert not re.search(r"github\.(com|io)", text)
    assert yaml.safe_load(text)["jobs"]["deploy"]["if"] == "github.ref_name == github.event.repository.default_branch"
