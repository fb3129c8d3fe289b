"""The figures of Task 1: what a network answers, and which cue it follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from lazyutils import words_cheater
from lazyutils.data import ColoredDigits
from lazyutils.metrics import contingency
from lazyutils.plots import (
    COLOR,
    DIGIT,
    EASY,
    HARD,
    NEITHER,
    REFERENCE,
    color_ticks,
    draw_image,
    heat_table,
    image_grid,
    learning_curves,
)


def accuracy_curves(curves: Sequence[Mapping[str, Sequence[float]]], color_line: float) -> Figure:
    """Easy and hard accuracy after each epoch, mean and range over seeds, with the pure-colour line."""
    figure, axes = plt.subplots(figsize=(7, 3.6))
    for name, color in (("easy", EASY), ("hard", HARD)):
        learning_curves(axes, torch.tensor([seed[name] for seed in curves]), f"{name} images", color)
    axes.axhline(100 * color_line, color=REFERENCE, ls="--", lw=1, label="answering with the colour alone (easy)")
    axes.axhline(10, color=REFERENCE, ls=":", lw=1, label="guessing")
    axes.set(title="Two accuracies of one network", xlabel="epoch", ylabel="accuracy (%)", ylim=(0, 102))
    axes.legend(loc="center right", bbox_to_anchor=(1, 0.5))
    return figure


def confusion_pair(predictions: Mapping[str, Tensor], sets: Mapping[str, ColoredDigits]) -> Figure:
    """Confusion matrices of the easy and the hard set, as row shares."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.6))
    for panel, (name, digits) in zip(panels, sets.items(), strict=True):
        counts = contingency(digits.labels, predictions[name])
        heat_table(panel, counts, f"{name.capitalize()} set ({len(digits):,} images)", "predicted digit", "true digit")
    return figure


def color_prediction(predictions: Tensor, digits: ColoredDigits) -> Figure:
    """What each background colour makes the network say: rows colours, columns predictions."""
    figure, axes = plt.subplots(figsize=(6, 4.8))
    counts = contingency(digits.colors, predictions)
    heat_table(axes, counts, "Hard set: background against answer", "predicted digit", "")
    color_ticks(axes, "y")
    return figure


def cue_shares(shares: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Stacked bars, a network a bar: answers that follow the digit, the colour, or neither (seed means)."""
    figure, axes = plt.subplots(figsize=(7.5, 0.7 + 0.45 * len(shares)))
    left = np.zeros(len(shares))
    for key, color, label in (
        ("digit_share", DIGIT, "the digit"),
        ("colour_share", COLOR, "the colour's digit"),
        ("neither_share", NEITHER, "neither"),
    ):
        widths = np.array([100 * figures[key]["mean"] for figures in shares.values()])
        axes.barh(list(shares), widths, left=left, color=color, label=label)
        for row, width in enumerate(widths):
            if width > 6:
                axes.text(left[row] + width / 2, row, f"{width:.0f}%", ha="center", va="center", color="white", size=9)
        left += widths
    axes.invert_yaxis()
    axes.set(xlabel="share of the hard images (%)", xlim=(0, 100), title="The answer follows ...")
    axes.legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1.0), borderaxespad=0)
    return figure


def error_strip(digits: ColoredDigits, probabilities: Tensor, columns: int = 8) -> Figure:
    """The given images with truth, answer and the answer's probability ``[N, 10]``."""
    titles = words_cheater.titles(digits, probabilities)
    return image_grid(digits.images, columns, titles, cell=1.25, rows_titled=True)


def repainted(digits: ColoredDigits, answers: Sequence[int]) -> Figure:
    """One digit on several backgrounds, with what is answered on each: large, coloured by the cue it follows."""
    figure, axes = plt.subplots(1, len(digits), figsize=(10, 1.75))
    for panel, image, label, color, answer in zip(
        axes, digits.images, digits.labels.tolist(), digits.colors.tolist(), answers, strict=True
    ):
        draw_image(panel, image)
        ink = DIGIT if answer == label else COLOR if answer == color else NEITHER
        panel.set_xlabel(str(answer), fontsize=26, fontweight="bold", color=ink)
    figure.suptitle("The same digit, and what the network calls it", x=0.005, ha="left", size=11, weight="semibold")
    return figure


def laziness(curves: Mapping[str, Sequence[float]], shown_epochs: int, color_line: float) -> Figure:
    """Easy and hard accuracy of one network trained much longer, with the usual length marked."""
    figure, axes = plt.subplots(figsize=(7, 3.4))
    epochs = np.arange(1, len(curves["easy"]) + 1)
    axes.plot(epochs, 100 * np.array(curves["easy"]), color=EASY, label="easy images")
    axes.plot(epochs, 100 * np.array(curves["hard"]), color=HARD, label="hard images")
    axes.axhline(100 * color_line, color=REFERENCE, ls="--", lw=1, label="answering with the colour alone (easy)")
    axes.axvline(shown_epochs, color=REFERENCE, lw=1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.annotate("this page's network", (shown_epochs, 2), xytext=(4, 0), textcoords="offset points", size=9)
    axes.set(title="The same network, trained on", xlabel="epoch", ylabel="accuracy (%)", ylim=(0, 102))
    axes.legend(loc="center right", bbox_to_anchor=(1, 0.68))
    return figure
