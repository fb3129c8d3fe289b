"""Is heat where the evidence is? Measures for maps on images whose background and stroke are known.

Maps are ``float32 [N, H, W]``, not negative; regions are ``bool [N, H, W]``. A map without heat has no
location: such images are NaN here and left out of the means, and their share is always reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from lazyutils.errors import ClearError
from lazyutils.gradcam import to_display
from lazyutils.training import predict


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` images with its 95% normal interval ``low`` to ``high``."""

    mean: float
    low: float
    high: float
    n: int


def estimate(values: Tensor) -> Estimate:
    """Mean over images of ``values [N]``; NaN values (images without a map) are left out."""
    known = values[~values.isnan()].double()
    if len(known) < 2:
        mean = known.mean().item() if len(known) else float("nan")
        return Estimate(mean, float("nan"), float("nan"), len(known))
    half = 1.96 * known.std().item() / len(known) ** 0.5
    return Estimate(known.mean().item(), known.mean().item() - half, known.mean().item() + half, len(known))


def heat_share(maps: Tensor, region: Tensor) -> Tensor:
    """Share of each map's heat inside its region, ``[N]`` in 0-1; NaN for maps without heat."""
    check_maps(maps, region)
    return (maps * region).sum((1, 2)) / maps.sum((1, 2))


def pixel_share(region: Tensor) -> Tensor:
    """Share of pixels inside each region, ``[N]``: what a map that points nowhere in particular would score."""
    return region.float().mean((1, 2))


def pointing_game(maps: Tensor, region: Tensor) -> Tensor:
    """Is the hottest pixel inside the region? ``[N]``, 1 or 0, the share of ties inside, NaN without heat.

    Zhang et al. 2018 (arXiv 1608.00507), with no tolerance around the region.
    """
    check_maps(maps, region)
    peak = maps.amax((1, 2), keepdim=True)
    hottest = (maps == peak) & (peak > 0)
    return (hottest & region).sum((1, 2)) / hottest.sum((1, 2))


def check_maps(maps: Tensor, region: Tensor) -> None:
    """Refuse heat and regions that don't belong together."""
    if maps.shape != region.shape or maps.dim() != 3:
        raise ClearError(f"maps {list(maps.shape)} and regions {list(region.shape)} must both be [N, H, W]")
    if maps.isnan().any() or maps.min() < 0:
        raise ClearError("maps hold NaN or negative heat: give displayed maps")


def attainable_shares(region: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Lowest and highest share in the region that any displayed map with one hot cell on a coarse grid has.

    What a ``h x w`` layer can say at all: a 1 x 1 layer says nothing (NaN), a 2 x 2 layer points at quarters.
    A share of heat is a ratio of sums, so no mixture of cells lies outside (up to the shift of the last scaling).

    Args:
        region: ``bool [N, H, W]``.
        grid: height and width of the layer's maps.

    Returns:
        Two tensors ``[N]``.
    """
    cells = torch.eye(grid[0] * grid[1], device=region.device).view(-1, *grid)
    heat = to_display(cells, region.shape[1:]).flatten(1)  # [h * w, H * W]
    shares = region.flatten(1).float() @ (heat / heat.sum(1, keepdim=True)).T  # [N, h * w]
    return shares.amin(1), shares.amax(1)


def deletion_curve(
    model: nn.Module, images: Tensor, fill: Tensor, maps: Tensor, targets: Tensor, *, steps: int = 14, seed: int = 0
) -> Tensor:
    """Probability of the target while the hottest pixels are replaced first (Petsiuk et al. 2018, arXiv 1806.07421).

    Insertion is the same with ``images`` and ``fill`` exchanged: the hottest pixels of the image appear
    first on the fill.

    Args:
        model: left as it was.
        images, fill: ``float32 [N, 3, H, W]``, before and after.
        maps: heat ``[N, H, W]``; ties are broken at random.
        targets: ``int64 [N]``.
        steps: number of equal portions of pixels.
        seed: of the ties.

    Returns:
        ``float32 [N, steps + 1]``, from the whole image to the whole fill.
    """
    if steps < 1:
        raise ClearError(f"steps = {steps}: at least one portion of pixels has to be replaced")
    place = heat_order(maps, seed)  # 0 = hottest
    curve = []
    for step in range(steps + 1):
        replaced = place < step / steps
        mixed = torch.where(replaced[:, None], fill, images)
        curve.append(target_scores(predict(model, mixed).softmax(dim=1), targets))
    return torch.stack(curve, dim=1)


def heat_order(maps: Tensor, seed: int = 0) -> Tensor:
    """Each pixel's place from the hottest (0) to the coldest (just below 1), ``[N, H, W]``; ties at random."""
    flat = maps.flatten(1)
    shuffle = torch.rand(flat.shape, generator=torch.Generator().manual_seed(seed)).argsort(1).to(flat.device)
    order = shuffle.gather(1, flat.gather(1, shuffle).argsort(dim=1, descending=True, stable=True))
    places = torch.arange(flat.shape[1], device=flat.device).expand_as(order) / flat.shape[1]
    return torch.empty(flat.shape, device=flat.device).scatter_(1, order, places).view_as(maps)


def target_scores(logits: Tensor, targets: Tensor) -> Tensor:
    """The entries of ``logits [N, classes]`` at ``targets int64 [N]``."""
    return logits.gather(1, targets[:, None])[:, 0]


def area(curves: Tensor) -> Tensor:
    """Area under each of ``curves [N, steps + 1]`` over the share of pixels (0-1), by the trapezium rule, ``[N]``."""
    return (curves[:, 1:] + curves[:, :-1]).mean(dim=1) / 2


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's correlation of two maps of the same image over its pixels, ``[N]``; NaN for constant maps."""
    ranks = [torch.from_numpy(rankdata(maps.flatten(1).cpu().numpy(), axis=1)) for maps in (first, second)]
    a, b = (rank - rank.mean(1, keepdim=True) for rank in ranks)
    correlation = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    return correlation.float().to(first.device)


def spearman(first: Tensor, second: Tensor) -> float:
    """Spearman's correlation of two quantities over images, ``[N]`` each; images with a NaN are left out."""
    known = ~(first.isnan() | second.isnan())
    return rank_correlation(first[known].view(1, 1, -1), second[known].view(1, 1, -1)).item()


def separation(higher: Tensor, lower: Tensor) -> float:
    """Probability that a random value of ``higher [N]`` exceeds one of ``lower [M]`` (area under the ROC curve).

    0.5: the two can't be told apart. NaN values are left out.
    """
    a, b = (values[~values.isnan()].double().cpu().numpy() for values in (higher, lower))
    ranks = rankdata(np.concatenate([a, b]))
    return float((ranks[: len(a)].sum() - len(a) * (len(a) + 1) / 2) / (len(a) * len(b)))
