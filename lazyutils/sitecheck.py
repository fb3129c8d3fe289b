"""What must hold for every built page: links and anchors lead somewhere, pictures are described."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lazyutils.errors import ClearError

PAGE_LIMIT_MB = 2.5


@dataclass
class Page(HTMLParser):
    """One page's anchors, links, pictures, and pictures without alt text."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    undescribed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what ``tag`` refers to."""
        attributes = dict(attrs)
        self.anchors.add(attributes.get("id") or attributes.get("name") or "")
        source, link = attributes.get("src") or "", attributes.get("href") or ""
        self.links.extend(target for target in (source, link) if target)
        if tag == "img":
            alt = attributes.get("alt")
            self.pictures.append(source)
            decorative = alt == "" and "_static/" in source  # the logo beside its own name
            if not decorative and (not alt or alt == source or alt.endswith((".png", ".svg", ".jpg"))):
                self.undescribed.append(source)


def check(site: Path) -> None:
    """Read every page below ``site``.

    Raises:
        ClearError: names the first page with a dead link, a missing anchor, a picture without alt
            text, or more than 2.5 MB of text and pictures.
    """
    pages = (path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts)
    parsed = {path.resolve(): parse(path) for path in pages}
    for path, page in parsed.items():
        name = path.relative_to(site.resolve())
        for source in page.undescribed:
            raise ClearError(f"{name}: picture {source[:80]} has no alt text")
        for link in page.links:
            refuse_dead(link, path, name, parsed)
        size = weight(path, page)
        if size > PAGE_LIMIT_MB:
            raise ClearError(f"{name} weighs {size:.1f} MB with its pictures: at most {PAGE_LIMIT_MB} MB")


def parse(path: Path) -> Page:
    """Read one page."""
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def refuse_dead(link: str, path: Path, name: Path, parsed: dict[Path, Page]) -> None:
    """Raise if ``link`` on the page ``path`` leads to a file or anchor of the site that is not there."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.exists():
        raise ClearError(f"{name}: dead link {link}")
    anchor = unquote(parts.fragment)
    if anchor and target in parsed and anchor not in parsed[target].anchors:
        raise ClearError(f"{name}: link {link} leads to an anchor that is not there")


def weight(path: Path, page: Page) -> float:
    """MB (10^6 bytes) of a page's text and pictures."""
    pictures = {path.parent / unquote(urlsplit(source).path) for source in page.pictures if ":" not in source}
    return sum(file.stat().st_size for file in (path, *pictures) if file.is_file()) / 1e6
