"""Task 5 beyond single images: one perturbation for all, crippled attackers, adversarial training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lazyutils import attacks, interventions, perturbations, training, universal
from lazyutils.adversarial_training import adversarial_loss
from lazyutils.cloak import STRONG, Goal, Models
from lazyutils.data import ColoredDigits, recolor
from lazyutils.metrics import accuracy
from lazyutils.training import predict
from lazyutils.universal_optuna import optuna_perturbation

LOOKS = 3  # forward passes that one gradient costs


def school(digits: ColoredDigits, look: Mapping[str, Any]) -> ColoredDigits:
    """The same digits on backgrounds drawn evenly from all ten colours; ``look``: palette, noise and seed."""
    colors = torch.randint(10, (len(digits),), generator=torch.Generator().manual_seed(look["seed"]))
    return recolor(digits, colors, **look)


@dataclass(frozen=True)
class Attempt:
    """Optuna's universal perturbation beside a gradient's that looked at the images as often.

    ``history`` holds the best mean probability of the target after each trial; ``nothing`` and ``gradient`` are that
    probability without any perturbation and with the gradient's. ``fooled`` and ``gradient_fooled`` are their shares of
    unseen images that get the target as the bare answer; ``read`` is the share read correctly without any.
    """

    history: list[float]
    nothing: float
    gradient: float
    fooled: float
    gradient_fooled: float
    read: float


def study_attempt(
    model: nn.Module,
    digits: ColoredDigits,
    images: Tensor,
    unseen: Tensor,
    goal: Goal,
    *,
    eps: float,
    trials: int,
    cells: int,
    seed: int,
) -> Attempt:
    """The study's failed experiment (start: surest target minus least sure source), and the same with gradients.

    Args:
        digits: images of all digits, to draw the start from.
        images: ``float32 [N, 3, H, W]``, the sources that the perturbation is tuned on.
        unseen: ``float32 [M, 3, H, W]``, other sources.
    """
    start = universal.study_start(model, digits.images, digits.labels, goal.source, goal.target)
    found = optuna_perturbation(model, images, goal.target, eps, start, trials=trials, cells=cells, seed=seed)
    steps = max(1, trials // LOOKS)
    gradient = universal.universal_perturbation(model, images, goal.target, eps, epochs=steps, batch_size=len(images))

    def score(delta: Tensor) -> float:
        return predict(model, (images + delta).clamp(0, 1)).softmax(1)[:, goal.target].mean().item()

    def share(delta: Tensor, answer: int) -> float:
        return universal.universal_success(model, unseen, answer, delta, 0.0).double().mean().item()

    none = torch.zeros_like(gradient)
    fooled = [share(delta, goal.target) for delta in (found.delta, gradient)]
    return Attempt(found.history, score(none), score(gradient), *fooled, share(none, goal.source))


def universal_curves(
    models: Models,
    train: Tensor,
    held_out: Mapping[str, ColoredDigits],
    goal: Goal,
    *,
    radii: Sequence[float],
    epochs: int,
) -> dict[str, list[dict[str, float]]]:
    """``[network]``, one entry a radius: success of one perturbation for all, on images it never saw.

    ``answer``: the bare answer; ``confident``: above the goal's confidence.
    """
    found: dict[str, list[dict[str, float]]] = {}
    for name, model in models.items():
        for eps in radii:
            delta = universal.universal_perturbation(model, train, goal.target, eps, epochs=epochs)
            shares = {
                key: universal.universal_success(model, held_out[name].images, goal.target, delta, bar)
                for key, bar in (("answer", 0.0), ("confident", goal.confidence))
            }
            found.setdefault(name, []).append({key: share.double().mean().item() for key, share in shares.items()})
    return found


def telling(curves: Mapping[str, Sequence[Mapping[str, float]]], radii: Sequence[float]) -> dict[str, float]:
    """``[network]``: the radius at which ``universal_curves`` comes nearest to half of the images."""
    return {
        name: min(zip(points, radii, strict=True), key=lambda point: abs(point[0]["answer"] - 0.5))[1]
        for name, points in curves.items()
    }


def universal_by_color(
    models: Models,
    train: ColoredDigits,
    held_out: Mapping[str, ColoredDigits],
    goal: Goal,
    *,
    radii: Mapping[str, float],
    epochs: int,
    look: Mapping[str, Any],
) -> dict[str, Tensor]:
    """``[network]``: bare-answer success ``[2, 10]`` on each background, NaN where nothing is eligible.

    Row 0: one perturbation for all backgrounds; row 1: one made for that background alone. A radius a network;
    ``look``: palette and noise of the backgrounds.
    """
    found = {name: torch.full((2, 10), torch.nan) for name in models}
    for name, model in models.items():
        eps = radii[name]
        everywhere = universal.universal_perturbation(model, train.images, goal.target, eps, epochs=epochs)
        for color in held_out[name].colors.unique().tolist():
            same = recolor(train, torch.full_like(train.colors, color), **{**look, "seed": color})
            alone = universal.universal_perturbation(model, same.images, goal.target, eps, epochs=epochs)
            shown = held_out[name][held_out[name].colors == color].images
            for row, delta in enumerate((everywhere, alone)):
                success = universal.universal_success(model, shown, goal.target, delta, 0.0)
                found[name][row, color] = success.double().mean()
    return found


def by_kind(
    models: Models, digits: ColoredDigits, goal: Goal, radii: Sequence[float]
) -> dict[str, dict[str, list[float]]]:
    """``[network][kind]``: success over ``radii`` of any perturbation, of a tint alone, of a pattern without tint."""
    kinds = {
        "anything": attacks.Constraint(),
        "shape only": perturbations.ShapeOnly(digits.masks),
        "colour only": perturbations.TintOnly(digits.masks),
    }

    def share(model: nn.Module, constraint: attacks.Constraint, eps: float) -> float:
        options = {"steps": goal.pgd_steps, "confidence": 0.0, "constraint": constraint, **STRONG}
        return (
            attacks.pgd(model, digits.images, digits.labels, goal.target, eps, **options).success.double().mean().item()
        )

    return {
        name: {kind: [share(model, constraint, eps) for eps in radii] for kind, constraint in kinds.items()}
        for name, model in models.items()
    }


def hardened(
    model: nn.Module, train: ColoredDigits, critic: Tensor, *, eps: float, epochs: int, seed: int
) -> nn.Module:
    """A copy of the network, trained on against PGD, with logit correction alone.

    Args:
        train: biased images, as in the network's own training.
        critic: ``int64 [N]``, what the lazy network answers to them.
        eps: radius of the adversary; 0 is none, with the same images and steps.
    """
    strong = deepcopy(model).requires_grad_(True)
    recipe = interventions.logit_correction(critic, train.labels)
    optimizer = torch.optim.AdamW(strong.parameters(), lr=3e-4)
    loss = adversarial_loss(eps, steps=3, alpha=0.5, loss=recipe.loss, seed=seed) if eps else recipe.loss
    options = {"optimizer": optimizer, "epochs": epochs, "batch_size": 128, "seed": seed, "loss": loss}
    training.fit(strong, train.images, train.labels, **options)
    return strong


def hardening(
    models: Models,
    train: ColoredDigits,
    checks: Mapping[str, ColoredDigits],
    goal: Goal,
    *,
    eps: float,
    epochs: int,
    seed: int,
) -> dict[str, dict[str, float]]:
    """The best fixed network before and after adversarial training: accuracies, and PGD's success on all images.

    Between them, the control: trained on in the same way, without an adversary.

    Args:
        train: biased images. The lazy network is the critic.
        checks: ``easy`` and ``hard`` images to measure accuracy on, and the ``attacked`` sources.
    """
    fixed, critic = models["robust_best"], predict(models["lazycnn"], train.images).argmax(1)
    plain, strong = (hardened(fixed, train, critic, eps=radius, epochs=epochs, seed=seed) for radius in (0.0, eps))
    found = {}
    for name, model in {"fixed": fixed, "fixed, trained on": plain, "fixed, then hardened": strong}.items():
        found[name] = {
            f"{split}_accuracy": accuracy(predict(model, checks[split].images).argmax(1), checks[split].labels)
            for split in ("easy", "hard")
        }
        found[name]["pgd"] = goal.run("pgd", model, checks["attacked"].images, eps).success.double().mean().item()
    return found


def by_radius(
    curves: Mapping[str, Sequence[Mapping[str, float]]], radii: Sequence[float]
) -> dict[str, dict[str, float]]:
    """``["gradient_eps_<radius>"][network]``: the bare-answer success of ``universal_curves``."""
    return {
        f"gradient_eps_{eps}": {name: points[at]["answer"] for name, points in curves.items()}
        for at, eps in enumerate(radii)
    }
