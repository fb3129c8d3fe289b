"""A library's attack as the yardstick for this book's (foolbox must be installed)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lazyutils.errors import ClearError
from lazyutils.hooks import frozen

try:
    import foolbox
except ModuleNotFoundError:
    raise ClearError("foolbox is not installed: run `pip install foolbox`, then try again") from None


def fmn_minimal_eps(model: nn.Module, images: Tensor, target: int, *, steps: int = 100) -> Tensor:
    """Smallest L-infinity radius that foolbox's targeted FMN finds (Pintor et al. 2021, arXiv 2102.12827).

    Its goal is the answer alone, whatever the confidence.

    Args:
        images: ``float32 [N, 3, H, W]`` in [0, 1].
        target: the class to reach.

    Returns:
        ``float32 [N]``; infinite where it found nothing.
    """
    wanted = torch.full((len(images),), target, device=images.device)
    with frozen(model):
        victim = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
        goal = foolbox.criteria.TargetedMisclassification(wanted)
        found = foolbox.attacks.LInfFMNAttack(steps=steps).run(victim, images, goal)
        fooled = model(found).argmax(1) == wanted
    size = (found - images).abs().flatten(1).amax(1)
    return torch.where(fooled, size, torch.inf).detach()
