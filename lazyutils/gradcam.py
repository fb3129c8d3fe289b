"""Grad-CAM from scratch (Selvaraju et al. 2017, arXiv 1610.02391).

The network is cut at one layer: what lies before it runs without autograd, only what lies behind it
is back-propagated. Nothing of the network changes: mode, ``requires_grad``, ``.grad`` and hooks are
afterwards as they were, also when something fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lazyutils.errors import ClearError
from lazyutils.fold import quick_around_a_cut
from lazyutils.hooks import captured, check_images, find_layer, frozen

Targets = Tensor | int | None
"""One class an image (``int64 [N]``), one class for all, or None for the predicted class of each."""
EPSILON = 1e-7


@dataclass(frozen=True)
class LayerGradients:
    """One layer seen from a class's logit.

    Attributes:
        activations: ``A``, the layer's output, ``float32 [N, K, h, w]``.
        gradients: ``dy/dA`` of each image's own target logit ``y``, same shape.
        logits: ``float32 [N, classes]``.
        targets: ``int64 [N]``, the classes explained.
    """

    activations: Tensor
    gradients: Tensor
    logits: Tensor
    targets: Tensor


@dataclass(frozen=True)
class ClassActivationMaps:
    """What ``GradCAM`` returns.

    Attributes:
        raw: the weighted sum of equation 2 before its ReLU, ``float32 [N, h, w]``, in units of the logit.
        displayed: at the images' size, each scaled to 0-1, ``float32 [N, H, W]``.
        targets: ``int64 [N]``, the classes explained.
        logits: ``float32 [N, classes]``.
    """

    raw: Tensor
    displayed: Tensor
    targets: Tensor
    logits: Tensor

    @property
    def empty(self) -> Tensor:
        """``bool [N]``: maps without any heat, because ReLU removed all or the layer's map is constant."""
        return self.displayed.amax((1, 2)) == 0


def spatial_mean(maps: Tensor) -> Tensor:
    """``[N, K, h, w]`` to ``[N, K]``."""
    return maps.mean(dim=(2, 3))


def numpy_mean(maps: Tensor) -> Tensor:
    """``spatial_mean``, added up in numpy's order.

    Where the evidence for a class nearly cancels, scaling a map to 0-1 blows up the rounding of this mean. captum
    takes torch's and the ``grad-cam`` package numpy's; each is met in its own order.
    """
    return torch.from_numpy(maps.cpu().numpy().mean((2, 3))).to(maps)


class GradCAM:
    """Where a convolutional layer finds evidence for a class.

    Args:
        model: maps images ``float32 [N, C, H, W]`` to logits ``[N, classes]``.
        layer: dotted name of a layer with spatial output, such as ``"conv3"`` or ``"net.layer4.1.conv2"``.
        batch_size: images a pass; much larger ones overflow the processor's cache.

    Raises:
        ClearError: the model has no such layer (the message lists those there are).
    """

    def __init__(self, model: nn.Module, layer: str, batch_size: int = 250) -> None:
        find_layer(model, layer)
        self.model, self.layer, self.batch_size = model, layer, batch_size

    def __call__(self, images: Tensor, targets: Targets = None) -> ClassActivationMaps:
        """Maps of the target classes.

        Args:
            images: ``float32 [N, C, H, W]`` on the model's device.
            targets: one class an image, one class for all, or None for the predicted classes.

        Raises:
            ClearError: NaN in the images, another device, a class out of range, a layer without maps.
        """
        parts = []
        for part, classes in batches(self.model, images, targets, self.batch_size):
            seen = layer_gradients(self.model, self.layer, part, classes)
            raw = weighted_sum(seen.activations, seen.gradients)
            shown = to_display(weighted_sum(seen.activations, seen.gradients, numpy_mean), images.shape[2:])
            parts.append((raw, shown, seen.targets, seen.logits))
        return ClassActivationMaps(*(torch.cat(column) for column in zip(*parts, strict=True)))


def weighted_sum(activations: Tensor, gradients: Tensor, mean: Callable[[Tensor], Tensor] = spatial_mean) -> Tensor:
    """Equations 1 and 2 without the ReLU: ``sum_k alpha_k A_k`` with ``alpha_k`` the mean gradient, ``[N, h, w]``."""
    alpha = mean(gradients)  # [N, K]
    return (alpha[:, :, None, None] * activations).sum(dim=1)


def to_display(raw: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """A raw map as it is shown: ReLU, scaled to 0-1, bilinearly resized, scaled again.

    The order is that of the ``grad-cam`` package, to which the result is equal.

    Args:
        raw: ``float32 [N, h, w]``.
        size: height and width of the result.
    """
    small = scale(raw.relu())
    large = F.interpolate(small[None], size=tuple(size), mode="bilinear", align_corners=False)[0]
    return scale(large)


def scale(maps: Tensor) -> Tensor:
    """Each of ``maps [N, h, w]`` shifted to a minimum of 0 and divided by its maximum; constants become 0."""
    low, high = (bound(dim=(1, 2), keepdim=True) for bound in (maps.amin, maps.amax))
    return (maps - low).div_(EPSILON + (high - low))


def layer_gradients(model: nn.Module, layer: str, images: Tensor, targets: Targets = None) -> LayerGradients:
    """Activations of a layer and the gradient of each image's target logit with respect to them.

    Args:
        model: run in evaluation mode, restored afterwards.
        layer: dotted name.
        images: ``float32 [N, C, H, W]``.
        targets: see ``Targets``.

    Raises:
        ClearError: the layer gives no spatial maps, runs not exactly once, or does not reach the logits.
    """
    with frozen(model), quick_around_a_cut(model), captured(model, [layer], cut=True) as record:
        logits = model(images)
        if layer not in record:
            raise ClearError(f"layer {layer!r} does not run in a forward pass: choose one that does")
        activations = record[layer]
        if activations.dim() != 4:
            raise ClearError(f"layer {layer!r} has no spatial maps [N, K, h, w]: choose a convolutional layer")
        classes = as_classes(targets, logits)
        scores = logits.gather(1, classes[:, None]).sum()  # images are independent: one backward serves all
        gradients = torch.autograd.grad(scores, activations, allow_unused=True)[0] if scores.requires_grad else None
    if gradients is None:
        raise ClearError(f"layer {layer!r} does not reach the logits: choose one that does")
    return LayerGradients(activations.detach(), gradients, logits.detach(), classes)


def batches(model: nn.Module, images: Tensor, targets: Targets, batch_size: int) -> Iterator[tuple[Tensor, Targets]]:
    """Checked images in parts of ``batch_size``, each with its targets."""
    check_images(model, images)
    if not isinstance(targets, Tensor):
        yield from ((part, targets) for part in images.split(batch_size))
    elif targets.shape != (len(images),):
        raise ClearError(f"{len(images)} images need as many targets, not {list(targets.shape)}")
    else:
        yield from zip(images.split(batch_size), targets.split(batch_size), strict=True)


def as_classes(targets: Targets, logits: Tensor) -> Tensor:
    """Targets as ``int64 [N]`` on the logits' device, each a class that the model has."""
    if targets is None:
        return logits.detach().argmax(dim=1)
    classes = torch.as_tensor(targets, device=logits.device).expand(len(logits))
    n_classes = logits.shape[1]
    if classes.is_floating_point() or classes.min() < 0 or classes.max() >= n_classes:
        raise ClearError(f"targets must be whole numbers from 0 to {n_classes - 1}")
    return classes.long()
