"""From a dictionary and its measured features to what the feature browser shows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lazyutils import sae_metrics, splice
from lazyutils.data import color_names
from lazyutils.decomposition import Features, Material, pushes
from lazyutils.feature_browser import Catalogue
from lazyutils.sae import SparseAutoencoder
from lazyutils.selectivity import top_images


def catalogue(
    made: Material,
    autoencoder: SparseAutoencoder,
    features: Features,
    *,
    preferred: Tensor,
    images: Tensor,
    shown: int = 4,
    palette: str = "study",
) -> Catalogue:
    """All that the feature browser shows of one dictionary.

    Args:
        preferred: ``[K, 3, 28, 28]``, of ``splice.preferred_inputs``.
        images: the balanced images ``[M, 3, 28, 28]`` whose states ``made.balanced`` holds.
        shown: strongest images a feature.
        palette: the images'.
    """
    with torch.no_grad():
        z = autoencoder.encode(made.balanced)
    alone = [torch.tensor([feature]) for feature in range(autoencoder.width)]
    off = splice.ablate_each(made.judged, autoencoder, alone, features.mean)
    start = made.judged.measure()
    effect = {key: torch.tensor([one[key] - start[key] for one in off]) for key in start}
    names = color_names(palette)
    shares = sae_metrics.auroc(z, made.colors).max(1), sae_metrics.auroc(z, made.labels).max(1)
    facts = {
        "colour η²": [f"{value:.2f}" for value in features.color_eta2.tolist()],
        "digit η²": [f"{value:.2f}" for value in features.digit_eta2.tolist()],
        "best colour": detector(shares[0], names),
        "best digit": detector(shares[1], [str(digit) for digit in range(10)]),
        "on in": [f"{100 * value:.1f}% of the images" for value in features.density.tolist()],
        "switched off": [
            f"colour answers {100 * color:+.1f}, hard accuracy {100 * hard:+.1f} points"
            for color, hard in zip(effect["colour_share"].tolist(), effect["hard"].tolist(), strict=True)
        ],
    }
    orders = {
        "colour η²": features.color_eta2,
        "digit η²": features.digit_eta2,
        "causal effect on colour answers": effect["colour_share"].abs(),
        "mean activation": features.mean,
    }
    strongest = images[top_images(z, shown)]
    pushed = pushes(made.judged, autoencoder, features)
    profiles = features.by_color, features.by_digit, pushed
    return Catalogue(preferred, strongest, *profiles, facts, orders, palette, names)


def detector(best: torch.return_types.max, names: Sequence[str]) -> list[str]:
    """``"red (AUROC 0.98)"`` for each unit, from the largest AUROC over the levels."""
    return [
        f"{names[level]} (AUROC {value:.2f})"
        for value, level in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
