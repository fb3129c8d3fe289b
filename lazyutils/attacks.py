"""Targeted attacks: FGSM, PGD and DeepFool, batched, inside an L-infinity ball and [0, 1] at every step.

An image has *reached the goal* when the network answers ``target`` with more than the wanted
confidence; it then leaves the batch, so that easy images cost little. ``clean`` are the images as
they were, ``delta`` is the perturbation, and what the network sees is always ``clamp(clean + delta, 0, 1)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lazyutils.errors import ClearError
from lazyutils.goals import LOSS_FUNCTIONS, Objective, reached
from lazyutils.hooks import check_images, check_targets, frozen

BATCH = {"cpu": 64, "cuda": 1000}  # on a processor, what its cache holds: almost twice as fast as 500
SMALL = 5  # DeepFool's largest step is the radius divided by this
AIM = 0.2  # log-odds by which DeepFool's steps aim beyond the goal, lest they creep up on it along the ball's corners
PATIENCE = 50  # DeepFool gives an image up after so many steps without coming nearer
NORMS = ("l2", "linf")


@dataclass(frozen=True)
class AttackResult:
    """What an attack made of ``N`` images.

    Attributes:
        images: ``float32 [N, 3, H, W]`` in [0, 1], at most eps away from the clean ones.
        success: ``bool [N]``, answered with the target and more than the wanted confidence.
        confidence: ``float32 [N]``, probability of the target.
        steps: ``int64 [N]``, gradients used (one forward and one backward pass each).
        linf, l2: ``float32 [N]``, size of the perturbation in units of the pixel range.
    """

    images: Tensor
    success: Tensor
    confidence: Tensor
    steps: Tensor
    linf: Tensor
    l2: Tensor


class Active(NamedTuple):
    """The ``A`` images still under attack, one entry each."""

    index: Tensor  # int64 [A], position among all images
    clean: Tensor  # [A, 3, H, W]
    delta: Tensor  # [A, 3, H, W]
    target: Tensor  # int64 [A]
    eps: Tensor  # [A, 1, 1, 1], radius of the ball
    velocity: Tensor  # [A, 3, H, W], decaying sum of gradients, for momentum

    def keep(self, mask: Tensor) -> Active:
        """The images where ``mask bool [A]`` is True."""
        return self if mask.all() else Active(*(entry[mask] for entry in self))

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest allowed ``delta``: the ball cut with [0, 1]."""
        return torch.maximum(-self.eps, -self.clean), torch.minimum(self.eps, 1 - self.clean)


class Constraint:
    """Which perturbations are allowed. This one: all inside the ball and [0, 1]."""

    def direct(self, gradient: Tensor, index: Tensor) -> Tensor:
        """The part of ``gradient [A, 3, H, W]`` along which images ``index`` may move."""
        return gradient

    def project(self, batch: Active) -> Tensor:
        """The nearest allowed ``delta``, ``[A, 3, H, W]``."""
        return batch.delta.clamp(*batch.bounds())


Update = Callable[[Active, Tensor, Tensor], Active]


def fgsm(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    target: int | Tensor,
    eps: float | Tensor,
    *,
    confidence: float = 0.9,
) -> AttackResult:
    """Targeted fast gradient sign method (Goodfellow et al. 2015, arXiv 1412.6572).

    ``x' = clip(x - eps * sign(grad_x CE(f(x), target)))``. Arguments as for ``pgd``.
    """

    def attack(batch: Active) -> tuple[Tensor, Tensor]:
        _, _, gradient = evaluate(model, batch, LOSS_FUNCTIONS["cross_entropy"](confidence))
        return -batch.eps * gradient.sign(), torch.ones_like(batch.target)

    return in_batches(attack, model, prepared(model, images, labels, target, eps), confidence)


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    target: int | Tensor,
    eps: float | Tensor,
    *,
    alpha: float = 0.1,
    steps: int = 200,
    confidence: float = 0.9,
    loss: str = "cross_entropy",
    momentum: float = 0.0,
    random_start: bool = False,
    restarts: int = 0,
    generator: torch.Generator | None = None,
    constraint: Constraint | None = None,
) -> AttackResult:
    """Targeted projected gradient descent (Madry et al. 2018, arXiv 1706.06083).

    ``x_(k+1) = P(x_k - alpha * eps * sign(grad_x L(f(x_k), target)))``, P the projection on the ball and [0, 1].

    Args:
        model: maps images to logits ``[N, C]``; its mode, gradients and flags stay as they are.
        images: ``float32 [N, 3, H, W]`` in [0, 1].
        labels: ``int64 [N]``, true classes; none may be the target.
        target: the class to reach, one for all or ``int64 [N]``.
        eps: radius of the L-infinity ball, 0 to 1, one for all or ``float [N]``.
        alpha: step size as a share of ``eps``.
        steps: at most so many from each start.
        confidence: probability of the target, 0 to 1, above which an image is finished; with 1 none ever is.
        loss: ``"cross_entropy"``, or ``"margin"``, the ``shortfall`` in logits.
        momentum: share of the last direction that is kept, 0 to below 1 (Dong et al. 2018, arXiv 1710.06081). With the
            margin loss it finds ways between several rivals that plain steps miss.
        random_start: begin at a uniformly random point of the ball instead of the clean image.
        restarts: further random starts for the images that were not fooled.
        generator: of random starts; needed for them.
        constraint: a smaller set of perturbations than the ball.

    Raises:
        ClearError: anything out of range, a target equal to the label, no image, or logits that are not finite.
    """
    if loss not in LOSS_FUNCTIONS:
        raise ClearError(f"unknown loss {loss!r}: choose one of {', '.join(LOSS_FUNCTIONS)}")
    if (random_start or restarts) and generator is None:
        raise ClearError("random starts need a generator: pass torch.Generator().manual_seed(seed)")
    if steps < 1 or restarts < 0 or not alpha > 0 or not 0 <= momentum < 1:
        raise ClearError(
            f"steps ({steps}) must be at least 1, restarts ({restarts}) at least 0, alpha ({alpha}) above 0, "
            f"momentum ({momentum}) 0 to below 1"
        )
    allowed = constraint or Constraint()

    def step(batch: Active, _value: Tensor, gradient: Tensor) -> Active:
        gradient = allowed.direct(gradient, batch.index)
        velocity = momentum * (batch.velocity + gradient / gradient.abs().sum((1, 2, 3), keepdim=True).clamp(min=1e-30))
        move = alpha * batch.eps * (velocity if momentum else gradient).sign()
        batch = batch._replace(delta=batch.delta - move, velocity=velocity)
        return batch._replace(delta=allowed.project(batch))

    def attack(batch: Active) -> tuple[Tensor, Tensor]:
        delta, taken = torch.zeros_like(batch.clean), torch.zeros_like(batch.target)
        place = torch.arange(len(taken), device=taken.device)
        for start in range(1 + restarts):
            if start > 0 or random_start:
                batch = batch._replace(
                    delta=random_delta(batch, generator, allowed), velocity=torch.zeros_like(batch.clean)
                )
            delta[place], used, missed = search(
                model, batch, LOSS_FUNCTIONS[loss](confidence), step, confidence=confidence, steps=steps
            )
            taken[place] += used
            batch, place = batch.keep(missed), place[missed]
            if not len(place):
                break
        return delta, taken

    return in_batches(attack, model, prepared(model, images, labels, target, eps), confidence)


def deepfool(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    target: int | Tensor,
    eps: float | Tensor,
    *,
    steps: int = 500,
    confidence: float = 0.9,
    norm: str = "l2",
    overshoot: float = 0.02,
    shrink: int = 10,
) -> AttackResult:
    """Targeted DeepFool in a ball: small steps to the linearised boundary (after Moosavi-Dezfooli et al. 2016).

    With ``g`` the ``shortfall`` and ``w = -grad g`` over the pixels that can still move,
    ``r += g / ||w||_2^2 * w`` (or ``g / ||w||_1 * sign(w)`` for the L-infinity norm) until ``g < 0``:
    Algorithm 2 of arXiv 1511.04599 with the nearest class replaced by the target, and with the wanted
    confidence instead of the bare boundary. No step moves a value by more than a fifth of the radius, so that an
    image doesn't jump from corner to corner of the ball; each aims a little beyond the goal, and an image that comes
    no nearer for 50 steps is given up. Then bisection between the clean image and the found one.

    Args:
        norm: the norm that is kept small, ``"l2"`` or ``"linf"``.
        overshoot: share by which each step goes beyond the linearised boundary.
        shrink: bisections at the end; each costs a forward pass.

    Other arguments and errors as for ``pgd``.
    """
    if norm not in NORMS:
        raise ClearError(f"unknown norm {norm!r}: choose one of {', '.join(NORMS)}")
    if steps < 1 or shrink < 0 or overshoot < 0:
        raise ClearError(
            f"steps ({steps}) must be at least 1, shrink ({shrink}) and overshoot ({overshoot}) at least 0"
        )

    def step(batch: Active, value: Tensor, gradient: Tensor) -> Active:
        lower, upper = batch.bounds()
        free = torch.where(gradient < 0, batch.delta < upper, batch.delta > lower)
        w = -gradient * free
        direction = w if norm == "l2" else w.sign()
        slope = (w * direction).sum(dim=(1, 2, 3)).clamp(min=1e-12)
        move = (((1 + overshoot) * value + AIM) / slope)[:, None, None, None] * direction
        move = move.clamp(-batch.eps / SMALL, batch.eps / SMALL)
        return batch._replace(delta=(batch.delta + move).clamp(lower, upper))

    def attack(batch: Active) -> tuple[Tensor, Tensor]:
        objective = LOSS_FUNCTIONS["margin"](confidence)
        delta, taken, _ = search(model, batch, objective, step, confidence=confidence, steps=steps, patience=PATIENCE)
        return shrunk(model, batch._replace(delta=delta), confidence, shrink), taken

    return in_batches(attack, model, prepared(model, images, labels, target, eps), confidence)


def finite_logits(model: nn.Module, x: Tensor) -> Tensor:
    """``model(x)``, refused where it holds NaN or infinite values."""
    logits = model(x.contiguous(memory_format=torch.channels_last))
    if not torch.isfinite(logits).all():
        raise ClearError(f"{type(model).__name__} returns NaN or infinite logits: check its weights")
    return logits


def evaluate(model: nn.Module, batch: Active, objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
    """Logits ``[A, C]``, objective ``[A]`` and its gradient ``[A, 3, H, W]`` at what the network sees."""
    x = seen(batch).requires_grad_()
    with torch.enable_grad():
        logits = finite_logits(model, x)
        value = objective(logits, batch.target)
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return logits.detach(), value.detach(), gradient


def search(
    model: nn.Module,
    batch: Active,
    objective: Objective,
    update: Update,
    *,
    confidence: float,
    steps: int,
    patience: float = math.inf,
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply ``update`` until the goal is reached; finished images leave the batch.

    So do images that are back where they were two steps ago: the update is deterministic, so they
    would go round for ever; and images whose objective has reached no new low for ``patience`` steps.

    Returns:
        ``delta [N, 3, H, W]``, gradient steps taken ``int64 [N]``, and ``bool [N]``, goal missed.
    """
    delta, taken = batch.delta.clone(), torch.zeros_like(batch.target)
    missed = torch.ones_like(batch.target, dtype=torch.bool)
    circling = torch.zeros_like(missed)
    place = torch.arange(len(delta), device=delta.device)
    before = batch._replace(delta=torch.full_like(delta, math.inf))
    lowest, since = torch.full_like(batch.eps[:, 0, 0, 0], math.inf), torch.zeros_like(taken)
    for _ in range(steps + 1):
        logits, value, gradient = evaluate(model, batch, objective)
        done = reached(logits, batch.target, confidence)
        since[place] = torch.where(value < lowest[place], 0, since[place] + 1)
        lowest[place] = torch.minimum(value, lowest[place])
        leaving = done | circling | (taken[place] == steps) | (since[place] > patience)
        if leaving.any():
            delta[place[leaving]], missed[place[done]] = batch.delta[leaving], False
            batch, before = batch.keep(~leaving), before.keep(~leaving)
            place, value, gradient = (entry[~leaving] for entry in (place, value, gradient))
            if not len(place):
                break
        moved = update(batch, value, gradient)
        circling = ((moved.delta == before.delta) & (moved.velocity == before.velocity)).flatten(1).all(1)
        before, batch = batch, moved
        taken[place] += 1
    return delta, taken, missed


def arrived(model: nn.Module, batch: Active, confidence: float) -> Tensor:
    """``bool [A]``: the goal is reached, by one more forward pass."""
    return reached(finite_logits(model, seen(batch)), batch.target, confidence)


def seen(batch: Active) -> Tensor:
    """What the network sees, ``[A, 3, H, W]`` in [0, 1]."""
    return (batch.clean + batch.delta).clamp(0, 1)


def random_delta(batch: Active, generator: torch.Generator | None, constraint: Constraint) -> Tensor:
    """A uniformly random point of the ball, made to fit the constraint."""
    draws = torch.rand(batch.clean.shape, generator=generator, dtype=batch.clean.dtype).to(batch.clean.device)
    return constraint.project(batch._replace(delta=(2 * draws - 1) * batch.eps))


def shrunk(model: nn.Module, batch: Active, confidence: float, rounds: int) -> Tensor:
    """The shortest successful multiple of each successful ``delta``, by bisection on the segment to the clean image."""
    low, high = torch.zeros_like(batch.eps), torch.ones_like(batch.eps)
    for _ in range(rounds):
        middle = (low + high) / 2
        works = arrived(model, batch._replace(delta=middle * batch.delta), confidence)[:, None, None, None]
        low, high = torch.where(works, low, middle), torch.where(works, middle, high)
    return high * batch.delta


@torch.no_grad()
def in_batches(
    attack: Callable[[Active], tuple[Tensor, Tensor]], model: nn.Module, everything: Active, confidence: float
) -> AttackResult:
    """Run ``attack`` batch by batch on a frozen model, and measure what came out.

    ``attack`` maps images that are still clean to ``delta`` and the number of gradients used.
    """
    if not 0 <= confidence <= 1:
        raise ClearError(f"confidence {confidence} is not a probability: choose 0 to 1")
    parts = []
    with frozen(model):
        size = BATCH.get(everything.clean.device.type, BATCH["cuda"])
        for batch in zip(*(entry.split(size) for entry in everything), strict=True):
            clean = Active(*batch)
            delta, taken = attack(clean)
            parts.append(measured(model, clean._replace(delta=delta), confidence, taken))
    return AttackResult(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(AttackResult)))


def measured(model: nn.Module, batch: Active, confidence: float, taken: Tensor) -> AttackResult:
    """The result of one batch, success and confidence by a last forward pass."""
    adversarial = seen(batch)
    logits = finite_logits(model, adversarial)
    probability = logits.softmax(1).gather(1, batch.target[:, None])[:, 0]
    change = (adversarial - batch.clean).flatten(1)
    success = reached(logits, batch.target, confidence)
    return AttackResult(adversarial, success, probability, taken, change.abs().amax(1), change.norm(dim=1))


def prepared(model: nn.Module, images: Tensor, labels: Tensor, target: int | Tensor, eps: float | Tensor) -> Active:
    """All images, unperturbed, with a target and a radius each; what makes no sense is refused."""
    if not len(images):
        raise ClearError("no image to attack: none is eligible, choose another source, target or data set")
    target = torch.as_tensor(target, device=images.device).expand(len(images))
    eps = torch.as_tensor(eps, device=images.device, dtype=images.dtype).expand(len(images))
    check_images(model, images)
    check_targets(labels, len(images))
    check_targets(target, len(images))
    check_pixels(images)
    if not ((eps >= 0) & (eps <= 1)).all():
        raise ClearError(
            f"eps runs from {eps.min():.3g} to {eps.max():.3g}: choose 0 to 1, in units of the pixel range"
        )
    if (labels == target).any():
        raise ClearError(f"{int((labels == target).sum())} images have the target as their label: leave them out")
    index = torch.arange(len(images), device=images.device)
    zero = torch.zeros_like(images)
    return Active(index, images, zero, target, eps[:, None, None, None], zero)


def check_pixels(images: Tensor) -> None:
    """Refuse pixels outside [0, 1]."""
    if images.min() < 0 or images.max() > 1:
        raise ClearError(f"images run from {images.min():.3g} to {images.max():.3g}: give pixels in [0, 1]")
