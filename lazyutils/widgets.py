"""Sliders over frames: one that any page can carry, one for a live kernel."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence

import ipywidgets
from IPython.display import HTML
from PIL import Image
from torch import Tensor

from lazyutils.errors import ClearError

ON_INPUT = (
    "const p=this.closest('.frame-slider'),t=JSON.parse(p.dataset.labels)[this.value];"
    "p.querySelector('[role=img]').style.setProperty('--frame',this.value);"
    "p.querySelector('output').textContent=t;this.setAttribute('aria-valuetext',t)"
)


def frame_rows(frames: Tensor) -> Tensor:
    """Each frame's images side by side: ``[F, N, 3, H, W]`` to ``uint8 [F, H, N * W, 3]``.

    Raises:
        ClearError: another shape, or fewer than two frames.
    """
    if frames.dim() != 5 or frames.shape[2] != 3 or len(frames) < 2:
        raise ClearError(f"frames have shape {tuple(frames.shape)}: give [F, N, 3, H, W] with at least two frames")
    rows = frames.detach().cpu().clamp(0, 1).permute(0, 3, 1, 4, 2).flatten(2, 3)
    return (rows * 255).round().byte()


def png(pixels: Tensor, colors: int | None = None) -> bytes:
    """``uint8 [H, W, 3]`` as PNG; ``colors`` (2-256) reduces it to a palette of that size, a third of the bytes."""
    image = Image.fromarray(pixels.numpy())
    if colors is not None:
        image = image.quantize(colors, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def frame_slider(
    frames: Tensor, labels: Sequence[str], *, titles: Sequence[str], alt: str, cell: int = 112, colors: int = 256
) -> HTML:
    """A slider over frames as plain HTML: no kernel, no library, moved by mouse, touch or arrow keys.

    All frames lie under each other in one image; the slider shifts it behind a window one frame high.

    Args:
        frames: ``[F, N, 3, H, W]`` in [0, 1].
        labels: one text a frame, read out by screen readers.
        titles: one text an image of a frame.
        alt: what the frames show, for who can't see them.
        cell: width of one image on the page, in pixels.
        colors: size of the image's palette.

    Raises:
        ClearError: a number of labels or titles that doesn't fit.
    """
    rows = frame_rows(frames)
    count, height, width, _ = rows.shape
    if len(labels) != count or len(titles) != frames.shape[1]:
        raise ClearError(f"{len(labels)} labels and {len(titles)} titles for frames {tuple(frames.shape)}")
    sprite = base64.b64encode(png(rows.flatten(0, 1), colors)).decode()
    heads = "".join(f'<span style="flex:1;text-align:center">{html.escape(title)}</span>' for title in titles)
    return HTML(
        f'<div class="frame-slider" style="max-width:{cell * len(titles)}px" '
        f'data-labels="{html.escape(json.dumps(list(labels)))}">'
        f'<div style="display:flex;font-size:.85em">{heads}</div>'
        f'<div role="img" aria-label="{html.escape(alt)}" style="--frame:0;aspect-ratio:{width}/{height};'
        f"image-rendering:pixelated;background:url(data:image/png;base64,{sprite}) "
        f'0 calc(var(--frame) * {100 / (count - 1):.6f}%) / 100% {100 * count}% no-repeat"></div>'
        f'<label style="display:flex;gap:.8em;align-items:center"><span>Step</span>'
        f'<input type="range" min="0" max="{count - 1}" value="0" step="1" style="flex:1" '
        f'aria-valuetext="{html.escape(labels[0])}" oninput="{ON_INPUT}">'
        f'<output style="min-width:11em">{html.escape(labels[0])}</output></label></div>'
    )


def live_player(frames: Tensor, labels: Sequence[str], cell: int = 112) -> ipywidgets.VBox:
    """The same frames with Jupyter's own Play button and slider, linked in the browser; needs a live kernel.

    Args:
        frames: ``[F, N, 3, H, W]`` in [0, 1].
        labels: one text a frame.
    """
    rows = frame_rows(frames)
    rows = rows.repeat_interleave(4, 1).repeat_interleave(4, 2)  # sharp pixels, whatever the browser does
    layout = {"width": f"{cell * frames.shape[1]}px"}
    panels = [
        ipywidgets.VBox([ipywidgets.Image(value=png(row), format="png", layout=layout), ipywidgets.Label(label)])
        for row, label in zip(rows, labels, strict=True)
    ]
    stack = getattr(ipywidgets, "Stack", ipywidgets.Tab)(children=panels, selected_index=0)  # Tab: ipywidgets 7
    play = ipywidgets.Play(min=0, max=len(panels) - 1, interval=150)
    slider = ipywidgets.IntSlider(min=0, max=len(panels) - 1, description="Step")
    ipywidgets.jslink((play, "value"), (slider, "value"))
    ipywidgets.jslink((slider, "value"), (stack, "selected_index"))
    return ipywidgets.VBox([ipywidgets.HBox([play, slider]), stack])
