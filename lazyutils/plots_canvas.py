"""The figures of Task 0: what the data set looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lazyutils import metrics
from lazyutils.data import color_names, paint, palette_tensor
from lazyutils.plots import COLOR, DIGIT, INK, REFERENCE, color_ticks, heat_table, image_grid, percent

AVERAGING_PAYS = 0.05
"""A larger gain over a single pixel is called one."""


def recipe_steps(gray: Tensor, palette: str, noise: float, seed: int) -> Figure:
    """One digit ``uint8 [28, 28]`` through the recipe: ink, flat colour, texture, stroke on top."""
    blank, color = torch.zeros_like(gray)[None], torch.tensor([0])
    steps = {
        "MNIST's ink": gray.expand(3, -1, -1),
        "its colour": paint(blank, color, palette, 0, seed)[0],
        "with texture": paint(blank, color, palette, noise, seed)[0],
        "with the stroke": paint(gray[None], color, palette, noise, seed)[0],
    }
    return image_grid(torch.stack(list(steps.values())).float() / 255, len(steps), list(steps), cell=1.7)


def sample_grid(split: dict[str, Tensor], rows: int) -> Figure:
    """The first ``rows`` images of each digit, a column a digit."""
    first = torch.stack([(split["labels"] == digit).nonzero()[:rows, 0] for digit in range(10)], dim=1)
    return image_grid(split["images"][first.flatten()].float() / 255, 10, [str(digit) for digit in range(10)])


def contingency_pair(tables: dict[str, Tensor], palette: str) -> Figure:
    """Digit x colour tables of the easy and the hard set."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.8))
    for panel, (split, counts) in zip(panels, tables.items(), strict=True):
        heat_table(panel, counts, f"{split.capitalize()} set ({int(counts.sum()):,} images)", "", "digit")
        color_ticks(panel, "x", palette)
    return figure


def information_curve(ratios: Sequence[float], bits: Sequence[float], chosen: float) -> Figure:
    """Mutual information against the bias ratio, with the data set's own ratio marked."""
    figure, axes = plt.subplots(figsize=(6.5, 3.2))
    axes.plot(ratios, bits, color=COLOR, marker="o", markersize=3)
    axes.plot([chosen], [np.interp(chosen, ratios, bits)], "o", markersize=10, color=COLOR, mec=INK)
    axes.axhline(np.log2(10), color=REFERENCE, ls="--", lw=1)
    axes.annotate("colour = digit", (0, np.log2(10)), xytext=(0, -12), textcoords="offset points", color=REFERENCE)
    axes.set(
        title="What the background gives away",
        xlabel="bias ratio (share of images in their digit's own colour)",
        ylabel="mutual information (bits)",
        ylim=(0, 3.5),
    )
    return figure


def texture_histograms(split: dict[str, Tensor], palette: str, images: int = 500) -> Figure:
    """Background minus its colour (channels far from 0 and 255), and grey levels of strokes."""
    pixels, masks = split["images"][:images].float(), split["masks"][:images]
    base = palette_tensor(palette)[split["colors"][:images]].float()[:, :, None, None].expand_as(pixels)
    unclipped = ~masks[:, None] & (base > 80) & (base < 175)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
    filled = {"density": True, "histtype": "stepfilled"}
    left.hist((pixels - base)[unclipped].numpy(), bins=np.arange(-80.5, 81.5), color=COLOR, **filled)
    left.set(title="Background texture", xlabel="grey levels from the colour", ylabel="share per grey level")
    right.hist(pixels[:, 0][masks].numpy(), bins=np.arange(179.5, 256.5), color=DIGIT, log=True, **filled)
    right.set(title="Strokes", xlabel="grey level (0-255)", ylabel="share per grey level (log)")
    return figure


def background_reading(told: Mapping[str, float], images: int) -> str:
    """What ``metrics.colors_told`` found on so many images, in words."""
    gain = told["average"] - told["pixel"]
    reading = (
        f"The average is worth {100 * gain:.0f} points more than one pixel, and averaging is exactly what convolutions "
        "do well."
        if gain > AVERAGING_PAYS
        else "Averaging adds little: one pixel says nearly as much as the whole background."
    )
    return (
        f"The first {images:,} easy images: one background pixel names the colour in **{percent(told['pixel'])}**, the "
        f"background's average in **{percent(told['average'])}** (guessing: 10%). {reading}"
    )


def closest_colors(palette: str, noise: float, count: int = 3) -> str:
    """The colours that lie closest together, in words."""
    names, (first, *others) = color_names(palette), metrics.closest_pairs(palette_tensor(palette), count)
    rest = ", ".join(f"{names[one]} and {names[other]} ({distance:.0f})" for one, other, distance in others)
    return (
        f"The closest colours are {names[first[0]]} and {names[first[1]]}, {first[2]:.0f} levels apart in RGB; then "
        f"{rest}. A pixel is taken for the other colour once the texture (standard deviation {noise:g} in each "
        "channel) carries it more than half that way."
    )


def split_statistics(splits: dict[str, dict[str, Tensor]], path: Path) -> str:
    """A Markdown table of both splits and the file's size."""
    rows = [
        f"| {split} | {len(t['labels']):,} | {percent(metrics.accuracy(t['colors'], t['labels']), 2)} "
        f"| {percent(t['masks'].numpy().mean())} | {t['images'].numpy().mean():.1f} |"
        for split, t in splits.items()
    ]
    head = "| split | images | own colour | stroke pixels | mean grey level |\n|---|---|---|---|---|\n"
    return head + "\n".join(rows) + f"\n\n`{path.name}`: {path.stat().st_size / 1e6:.0f} MB."
