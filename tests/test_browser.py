"""Every page of the built site in a real browser, with the network cut off: light, dark, wide and narrow."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import site_fixture

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next((path for path in map(shutil.which, BROWSERS) if path), None)
AXE = site_fixture.ROOT / "node_modules/axe-core/axe.min.js"
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason=f"no Chromium found (looked for {', '.join(BROWSERS)})"),
    pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed (npm ci)"),
]


class Quiet(SimpleHTTPRequestHandler):
    """A file server that keeps its log to itself."""

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module", params=["a tiny run", "the published edition"])
def site(request) -> Iterator[tuple[Path, str]]:
    """A built site, and the address it is served at."""
    if request.param == "a tiny run":
        folder, _ = site_fixture.built_site()
    elif (site_fixture.ROOT / "book/edition.json").is_file():
        folder = site_fixture.built_edition()
    else:
        pytest.skip("nothing has been published yet (make publish)")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


class Visit:
    """One browser page that may reach the site only, and remembers everything that went wrong."""

    def __init__(self, browser, address: str) -> None:
        self.address, self.trouble = address, []
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.add_init_script("localStorage.mode = localStorage.theme = 'light'")
        context.route("**/*", self.guard)
        self.page = context.new_page()
        self.page.on("console", lambda message: self.note(message.type == "error", f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.note(True, f"exception: {error}"))
        self.page.on("response", lambda answer: self.note(answer.status >= 400, f"{answer.status} {answer.url}"))

    def note(self, wrong: bool, what: str) -> None:
        """Remember ``what`` if it is wrong."""
        if wrong:
            self.trouble.append(what)

    def guard(self, route) -> None:
        """Let requests to the site through, cut all others off."""
        inside = route.request.url.startswith((self.address, "data:", "blob:"))
        self.note(not inside, f"outside request: {route.request.url}")
        route.continue_() if inside else route.abort()

    def open(self, path: str):
        """Load a page and wait until its scripts are done."""
        self.page.goto(f"{self.address}/{path}", wait_until="load")
        self.page.wait_for_function("!window.MathJax || window.MathJax.startup?.promise")
        return self.page

    def close(self) -> None:
        """End this visit."""
        self.page.context.close()


@pytest.fixture
def visit(browser, site):
    """Makes visits and ends them."""
    made = []

    def make() -> Visit:
        made.append(Visit(browser, site[1]))
        return made[-1]

    yield make
    for one in made:
        one.close()


def paths(folder: Path) -> list[str]:
    """Every page of the site but the one that only leads to the first."""
    found = [
        path.relative_to(folder) for path in folder.rglob("*.html") if 'http-equiv="Refresh"' not in path.read_text()
    ]
    return sorted(str(path) for path in found if "_static" not in path.parts)


BROKEN = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => 'broken picture ' + i.src)"
WIDTH = "document.documentElement.scrollWidth"
DARK = "Object.assign(document.documentElement.dataset, {mode: 'dark', theme: 'dark'})"
"""What the theme's switch does."""


def test_every_page_works_without_a_network_and_for_everybody(site, visit) -> None:
    one, wrong = visit(), []
    for path in paths(site[0]):
        page = one.open(path)
        page.add_script_tag(path=str(AXE))
        trouble = [*page.evaluate(BROKEN), *serious_violations(page)]
        page.add_style_tag(content="* { transition: none !important }")
        page.evaluate(DARK)
        trouble += [*serious_violations(page), *one.trouble]
        page.set_viewport_size({"width": 390, "height": 844})
        if page.evaluate(WIDTH) > 390:
            trouble.append(f"{page.evaluate(WIDTH)} px wide on a screen of 390 px")
        page.set_viewport_size({"width": 1280, "height": 900})
        wrong += [f"{path}: {what}" for what in trouble]
        one.trouble.clear()
    assert not wrong, "\n".join(wrong)


def serious_violations(page) -> list[str]:
    """What axe-core, loaded before, calls serious or critical."""
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{violation['id']}: {node['html'][:150]}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


def test_maths_icons_and_widgets_show(site, visit) -> None:
    one = visit()
    page = one.open("book/numbers.html")
    assert page.locator("mjx-container mjx-math").count() >= 2
    assert page.evaluate("document.fonts.check('900 16px \"Font Awesome 6 Free\"')")
    for path in site[0].glob("book/tasks/*.html"):
        if "widget-view+json" in path.read_text():
            page = one.open(f"book/tasks/{path.name}")
            page.wait_for_selector(".jupyter-widgets", timeout=10_000)
    assert one.trouble == []


def test_a_player_plays(visit) -> None:
    one = visit()
    page = one.open("book/tasks/task1_lazycnn.html")
    if page.locator("script[type='application/vnd.jupyter.widget-view+json']").count() == 0:
        pytest.skip("this page has no widget")
    page.wait_for_selector(".widget-slider", timeout=10_000)
    page.locator(".widget-play button").first.click()
    page.wait_for_function("document.querySelector('.widget-readout').textContent !== '3'")
    assert one.trouble == []


def test_search_finds_a_word_of_a_page(visit) -> None:
    one = visit()
    page = one.open("search.html?q=wallpaper")
    page.wait_for_selector("#search-results li a", timeout=10_000)
    assert "The Lazy Artist" in page.locator("#search-results").inner_text()
    assert one.trouble == []


REACHED = """() => {
  const element = document.activeElement;
  if (!element || element === document.body) return -1;
  return [...document.querySelectorAll("a[href], button, input, summary")].indexOf(element);
}"""
WANTED = """() => [...document.querySelectorAll("a[href], button, input, summary")]
  .map((element, index) => [element, index])
  .filter(([element]) => element.checkVisibility({checkVisibilityCSS: true}) && !element.disabled
    && element.tabIndex >= 0)
  .map(([element, index]) => index)"""


def test_the_keyboard_reaches_every_control(visit) -> None:
    page = visit().open("book/tasks/task1_lazycnn.html")
    wanted, reached = set(page.evaluate(WANTED)), set()
    for _ in range(2 * len(wanted) + 20):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(REACHED))
    html = "[...document.querySelectorAll('a[href], button, input, summary')].map(e => e.outerHTML.slice(0, 120))"
    names = page.evaluate(html)
    assert len(wanted) > 20
    assert [names[index] for index in sorted(wanted - reached)] == []


def test_folded_code_opens_by_keyboard(visit) -> None:
    page = visit().open("book/tasks/task1_lazycnn.html")
    summary = page.locator("details.hide > summary").last
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details.hide[open]").count() == 1
