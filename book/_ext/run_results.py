"""Numbers in prose: every Markdown page of the book is a Jinja template over the run's results.

``{{ results.task1_lazycnn.metrics.hard_accuracy | pct }}`` in a page is filled from
``book/results/task1_lazycnn.json``. A key that the results lack is a warning, which fails the build.
"""

from __future__ import annotations

import ast
import json
import math
import re
import traceback
from pathlib import Path
from typing import Any

import jinja2
import yaml
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
NETWORKS = {
    "lazycnn": "LazyCNN",
    "resnet18": "ResNet-18",
    "twin": "LazyCNN's honest twin",
    "robust_erm": "RobustCNN",
    "robust_best": "RobustCNN, fixed",
}
ENVIRONMENT = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry point."""
    app.add_config_value("book_data", {}, "env")
    app.connect("config-inited", load)
    app.connect("source-read", fill)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def load(app: Sphinx, config: Config) -> None:
    """Read what pages may use; a changed result rebuilds them, since this is a configuration value."""
    book = Path(app.srcdir) / "book"
    results = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted((book / "results").glob("*.json"))}
    edition = book / "edition.json"
    config.book_data = {
        "results": results,
        "tasks": [describe(book / "tasks" / f"{task}.ipynb") for task in results],
        "study": yaml.safe_load((book / "study.yml").read_text("utf-8")),
        "edition": json.loads(edition.read_text("utf-8")) if edition.is_file() else None,
        "repository": config.html_theme_options.get("repository_url") or "",
    }


def describe(path: Path) -> dict[str, Any]:
    """A task page's name, title, opening sentence, parameters, and the alt text of the front-page figure."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    title, *paragraphs = "".join(cells[0]["source"]).strip().split("\n\n")
    tagged = {tag: cell for cell in cells for tag in cell["metadata"].get("tags", [])}
    return {
        "name": path.stem,
        "title": title.lstrip("# "),
        "question": re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", paragraphs[0]).replace("\n", " "),
        "parameters": explain_parameters("".join(tagged["parameters"]["source"])) if "parameters" in tagged else [],
        "hero": describe_hero(tagged["hero"]) if "hero" in tagged else None,
    }


def describe_hero(cell: dict[str, Any]) -> dict[str, str]:
    """Alt text and caption of the front page's figure, as its cell shows them."""
    captions = ["".join(output.get("data", {}).get("text/markdown", "")) for output in cell["outputs"]]
    return {"alt": cell["metadata"]["mystnb"]["image"]["alt"], "caption": "".join(captions).strip("*")}


def explain_parameters(source: str) -> list[dict[str, str]]:
    """Name, kind and comment of each annotated literal in a parameters cell."""
    lines = source.splitlines()
    return [
        {
            "name": node.target.id,
            "kind": ast.literal_eval(node.annotation),
            "meaning": lines[node.end_lineno - 1][node.end_col_offset :].strip().lstrip("# "),
        }
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign)
    ]


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Render a Markdown page; name the page and line where that fails."""
    if Path(app.env.doc2path(docname)).suffix != ".md":
        return
    try:
        source[0] = ENVIRONMENT.from_string(source[0]).render(app.config.book_data, **functions(app.config.book_data))
    except (jinja2.TemplateError, LookupError, TypeError, ValueError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = getattr(error, "lineno", None) or next(
            (frame.lineno for frame in reversed(frames) if frame.filename == "<template>"), 1
        )
        LOGGER.warning("the results do not have what this page says: %s", error, location=(docname, line))
        source[0] = source[0].split("\n{", 1)[0]


def functions(data: dict[str, Any]) -> dict[str, Any]:
    """What pages may call beside filters."""

    def evaluate(expression: str) -> Any:
        compiled = ENVIRONMENT.compile_expression(expression, undefined_to_none=False)
        return compiled(**data["results"])

    def render(text: str) -> str:
        return ENVIRONMENT.from_string(text).render(**data["results"])

    return {
        "evaluate": evaluate,
        "render": render,
        "has": lambda *tasks: all(task in data["results"] for task in tasks),
    }


def mean(figure: Any) -> float | None:
    """A figure's mean over seeds, or the plain number itself; None where there was nothing to measure."""
    return figure["mean"] if isinstance(figure, dict) else figure


def number(figure: Any, digits: int = 2, scale: float = 1.0) -> str:
    """``0.12`` or, over seeds, ``0.12 ± 0.03``; a dash where there was nothing to measure."""
    if mean(figure) is None or math.isnan(mean(figure)):
        return "–"
    shown = round(scale * mean(figure), digits) + 0.0  # -0 is 0
    text = f"{shown:.{digits}f}"
    spread = figure.get("sd") if isinstance(figure, dict) else None
    return text if spread is None else f"{text} ± {scale * spread:.{digits}f}"


def percent(figure: Any, digits: int = 1) -> str:
    """A fraction in percent: ``9.6%`` or, over seeds, ``9.6 ± 0.4%``."""
    text = number(figure, digits, 100)
    return text if text == "–" else f"{text}%"


def called(key: str) -> str:
    """What readers call a network of the results; other keys in words, with spaces."""
    return NETWORKS.get(key, key.replace("_", " "))


def duration(seconds: float) -> str:
    """``43 s``, ``2 min 5 s`` or ``1 h 12 min``."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def cell(value: Any) -> str:
    """Any value as text that a Markdown table can hold."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return " ".join(text.split()).replace("|", "\\|")


ENVIRONMENT.filters.update(mean=mean, num=number, pct=percent, duration=duration, cell=cell, called=called)
