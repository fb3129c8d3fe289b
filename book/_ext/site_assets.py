"""The site without a network, without what the theme adds for nobody, and with launch buttons where they can work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils.nodes import document
from sphinx.application import Sphinx
from sphinx.config import Config

from lazyutils.site import repository


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry point."""
    app.connect("config-inited", use_vendored)
    app.connect("html-page-context", drop_thebe, priority=950)
    app.connect("html-page-context", add_launch_buttons, priority=950)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def use_vendored(app: Sphinx, config: Config) -> None:
    """Take MathJax and the widget manager from ``assets/vendor`` where staging put them there."""
    vendor = Path(app.srcdir) / "book" / "assets" / "vendor"
    if (vendor / "mathjax" / "tex-svg.js").is_file():
        config.mathjax_path = "vendor/mathjax/tex-svg.js"
    if (vendor / "widgets" / "embed.js").is_file():
        config.nb_ipywidgets_js = {"widgets-path.js": {}, "vendor/widgets/embed.js": {}}


def drop_thebe(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: document) -> None:
    """Jupyter Book loads live-code scripts that name a CDN and raise an error on every page; no page uses them."""
    context["script_files"] = [script for script in context["script_files"] if "thebe" not in repr_of(script)]


def repr_of(script: Any) -> str:
    """A script's file name and inline body."""
    return f"{getattr(script, 'filename', script)} {getattr(script, 'attributes', {})}"


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
