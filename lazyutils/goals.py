"""What a targeted attack wants: the target's answer with more than a wanted confidence, as a test and as losses."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

SURE = 20.0  # log-odds that stand for a wanted confidence of 1

Objective = Callable[[Tensor, Tensor], Tensor]
"""Maps logits ``[N, C]`` and targets ``int64 [N]`` to a loss ``[N]``."""


def shortfall(logits: Tensor, target: Tensor, confidence: float) -> Tensor:
    """Logits that the target lacks, ``[N]``; negative when the goal is reached.

    ``max(max_j f_j, logit(confidence) + logsumexp_j f_j) - f_t`` over the classes ``j`` other than the
    target ``t``: the first is the margin to the best rival, the second says ``p_t > confidence``.
    """
    others = logits.scatter(1, target[:, None], -math.inf)
    log_odds = torch.tensor(confidence, dtype=torch.float64).logit().clamp(max=SURE).item()
    bar = torch.maximum(others.amax(1), log_odds + others.logsumexp(1))
    return bar - logits.gather(1, target[:, None])[:, 0]


def reached(logits: Tensor, target: Tensor, confidence: float) -> Tensor:
    """``bool [N]``: the answer is the target, with a probability above ``confidence``."""
    probability = logits.softmax(1).gather(1, target[:, None])[:, 0]
    return (logits.argmax(1) == target) & (probability > confidence)


LOSS_FUNCTIONS: dict[str, Callable[[float], Objective]] = {
    "cross_entropy": lambda _confidence: lambda logits, target: F.cross_entropy(logits, target, reduction="none"),
    "margin": lambda confidence: lambda logits, target: shortfall(logits, target, confidence),
}
