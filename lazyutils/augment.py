"""Geometric augmentation: digits move and bend, colours stay. One map an image, one resampling a batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lazyutils.errors import ClearError
from lazyutils.training import Augment

BEND_POINTS = 7
"""Control points of an elastic deformation along each axis."""


def geometric(
    degrees: float = 15.0, scale: float = 0.2, shift: float = 0.15, shear: float = 0.2, bend: float = 0.7
) -> Augment:
    """Random rotation, scale, shift, shear (uniform) and elastic deformation (normal), independent for every image.

    Args:
        degrees: largest rotation to either side, in degrees.
        scale: largest relative change of size, 0 to below 1.
        shift: largest displacement along each axis, as a share of half the image's side.
        shear: largest slant, as the tangent of its angle.
        bend: standard deviation, in pixels, of the displacements of a coarse grid of control points, with bicubic
            interpolation between them (Ronneberger et al. 2015, section 3.1).

    Returns:
        A function of ``images float32 [B, C, H, W]`` and a generator, for ``training.fit``. The
        border is filled by reflection, so no colour appears that the image does not have.
    """
    if min(degrees, scale, shift, shear, bend) < 0 or scale >= 1:
        raise ClearError(
            f"geometric({degrees}, {scale}, {shift}, {shear}, {bend}): give ranges of 0 or more, and a scale below 1"
        )

    ranges = (degrees, scale, shift, shear)

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        theta = affine_maps(len(images), ranges, generator).to(images)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        if bend:
            grid = grid + displacements(images.shape, bend, generator).to(images)
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    return augment


def affine_maps(n: int, ranges: tuple[float, float, float, float], generator: torch.Generator) -> Tensor:
    """``float32 [n, 2, 3]``: where each output pixel looks in the input, in units of half a side."""
    degrees, scale, shift, shear = ranges
    angle, zoom, dx, dy, slant = torch.rand(5, n, generator=generator) * 2 - 1
    angle, zoom, slant = angle * math.radians(degrees), 1 / (1 + scale * zoom), shear * slant
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    rows = [
        torch.stack([cosine, slant * cosine - sine, shift * dx], dim=1),
        torch.stack([sine, slant * sine + cosine, shift * dy], dim=1),
    ]
    return torch.stack(rows, dim=1)


def displacements(shape: torch.Size, bend: float, generator: torch.Generator) -> Tensor:
    """``float32 [B, H, W, 2]``: smooth random shifts for images ``[B, C, H, W]``, x and y in units of half a side."""
    size = torch.tensor([shape[3], shape[2]])
    control = torch.randn(shape[0], 2, BEND_POINTS, BEND_POINTS, generator=generator) * bend
    smooth = F.interpolate(control, size=tuple(shape[2:]), mode="bicubic", align_corners=True)
    return smooth.permute(0, 2, 3, 1) * (2 / size)
