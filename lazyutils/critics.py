"""Critics: networks so lazy that their answers give the shortcut away, without any colour label."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lazyutils import models
from lazyutils.data import ColoredDigits
from lazyutils.metrics import worst_digit
from lazyutils.training import Loss, fit, predict

GCE_Q = 0.7
"""Exponent of generalised cross-entropy in Nam et al. 2020."""
GUESS, TRIES, SEED_STEP = 0.1, 5, 1000
"""Share that a guess recognises; how many critics are trained at most, and how far apart their seeds lie."""
MEMBERS, MEMBER_STEP = 3, 10
"""Critics in a committee, and how far apart their seeds lie."""


@dataclass(frozen=True)
class CriticSettings:
    """How a critic is trained (with Adam); ``epochs``, ``batch_size`` and the loss's ``q`` decide how lazy it stays."""

    architecture: str
    epochs: int
    batch_size: int
    learning_rate: float
    q: float = GCE_Q
    seed: int = 0


CRITICS = {
    "lazy": CriticSettings("LazyCNN", epochs=2, batch_size=256, learning_rate=2e-3, q=0.5),
    "color": CriticSettings("ColorCritic", epochs=1, batch_size=64, learning_rate=1e-2),
}
"""``lazy``: the book's own cheater, kept lazy by its loss, with no knowledge of the bias; with the paper's q of 0.7 it
gives a whole digit up more often (see ``train_whole``).
``color``: 1x1 convolutions, which presume that the shortcut is visible in single pixels."""


def generalized_cross_entropy(q: float) -> Loss:
    """The mean of ``gce`` over a batch."""
    return lambda model, batch: gce(model(batch.images), batch.labels, q).mean()


def gce(logits: Tensor, labels: Tensor, q: float = GCE_Q) -> Tensor:
    """(1 - p_y^q) / q of each image, ``[B]``: a loss that dwells on what is easy (Zhang & Sabuncu 2018, eq. 6)."""
    log_confidence = logits.float().log_softmax(1).gather(1, labels[:, None])[:, 0]
    return (1 - (q * log_confidence).exp()) / q


def train(
    images: Tensor,
    labels: Tensor,
    settings: CriticSettings,
    loss: Loss | None = None,
    on_epoch: Callable[[int, nn.Module], None] | None = None,
) -> nn.Module:
    """A short training of a lazy network on biased images.

    Args:
        images: ``float32 [N, 3, 28, 28]`` in [0, 1].
        labels: ``int64 [N]``.
        loss: None is generalised cross-entropy with the settings' q.
        on_epoch: receives the epoch's number (from 1) and the network.
    """
    critic = models.build(settings.architecture, settings.seed).to(images.device)
    fit(
        critic,
        images,
        labels,
        optimizer=torch.optim.Adam(critic.parameters(), lr=settings.learning_rate),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        loss=loss or generalized_cross_entropy(settings.q),
        on_epoch=None if on_epoch is None else lambda epoch: on_epoch(epoch, critic),
    )
    return critic


def train_whole(images: Tensor, labels: Tensor, settings: CriticSettings) -> nn.Module:
    """``train``, again from another initialisation while the critic gives a digit up.

    Generalised cross-entropy hardly moves for a digit that starts out improbable. Now and then one is never answered,
    and all its images would count as conflicting. No colour label is needed to see that: of such a digit's images the
    critic recognises fewer than a guess would.

    Returns:
        The first critic that gives no digit up; of ``TRIES`` that all do, the one that recognises most of its worst.
    """
    tried: list[tuple[float, nn.Module]] = []
    for attempt in range(TRIES):
        critic = train(images, labels, replace(settings, seed=settings.seed + attempt * SEED_STEP))
        tried.append((worst_digit(labels, classes(critic, images)), critic))
        if tried[-1][0] >= GUESS:
            break
    return max(tried, key=lambda attempt: attempt[0])[1]


class Committee(nn.Module):
    """Critics that answer together: the mean of their probabilities, ``[N, 10]``."""

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([member(x).softmax(1) for member in self.members]).mean(0)


def train_committee(images: Tensor, labels: Tensor, settings: CriticSettings) -> Committee:
    """``MEMBERS`` critics from different initialisations; what only one of them makes of an image does not count."""
    seeds = [settings.seed + MEMBER_STEP * member for member in range(MEMBERS)]
    return Committee(train_whole(images, labels, replace(settings, seed=seed)) for seed in seeds)


def classes(critic: nn.Module, images: Tensor) -> Tensor:
    """The critic's answers, ``int64 [N]``: where it is lazy, the digit that owns the background colour."""
    return predict(critic, images).argmax(1)


def precision_recall(flagged: Tensor, conflicting: Tensor) -> tuple[float, float]:
    """How well the critic's errors find the conflicting images.

    Args:
        flagged: ``bool [N]``, True where the critic errs.
        conflicting: ``bool [N]``, the truth (for judging only, never for training).

    Returns:
        Share of the flagged that conflict, share of the conflicting that are flagged; 0 for an empty set.
    """
    hits = (flagged & conflicting).sum().item()
    return hits / max(1, flagged.sum().item()), hits / max(1, conflicting.sum().item())


def watch(train_set: ColoredDigits, settings: CriticSettings, loss: Loss | None = None) -> list[tuple[float, float]]:
    """``precision_recall`` of a critic's errors after each epoch of its training."""
    curve: list[tuple[float, float]] = []

    def note(epoch: int, critic: nn.Module) -> None:
        flagged = classes(critic, train_set.images) != train_set.labels
        curve.append(precision_recall(flagged, train_set.conflicting))

    train(train_set.images, train_set.labels, settings, loss, note)
    return curve


def balanced_accuracy(predictions: Tensor, critic: Tensor, labels: Tensor) -> float:
    """Accuracy averaged over the cells (critic's class, label) that occur: a label-free criterion of selection.

    On biased validation images it weighs the few on which the critic errs as much as the many on which it is right.

    Args:
        predictions, critic, labels: ``int64 [N]``.
    """
    cells, member = torch.unique(critic * 10 + labels, return_inverse=True)
    right = torch.zeros(len(cells), dtype=torch.float64, device=labels.device)
    right.index_add_(0, member, (predictions == labels).double())
    return (right / torch.bincount(member)).mean().item()
