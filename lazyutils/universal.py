"""One perturbation for all images, by minibatch gradients."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lazyutils.attacks import check_pixels, finite_logits
from lazyutils.errors import ClearError
from lazyutils.goals import reached
from lazyutils.hooks import frozen
from lazyutils.training import predict


def universal_perturbation(
    model: nn.Module,
    images: Tensor,
    target: int,
    eps: float,
    *,
    epochs: int = 10,
    batch_size: int = 25,
    alpha: float = 0.1,
    confidence: float = 0.9,
    seed: int = 0,
) -> Tensor:
    """A targeted universal perturbation by minibatch sign-SGD (Shafahi et al. 2020, arXiv 1811.11304).

    ``delta <- clip(delta - alpha_k * eps * sign(mean grad of max(CE(f(x + delta), target), -log confidence)))``.
    The cross-entropy is clamped, so that images that are fooled already pull no more; the paper
    clamps the other end, as it drives images away from a class. ``alpha_k`` falls linearly to 0.

    Args:
        images: ``float32 [N, 3, H, W]`` in [0, 1], the images to learn from.
        target: the class to reach.
        eps: radius of the L-infinity ball, 0 to 1.
        alpha: first step size as a share of ``eps``.
        seed: of the order of images.

    Returns:
        ``float32 [3, H, W]``; add it and clamp to [0, 1].
    """
    check_universal(images, eps)
    generator = torch.Generator().manual_seed(seed)
    delta = torch.zeros_like(images[0])
    total = epochs * math.ceil(len(images) / batch_size)
    with frozen(model):
        batches = [
            part for _ in range(epochs) for part in torch.randperm(len(images), generator=generator).split(batch_size)
        ]
        for step, index in enumerate(batches):
            delta.requires_grad_()
            logits = finite_logits(model, (images[index] + delta).clamp(0, 1))
            wanted = torch.full((len(index),), target, device=images.device)
            loss = F.cross_entropy(logits, wanted, reduction="none").clamp(min=-math.log(confidence)).mean()
            (gradient,) = torch.autograd.grad(loss, delta)
            move = alpha * (1 - step / total) * eps * gradient.sign()
            delta = (delta.detach() - move).clamp(-eps, eps)
    return delta


def universal_success(model: nn.Module, images: Tensor, target: int, delta: Tensor, confidence: float = 0.9) -> Tensor:
    """``bool [N]``: images that ``delta [3, H, W]`` turns into the target with more than ``confidence``."""
    logits = predict(model, (images + delta).clamp(0, 1))
    return reached(logits, torch.full((len(images),), target, device=images.device), confidence)


def study_start(model: nn.Module, images: Tensor, labels: Tensor, source: int, target: int) -> Tensor:
    """The study's starting point: the surest image of ``target`` minus the least sure one of ``source``.

    Returns:
        ``float32 [3, H, W]``, scaled so that its largest entry is 1 in size.
    """
    probability = predict(model, images).softmax(1)
    surest = torch.where(labels == target, probability[:, target], -1.0).argmax()
    least = torch.where(labels == source, probability[:, source], 2.0).argmin()
    difference = images[surest] - images[least]
    return difference / difference.abs().max().clamp(min=1e-12)


def check_universal(images: Tensor, eps: float) -> None:
    """Refuse no images, pixels outside [0, 1] and an impossible radius."""
    if not len(images):
        raise ClearError("no image to learn a perturbation from: choose another source or data set")
    check_pixels(images)
    if not 0 < eps <= 1:
        raise ClearError(f"eps {eps} is out of range: choose above 0, up to 1, in units of the pixel range")
