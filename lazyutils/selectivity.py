"""What a unit answers to, measured by data instead of by eye.

Everything here takes activations ``float32 [N, U]`` (any units: channels, logits, latents of an autoencoder) and a
factor ``int64 [N]`` (digit or colour), on images where the factors are independent of each other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lazyutils.errors import ClearError

FLOOR = 0.05
"""Share of variance that a factor has to explain before ``levels_answered`` says anything about a unit."""


def balanced_colors(labels: Tensor, seed: int = 0, count: int = 10) -> Tensor:
    """Colours ``int64 [N]`` in which each digit wears each colour equally often (within one), in random order.

    With ``data.recolor`` they give the images on which colour and digit are independent.
    """
    generator = torch.Generator().manual_seed(seed)
    colors = torch.empty_like(labels)
    for digit in labels.unique():
        rows = (labels == digit).nonzero()[:, 0]
        deal = torch.arange(len(rows)) + torch.randint(count, (1,), generator=generator)
        order = torch.randperm(len(rows), generator=generator)
        colors[rows[order.to(rows.device)]] = (deal % count).to(colors)
    return colors


def class_means(activations: Tensor, factor: Tensor, levels: int = 10) -> Tensor:
    """Mean activation of each unit at each level of a factor, ``float64 [levels, U]``.

    Raises:
        ClearError: shapes don't fit, or a level has no image.
    """
    if activations.dim() != 2 or factor.shape != activations.shape[:1]:
        raise ClearError(
            f"activations have shape {tuple(activations.shape)}, the factor {tuple(factor.shape)}: "
            "give [N, U] and int64 [N] of the same N images"
        )
    counts = torch.bincount(factor, minlength=levels)
    if len(counts) != levels or not counts.all():
        raise ClearError(f"the levels have {counts.tolist()} images: give at least one of each of the {levels} levels")
    sums = torch.zeros(levels, activations.shape[1], dtype=torch.float64, device=activations.device)
    return sums.index_add_(0, factor, activations.double()) / counts[:, None]


def eta_squared(activations: Tensor, factor: Tensor, levels: int = 10) -> Tensor:
    """Share of each unit's variance that a factor explains: between-group over total sum of squares, ``[U]``, 0 to 1.

    Chance gives (levels - 1) / (N - 1) on average. A constant unit has nothing to explain and scores 0.
    """
    means = class_means(activations, factor, levels)
    x = activations.double()
    counts = torch.bincount(factor, minlength=levels).double()
    between = (counts[:, None] * (means - x.mean(0)).square()).sum(0)
    total = (x - x.mean(0)).square().sum(0)
    constant = total <= torch.finfo(torch.float32).eps ** 2 * x.square().sum(0)
    return torch.where(constant, 0.0, between / total.clamp(min=torch.finfo(torch.float64).tiny)).float()


def levels_answered(activations: Tensor, factor: Tensor, levels: int = 10) -> Tensor:
    """How many levels of a factor each unit answers to, ``int64 [U]``: a measure of polysemanticity.

    A level counts where the unit's mean activation is at least half way from its lowest to its highest level. 1 is a
    unit with one meaning; 0 a unit whose means don't differ. Means that differ by chance count as well, and a unit that
    is graded over the levels counts several: see ``mean_answered``.
    """
    means = class_means(activations, factor, levels)
    low, high = means.amin(0), means.amax(0)
    return ((means >= (low + high) / 2) & (high > low)).sum(0)


def mean_answered(answered: Tensor, eta2: Tensor) -> tuple[float | None, int]:
    """Mean of ``levels_answered`` over the units of which the factor explains more than ``FLOOR``, and their number.

    Args:
        answered: ``int64 [U]``.
        eta2: ``eta_squared`` of the same units and factor, ``float32 [U]``.

    Returns:
        None and 0 where there is no such unit.
    """
    counted = answered[eta2 > FLOOR].double()
    return (counted.mean().item() if len(counted) else None), len(counted)


def top_images(activations: Tensor, k: int) -> Tensor:
    """Indices ``int64 [U, k]`` of the k images that activate each unit most, best first."""
    if not 1 <= k <= len(activations):
        raise ClearError(f"k is {k}: choose 1 to {len(activations)}, the number of images")
    return activations.topk(k, dim=0).indices.T


def filter_energy(weight: Tensor) -> dict[str, Tensor]:
    """Split each first-layer filter's energy (sum of squares) into four orthogonal parts, as shares that sum to 1.

    ``chromatic`` is what differs between the channels, ``gray`` what they share; ``flat`` is the mean over space (DC),
    ``pattern`` the rest. A filter of independent random weights has on average 2/3 chromatic and 1/k^2 flat energy.

    Args:
        weight: ``[O, 3, k, k]``.

    Returns:
        ``chromatic_flat, chromatic_pattern, gray_flat, gray_pattern``: each ``float32 [O]``.
    """
    w = weight.detach().double()
    gray = w.mean(1, keepdim=True).expand_as(w)
    parts = {}
    for name, part in (("chromatic", w - gray), ("gray", gray)):
        flat = part.mean((2, 3), keepdim=True).expand_as(part)
        parts[f"{name}_flat"], parts[f"{name}_pattern"] = flat, part - flat
    total = w.square().sum((1, 2, 3)).clamp(min=torch.finfo(torch.float64).tiny)
    return {name: (part.square().sum((1, 2, 3)) / total).float() for name, part in parts.items()}
