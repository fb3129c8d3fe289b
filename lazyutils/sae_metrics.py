"""How good a dictionary is, in the field's units, and how sure a comparison with random controls is.

"Explained variance" has several definitions in use; ours is ``1 - SSE / sum (x - mean_d)^2``, so that predicting
the mean state scores 0 and a perfect reconstruction 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional as F

from lazyutils.errors import ClearError
from lazyutils.sae import SparseAutoencoder, check_states

DENSE = 0.5
"""A feature that fires on more than this share of the images is dense."""


def explained_variance(x: Tensor, x_hat: Tensor) -> float:
    """``1 - sum (x - x_hat)^2 / sum (x - mean_d)^2``; 0 for the mean predictor, 1 for a perfect one.

    Args:
        x, x_hat: states and reconstructions ``[N, D]``.
    """
    if x.shape != x_hat.shape:
        raise ClearError(f"states {tuple(x.shape)} and reconstructions {tuple(x_hat.shape)} differ in shape")
    total = (x - x.mean(0)).square().sum()
    if total == 0:
        raise ClearError("all states are the same: there is no variance to explain")
    return 1 - ((x - x_hat).square().sum() / total).item()


def firing_density(z: Tensor) -> Tensor:
    """Share of the images on which each latent is on, ``[K]``, from latents ``[N, K]``."""
    return (z != 0).float().mean(0)


def density_histogram(density: Tensor, bins: int = 12, lowest: float = 1e-4) -> tuple[Tensor, Tensor]:
    """Counts of live latents over the logarithm of their density.

    Args:
        density: ``[K]``; zeros (dead latents) are left out.
        bins: number of bins between ``lowest`` and 1; densities below ``lowest`` fall into the first.

    Returns:
        Edges ``[bins + 1]`` as densities, and counts ``[bins]``.
    """
    edges = torch.logspace(torch.tensor(lowest).log10().item(), 0, bins + 1)
    live = density[density > 0].clamp(min=lowest)
    position = torch.bucketize(live, edges[1:-1], right=True)
    return edges, torch.bincount(position, minlength=bins)


@torch.no_grad()
def quality(autoencoder: SparseAutoencoder, x: Tensor) -> dict[str, float]:
    """``explained_variance``, ``fvu`` (1 - that), ``l0``, ``dead_share`` and ``dense_share`` on states ``[N, D]``."""
    check_states(x, autoencoder.size)
    z = autoencoder.encode(x)
    density = firing_density(z)
    explained = explained_variance(x, autoencoder.decode(z))
    return {
        "explained_variance": explained,
        "fvu": 1 - explained,
        "l0": (z != 0).float().sum(1).mean().item(),
        "dead_share": (density == 0).float().mean().item(),
        "dense_share": (density > DENSE).float().mean().item(),
    }


def recovered(spliced: float, original: float, baseline: float) -> float:
    """``(spliced - baseline) / (original - baseline)``: 1 where nothing is lost, 0 where the baseline does as well.

    Raises:
        ClearError: baseline and original are equal, so that there is nothing to recover.
    """
    if original == baseline:
        raise ClearError("the baseline is as good as the original: there is nothing to recover")
    return (spliced - baseline) / (original - baseline)


def matched_cosines(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of each direction in ``first`` with its partner in ``second``, one-to-one (Hungarian matching).

    Args:
        first: ``[K, D]``, one direction a row, such as ``autoencoder.decoder.weight.T``.
        second: ``[M, D]`` with ``M >= K``.

    Returns:
        ``[K]``, the matching with the largest sum.
    """
    if len(second) < len(first):
        raise ClearError(f"{len(first)} directions can't be matched with {len(second)}: put the smaller set first")
    cosines = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T
    rows, columns = linear_sum_assignment(cosines.numpy(), maximize=True)
    return cosines[rows, columns]


def permutation_p(observed: float, controls: Sequence[float]) -> float:
    """Chance of an effect at least as large as ``observed`` among random controls, ``(1 + hits) / (1 + n)``."""
    if not len(controls):
        raise ClearError("no random control to compare with: draw at least one")
    return (1 + sum(control >= observed for control in controls)) / (1 + len(controls))


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """The central range that holds ``level`` of ``values``."""
    tail = (1 - level) / 2
    low, high = torch.tensor(values, dtype=torch.float64).quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64))
    return low.item(), high.item()


def random_directions(count: int, size: int, seed: int) -> Tensor:
    """``count`` random unit vectors ``[count, size]``: the control for what any direction would show."""
    return F.normalize(torch.randn(count, size, generator=torch.Generator().manual_seed(seed)), dim=1)


def auroc(activations: Tensor, factor: Tensor, levels: int = 10) -> Tensor:
    """Area under the ROC curve of each unit as a detector of each level, ``float32 [U, levels]``; 0.5 is chance.

    By ranks (Mann-Whitney); ties count half.

    Args:
        activations: ``[N, U]``.
        factor: ``int64 [N]``; every level occurs.
    """
    ranks = torch.from_numpy(rankdata(activations.numpy(), axis=0))  # [N, U]
    member = F.one_hot(factor, levels).double()  # [N, levels]
    inside = member.sum(0)
    if not inside.all():
        raise ClearError("a level has no image: give at least one of each")
    wins = ranks.T @ member - inside * (inside + 1) / 2
    return (wins / (inside * (len(factor) - inside))).float()
