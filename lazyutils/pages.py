"""An executed notebook as a page of the book: no trace of the machine, every figure described, long code folded."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from lazyutils.errors import ClearError

FOLD_FROM_LINES = 13
PAGE_TAGS = {"parameters": "remove-cell", "bootstrap": "remove-cell", "injected-parameters": "hide-input"}
"""How cells with these tags appear: the parameters as they ran stand for the defaults."""
PROMPTS = {"injected-parameters": ("Parameters of this run", "Parameters of this run")}
FURTHER_FIGURE = "# A further figure of the cell above."
UNDESCRIBED = re.compile(r"<img\b(?![^>]*\balt=(\"[^\"]|'[^']))", re.IGNORECASE)


def clean(notebook: NotebookNode, page: str, private: Mapping[str, str]) -> NotebookNode:
    """A copy that is the same for every run with the same results, and ready for the site.

    Timings, progress bars and paths of the machine go; alt text moves to where MyST-NB reads it;
    parameters and long code are folded.

    Args:
        notebook: executed, nbformat 4.
        page: its name in messages.
        private: text to replace in sources and outputs, such as ``{"/home/me/book": "."}``.

    Raises:
        ClearError: a failed cell, or a figure without alt text.
    """
    notebook = deepcopy(notebook)
    for key in set(notebook.metadata) - {"kernelspec", "language_info", "widgets"}:
        del notebook.metadata[key]
    for number, cell in enumerate(notebook.cells, start=1):
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        cell.source = scrub(cell.source, private)
        if cell.cell_type == "code":
            cell.outputs = [scrub(output, private) for output in cell.outputs if not noise(output)]
            place = f"{page}: cell {number}"
            refuse_failure(cell, place)
            refuse_undescribed(cell, place)
            fold(cell)
    notebook.cells = [part for cell in notebook.cells for part in one_figure_each(cell)]
    return notebook


def noise(output: NotebookNode) -> bool:
    """Progress bars, and the bare value of a cell's last line."""
    bare = output.output_type == "execute_result" and set(output.data) == {"text/plain"}
    return bare or output.get("name") == "stderr"


def take_prose(executed: NotebookNode, clean: NotebookNode) -> None:
    """Give an executed notebook the text that stands between the clean one's cells now: no run makes that."""
    old, new = ([cell for cell in notebook.cells if cell.cell_type == "markdown"] for notebook in (executed, clean))
    if len(old) == len(new):
        for cell, written in zip(old, new, strict=True):
            cell.source = written.source


def scrub(value: Any, private: Mapping[str, str]) -> Any:
    """``value`` with private text replaced in every string but those of binary images."""
    if isinstance(value, str):
        for text, replacement in private.items():
            value = value.replace(f"{text}/", "" if replacement == "." else f"{replacement}/")
            value = value.replace(text, replacement)
        return value
    if isinstance(value, list):
        return [scrub(item, private) for item in value]
    if isinstance(value, dict):
        return NotebookNode({k: v if k.startswith("image/") else scrub(v, private) for k, v in value.items()})
    return value


def refuse_failure(cell: NotebookNode, place: str) -> None:
    """Raise if the cell ended in an exception."""
    for output in cell.outputs:
        if output.output_type == "error":
            raise ClearError(f"{place} failed with {output.ename}: {output.evalue.splitlines()[0][:200]}")


def refuse_undescribed(cell: NotebookNode, place: str) -> None:
    """Raise if a picture has no alt text."""
    for output in cell.outputs:
        if UNDESCRIBED.search(as_text(output.get("data", {}).get("text/html", ""))):
            raise ClearError(f"{place} has an <img> without alt text")
        if any(not metadata.get("alt", "").strip() for _, metadata in images(output)):
            raise ClearError(f"{place} shows a figure without alt text: use lazyutils.plots.show(figure, alt=...)")


def one_figure_each(cell: NotebookNode) -> list[NotebookNode]:
    """The cell itself, and one with a hidden comment for each further figure: MyST-NB knows one alt text a cell, and
    leaves out cells without source, outputs and all.

    Each cell gets the alt text and width that ``plots.show`` left in the output's metadata.
    """
    parts: list[list[NotebookNode]] = [[]]
    for output in cell.get("outputs", []):
        if images(output) and any(images(earlier) for earlier in parts[-1]):
            parts.append([])
        parts[-1].append(output)
    further = [
        new_code_cell(FURTHER_FIGURE, outputs=part, metadata={"tags": ["remove-input"]}, id=f"{cell.id}-{number}")
        for number, part in enumerate(parts[1:], start=2)
    ]
    if further:
        cell.outputs = parts[0]
    for part in (cell, *further):
        for _, metadata in (figure for output in part.get("outputs", []) for figure in images(output)):
            image = {"alt": " ".join(metadata["alt"].split()), "classes": "run-figure dark-light"}
            if "width" in metadata:
                image["width"] = f"{metadata['width']}px"
            part.metadata.setdefault("mystnb", {})["image"] = image
    return [cell, *further]


def images(output: NotebookNode) -> list[tuple[str, dict[str, Any]]]:
    """The output's picture, at most one, and the metadata that belongs to it."""
    kinds = [kind for kind in output.get("data", {}) if kind.startswith("image/")][:1]
    return [(output.data[kind], output.metadata.get(kind, {})) for kind in kinds]


def as_text(value: str | Iterable[str]) -> str:
    """nbformat's text, one string or a list of lines, as one string."""
    return value if isinstance(value, str) else "".join(value)


def fold(cell: NotebookNode) -> None:
    """Hide what need not be seen first, long code and how a figure or sentence was made, behind a button."""
    tags = cell.metadata.setdefault("tags", [])
    wanted = {PAGE_TAGS[tag] for tag in tags if tag in PAGE_TAGS}
    lines = len(cell.source.splitlines())
    if "remove-input" in tags:
        return
    shows = any(images(output) for output in cell.outputs) or cell.source.lstrip().startswith("display(")
    if shows or lines >= FOLD_FROM_LINES:
        wanted.add("hide-input")
    tags.extend(sorted(wanted - set(tags)))
    if "hide-input" in tags:
        code = f"the code ({lines} line{'s' * (lines != 1)})"
        shown, hidden = next((PROMPTS[tag] for tag in tags if tag in PROMPTS), (f"Show {code}", f"Hide {code}"))
        cell.metadata.setdefault("mystnb", {}).update(code_prompt_show=shown, code_prompt_hide=hidden)


def add_facts(notebook: NotebookNode, record: Mapping[str, Any], launch: Mapping[str, str]) -> None:
    """Put a line under the title: which profile, seeds, hardware and commit made this page.

    Args:
        notebook: changed in place.
        record: the task's results (the contract of a run).
        launch: name of a service and the address that opens the clean notebook there.
    """
    seeds = ", ".join(map(str, record["seeds"]))
    facts = [
        f"profile {record['profile']}",
        f"seed{'s' * (len(record['seeds']) > 1)} {seeds}",
        f"{record['seconds']:.0f} s on {record['device']}",
        f"commit {(record['commit'] or 'unknown')[:10]}",
        *(f"[open in {service}]({address})" for service, address in launch.items()),
    ]
    cell = new_markdown_cell("{.run-facts}\n" + " · ".join(facts), id="run-facts")
    notebook.cells.insert(1, cell)


def hero(notebooks: Iterable[NotebookNode]) -> tuple[bytes, str]:
    """The book's one picture and its alt text: the figure of the first cell tagged ``hero``.

    Raises:
        ClearError: no cleaned notebook has one.
    """
    for notebook in notebooks:
        for cell in notebook.cells:
            if "hero" in cell.metadata.get("tags", []):
                for content, _ in (figure for output in cell.get("outputs", []) for figure in images(output)):
                    return base64.b64decode(content), cell.metadata.mystnb["image"]["alt"]
    raise ClearError("no executed notebook has a figure in a cell tagged 'hero': the front page needs one")
