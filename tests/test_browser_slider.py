"""The slider over frames in a real browser, without kernel or network, by keyboard; and the live one's links."""

from __future__ import annotations

import shutil

import pytest
import torch

from lazyutils import widgets
from lazyutils.errors import ClearError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next((path for path in map(shutil.which, BROWSERS) if path), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
VALUES = torch.tensor([0.0, 0.4, 0.7, 1.0])
FRAMES = VALUES.view(4, 1, 1, 1, 1).expand(4, 2, 3, 28, 28).clone()
FRAMES[:, :, 1:] = 0  # four frames, ever redder
LABELS = [f'step {step}: "{value:.1f}" red' for step, value in enumerate(VALUES.tolist())]


@pytest.fixture
def page(tmp_path):
    if CHROMIUM is None:
        pytest.skip(f"no Chromium found (looked for {', '.join(BROWSERS)})")
    from playwright.sync_api import sync_playwright

    content = widgets.frame_slider(FRAMES, LABELS, titles=["left", "right"], alt="ever redder").data
    (tmp_path / "page.html").write_text(f"<!doctype html><html lang=en><meta charset=utf-8><body>{content}{content}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(offline=True)
        tab = context.new_page()
        tab.trouble = []
        tab.on("pageerror", lambda error: tab.trouble.append(str(error)))
        tab.goto((tmp_path / "page.html").as_uri())
        yield tab
        assert not tab.trouble
        browser.close()


def redness(page, position: int) -> list[int]:
    """Mean red, green and blue of what the position-th slider's window really shows."""
    import io

    import numpy as np
    from PIL import Image

    shot = page.get_by_role("img").nth(position).screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).mean((0, 1)).round().astype(int).tolist()


def test_arrow_keys_move_the_frames(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "range"
    for step, value in enumerate(VALUES.tolist()):
        red, green, blue = redness(page, 0)
        assert abs(red - 255 * value) <= 3 and green <= 3 and blue <= 3
        assert page.locator("output").first.text_content() == LABELS[step]
        assert page.get_by_role("slider").first.get_attribute("aria-valuetext") == LABELS[step]
        page.keyboard.press("ArrowRight")
    assert redness(page, 1)[0] <= 3, "the second slider on the page moved with the first"


def test_the_mouse_moves_the_frames(page):
    slider = page.get_by_role("slider").nth(1)
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    assert page.locator("output").nth(1).text_content() == LABELS[-1]
    assert redness(page, 1)[0] >= 252


def test_names_for_who_cannot_see(page):
    assert page.get_by_role("img", name="ever redder").count() == 2
    assert page.get_by_role("slider", name="Step").count() == 2


def test_the_live_player_is_linked_in_the_browser():
    player = widgets.live_player(FRAMES, LABELS)
    controls, stack = player.children
    play, slider = controls.children
    assert len(stack.children) == 4 and slider.max == play.max == 3
    assert bytes(stack.children[0].children[0].value).startswith(b"\x89PNG")
    links = [w for w in all_widgets() if type(w).__name__ == "Link"]
    joined = {(link.source[0], link.source[1], link.target[0], link.target[1]) for link in links}
    assert (play, "value", slider, "value") in joined
    assert (slider, "value", stack, "selected_index") in joined


def all_widgets() -> list:
    from ipywidgets.widgets.widget import _instances

    return list(_instances.values())


def test_unfit_frames_are_one_clear_error():
    with pytest.raises(ClearError, match="at least two frames"):
        widgets.frame_slider(FRAMES[:1], LABELS[:1], titles=["a", "b"], alt="")
    with pytest.raises(ClearError, match="3 labels and 2 titles"):
        widgets.frame_slider(FRAMES, LABELS[:3], titles=["a", "b"], alt="")
