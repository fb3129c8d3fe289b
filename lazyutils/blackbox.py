"""An attack that sees answers only: if it beat the attacks that see gradients, those gradients would lie."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lazyutils.attacks import Active, AttackResult, finite_logits, in_batches, prepared, seen
from lazyutils.errors import ClearError
from lazyutils.goals import shortfall

FIRST_SHARE = 0.8  # part of the image that the first square covers
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries: when the share is halved


def square(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    target: int | Tensor,
    eps: float | Tensor,
    *,
    queries: int = 500,
    confidence: float = 0.9,
    generator: torch.Generator,
) -> AttackResult:
    """Targeted Square attack, random search without gradients (Andriushchenko et al. 2020, arXiv 1912.00049).

    Starts from vertical stripes of +-eps; each query repaints one random square with +-eps a channel
    and keeps it if the ``shortfall`` of the target falls. ``steps`` of the result counts queries;
    the other arguments, results and errors are those of ``attacks.pgd``.
    """
    if queries < 1:
        raise ClearError(f"queries ({queries}) must be at least 1")

    def signs(*shape: int) -> Tensor:
        return torch.randint(0, 2, shape, generator=generator).float().mul(2).sub(1)

    def attack(batch: Active) -> tuple[Tensor, Tensor]:
        n, channels, height, width = batch.clean.shape
        stripes = signs(n, channels, 1, width).to(batch.clean).expand_as(batch.clean)
        batch = batch._replace(delta=(stripes * batch.eps).clamp(*batch.bounds()))
        best = shortfall(finite_logits(model, seen(batch)), batch.target, confidence)
        delta, taken, place = batch.delta.clone(), torch.ones_like(batch.target), torch.arange(n, device=best.device)
        for query in range(1, queries):
            stay = best >= 0
            delta[place] = batch.delta
            batch, best, place = batch.keep(stay), best[stay], place[stay]
            if not len(place):
                break
            where = random_squares(len(place), side(query, queries, height), height, width, generator=generator)
            colors = signs(len(place), channels, 1, 1).to(batch.delta) * batch.eps
            painted = torch.where(where.to(colors.device), colors, batch.delta).clamp(*batch.bounds())
            value = shortfall(finite_logits(model, seen(batch._replace(delta=painted))), batch.target, confidence)
            better = value < best
            best = torch.where(better, value, best)
            batch = batch._replace(delta=torch.where(better[:, None, None, None], painted, batch.delta))
            taken[place] += 1
        delta[place] = batch.delta
        return delta, taken

    return in_batches(attack, model, prepared(model, images, labels, target, eps), confidence)


def side(query: int, queries: int, height: int) -> int:
    """Side of the square in pixels: its area halves at fixed shares of the budget (the paper's schedule)."""
    share = FIRST_SHARE / 2 ** sum(query * 10_000 / queries > bound for bound in HALVINGS)
    return max(1, round(math.sqrt(share) * height))


def random_squares(n: int, side: int, height: int, width: int, *, generator: torch.Generator) -> Tensor:
    """``bool [n, 1, height, width]``: one square of ``side`` pixels at a random place in each."""
    top = torch.randint(0, height - side + 1, (n, 1, 1, 1), generator=generator)
    left = torch.randint(0, width - side + 1, (n, 1, 1, 1), generator=generator)
    rows, columns = torch.arange(height).view(1, 1, -1, 1), torch.arange(width).view(1, 1, 1, -1)
    return (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
