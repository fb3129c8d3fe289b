"""Ask from outside: what can be read off a layer, and what the answer hangs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lazyutils import hooks, training
from lazyutils.counterfactuals import color_card, delete_color
from lazyutils.data import ColoredDigits, recolor
from lazyutils.errors import ClearError
from lazyutils.metrics import accuracy

SHRINKAGES = (1e-4, 1e-3, 1e-2, 1e-1, 0.5)
"""How far the covariance is moved towards a multiple of the identity; the probe takes what does best held out."""


# --- linear probes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinearProbe:
    """Linear discriminant: scores ``x @ weight + bias``, the highest wins.

    Attributes:
        weight: ``float32 [D, K]``.
        bias: ``float32 [K]``.
        shrinkage: the one of ``SHRINKAGES`` that was chosen.
    """

    weight: Tensor
    bias: Tensor
    shrinkage: float

    def predict(self, features: Tensor) -> Tensor:
        """Classes ``int64 [N]`` of ``features [N, D]``."""
        return (features @ self.weight + self.bias).argmax(1)


def discriminants(features: Tensor, targets: Tensor, classes: int, shrinkages: Sequence[float]) -> list[LinearProbe]:
    """Fisher's linear discriminant with a shrunk covariance, in closed form, one for each shrinkage.

    With class means m_k, shares p_k and the pooled within-class covariance S, shrunk to
    ``(1 - s) S + s trace(S) / D I``: weight ``S^-1 m_k``, bias ``log p_k - m_k S^-1 m_k / 2``. Least squares on
    one-hot targets would be as fast, but it can't tell more than a few classes apart along one axis.
    """
    x, onehot = features.double(), F.one_hot(targets, classes).double()
    counts = onehot.sum(0).clamp(min=1)
    means = onehot.T @ x / counts[:, None]  # [K, D]
    centered = x - means[targets]
    covariance = centered.T @ centered / len(x)
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    probes = []
    for shrinkage in shrinkages:
        shrunk = (1 - shrinkage) * covariance + shrinkage * covariance.diagonal().mean().clamp(min=1e-12) * identity
        weight = torch.cholesky_solve(means.T, torch.linalg.cholesky(shrunk))
        bias = (counts / len(x)).log() - (means.T * weight).sum(0) / 2
        probes.append(LinearProbe(weight.float(), bias.float(), shrinkage))
    return probes


def fit_probe(features: Tensor, targets: Tensor, classes: int = 10, held_out: float = 0.2) -> LinearProbe:
    """A linear probe; its shrinkage is the one that does best on the last ``held_out`` share of the rows.

    Args:
        features: ``float32 [N, D]``, rows in random order.
        targets: ``int64 [N]``.

    Raises:
        ClearError: shapes don't fit.
    """
    if features.dim() != 2 or targets.shape != features.shape[:1]:
        raise ClearError(f"features {tuple(features.shape)} and targets {tuple(targets.shape)}: give [N, D] and [N]")
    cut = len(features) - round(held_out * len(features))
    tried = discriminants(features[:cut], targets[:cut], classes, SHRINKAGES)
    best = max(tried, key=lambda probe: accuracy(probe.predict(features[cut:]), targets[cut:]))
    return discriminants(features, targets, classes, [best.shrinkage])[0]


def pooled(activation: Tensor, limit: int) -> Tensor:
    """``[N, D]``: maps averaged to the finest square grid that keeps ``D`` at or under ``limit``, then flattened."""
    if activation.dim() == 2:
        return activation
    _, channels, height, width = activation.shape
    side = max(1, min(height, width, int((limit / channels) ** 0.5)))
    return F.adaptive_avg_pool2d(activation, side).flatten(1) if side < height else activation.flatten(1)


def probe_layers(
    model: nn.Module, layers: Sequence[str], train: ColoredDigits, test: ColoredDigits, limit: int = 800
) -> dict[str, dict[str, float]]:
    """How well colour and digit can be read off each layer by a linear probe (Alain and Bengio 2016).

    On biased images a digit probe could read colour; give images on which colour and digit are independent.

    Args:
        train, test: images to fit on and to score on.
        limit: most features a probe may use; larger maps are averaged to a coarser grid first.

    Returns:
        ``{layer: {"colour": accuracy, "digit": accuracy}}``; ``"pixels"`` names the images themselves.
    """
    features = {}
    for part, digits in (("train", train), ("test", test)):
        seen = hooks.collect(model, digits.images, layers, lambda activation: pooled(activation, limit))
        features[part] = {"pixels": pooled(digits.images, limit), **seen}
    scores: dict[str, dict[str, float]] = {}
    for layer in features["train"]:
        scores[layer] = {}
        for name, known, asked in (
            ("colour", train.colors, test.colors),
            ("digit", train.labels, test.labels),
        ):
            probe = fit_probe(features["train"][layer], known)
            scores[layer][name] = accuracy(probe.predict(features["test"][layer]), asked)
    return scores


# --- counterfactual questions ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HueSweep:
    """One digit over all backgrounds.

    Attributes:
        answers: ``int64 [N, 10]``, the predicted class of image n on background c.
        labels: ``int64 [N]``, the digits.
    """

    answers: Tensor
    labels: Tensor

    @property
    def distinct(self) -> Tensor:
        """Number of different answers to each digit, ``int64 [N]``, 1 to 10."""
        ordered = self.answers.sort(dim=1).values
        return 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(1)

    def summary(self) -> dict[str, float]:
        """Share of digits whose answer ever changes, mean number of answers, and who is followed over all images."""
        colors = torch.arange(self.answers.shape[1], device=self.answers.device)
        return {
            "changed_share": (self.distinct > 1).double().mean().item(),
            "distinct_answers": self.distinct.double().mean().item(),
            "colour_share": (self.answers == colors).double().mean().item(),
            "digit_share": (self.answers == self.labels[:, None]).double().mean().item(),
        }


def hue_sweep(
    model: nn.Module, digits: ColoredDigits, palette: str = "study", noise: float = 20.0, seed: int = 0
) -> HueSweep:
    """The network's answer to each of ``digits`` (on the CPU) on each of the ten backgrounds."""
    answers, device = [], next(model.parameters()).device
    for color in range(10):
        painted = recolor(digits, torch.full_like(digits.colors, color), palette, noise, seed)
        answers.append(training.predict(model, painted.images.to(device)).argmax(1).cpu())
    return HueSweep(torch.stack(answers, 1), digits.labels)


def four_corners(digits: ColoredDigits, seed: int = 0) -> dict[str, Tensor]:
    """Each cue present or absent: the images, the colour card, the digit on grey, and a grey card.

    Returns:
        ``{"colour and digit", "colour only", "digit only", "neither"}``, each ``float32 [N, 3, H, W]``.
    """
    card = color_card(digits, seed)
    blank = ColoredDigits(card, digits.labels, digits.colors, torch.zeros_like(digits.masks))
    return {
        "colour and digit": digits.images,
        "colour only": card,
        "digit only": delete_color(digits),
        "neither": delete_color(blank),
    }


def corner_answers(model: nn.Module, digits: ColoredDigits, seed: int = 0) -> dict[str, dict[str, float]]:
    """For each corner: shares answered with the colour's digit and with the digit, and the mean confidence."""
    table = {}
    for corner, images in four_corners(digits, seed).items():
        probabilities = training.predict(model, images).softmax(1)
        confidence, answers = probabilities.max(1)
        table[corner] = {
            "colour_share": accuracy(answers, digits.colors),
            "digit_share": accuracy(answers, digits.labels),
            "confidence": confidence.mean().item(),
        }
    return table
