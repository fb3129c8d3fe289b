"""The same convolutions, faster where channels are few: fold blocks of pixels into channels first.

A convolution with 3 input channels leaves most of a processor's vector lanes empty, above all in the backward
pass to the image. Over blocks of b x b pixels it is a convolution with b^2 times the channels and a kernel b times
smaller (space-to-depth, Shi et al. 2016, arXiv 1609.05158), which fills them. Results agree to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK = 2
FEW_CHANNELS = 3
LARGE_KERNEL = 5


def fold_weight(weight: Tensor, stride: int) -> Tensor:
    """The kernel over folded pixels.

    Args:
        weight: ``[O, C, k, k]``.
        stride: 1 or 2 (``BLOCK``).

    Returns:
        ``[O * (BLOCK / stride)^2, C * BLOCK^2, k', k']``.
    """
    kernel, shifts = weight.shape[-1], range(0, BLOCK, stride)
    room = -(kernel + shifts[-1]) % BLOCK + shifts[-1]  # zeros that make the kernel whole blocks
    shifted = [F.pad(weight, (q, room - q, p, room - p)) for p in shifts for q in shifts]
    return F.pixel_unshuffle(torch.stack(shifted, 1).flatten(0, 1), BLOCK)


def folded_conv2d(conv: nn.Conv2d) -> Callable[[Tensor], Tensor]:
    """A function equal to ``conv`` (square kernel, stride 1 or 2, any padding) that works on folded pixels."""
    kernel, stride, padding = conv.kernel_size[0], conv.stride[0], conv.padding[0]
    spread = BLOCK // stride
    weight = fold_weight(conv.weight, stride)
    bias = None if conv.bias is None else conv.bias.repeat_interleave(spread**2)

    def forward(x: Tensor) -> Tensor:
        sizes = [(side + 2 * padding - kernel) // stride + 1 for side in x.shape[2:]]
        needed = [BLOCK * (-(-size // spread) + weight.shape[-1] - 1) for size in sizes]
        bottom, right = (need - side - padding for need, side in zip(needed, x.shape[2:], strict=True))
        blocks = F.pixel_unshuffle(F.pad(x, (padding, right, padding, bottom)), BLOCK)
        out = F.pixel_shuffle(F.conv2d(blocks, weight, bias), spread)
        return out[:, :, : sizes[0], : sizes[1]]

    return forward


def worth_folding(module: nn.Module) -> bool:
    """Whether a layer is a plain convolution with few input channels and a large square kernel."""
    return (
        isinstance(module, nn.Conv2d)
        and module.in_channels <= FEW_CHANNELS
        and module.kernel_size[0] == module.kernel_size[1] >= LARGE_KERNEL
        and module.stride in ((1, 1), (2, 2))
        and module.dilation == (1, 1)
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


@contextmanager
def folded(model: nn.Module) -> Iterator[nn.Module]:
    """The same model with faster convolutions inside the block, for passes that leave the weights alone."""
    convolutions = [module for module in model.modules() if worth_folding(module)]
    for module in convolutions:
        module.forward = folded_conv2d(module)
    try:
        yield model
    finally:
        for module in convolutions:
            del module.forward
