"""Feature visualisation: images that a unit, a class or a set of activations asks for.

Every image of a batch has its own unit, and in evaluation mode no image influences another. So one optimisation of
all units at once takes the same steps as a loop over units, with one forward and one backward pass a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from lazyutils import fold, hooks
from lazyutils.errors import ClearError
from lazyutils.parametrization import PIXELS, Parametrization

Objective = Callable[[Tensor], Tensor]
"""Maps images ``[U, 3, H, W]`` to one value each, ``[U]``; image ``u`` alone decides value ``u``."""

REDUCTIONS = ("sum", "mean", "center")
"""How a channel's map becomes one value: its sum, its mean, or its central unit."""


def reduction_weights(reduction: str, height: int, width: int) -> Tensor:
    """``float32 [height, width]``: a reduction's value is the sum of the map times these.

    Raises:
        ClearError: unknown reduction.
    """
    if reduction not in REDUCTIONS:
        raise ClearError(f"unknown reduction {reduction!r}: choose one of {', '.join(REDUCTIONS)}")
    if reduction == "center":
        weights = torch.zeros(height, width)
        weights[height // 2, width // 2] = 1
        return weights
    return torch.ones(height, width) / (height * width if reduction == "mean" else 1)


def reduce_maps(activation: Tensor, reduction: str) -> Tensor:
    """Activations ``[N, C, H, W]`` or ``[N, C]`` to one value a channel, ``[N, C]``."""
    maps = hooks.as_maps(activation)
    return (maps * reduction_weights(reduction, *maps.shape[2:]).to(maps)).sum(dim=(2, 3))


# --- a ReLU that lets a dead unit wake up ----------------------------------------------------------------------------


class RedirectedReLU(torch.autograd.Function):
    """ReLU; where an image gets no gradient at all through it, gradients that would raise the input pass."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        """``max(x, 0)``."""
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        """The gradient of a loss that is minimised: negative entries raise the input."""
        (x,) = ctx.saved_tensors
        plain = grad * (x > 0)
        alive = plain.flatten(1).abs().amax(1).view(-1, *[1] * (x.dim() - 1)) > 0
        return torch.where(alive, plain, grad.clamp(max=0))


def redirected_relus(model: nn.Module) -> AbstractContextManager[None]:
    """All ``nn.ReLU`` layers use ``RedirectedReLU`` inside the block, and are as before afterwards."""
    return fold.replaced({m: RedirectedReLU.apply for m in model.modules() if isinstance(m, nn.ReLU)})


# --- activation maximisation -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unit:
    """One thing to please: channel ``channel`` of ``layer``, its map reduced as in ``REDUCTIONS``."""

    layer: str
    channel: int
    reduction: str = "mean"


@dataclass(frozen=True)
class Preferred:
    """Result of a maximisation.

    Attributes:
        images: ``float32 [U, 3, H, W]`` in [0, 1].
        achieved: ``float32 [U]``, the objective at ``images``.
        history: ``float32 [steps, U]``, the objective before each step, at the jittered image.
    """

    images: Tensor
    achieved: Tensor
    history: Tensor


def map_shape(model: nn.Module, layer: str, size: int = 28) -> tuple[int, int, int]:
    """Channels, height and width of a layer's output for images of ``size`` pixels; a vector's maps are 1 x 1."""
    blank = torch.zeros(1, 3, size, size, device=next(model.parameters()).device)
    channels, height, width = hooks.as_maps(hooks.collect(model, blank, [layer])[layer]).shape[1:]
    return channels, height, width


def layer_units(model: nn.Module, layer: str, reduction: str = "mean", size: int = 28) -> list[Unit]:
    """All units of a layer."""
    return [Unit(layer, channel, reduction) for channel in range(map_shape(model, layer, size)[0])]


def central_view(model: nn.Module, layer: str, size: int = 28) -> tuple[slice, Tensor]:
    """What the central unit of a layer's maps sees: rows (and columns alike) of the image, and that unit in their map.

    On the part that it sees a unit has the same value as on the whole image. Which part is asked of the network
    itself: a row of NaN makes NaN of all that depends on it. The crop is then confirmed on noise; where none gives
    the same values (a network that resizes its input, say) it is the whole image.

    Returns:
        The crop, and ``float32 [h, w]``, 1 at the unit and 0 elsewhere.
    """
    device = next(model.parameters()).device
    noise = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    blinded = noise.repeat(size, 1, 1, 1)
    blinded[range(size), :, range(size)] = torch.nan
    with torch.no_grad(), hooks.frozen(model), hooks.stopping_at(model, layer) as activation:
        whole = hooks.as_maps(activation(noise))[0]
        unit = reduction_weights("center", *whole.shape[1:])
        values = whole.flatten(1)[:, unit.argmax(), None]  # one a channel
        answers = hooks.as_maps(activation(blinded)).flatten(2)[:, :, unit.argmax()]
        seen = answers.isnan().any(1).nonzero().flatten().tolist()
        for start in range(seen[0], 0, -1) if 0 < len(seen) < size else ():
            crop = slice(start, seen[-1] + 1)
            part = hooks.as_maps(activation(noise[:, :, crop, crop]))[0]
            same = torch.isclose(part.flatten(1), values, atol=1e-6).all(0)
            if same.any():
                place = same.nonzero()[0]
                return crop, torch.zeros(same.shape).index_fill_(0, place.cpu(), 1).view(part.shape[1:])
    return slice(0, size), unit


AFFINE = (nn.Conv2d, nn.Linear)
"""Layers whose units are affine functions of the layer's input: their gradient is the same at every input."""


@dataclass(frozen=True)
class UnitGroup:
    """Neighbouring units of one layer that need the same part of the image, as affine functions of a state.

    The value of unit ``g`` is the sum of state times ``slopes[g]``, plus ``offsets[g]``.

    Attributes:
        layer: the units' own.
        before: the state is the layer's input, so that the layer need not run at each step; else its output.
        crop: the rows and columns of the image that are needed.
        slopes: ``float32 [G, ...]``, each of one state's shape.
        offsets: ``float32 [G]``.
    """

    layer: str
    before: bool
    crop: slice
    slopes: Tensor
    offsets: Tensor

    def values(self, model: nn.Module, images: Tensor) -> Tensor:
        """The value ``[G]`` of unit ``g`` on image ``g``."""
        with hooks.stopping_at(model, self.layer, self.before) as state:
            return (state(images[:, :, self.crop, self.crop]) * self.slopes).flatten(1).sum(1) + self.offsets


def unit_group(model: nn.Module, layer: str, units: Sequence[Unit], size: int) -> UnitGroup:
    """Units of one layer that are all central or all not, checked."""
    count, (channels, height, width) = len(units), map_shape(model, layer, size)
    wanted = [unit.channel for unit in units]
    if not 0 <= min(wanted) <= max(wanted) < channels:
        raise ClearError(f"{layer} has channels 0 to {channels - 1}, asked for {wanted}")
    if units[0].reduction == "center":
        crop, place = central_view(model, layer, size)
        weights = place.expand(count, -1, -1)
    else:
        crop, weights = slice(0, size), torch.stack([reduction_weights(u.reduction, height, width) for u in units])
    module, blank = hooks.find_layer(model, layer), next(model.parameters()).new_zeros(1, 3, size, size)
    before = type(module) in AFFINE  # no subclass: it may compute something else
    with torch.no_grad(), hooks.stopping_at(model, layer, before) as state:
        shape = state(blank[:, :, crop, crop]).shape[1:]
    origin = blank.new_zeros(count, *shape).requires_grad_()
    maps = hooks.as_maps(module(origin) if before else origin)
    values = (maps[range(count), wanted] * weights.to(maps)).sum(dim=(1, 2))
    return UnitGroup(layer, before, crop, torch.autograd.grad(values.sum(), origin)[0], values.detach())


def unit_objective(model: nn.Module, units: Sequence[Unit], size: int = 28) -> Objective:
    """The objective of ``units``, image ``u`` for unit ``u``, with the weights that the model has now.

    Neighbours in ``units`` of the same layer share a pass. It runs no deeper than needed, and for central units over
    no more of the images than they see.

    Raises:
        ClearError: unknown layer, channel or reduction.
    """
    runs = groupby(units, lambda unit: (unit.layer, unit.reduction == "center"))
    with hooks.frozen(model), torch.enable_grad():
        groups = [unit_group(model, layer, list(run), size) for (layer, _), run in runs]

    def objective(images: Tensor) -> Tensor:
        parts = images.split([len(group.offsets) for group in groups])
        return torch.cat([group.values(model, part) for group, part in zip(groups, parts, strict=True)])

    return objective


def ascend(
    objective: Objective,
    count: int,
    *,
    steps: int = 128,
    lr: float = 0.05,
    seed: int = 0,
    size: int = 28,
    jitter: int = 0,
    parametrization: Parametrization = PIXELS,
    device: torch.device | str = "cpu",
) -> Preferred:
    """Adam ascent of ``objective`` from one shared noise image for all ``count`` images.

    Args:
        lr: Adam's step in the free numbers.
        seed: of the noise and of the jitter.
        size: side of the images, in pixels.
        jitter: each step shifts all images by the same -jitter to jitter pixels both ways, round the edges.

    Raises:
        ClearError: no step or no image asked for.
    """
    if steps < 1 or count < 1 or jitter < 0:
        raise ClearError(f"steps ({steps}) and images ({count}) must be at least 1, jitter ({jitter}) at least 0")
    start = parametrization.start(size, seed).to(device)
    free = start.expand(count, *start.shape).clone().requires_grad_()
    shifts = torch.randint(-jitter, jitter + 1, (steps, 2), generator=torch.Generator().manual_seed(seed)).tolist()
    optimizer = torch.optim.Adam([free], lr=lr, fused=True)
    history = []
    for shift in shifts:
        images = parametrization.render(free, size)
        values = objective(images.roll(shift, dims=(2, 3)) if jitter else images)
        free.grad = torch.autograd.grad(-values.sum(), free)[0].contiguous()  # fused Adam wants the layout of ``free``
        optimizer.step()
        history.append(values.detach())
    with torch.no_grad():
        images = parametrization.render(free, size)
        return Preferred(images, objective(images), torch.stack(history))


def maximize(
    model: nn.Module, units: Sequence[Unit], *, steps: int = 128, redirect_steps: int = 0, **options
) -> Preferred:
    """The preferred image of each unit, all in one optimisation (activation maximisation, Erhan et al. 2009).

    Args:
        units: of any layers and reductions, mixed.
        redirect_steps: the first steps use ``RedirectedReLU``: needed where a unit starts dead behind its own ReLU.
        options: of ``ascend``: lr, seed, size, jitter, parametrization.

    Raises:
        ClearError: unknown layer, channel or reduction.
    """
    plain, done = unit_objective(model, units, options.get("size", 28)), 0

    def objective(images: Tensor) -> Tensor:
        nonlocal done
        done += 1
        if done > redirect_steps:
            return plain(images)
        with redirected_relus(model):
            return plain(images)

    device = next(model.parameters()).device
    with hooks.frozen(model), fold.folded(model):
        return ascend(objective, len(units), steps=steps, device=device, **options)


# --- deep dream ------------------------------------------------------------------------------------------------------


def dream(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    steps: int = 40,
    lr: float = 0.02,
    jitter: int = 0,
    seed: int = 0,
) -> Tensor:
    """Gradient ascent from real images towards target classes (Mordvintsev, Olah and Tyka 2015).

    Each step adds ``lr`` times the gradient of the target's logit, divided by its own mean absolute value.

    Args:
        images: ``float32 [N, 3, H, W]`` in [0, 1].
        targets: ``int64 [N]``.
        lr: mean change of a pixel in a step, before clipping to [0, 1].
        jitter: as in ``ascend``.

    Returns:
        Frames ``float32 [steps + 1, N, 3, H, W]``; the first is ``images``.

    Raises:
        ClearError: unfit images or targets.
    """
    hooks.check_images(model, images)
    hooks.check_targets(targets, len(images))
    shifts = torch.randint(-jitter, jitter + 1, (steps, 2), generator=torch.Generator().manual_seed(seed)).tolist()
    frames = [images.detach().clone()]
    with hooks.frozen(model), fold.folded(model):
        for shift in shifts:
            current = frames[-1].clone().requires_grad_()
            logits = model(current.roll(shift, dims=(2, 3)))
            (gradient,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), current)
            scale = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
            frames.append((current.detach() + lr * gradient / scale).clamp(0, 1))
    return torch.stack(frames)


# --- reading preferred images ----------------------------------------------------------------------------------------


def gray_out(images: Tensor) -> Tensor:
    """The images without colour: each pixel's mean over R, G, B in all three channels."""
    return images.mean(1, keepdim=True).expand_as(images)


def palette_readout(images: Tensor, palette: Tensor) -> Tensor:
    """Index ``int64 [N]`` of the palette colour (``uint8 [K, 3]``) nearest to each image's mean colour, in RGB."""
    return torch.cdist(images.mean(dim=(2, 3)), palette.to(images) / 255).argmin(1)


def survival(after: Tensor, before: Tensor, baseline: Tensor) -> Tensor:
    """Share ``[U]`` of a response that is kept: (after - baseline) / (before - baseline), limited to 0 to 1."""
    return ((after - baseline) / (before - baseline).clamp(min=1e-12)).clamp(0, 1)
