"""The repo's own address: ``repository`` in ``_config.yml``, and the files that follow it.

``python -m lazyutils.address update`` writes the README's badges, the citation and every notebook's bootstrap cell;
``check`` names those that differ. While ``repository.url`` is empty, none of them names an address.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml

from lazyutils.command import exit_code
from lazyutils.errors import ClearError

BADGES = re.compile(r"(<!-- address:[^\n]*-->\n).*?(?=<!-- /address -->)", re.DOTALL)
BOOTSTRAP = re.compile(r'(# %% tags=\["bootstrap"\]\n).*?(?=\n\n# %%)', re.DOTALL)
NOT_INSTALLED = """\
    raise SystemExit("The book's package is not installed: run `pip install .` in the book's folder first") from None"""


@dataclass(frozen=True)
class Repository:
    """The repo's own address."""

    owner: str
    name: str
    branch: str

    @property
    def url(self) -> str:
        """``https://github.com/OWNER/NAME``."""
        return f"https://github.com/{self.owner}/{self.name}"

    @property
    def site(self) -> str:
        """Where GitHub Pages shows the book."""
        host = f"{self.owner.lower()}.github.io"
        return f"https://{host}/" if self.name.lower() == host else f"https://{host}/{self.name}/"

    def launch(self, task: str) -> dict[str, str]:
        """Where Colab and Kaggle open the clean notebook of ``task``."""
        place = f"{self.owner}/{self.name}"
        raw = f"https://raw.githubusercontent.com/{place}/{self.branch}/notebooks/{task}.ipynb"
        return {
            "Colab": f"https://colab.research.google.com/github/{place}/blob/{self.branch}/notebooks/{task}.ipynb",
            "Kaggle": f"https://kaggle.com/kernels/welcome?src={raw}",
        }


def repository(root: Path) -> Repository | None:
    """The address in ``_config.yml``, None while it is unset.

    Raises:
        ClearError: it is no ``https://github.com/OWNER/REPO``.
    """
    settings = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8")).get("repository", {})
    url = settings.get("url") or ""
    if not url:
        return None
    match = re.fullmatch(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?/?", url)
    if match is None:
        raise ClearError(
            f"repository.url in _config.yml is {url!r}: write https://github.com/OWNER/REPO, or leave it empty"
        )
    return Repository(match[1], match[2], settings.get("branch") or "main")


def badges(address: Repository, task: str) -> str:
    """Three pictures that link to the book's site, and to ``task`` in Colab and Kaggle."""
    launch = address.launch(task)
    pictures = {
        f"[![The book's site]({address.url}/actions/workflows/pages.yml/badge.svg)]": address.site,
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]": launch["Colab"],
        "[![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]": launch["Kaggle"],
    }
    return "".join(f"{picture}({place})\n" for picture, place in pictures.items())


def readme(text: str, address: Repository | None, task: str) -> str:
    """The README with badges between its markers and the address in its BibTeX entry, or without both."""
    if not BADGES.search(text):
        raise ClearError("README.md has no place for badges: add `<!-- address: -->` and `<!-- /address -->` lines")
    text = BADGES.sub(lambda place: place[1] + (badges(address, task) if address else ""), text)
    text = re.sub(r"(?m)^  url = .*\n", "", text)
    return re.sub(r"(?m)^(  year = .*\n)", rf"\1  url = {{{address.url}}},\n", text) if address else text


def citation(text: str, address: Repository | None) -> str:
    """``CITATION.cff`` with or without its last two lines, where the code and the book are."""
    text = re.sub(r"(?m)^(repository-code|url): .*\n", "", text)
    return text + (f"repository-code: {address.url}\nurl: {address.site}\n" if address else "")


def bootstrap(install: str = NOT_INSTALLED) -> str:
    """A notebook's first code cell: nothing where lazyutils is there, else the indented lines ``install``."""
    return f"try:\n    import lazyutils  # noqa: F401\nexcept ModuleNotFoundError:\n{install}"


def from_github(address: Repository | None) -> str:
    """The bootstrap cell that installs the book's code alone: torch and numpy stay as Colab has them."""
    if address is None:
        return bootstrap()
    place = f"lazyutils @ git+{address.url}@{address.branch}"
    return bootstrap(f'    %pip install -q --no-deps "{place}"\n    import lazyutils  # noqa: F401')


def with_bootstrap(text: str, cell: str) -> str:
    """The text of an ``.ipynb`` file with another bootstrap cell."""
    notebook = nbformat.reads(text, as_version=4)
    places = [part for part in notebook.cells if "bootstrap" in part.metadata.get("tags", [])]
    if all(place.source == cell for place in places):
        return text
    for place in places:
        place.source = cell
    return nbformat.writes(notebook) + "\n"


def in_percent_format(cell: str) -> str:
    """A cell as jupytext writes it into a ``.py`` file: magics become comments."""
    return re.sub(r"(?m)^(\s*)%", r"\1# %", cell)


def wanted(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file that follows the address, with the text that it should have."""
    address = repository(root)
    sources = sorted((root / "notebooks").glob("task*.py"))
    page, cff = root / "README.md", root / "CITATION.cff"
    yield page, readme(page.read_text(encoding="utf-8"), address, sources[0].stem)
    yield cff, citation(cff.read_text(encoding="utf-8"), address)
    cell = from_github(address)
    for source in sources:
        text = source.read_text(encoding="utf-8")
        yield source, BOOTSTRAP.sub(lambda place: place[1] + in_percent_format(cell), text)
        derived = source.with_suffix(".ipynb")
        yield derived, with_bootstrap(derived.read_text(encoding="utf-8"), cell)


def update(root: Path) -> list[Path]:
    """Write the files that differ, and return them."""
    changes = [(path, text) for path, text in wanted(root) if path.read_text(encoding="utf-8") != text]
    for path, text in changes:
        path.write_text(text, encoding="utf-8")
    return [path for path, _ in changes]


def check(root: Path) -> None:
    """Raise unless every file follows the address."""
    differ = [str(path.relative_to(root)) for path, text in wanted(root) if path.read_text(encoding="utf-8") != text]
    if differ:
        raise ClearError(
            f"{', '.join(differ)}: not what repository in _config.yml says; run `python -m lazyutils.address update`"
        )


def main(arguments: list[str] | None = None) -> int:
    """Check or update from the command line."""
    parser = argparse.ArgumentParser(prog="python -m lazyutils.address", description=__doc__)
    parser.add_argument("action", choices=["check", "update"])
    action = update if parser.parse_args(arguments).action == "update" else check
    return exit_code(lambda: action(Path()))


if __name__ == "__main__":
    sys.exit(main())
