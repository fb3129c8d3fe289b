"""Interventions against the shortcut. Each sees biased images and their labels, never a colour.

Every function makes a ``Recipe`` for ``training.fit``: a loss, an order of images, or both. Those that need a critic
take its answers: s_i, the class that a lazy network gives to training image i. Where the critic is lazy, s_i is the
digit that owns the background colour, and s_i != y_i marks the images whose cues conflict.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lazyutils import penalties
from lazyutils.critics import gce
from lazyutils.errors import ClearError
from lazyutils.metrics import contingency
from lazyutils.training import Batch, Loss, Order, cross_entropy

TEACHER_WEIGHT, RECOLORING_WEIGHT = 0.3, 3.0
"""Weights of the teacher and, at the end of training, of the recolouring penalty beside the corrected cross-entropy."""


@dataclass(frozen=True)
class Recipe:
    """What an intervention changes in training: the ``loss``, the ``order``, or networks trained ``beside``."""

    loss: Loss = cross_entropy
    order: Order | None = None
    beside: tuple[nn.Module, ...] = ()


def study_penalty(weight: float, steps: int) -> Recipe:
    """The study's colour-gradient penalty: variance over R, G, B of the predicted class's input gradient.

    Args:
        weight: reached at the end of a linear growth from 0; the study's is 10.
        steps: training steps in all.
    """
    ramp = penalties.LinearRamp(weight, steps)
    return Recipe(
        penalties.penalized_cross_entropy(penalties.target_score, penalties.channel_variance, ramp, predicted=True)
    )


def recoloring_penalty(weight: float, steps: int) -> Recipe:
    """A penalty on the share of the gradient that lies in recolouring the whole image.

    Args:
        weight: reached at the end of a linear growth from 0. (A weight that keeps the penalty P as large as the
            cross-entropy at every step amounts to a penalty on log P. That has no floor, and the network collapses.)
        steps: training steps in all.
    """
    ramp = penalties.LinearRamp(weight, steps)
    return Recipe(penalties.penalized_cross_entropy(penalties.log_odds, penalties.recoloring_share, ramp))


def spectral_decoupling(weight: float) -> Recipe:
    """Cross-entropy + ``weight`` mean(z^2): no logit may grow on one cue alone (Pezeshki et al. 2021, eq. 6)."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        logits = model(batch.images)
        return F.cross_entropy(logits, batch.labels) + weight * logits.square().mean()

    return Recipe(loss)


def weighted_order(weights: Tensor) -> Order:
    """One epoch drawn with replacement, image i in proportion to ``weights[i]``."""
    weights = weights.cpu()
    return lambda generator: torch.multinomial(weights, len(weights), replacement=True, generator=generator)


def just_train_twice(critic: Tensor, labels: Tensor, weight: float) -> Recipe:
    """The critic's errors are seen ``weight`` times as often as the rest (Liu et al. 2021, eq. 2)."""
    require_conflicts(critic, labels)
    return Recipe(order=weighted_order(torch.where(critic == labels, 1.0, weight)))


def gradient_norm_resampling(logits: Tensor, features: Tensor, labels: Tensor) -> Recipe:
    """Images in proportion to the norm of the critic's last-layer gradient (Ahn et al. 2023, PGD).

    The gradient of an image's loss by the last layer is (softmax - onehot) h^T, of norm
    ||softmax - onehot|| ||h||.

    Args:
        logits: ``float32 [N, 10]`` of a critic trained with generalised cross-entropy.
        features: ``float32 [N, D]``, its last layer's input h.
        labels: ``int64 [N]``.
    """
    residual = logits.softmax(1) - F.one_hot(labels, logits.shape[1])
    return Recipe(order=weighted_order(residual.norm(dim=1) * features.norm(dim=1)))


def learning_from_failure(biased: nn.Module, labels: Tensor, decay: float = 0.7) -> Recipe:
    """A biased network trained beside, and its relative difficulty as weight (Nam et al. 2020, algorithm 1).

    W = L_b / (L_b + L_d), with both losses smoothed by a running mean per image and scaled by their class's largest,
    as in the authors' code.

    Args:
        biased: a fresh network, trained beside the other one with ``gce``.
        labels: ``int64 [N]`` of all training images.
        decay: of the running means.
    """
    running = torch.zeros(2, len(labels), device=labels.device)  # rows: biased, debiased

    def smoothed(row: int, losses: Tensor, batch: Batch) -> Tensor:
        running[row, batch.index] = decay * running[row, batch.index] + (1 - decay) * losses
        largest = running.new_zeros(10).scatter_reduce(0, labels, running[row], "amax")
        return running[row, batch.index] / largest[batch.labels].clamp(min=1e-8)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        biased_logits, logits = biased(batch.images), model(batch.images)
        losses = F.cross_entropy(logits, batch.labels, reduction="none")
        with torch.no_grad():
            biased_losses = F.cross_entropy(biased_logits, batch.labels, reduction="none")
            difficult, hard = smoothed(0, biased_losses, batch), smoothed(1, losses, batch)
            weight = difficult / (difficult + hard + 1e-8)
        return (weight * losses).mean() + gce(biased_logits, batch.labels).mean()

    return Recipe(loss, beside=(biased,))


def cell_counts(critic: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """``float64 [10, 10]``: number (or weight) of training images in each cell (critic's class, label)."""
    if weights is None:
        return contingency(critic, labels).double()
    counts = torch.zeros(100, dtype=torch.float64, device=labels.device)
    return counts.index_add_(0, critic * 10 + labels, weights.double()).view(10, 10)


def cell_reweighting(critic: Tensor, labels: Tensor) -> Recipe:
    """Images in proportion to 1 / C[s, y]: every cell that occurs is seen equally often (as in FG-CCDB)."""
    require_conflicts(critic, labels)
    return Recipe(order=weighted_order(1 / cell_counts(critic, labels)[critic, labels]))


def log_prior(counts: Tensor, smoothing: float = 1.0) -> Tensor:
    """log P(y | s) from cell counts ``[10, 10]``, each raised by ``smoothing``; ``float32``, row s, column y."""
    counts = counts + smoothing
    return (counts / counts.sum(1, keepdim=True)).log().float()


def logit_correction(
    critic: Tensor, labels: Tensor, oversampling: float = 1.0, teacher: nn.Module | None = None
) -> Recipe:
    """Cross-entropy of z + log P(y | s): what the shortcut already explains need not be learnt (Liu et al. 2023).

    With ``oversampling`` the critic's errors are also seen that many times as often, and P(y | s) is that of the
    images as they are seen, so that the two never count the same thing twice. With a ``teacher``, z shall also agree
    with its answers. At test time z is used alone.
    """
    require_conflicts(critic, labels)
    if oversampling < 1:
        raise ClearError(f"oversampling {oversampling} must be 1 or more")
    weights = torch.where(critic == labels, 1.0, oversampling)
    prior = log_prior(cell_counts(critic, labels, weights))

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        logits = model(batch.images)
        fit = F.cross_entropy(logits + prior[critic[batch.index]], batch.labels)
        return fit if teacher is None else fit + TEACHER_WEIGHT * disagreement(logits, teacher, batch.images)

    return Recipe(loss, weighted_order(weights) if oversampling > 1 else None)


def corrected_recoloring(critic: Tensor, labels: Tensor, oversampling: float, steps: int) -> Recipe:
    """``logit_correction`` with the penalty of ``recoloring_penalty``: at every second step, with twice the weight.

    What a shape means shall not depend on the colour it is seen in: then the many images that wear their digit's own
    colour teach something about the few that don't.
    """
    corrected = logit_correction(critic, labels, oversampling)
    ramp = penalties.LinearRamp(2 * RECOLORING_WEIGHT, max(1, steps // 2))
    penalized = penalties.penalized_cross_entropy(
        penalties.log_odds, penalties.recoloring_share, ramp, fit=corrected.loss
    )
    turns = cycle((corrected.loss, penalized))

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return next(turns)(model, batch)

    return Recipe(loss, corrected.order)


def disagreement(logits: Tensor, teacher: nn.Module, images: Tensor) -> Tensor:
    """KL divergence of the model's answers from a teacher's, averaged over the batch.

    The teacher is the moving average of the model itself (Tarvainen & Valpola 2017). It has forgotten the chance of
    single batches, and so steadies what few conflicting images can teach.
    """
    with torch.no_grad():
        answers = teacher(images).float().softmax(1)
    return F.kl_div(logits.float().log_softmax(1), answers, reduction="batchmean")


def require_conflicts(critic: Tensor, labels: Tensor) -> None:
    """Refuse a method that lives on conflicting images where the critic finds none."""
    if (critic == labels).all():
        raise ClearError(
            "the critic errs on no training image, so there are no conflicting images to learn from: "
            "a bias below 1, a shorter critic training, or a method without a critic"
        )
