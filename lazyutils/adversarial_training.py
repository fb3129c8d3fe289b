"""Adversarial training as a loss for ``training.fit``."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from lazyutils.errors import ClearError
from lazyutils.hooks import frozen
from lazyutils.training import Batch, Loss, cross_entropy


def adversarial_loss(
    eps: float, *, alpha: float = 0.25, steps: int = 5, loss: Loss = cross_entropy, seed: int = 0
) -> Loss:
    """Adversarial training: ``loss`` on the worst images of the ball (Madry et al. 2018, equation 2.1).

    The inner maximum is untargeted PGD on the same ``loss`` from a random start, the network in
    evaluation mode; the outer step then sees the perturbed images in training mode.

    Args:
        eps: radius of the L-infinity ball, 0 to 1.
        alpha: step size as a share of ``eps``.
        steps: gradient steps an image.
        loss: maps (model, batch) to a scalar, as for ``training.fit``.
        seed: of the random starts.

    Returns:
        A loss for ``training.fit``.
    """
    if not 0 <= eps <= 1 or steps < 1 or not alpha > 0:
        raise ClearError(f"eps ({eps}) must be 0 to 1, steps ({steps}) at least 1, alpha ({alpha}) above 0")
    generator = torch.Generator().manual_seed(seed)

    def robust(model: nn.Module, batch: Batch) -> Tensor:
        clean = batch.images
        draws = torch.rand(clean.shape, generator=generator, dtype=clean.dtype).to(clean.device)
        worst = (clean + (2 * draws - 1) * eps).clamp(0, 1)
        with frozen(model):
            for _ in range(steps):
                worst.requires_grad_()
                (gradient,) = torch.autograd.grad(loss(model, replace(batch, images=worst)), worst)
                worst = worst.detach() + alpha * eps * gradient.sign()
                worst = (clean + (worst - clean).clamp(-eps, eps)).clamp(0, 1)
        return loss(model, replace(batch, images=worst.contiguous(memory_format=torch.channels_last)))

    return robust
