"""Does a map depend on what the network has learned? (Adebayo et al. 2018, arXiv 1810.03292)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from lazyutils.hooks import find_layer


def cascading_randomization(model: nn.Module, stages: Sequence[str], seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Forget what was learned, stage by stage, from the logits down to the image.

    Args:
        model: left as it was.
        stages: dotted names of layers or blocks, the one nearest to the logits first.
        seed: of the new initial weights; the global random state is left as it was.

    Yields:
        The stage that was initialised anew last, and a copy of the model in which it and all stages before it
        are untrained. The copy is the same object every time: use it before the next step.

    Raises:
        ClearError: no such stage; lists the layers.
    """
    forgetting = copy.deepcopy(model)
    for depth, name in enumerate(stages):
        stage = find_layer(forgetting, name)
        with torch.random.fork_rng():
            torch.manual_seed(seed + depth)
            for module in stage.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
        yield name, forgetting
