"""The same layers, faster: fold neighbouring rows of pixels into channels, and pool rows before columns.

A convolution with 3 input channels leaves most of a processor's vector lanes empty, above all in the backward
pass to the image. Over blocks of b rows it is a convolution with b times the channels and a kernel b times lower
(space-to-depth, Shi et al. 2016, arXiv 1609.05158, of rows alone: short rows would slow it), which fills them.
Results agree to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FULL = 12
"""Input channels that fill the lanes: rows are folded until there are as many."""
FEW_CHANNELS = 6
LARGE_KERNEL = 5
FEW_IMAGES = 16
"""From so many images on, folding a kernel for one pass pays."""


def fold_rows(x: Tensor, block: int) -> Tensor:
    """``[N, C, H, W]`` to ``[N, block * C, H / block, W]``, with one copy, in the memory layout of ``x``."""
    if in_channels_last(x):
        rows = x.permute(0, 2, 3, 1).unflatten(1, (-1, block))  # [N, H / block, block, W, C]
        return rows.transpose(2, 3).flatten(3).permute(0, 3, 1, 2)
    return x.unflatten(2, (-1, block)).permute(0, 3, 1, 2, 4).flatten(1, 2)


def unfold_rows(x: Tensor, block: int, channels_last: bool) -> Tensor:
    """The inverse of ``fold_rows``, in channels-last memory or plainly contiguous."""
    if channels_last:
        rows = x.permute(0, 2, 3, 1).unflatten(3, (block, -1))  # [N, H / block, W, block, C]
        return rows.transpose(2, 3).flatten(1, 2).permute(0, 3, 1, 2)
    return x.unflatten(1, (block, -1)).permute(0, 2, 3, 1, 4).flatten(2, 3)


def in_channels_last(x: Tensor) -> bool:
    """Whether that is the memory layout of ``x``."""
    return x.is_contiguous(memory_format=torch.channels_last)


def fold_weight(weight: Tensor, stride: int, block: int) -> Tensor:
    """The kernel over folded rows.

    Args:
        weight: ``[O, C, k, k]``.
        stride: 1 or 2, a divisor of ``block``.

    Returns:
        ``[block / stride * O, block * C, k', k]``.
    """
    kernel, shifts = weight.shape[-1], range(0, block, stride)
    room = -(kernel + shifts[-1]) % block + shifts[-1]  # zeros that make the kernel whole blocks
    return fold_rows(torch.cat([F.pad(weight, (0, 0, p, room - p)) for p in shifts]), block)


def folded_conv2d(conv: nn.Conv2d) -> Callable[[Tensor], Tensor]:
    """A function equal to ``conv`` (square kernel, stride 1 or 2, equal padding) that works on folded rows."""
    kernel, stride, padding = conv.kernel_size[0], conv.stride[0], conv.padding[0]
    block = FULL // conv.in_channels // stride * stride
    spread = block // stride
    weight = fold_weight(conv.weight, stride, block)
    bias = None if conv.bias is None else conv.bias.repeat(spread)

    def forward(x: Tensor) -> Tensor:
        height = (x.shape[2] + 2 * padding - kernel) // stride + 1
        needed = block * (-(-height // spread) + weight.shape[2] - 1)
        edges = (padding, padding, padding, needed - x.shape[2] - padding)
        padded = F.pad(x, edges) if any(edges) else x  # padding by nothing would copy
        last = in_channels_last(x)
        layout = torch.channels_last if last else torch.contiguous_format
        out = F.conv2d(fold_rows(padded, block), weight.contiguous(memory_format=layout), bias, stride=(1, stride))
        return unfold_rows(out, spread, last)[:, :, :height]

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


def separable_max_pool(pool: nn.MaxPool2d, x: Tensor) -> Tensor:
    """``pool`` to the last bit: the maximum over rows, then over columns. Ten times as fast, without a gradient.

    Args:
        pool: without dilation and ceiling, see ``separable``.
        x: ``[N, C, H, W]``.
    """
    pooled = F.pad(x, (pool.padding,) * 4, value=-torch.inf) if pool.padding else x
    for dim in (2, 3):
        count = (pooled.shape[dim] - pool.kernel_size) // pool.stride + 1
        every = pooled.unfold(dim, pool.kernel_size, pool.stride).narrow(dim, 0, count).unbind(-1)  # views
        pooled = reduce(torch.maximum, every)
    return pooled


def separable(module: nn.Module) -> bool:
    """Whether a layer is a square max pooling that ``separable_max_pool`` can do."""
    return (
        isinstance(module, nn.MaxPool2d)
        and all(isinstance(number, int) for number in (module.kernel_size, module.stride, module.padding))
        and module.dilation == 1
        and not module.ceil_mode
        and not module.return_indices
    )


@contextmanager
def replaced(forwards: dict[nn.Module, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """These modules compute by these functions inside the block."""
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in forwards:
            del module.forward


@contextmanager
def folded(model: nn.Module) -> Iterator[nn.Module]:
    """The same model with faster convolutions inside the block, for passes that leave the weights alone."""
    with replaced({module: folded_conv2d(module) for module in model.modules() if worth_folding(module)}):
        yield model


@contextmanager
def quick_around_a_cut(model: nn.Module) -> Iterator[nn.Module]:
    """The same model, faster inside the block if only its rear part takes gradients (``hooks.captured`` with a cut).

    Before the cut nothing changes by a bit: only max pooling is replaced. Behind it convolutions of batches are folded.
    """

    def around(module: nn.Module) -> Callable[[Tensor], Tensor]:
        plain = module.forward
        if separable(module):
            return lambda x: plain(x) if x.requires_grad else separable_max_pool(module, x)
        return lambda x: folded_conv2d(module)(x) if x.requires_grad and len(x) >= FEW_IMAGES else plain(x)

    with replaced({m: around(m) for m in model.modules() if separable(m) or worth_folding(m)}):
        yield model
