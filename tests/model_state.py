"""What a look into a network must leave as it was."""

from __future__ import annotations

import torch
from torch import nn

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def hooks_of(model: nn.Module) -> list[int]:
    """How many hooks each module of the network has."""
    return [sum(len(getattr(module, kind)) for kind in HOOKS) for module in model.modules()]


def count_hooks(model: nn.Module) -> int:
    """Hooks on any module of the network."""
    return sum(hooks_of(model))


def state(model: nn.Module) -> dict:
    """All that must be as it was: modes, hooks, gradients, what is trainable, values."""
    return {
        "modes": [module.training for module in model.modules()],
        "hooks": hooks_of(model),
        "gradients": [parameter.grad for parameter in model.parameters()],
        "trainable": [parameter.requires_grad for parameter in model.parameters()],
        "sums": [tensor.double().sum().item() for tensor in model.state_dict().values()],
        "forwards": ["forward" in vars(module) for module in model.modules()],
        "grad_enabled": torch.is_grad_enabled(),
    }
