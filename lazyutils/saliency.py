"""What else a reader would use to ask where a network looks: six methods and two controls, one signature.

Every method maps ``(model, images, targets, layer)`` to heat ``float32 [N, H, W]``, each map scaled to 0-1.
Like Grad-CAM's ReLU, all keep evidence *for* the target and drop evidence against it, except input
gradients, which have no such sign. Pixel methods ignore the layer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lazyutils.errors import ClearError
from lazyutils.gradcam import (
    LayerGradients,
    Targets,
    as_classes,
    batches,
    layer_gradients,
    scale,
    to_display,
    weighted_sum,
)
from lazyutils.hooks import frozen

GRAY = 0.5
"""Baseline where evidence is absent: mid-grey, the middle of the pixels' range."""


def explain(
    method: str, model: nn.Module, images: Tensor, targets: Targets, layer: str, *, batch_size: int = 500
) -> Tensor:
    """Heat of a method by name.

    Args:
        method: a key of ``METHODS``.
        model: maps images to logits; left as it was.
        images: ``float32 [N, 3, H, W]`` in [0, 1].
        targets: one class an image, one class for all, or None for the predicted classes.
        layer: dotted name of the layer that layer methods look at.
        batch_size: images a pass.

    Returns:
        ``float32 [N, H, W]`` in [0, 1].

    Raises:
        ClearError: unknown method, or bad images, targets or layer (see ``gradcam.GradCAM``).
    """
    if method not in METHODS:
        raise ClearError(f"unknown method {method!r}: choose one of {', '.join(METHODS)}")
    parts = batches(model, images, targets, batch_size)
    return torch.cat([METHODS[method](model, part, classes, layer) for part, classes in parts])


def layer_method(
    combine: Callable[[Tensor, Tensor], Tensor], model: nn.Module, images: Tensor, targets: Targets, layer: str
) -> Tensor:
    """Heat from a layer's activations and gradients, ``combine(A, dy/dA)`` giving ``[N, h, w]``."""
    seen: LayerGradients = layer_gradients(model, layer, images, targets)
    return to_display(combine(seen.activations, seen.gradients), images.shape[2:])


def grad_cam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Chattopadhay et al. 2018 (arXiv 1710.11063), equation 19, with ``exp`` of the logit as the score."""
    squared, cubed = gradients**2, gradients**3
    total = activations.sum(dim=(2, 3), keepdim=True)
    alpha = squared / (2 * squared + total * cubed + 1e-6)  # 1e-6 as in the grad-cam package
    alpha = torch.where(gradients == 0, 0, alpha)
    weights = (alpha * gradients.relu()).sum(dim=(2, 3), keepdim=True)
    return (weights * activations).sum(dim=1)


def hires_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Draelos and Carin 2020 (arXiv 2011.08891): every place weighted by its own gradient, nothing averaged."""
    return (gradients * activations).sum(dim=1)


def layer_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Jiang et al. 2021 (IEEE Transactions on Image Processing 30): as HiResCAM, with positive gradients only."""
    return (gradients.relu() * activations).sum(dim=1)


def pixel_gradients(model: nn.Module, images: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """``dy/dx`` of each image's target logit, ``[N, 3, H, W]``, and the classes ``int64 [N]``."""
    with frozen(model), torch.enable_grad():
        pixels = images.detach().clone().requires_grad_()
        logits = model(pixels)
        classes = as_classes(targets, logits)
        (gradients,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), pixels)
    return gradients, classes


def input_gradients(model: nn.Module, images: Tensor, targets: Targets, layer: str = "") -> Tensor:
    """Simonyan et al. 2013 (arXiv 1312.6034): the largest absolute gradient over the colour channels."""
    gradients, _ = pixel_gradients(model, images, targets)
    return scale(gradients.abs().amax(dim=1))


def attribute_path(
    model: nn.Module, images: Tensor, targets: Targets, steps: int = 16, baseline: float = GRAY
) -> Tensor:
    """Integrated Gradients (Sundararajan et al. 2017, arXiv 1703.01365) by the midpoint rule.

    Returns:
        ``[N, 3, H, W]``; each image's sum is close to its logit minus the baseline's logit.
    """
    total = torch.zeros_like(images)
    if targets is None:
        _, targets = pixel_gradients(model, images, None)
    for step in range(steps):
        point = baseline + (images - baseline) * (step + 0.5) / steps
        total += pixel_gradients(model, point, targets)[0]
    return (images - baseline) * total / steps


def integrated_gradients(model: nn.Module, images: Tensor, targets: Targets, layer: str = "") -> Tensor:
    """Positive part of the attributions from mid-grey, summed over the colour channels."""
    return scale(attribute_path(model, images, targets).sum(dim=1).relu())


def occlusion(
    model: nn.Module, images: Tensor, targets: Targets, layer: str = "", *, patch: int = 7, stride: int = 3
) -> Tensor:
    """Zeiler and Fergus 2014 (arXiv 1311.2901): how far the logit falls when a grey patch covers a place.

    A pixel's heat is the mean fall over the patches that cover it, positive part. ``patch`` and
    ``stride`` in pixels; the last row and column of patches end at the border.
    """
    height, width = images.shape[2:]
    with frozen(model), torch.no_grad():
        logits = model(images)
        classes = as_classes(targets, logits)[:, None]
        before = logits.gather(1, classes)
        fall = torch.zeros_like(images[:, 0])
        covered = torch.zeros_like(fall[0])
        for top in starts(height, patch, stride):
            for left in starts(width, patch, stride):
                window = (..., slice(top, top + patch), slice(left, left + patch))
                hidden = images.clone()
                hidden[window] = GRAY
                fall[window] += (before - model(hidden).gather(1, classes))[..., None]
                covered[window] += 1
    return scale((fall / covered).relu())


def starts(length: int, patch: int, stride: int) -> list[int]:
    """First pixels of patches that together cover ``length`` pixels."""
    if not 1 <= patch <= length or not 1 <= stride <= patch:
        raise ClearError(f"patch {patch} and stride {stride}: 1 <= stride <= patch <= {length} pixels")
    return [*range(0, length - patch, stride), length - patch]


def random_heat(model: nn.Module, images: Tensor, targets: Targets, layer: str = "") -> Tensor:
    """Control: smooth noise on a 7 x 7 grid, blind to everything; it depends on the place in the batch alone."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(len(images), 7, 7, generator=generator).to(images)
    return to_display(noise, images.shape[2:])


def edges(model: nn.Module, images: Tensor, targets: Targets, layer: str = "") -> Tensor:
    """Control: an edge detector (Sobel magnitude of the brightness), which sees shape and no network."""
    sobel = images.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    kernels = torch.stack([sobel, sobel.T])[:, None]
    gray = F.pad(images.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    return scale(F.conv2d(gray, kernels).square().sum(dim=1).sqrt())


METHODS: dict[str, Callable[[nn.Module, Tensor, Targets, str], Tensor]] = {
    "Grad-CAM": partial(layer_method, weighted_sum),
    "Grad-CAM++": partial(layer_method, grad_cam_plus_plus),
    "HiResCAM": partial(layer_method, hires_cam),
    "LayerCAM": partial(layer_method, layer_cam),
    "Input gradients": input_gradients,
    "Integrated Gradients": integrated_gradients,
    "Occlusion": occlusion,
    "Edges (no network)": edges,
    "Random (no network)": random_heat,
}
"""Every method by the name that tables and figures show; the last two are controls."""
