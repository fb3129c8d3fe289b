"""The site without a network, without what the theme adds for nobody, and with launch buttons where they can work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils.nodes import document
from sphinx.application import Sphinx
from sphinx.config import Config

from lazyutils.address import repository


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry point."""
    app.connect("config-inited", use_vendored)
    app.connect("html-page-context", mend, priority=950)
    app.connect("html-page-context", add_launch_buttons, priority=950)
    app.connect("build-finished", slim)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def use_vendored(app: Sphinx, config: Config) -> None:
    """Take MathJax and the widget manager from ``assets/vendor`` where staging put them there."""
    vendor = Path(app.srcdir) / "book" / "assets" / "vendor"
    if (vendor / "mathjax" / "tex-chtml.js").is_file():
        config.mathjax_path = "vendor/mathjax/tex-chtml.js"
    if (vendor / "widgets" / "embed.js").is_file():
        config.nb_ipywidgets_js = {"widgets.js": {}, "vendor/widgets/embed.js": {}}


def mend(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: document) -> None:
    """Take out what Jupyter Book's parts add to a page against its readers.

    The live-code scripts name a CDN and raise an error on every page, and no page uses them; labels that
    differ from the words they stand on, and a list without list items, mislead screen readers.
    """
    for kind in ("script_files", "css_files"):
        context[kind] = [file for file in context[kind] if "thebe" not in words(file)]
    for wrong in (' aria-label="Toggle hidden content"', ' role="list" class="citation-list"'):
        context["body"] = context.get("body", "").replace(wrong, "")


def words(file: Any) -> str:
    """A script's or style sheet's file name and inline body."""
    return f"{getattr(file, 'filename', file)} {getattr(file, 'attributes', {})}"


def slim(app: Sphinx, exception: Exception | None) -> None:
    """Drop 1.5 MB of icon script from every page (the theme's style sheet has the same icons) and unused files."""
    if exception is not None or app.builder.format != "html":
        return
    site = Path(app.outdir)
    for page in site.rglob("*.html"):
        page.write_text(re.sub(r"<script[^>]*/fontawesome\.js[^>]*></script>", "", page.read_text("utf-8")), "utf-8")
    for unused in ("scripts/fontawesome.js*", "**/*.map", "sphinx-thebe.*", "*webpack-macros.html", "**/*.ttf"):
        for file in (site / "_static").glob(unused):
            file.unlink()


def add_launch_buttons(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: document) -> None:
    """On a task page: buttons that open the clean notebook in Colab and Kaggle, once the repo has an address."""
    address = repository(Path(app.srcdir))
    if address is None or not pagename.startswith("book/tasks/"):
        return
    for service, url in address.launch(Path(pagename).name).items():
        context["header_buttons"].append(
            {
                "type": "link",
                "url": url,
                "text": service,
                "icon": "fa-solid fa-play",
                "tooltip": f"Open this notebook in {service}",
                "label": f"launch-{service.lower()}",
            }
        )
