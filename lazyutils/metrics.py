"""What a prediction says: accuracy, who is followed (digit or colour), information, intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lazyutils.data import ColoredDigits


def accuracy(predictions: Tensor, labels: Tensor) -> float:
    """Share of ``predictions int64 [N]`` that equal ``labels``, 0 to 1."""
    return (predictions == labels).double().mean().item()


def contingency(rows: Tensor, columns: Tensor, size: int = 10) -> Tensor:
    """Counts ``int64 [size, size]``: entry (i, j) counts the images with row value i and column value j.

    With labels and predictions: the confusion matrix. With colours and predictions: what each
    background makes the network say.
    """
    return torch.bincount(rows * size + columns, minlength=size * size).view(size, size)


def worst_digit(labels: Tensor, predictions: Tensor) -> float:
    """The lowest accuracy that a digit among ``labels int64 [N]`` has, 0 to 1."""
    counts = contingency(labels, predictions)
    seen = counts.sum(1)
    return (counts.diagonal() / seen)[seen > 0].min().item()


def followed(predictions: Tensor, labels: Tensor, colors: Tensor) -> dict[str, float]:
    """On images whose cues conflict: the shares answered with the digit, the colour's digit, or neither.

    Shape bias = digit / (digit + colour), as in Geirhos et al. 2019 (arXiv 1811.12231); NaN where
    neither cue was ever followed.

    Args:
        predictions, labels, colors: ``int64 [N]``, with ``labels != colors`` everywhere.
    """
    digit, color = accuracy(predictions, labels), accuracy(predictions, colors)
    return {
        "digit_share": digit,
        "colour_share": color,
        "neither_share": 1 - digit - color,
        "shape_bias": digit / (digit + color) if digit + color else math.nan,
    }


def cheating(
    easy_predictions: Tensor, easy: ColoredDigits, hard_predictions: Tensor, hard: ColoredDigits
) -> dict[str, float]:
    """A network's figures on both sets: accuracies, and who is followed on the hard one."""
    return {
        "easy_accuracy": accuracy(easy_predictions, easy.labels),
        "hard_accuracy": accuracy(hard_predictions, hard.labels),
        **followed(hard_predictions, hard.labels, hard.colors),
    }


def mutual_information_bits(counts: Tensor) -> float:
    """Plug-in mutual information of a contingency table ``[R, C]``, in bits."""
    joint = counts.double() / counts.sum()
    independent = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    seen = joint > 0
    return (joint[seen] * (joint[seen] / independent[seen]).log2()).sum().item()


def colors_told(images: Tensor, masks: Tensor, colors: Tensor, palette: Tensor) -> dict[str, float]:
    """How often the palette's colour nearest to the background, in RGB, is the image's own: shares, 0 to 1.

    ``pixel``: nearest to the image's first background pixel. ``average``: to the mean over its background.

    Args:
        images: ``uint8 [N, 3, H, W]``.
        masks: ``bool [N, H, W]``, True on the stroke.
        colors: ``int64 [N]``, the true index in the palette.
        palette: ``uint8 [10, 3]``.
    """
    pixels, ground = images.flatten(2).float(), (~masks).flatten(1)  # [N, 3, P], [N, P]
    first = ground.byte().argmax(1)
    looks = {
        "pixel": pixels[torch.arange(len(pixels)), :, first],
        "average": (pixels * ground[:, None]).sum(2) / ground.sum(1, keepdim=True),
    }
    return {name: accuracy(torch.cdist(look, palette.float()).argmin(1), colors) for name, look in looks.items()}


def closest_pairs(palette: Tensor, count: int) -> list[tuple[int, int, float]]:
    """The ``count`` nearest pairs of colours of ``palette [K, 3]``: two indices and their distance in RGB."""
    distances = torch.pdist(palette.double())
    pairs = torch.triu_indices(len(palette), len(palette), 1).T
    return [(*pairs[nearest].tolist(), distances[nearest].item()) for nearest in distances.argsort()[:count]]


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """``{"mean", "sd", "n", "values"}``; the sample standard deviation, None for a single value."""
    values = [float(value) for value in values]
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "sd": sd, "n": len(values), "values": values}


def collect_seeds(runs: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """One dictionary of figures a seed in, one of ``over_seeds`` figures out."""
    return {key: over_seeds([run[key] for run in runs]) for key in runs[0]}


def wilson_interval(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share of ``n`` images (95% for ``z`` = 1.96)."""
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return center - half, center + half


def most_confident(probabilities: Tensor, among: Tensor) -> Tensor:
    """Indices ``int64 [M]`` of the images where ``among bool [N]`` is True, surest answer first."""
    candidates = among.nonzero()[:, 0]
    confidence = probabilities[candidates].max(1).values
    return candidates[confidence.argsort(descending=True)]
