"""Every figure's style, how a figure is shown, and the panels that several pages share."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from IPython.display import Markdown, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor

from lazyutils.data import COLOR_NAMES, palette_tensor

DPI = 144
INK = "#22262b"
DIGIT, COLOR, NEITHER = "#0072b2", "#d55e00", "#9a9a9a"
"""Okabe-Ito blue and vermilion: 'follows the digit' and 'follows the colour', on every page."""
EASY, HARD, REFERENCE = "#009e73", "#cc79a7", "#7a7a7a"
"""'easy images', 'hard images', and reference lines."""


def use_style() -> None:
    """The book's matplotlib style."""
    sns.set_theme(context="notebook", style="ticks", font="DejaVu Sans")
    plt.rcParams.update(
        {
            "figure.dpi": DPI,
            "savefig.dpi": DPI,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelsize": 10,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": INK,
        }
    )


def show(figure: Figure, *, caption: str, alt: str, colors: int | None = None) -> None:
    """Display a figure with its caption and alt text, and close it.

    Args:
        figure: what to show.
        caption: one or two sentences under the figure.
        alt: what a person who can't see the figure needs to know of it.
        colors: reduce the figure to so many colours (2-256): a third of the bytes where it holds many small images.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", bbox_inches="tight", pad_inches=0.06)
    width = round(100 * Image.open(buffer).width / DPI)
    plt.close(figure)
    content = buffer.getvalue() if colors is None else reduced(buffer, colors)
    display(
        {"image/png": content, "text/plain": alt},
        metadata={"image/png": {"alt": alt, "width": width}},
        raw=True,
    )
    display(Markdown(f"*{caption}*"))


def reduced(png: io.BytesIO, colors: int) -> bytes:
    """A PNG with a palette of ``colors`` colours."""
    small = io.BytesIO()
    image = Image.open(png).convert("RGB").quantize(colors, dither=Image.Dither.NONE)
    image.save(small, format="png", optimize=True)
    return small.getvalue()


def as_image(image: Tensor) -> np.ndarray:
    """``[3, H, W]`` in [0, 1] as ``[H, W, 3]`` for ``imshow``."""
    return image.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy()


def draw_image(axes: Axes, image: Tensor, title: str = "", size: float = 9) -> None:
    """One image, no ticks, pixels kept sharp."""
    axes.imshow(as_image(image), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=size, fontweight="normal", loc="center")
    for spine in axes.spines.values():
        spine.set_visible(False)


def image_grid(
    images: Tensor, columns: int, titles: Sequence[str] = (), cell: float = 0.85, rows_titled: bool = False
) -> Figure:
    """``images [N, 3, H, W]`` in rows of ``columns``; ``titles`` over the first row, or over every image."""
    rows = -(-len(images) // columns)
    title_height = 0.25 * (rows if rows_titled else 1) if titles else 0
    size = (columns * cell, rows * cell + title_height)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, hspace=0.02, wspace=0.02)
    for position, panel in enumerate(axes.flat):
        panel.axis("off")
        if position < len(images):
            draw_image(panel, images[position], titles[position] if position < len(titles) else "")
    return figure


def color_ticks(axes: Axes, which: str = "y", palette: str = "study") -> None:
    """Label one axis of a 10 x 10 table with the ten backgrounds: a swatch of each and its name."""
    names = COLOR_NAMES if palette == "study" else [str(color) for color in range(10)]
    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_ticks(np.arange(10) + 0.5, names, rotation=0 if which == "y" else 45)
    swatches = palette_tensor(palette).float() / 255
    for label, color in zip(axis.get_ticklabels(), swatches, strict=True):
        dark = float(color @ torch.tensor([0.299, 0.587, 0.114])) < 0.55
        label.set_bbox({"facecolor": color.tolist(), "edgecolor": INK, "linewidth": 0.4, "pad": 2})
        label.set_color("white" if dark else "black")


def heat_table(axes: Axes, counts: Tensor, title: str, xlabel: str, ylabel: str) -> None:
    """A 10 x 10 table of counts as row shares (percent), one sequential colour scale from 0 to 100."""
    shares = 100 * counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    sns.heatmap(
        shares.cpu().numpy(),
        ax=axes,
        vmin=0,
        vmax=100,
        cmap="cividis",
        annot=True,
        fmt=".0f",
        annot_kws={"size": 7},
        square=True,
        cbar_kws={"label": "% of the row", "shrink": 0.75, "pad": 0.03},
    )
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", rotation=0)


def learning_curves(axes: Axes, curves: Tensor, label: str, color: str) -> None:
    """Mean over seeds with the range of seeds shaded; ``curves [seeds, epochs]`` in fractions."""
    epochs = np.arange(1, curves.shape[1] + 1)
    axes.plot(epochs, 100 * curves.mean(0), color=color, marker="o", markersize=3, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.fill_between(epochs, 100 * curves.min(0).values, 100 * curves.max(0).values, color=color, alpha=0.2, lw=0)


def percent(value: float, digits: int = 1) -> str:
    """A fraction as text in percent."""
    return f"{round(100 * value, digits) + 0.0:.{digits}f}%"  # -0 is 0


def mean_sd(figure: dict, digits: int = 1) -> str:
    """An ``over_seeds`` figure of fractions as ``mean +- sd`` in percent."""
    if figure["sd"] is None:
        return percent(figure["mean"], digits)
    return f"{100 * figure['mean']:.{digits}f} ± {100 * figure['sd']:.{digits}f}%"


def source(thing: type | Callable) -> str:
    """A class's or function's own source as Markdown, so that the page shows the code that ran."""
    return f"```python\n{inspect.getsource(thing)}```"
