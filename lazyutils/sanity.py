"""Does a map depend on what the network has learned? (Adebayo et al. 2018, arXiv 1810.03292)."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn


def cascading_randomization(model: nn.Module, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Forget what was learned, layer by layer, from the logits down to the image.

    Args:
        model: left as it was.
        seed: of the new initial weights; the global random state is left as it was.

    Yields:
        The name of the layer that was initialised anew last, and a copy of the model in which it and all
        layers above it are untrained. The copy is the same object every time: use it before the next step.
    """
    forgetting = copy.deepcopy(model)
    layers = [(name, module) for name, module in forgetting.named_modules() if hasattr(module, "reset_parameters")]
    for depth, (name, module) in enumerate(reversed(layers)):
        with torch.random.fork_rng(devices=cuda_devices(module)):
            torch.manual_seed(seed + depth)
            module.reset_parameters()
        yield name, forgetting


def cuda_devices(module: nn.Module) -> list[torch.device]:
    """The GPUs that hold a module's parameters."""
    return list({parameter.device for parameter in module.parameters() if parameter.is_cuda})
