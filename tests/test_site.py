"""The site: what a page shows, what it hides, and what stops the build."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
import site_fixture
from nbformat.v4 import new_code_cell, new_output

from lazyutils import pages, site, sitecheck
from lazyutils.errors import ClearError, MissingArtefactError

TASKS = list(site_fixture.TITLES)
PRIVATE = {"/home/me/book": ".", "/home/me": "~"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A fresh tiny repository with a finished run."""
    return site_fixture.make_root(tmp_path)


def page(name: str) -> str:
    """The HTML of a built page."""
    return (site_fixture.built_site()[0] / "book" / f"{name}.html").read_text()


def text(name: str) -> str:
    """A built page's words, without markup."""
    article = page(name).split('<article class="bd-article">')[1].split("</article>")[0]
    return " ".join(re.sub(r"<[^>]+>", " ", article).split())


def stage(root: Path) -> Path:
    """Stage the tiny run, silently."""
    return site.stage(root / "runs/tiny", root, lambda line: None)


# --- one page ---


def test_a_page_has_no_trace_of_machine_or_clock(root: Path) -> None:
    stage(root)
    for task in TASKS:
        staged = (root / f"_build/source/book/tasks/{task}.ipynb").read_text()
        for trace in (str(root), "papermill", "start_time", "iopub", "training: 100%"):
            assert trace not in staged
        assert "saved runs/tiny/models" in staged


def test_a_page_shows_the_prose_that_is_written_now(root: Path) -> None:
    path = root / "notebooks/task1_lazycnn.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source += "\n\nA better sentence."
    nbformat.write(notebook, path)
    assert "A better sentence." in (stage(root) / "book/tasks/task1_lazycnn.ipynb").read_text()


def test_a_bare_value_at_a_cells_end_is_no_part_of_the_page() -> None:
    notebook = site_fixture.executed("task1_lazycnn", Path("/x"))
    code = next(cell for cell in notebook.cells if cell.cell_type == "code")
    code.outputs = [
        nbformat.v4.new_output("execute_result", {"text/plain": "[0.1, 0.2]"}),
        nbformat.v4.new_output("execute_result", {"text/plain": "<Markdown>", "text/markdown": "kept"}),
    ]
    assert [output.data["text/markdown"] for output in pages.clean(notebook, "page", {}).cells[1].outputs] == ["kept"]


def test_cleaning_twice_changes_nothing() -> None:
    once = pages.clean(site_fixture.executed("task1_lazycnn", Path("/home/me/book")), "page", PRIVATE)
    assert pages.clean(once, "page", PRIVATE) == once


def test_cleaning_leaves_its_argument_alone() -> None:
    notebook = site_fixture.executed("task1_lazycnn", Path("/home/me/book"))
    before = nbformat.writes(notebook)
    pages.clean(notebook, "page", PRIVATE)
    assert nbformat.writes(notebook) == before


def test_cells_are_hidden_folded_and_described() -> None:
    cells = pages.clean(site_fixture.executed("task1_lazycnn", Path("/x")), "page", {}).cells
    by_id = {cell.id: cell for cell in cells}
    assert "remove-cell" in by_id["bootstrap"].metadata.tags
    assert "remove-cell" in by_id["parameters"].metadata.tags
    assert by_id["inj"].metadata["mystnb"]["code_prompt_show"] == "Parameters of this run"
    assert by_id["long"].metadata["mystnb"]["code_prompt_show"] == "Show the code (20 lines)"
    assert "hide-input" not in by_id["slider"].metadata.tags
    assert by_id["figure"].metadata["mystnb"]["image"] == {
        "alt": "A red square",
        "width": "800px",
        "classes": "run-figure dark-light",
    }


def test_binary_pictures_are_not_scrubbed() -> None:
    value = {"image/png": "aaaa/home/meaaaa", "text/plain": "/home/me/x"}
    assert pages.scrub(value, PRIVATE) == {"image/png": "aaaa/home/meaaaa", "text/plain": "~/x"}


def test_each_of_several_figures_keeps_its_own_description() -> None:
    notebook = site_fixture.notebook("task1_lazycnn")
    outputs = site_fixture.figure_outputs("One") + site_fixture.figure_outputs("Two")
    notebook.cells[5] = new_code_cell("show(both)", outputs=outputs, id="both")
    cleaned = pages.clean(notebook, "page", {})
    shown = [cell for cell in cleaned.cells if cell.id.startswith("both")]
    assert [cell.metadata["mystnb"]["image"]["alt"] for cell in shown] == ["One", "Two"]
    assert [output for cell in shown for output in cell.outputs] == outputs
    assert pages.clean(cleaned, "page", {}) == cleaned


def bad_cells() -> dict[str, list[nbformat.NotebookNode]]:
    """Outputs that must not reach a page, by what the message says."""
    return {
        "without alt text": site_fixture.figure_outputs(alt=" "),
        "<img> without alt": [new_output("display_data", data={"text/html": '<img src="x.png">'})],
        "failed with ValueError": [new_output("error", ename="ValueError", evalue="no", traceback=[])],
    }


@pytest.mark.parametrize("message", bad_cells())
def test_a_bad_cell_is_refused_with_page_and_number(message: str) -> None:
    notebook = site_fixture.notebook("task1_lazycnn")
    notebook.cells[3] = new_code_cell("x", outputs=bad_cells()[message])
    with pytest.raises(ClearError, match=f"page x: cell 4.*{message}"):
        pages.clean(notebook, "page x", {})


# --- the whole site ---


def test_numbers_on_pages_are_the_results() -> None:
    assert "95.1 ± 1.0%" in text("results") and "7.0 ± 1.0%" in text("results")
    assert "2.80 bits" in text("data_card")
    assert "1 min 15 s" in text("status")
    assert "probability of the own colour" in text("status")
    assert "scores 95% . Then" in text("intro")


def test_every_task_is_a_card_and_a_page() -> None:
    for task, title in site_fixture.TITLES.items():
        assert f'href="tasks/{task}.html"' in page("intro")
        assert title in text(f"tasks/{task}")
        assert "profile tiny · seeds 0, 1, 2 · 75 s" in text(f"tasks/{task}")


def test_rows_have_the_names_that_the_run_gave_them() -> None:
    assert "ERM + BatchNorm (study)" in text("results") and "Oracle: colours random" in text("results")
    assert "corrected resampling" in text("results")


def test_verdicts_follow_the_results() -> None:
    assert text("findings").count("Stands ·") == 6
    assert re.search(r"Undecided in this run · Task 1: The Larger Cheater A much larger network", text("findings"))
    for claim in ("Units at every depth", "Grad-CAM proves", "The colour-gradient penalty", "The lazy network"):
        assert re.search(rf"Does not stand · Task \d: The [\w ]+? {claim}", text("findings"))


def test_pages_tell_of_what_has_run_and_of_nothing_else(tmp_path: Path) -> None:
    root = site_fixture.make_root(tmp_path, TASKS[:3])
    index = site.build(root / "runs/tiny", root, lambda line: None)
    pages = "".join(path.read_text() for path in (index.parent / "book").glob("*.html"))
    assert "The Cheater" in pages and "Which cue wins" in pages
    for later in ("The Prober", "The Intervention", "The league", "Does not stand", "The cure"):
        assert later not in pages


def test_figures_keep_their_description() -> None:
    assert 'alt="A red square"' in page("tasks/task1_lazycnn")
    assert 'alt="A second square"' in page("tasks/task1_lazycnn")
    assert 'alt="A red square"' in page("intro")


def test_launch_buttons_open_the_clean_notebook() -> None:
    for task in TASKS:
        place = f"an-owner/a-repo/blob/main/notebooks/{task}.ipynb"
        assert f"https://colab.research.google.com/github/{place}" in page(f"tasks/{task}")
        raw = f"https://raw.githubusercontent.com/an-owner/a-repo/main/notebooks/{task}.ipynb"
        assert f"https://kaggle.com/kernels/welcome?src={raw}" in page(f"tasks/{task}")
    assert "colab.research" not in page("glossary")


def test_without_an_address_there_are_no_buttons_and_the_log_says_so(root: Path) -> None:
    log: list[str] = []
    source = site.stage(root / "runs/tiny", root, log.append)
    assert site.repository(root) is None
    assert any("repository.url is not set" in line for line in log)
    assert "colab" not in (source / "book/tasks/task1_lazycnn.ipynb").read_text()


def test_a_foreign_address_is_refused(root: Path) -> None:
    site_fixture.set_repository(root, "https://example.org/x")
    with pytest.raises(ClearError, match=r"repository\.url"):
        stage(root)


def test_the_site_is_complete_for_pages_and_offline() -> None:
    built, log = site_fixture.built_site()
    assert (built / ".nojekyll").exists()
    assert log[-1].startswith("site: ")
    for html in built.rglob("*.html"):
        assert "thebe@" not in html.read_text()


# --- what stops the build ---


def test_a_wrong_key_and_a_dead_link_are_named_with_their_pages_and_the_old_site_stays(root: Path) -> None:
    old = root / "_build/html/index.html"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    with open(root / "book/numbers.md", "a") as page:
        page.write("\n{{ results.task1_lazycnn.metrics.hard_acuracy | pct }}\n")
    with open(root / "book/glossary.md", "a") as page:
        page.write("\n[nowhere](nowhere.md)\n")
    with pytest.raises(ClearError) as caught:
        site.build(root / "runs/tiny", root, lambda line: None)
    assert re.search(r"book/numbers\.md:\d+: .*hard_acuracy", str(caught.value))
    assert "book/glossary.md" in str(caught.value) and "nowhere.md" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert old.read_text() == "old"


@pytest.mark.parametrize("part", ["notebooks/task1_resnet18.ipynb", "results/task1_resnet18.json"])
def test_a_partial_run_is_refused(root: Path, part: str) -> None:
    (root / "runs/tiny" / part).unlink()
    with pytest.raises(MissingArtefactError, match=r"page task1_resnet18.*make book"):
        stage(root)


def test_a_stale_page_is_refused(root: Path) -> None:
    changed = site_fixture.notebook("task1_lazycnn")
    changed.cells[4].source += "\nchanged = True"
    site_fixture.write_notebook(root / "notebooks/task1_lazycnn.ipynb", changed)
    with pytest.raises(ClearError, match=r"page task1_lazycnn is stale: cell 5"):
        stage(root)


def test_without_npm_the_log_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.shutil, "which", lambda name: None)
    if (root / "node_modules").exists():
        (root / "node_modules").unlink()
    log: list[str] = []
    source = site.stage(root / "runs/tiny", root, log.append)
    assert any("npm is missing" in line for line in log)
    assert not (source / "book/assets/vendor").exists()


BAD_PAGES = {
    "dead link": '<a href="gone.html">x</a>',
    "anchor that is not there": '<a href="#gone">x</a>',
    "no alt text": '<img src="_images/x.png" alt="_images/x.png">',
    "at most 2.5 MB": "x" * 2_600_000,
}


@pytest.mark.parametrize("message", BAD_PAGES)
def test_a_bad_built_page_is_named(tmp_path: Path, message: str) -> None:
    (tmp_path / "_images").mkdir()
    (tmp_path / "_images/x.png").write_bytes(b"x")
    (tmp_path / "good.html").write_text('<p id="here"><a href="#here">x</a> <a href="https://example.org/">y</a>')
    sitecheck.check(tmp_path)
    (tmp_path / "page.html").write_text(BAD_PAGES[message])
    with pytest.raises(ClearError, match=rf"page\.html.*{message}"):
        sitecheck.check(tmp_path)


def test_the_lock_file_names_no_host() -> None:
    lock = json.loads((site_fixture.ROOT / "package-lock.json").read_text())
    assert all("resolved" not in package for package in lock["packages"].values())
