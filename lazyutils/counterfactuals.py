"""Delete or exchange a cue instead of pixels.

A map of locations can't name a cue that is everywhere. These images differ from the original in one cue,
colour or shape, so that what a network does with the cue can be measured, and a map be judged by it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lazyutils.data import ColoredDigits, recolor
from lazyutils.errors import ClearError

GRAY = 0.5


def color_card(digits: ColoredDigits, seed: int = 0) -> Tensor:
    """Each image's background without its digit: every pixel drawn from the image's own background pixels.

    Returns:
        ``float32 [N, 3, H, W]``: colour and texture kept, shape gone.
    """
    generator = torch.Generator().manual_seed(seed)
    background = (~digits.masks).flatten(1).float()
    pixels = torch.multinomial(background.cpu(), background.shape[1], replacement=True, generator=generator)
    chosen = pixels.to(background.device)[:, None].expand(-1, 3, -1)
    return digits.images.flatten(2).gather(2, chosen).view_as(digits.images)


def delete_shape(digits: ColoredDigits, seed: int = 0) -> Tensor:
    """The images with their strokes painted over by their own background, ``float32 [N, 3, H, W]``."""
    return torch.where(digits.masks[:, None], color_card(digits, seed), digits.images)


def delete_color(digits: ColoredDigits) -> Tensor:
    """The images with a mid-grey background of the same (grey) texture, ``float32 [N, 3, H, W]``."""
    background = (~digits.masks)[:, None].float()
    color = (digits.images * background).sum((2, 3), keepdim=True) / background.sum((2, 3), keepdim=True)
    texture = (digits.images - color).mean(dim=1, keepdim=True)
    return torch.where(digits.masks[:, None], digits.images, (GRAY + texture).clamp(0, 1))


def swap_shapes(digits: ColoredDigits, palette: str = "study", noise: float = 20.0, seed: int = 0) -> ColoredDigits:
    """Another digit's stroke on each image's colour: the counterpart of ``recolor``.

    Raises:
        ClearError: one digit makes up more than half of the images, so that no such exchange exists.
    """
    largest = int(digits.labels.bincount().max())
    if 2 * largest > len(digits):
        raise ClearError("one digit makes up more than half of the images: give a more balanced set")
    order = digits.labels.argsort(stable=True)
    partner = torch.empty_like(order)
    partner[order] = order.roll(-largest)
    return recolor(digits[partner], digits.colors, palette, noise, seed)


def next_colors(digits: ColoredDigits) -> Tensor:
    """A colour for each image that is neither its own nor its digit's, ``int64 [N]``."""
    following = (digits.colors + 1) % 10
    return torch.where(following == digits.labels, (digits.colors + 2) % 10, following)
