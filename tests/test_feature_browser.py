"""The feature browser: its HTML by itself, and in headless Chromium by mouse and by keyboard."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from PIL import Image

from lazyutils import feature_browser
from lazyutils.data import PALETTES
from lazyutils.errors import ClearError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next((path for path in map(shutil.which, BROWSERS) if path), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
COUNT = 20


def catalogue() -> feature_browser.Catalogue:
    """Twenty features; each preferred image is one flat level of red, so that it can be told from the others."""
    levels = torch.linspace(0, 1, COUNT).view(-1, 1, 1, 1)
    preferred = torch.cat([levels.expand(-1, 1, 28, 28), torch.zeros(COUNT, 2, 28, 28)], dim=1)
    draw = torch.Generator().manual_seed(0)
    return feature_browser.Catalogue(
        preferred=preferred,
        examples=torch.rand(COUNT, 4, 3, 28, 28, generator=draw),
        by_color=torch.rand(COUNT, 10, generator=draw),
        by_digit=torch.rand(COUNT, 10, generator=draw),
        pushes=torch.randn(COUNT, 10, generator=draw),
        facts={"colour eta²": [f"{position}/100 <b>" for position in range(COUNT)]},
        orders={"number": -torch.arange(COUNT).float(), "number, reversed": torch.arange(COUNT).float()},
    )


def record_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)[1])


def test_page_carries_the_catalogue() -> None:
    given = catalogue()
    record = record_of(feature_browser.render(given))
    torch.testing.assert_close(torch.tensor(record["color"]), given.by_color, rtol=5e-3, atol=1e-6)
    assert record["orders"]["number"] == list(range(COUNT)) == record["orders"]["number, reversed"][::-1]
    sheet = Image.open(io.BytesIO(base64.b64decode(record["preferred"].split(",")[1])))
    assert sheet.size == (16 * 28, 2 * 28)
    for feature in (0, 7, COUNT - 1):
        red = sheet.getpixel((feature % 16 * 28 + 14, feature // 16 * 28 + 14))[0]
        assert red == pytest.approx(255 * feature / (COUNT - 1), abs=4)


def test_colours_are_the_palettes_own() -> None:
    record = record_of(feature_browser.render(replace(catalogue(), palette="tab10", names=["one"] * 10)))
    assert record["palette"][0] == "rgb({},{},{})".format(*PALETTES["tab10"][0])
    assert record["names"] == ["one"] * 10


def test_page_needs_nothing_from_outside() -> None:
    page = feature_browser.render(catalogue())
    assert not re.search(r"https?://|src=|<link|import ", page)
    assert "@" not in re.sub(r"<script type.*?</script>", "", page, flags=re.DOTALL)


def test_page_of_all_features_is_small() -> None:
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(128, 6, 3, 28, 28, generator=draw) * 20 / 255
    colors = torch.rand(128, 1, 3, 1, 1, generator=draw)
    tables = {name: torch.rand(128, 10, generator=draw) for name in ("by_color", "by_digit", "pushes")}
    images = (colors + noise).clamp(0, 1)
    large = feature_browser.Catalogue(images[:, 0], images, **tables, facts={}, orders={"any": torch.rand(128)})
    assert len(feature_browser.render(large)) < 1_200_000


@pytest.mark.parametrize("part", ["examples", "by_digit", "facts", "orders"])
def test_parts_that_disagree_are_refused(part: str) -> None:
    given = catalogue()
    value = getattr(given, part)
    shorter = {key: item[:3] for key, item in value.items()} if isinstance(value, dict) else value[:3]
    with pytest.raises(ClearError, match="20 features"):
        feature_browser.render(replace(given, **{part: shorter}))
    with pytest.raises(ClearError, match="order"):
        feature_browser.render(replace(given, orders={}))


@pytest.fixture(scope="module")
def page() -> Iterator:
    """The browser fragment in a bare page; any error of the script fails the test."""
    if CHROMIUM is None:
        pytest.skip(f"no Chromium found (looked for {', '.join(BROWSERS)})")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        shown, errors = browser.new_page(), []
        shown.on("pageerror", lambda error: errors.append(str(error)))
        shown.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        shown.set_content(f"<!doctype html><title>t</title><main>{feature_browser.render(catalogue())}</main>")
        yield shown
        browser.close()
        assert not errors


def test_first_feature_shows_without_any_action(page) -> None:
    assert page.locator(".fb output").inner_text() == "feature 0 (1 of 20)"
    assert page.locator(".fb dd").all_inner_texts() == ["0/100 <b>"]
    assert page.locator("[data-part=examples] [role=img]").count() == 4
    assert page.locator(".fb svg").count() == 3


def test_keyboard_steps_through_features_and_orders(page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SELECT"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "range"
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.locator(".fb output").inner_text() == "feature 3 (4 of 20)"
    assert page.locator(".fb input").get_attribute("aria-valuetext") == "feature 3 (4 of 20)"
    page.keyboard.press("End")
    assert page.locator(".fb output").inner_text() == "feature 19 (20 of 20)"
    page.locator(".fb select").select_option("number, reversed")
    assert page.locator(".fb output").inner_text() == "feature 19 (1 of 20)"


def test_tiles_show_the_chosen_feature(page) -> None:
    page.locator(".fb select").select_option("number")
    for feature in (0, 10, 19):
        page.locator(".fb input").fill(str(feature))
        shot = page.locator("[data-part=preferred]").screenshot()
        middle = Image.open(io.BytesIO(shot)).convert("RGB").getpixel((59, 59))
        assert middle[0] == pytest.approx(255 * feature / 19, abs=6) and max(middle[1:]) < 12
        label = page.locator("[data-part=color] svg").get_attribute("aria-label")
        assert label.startswith(f"by colour: red {float(f'{catalogue().by_color[feature, 0]:.3g}'):g}")
