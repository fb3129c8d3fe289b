"""The league: every intervention on the same network, subset and budget, and the brackets that hold them.

A ``Point`` names one training run completely; ``run`` makes its network and its figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lazyutils import augment, critics, data, interventions, models, training
from lazyutils.data import ColoredDigits
from lazyutils.errors import ClearError
from lazyutils.interventions import Recipe
from lazyutils.metrics import accuracy, cheating, worst_digit

STUDY_RATE, STUDY_PATIENCE = 1e-3, 5
"""The study's Adam at a constant rate; epochs without a better validation accuracy before it stops."""
SHIFT_SIZE = 1000
"""Hard images that are recoloured for the shifts."""


Look = Mapping[str, Any]
"""How the data set was painted, from ``data.look``."""


@dataclass(frozen=True)
class Point:
    """One training run: everything its figures depend on, beside the data file and the code."""

    method: str
    seed: int = 0
    train_size: int = 12000
    validation_size: int = 3000
    hard_size: int = 10000
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 0.004
    weight_decay: float = 0.5
    critic: str = "lazy"
    bias: float | None = None
    strength: float | None = None


@dataclass
class Material:
    """What an intervention may use: biased images, labels, and a critic it trains on them.

    ``colors`` is the truth, and None for every label-free method; ``average`` that of the network in training.
    """

    images: Tensor
    labels: Tensor
    point: Point
    average: training.MovingAverage
    colors: Tensor | None = None

    @property
    def steps(self) -> int:
        """Training steps in all."""
        return self.point.epochs * -(-len(self.labels) // self.point.batch_size)

    @cached_property
    def critic(self) -> Tensor:
        """A committee's answers on the training images, ``int64 [N]``."""
        settings = self.critic_settings(self.point.critic)
        return critics.classes(critics.train_committee(self.images, self.labels, settings), self.images)

    def critic_settings(self, kind: str) -> critics.CriticSettings:
        """How critics of a kind in ``critics.CRITICS`` are trained for this point."""
        return replace(critics.CRITICS[kind], seed=self.point.seed)


def robust(seed: int) -> nn.Module:
    """The study's remedy."""
    return models.build("RobustCNN", seed)


class Unnormalized(nn.Module):
    """The study's remedy without its BatchNorm."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.net = robust(seed)
        self.net.bn1, self.net.bn2, self.net.bn3 = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Grayscale(nn.Module):
    """A network that sees luminance only."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.net = robust(seed)
        self.register_buffer("luminance", torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x * self.luminance).sum(1, keepdim=True).expand(-1, 3, -1, -1))


@dataclass(frozen=True)
class Method:
    """One row: ``build`` makes the recipe, ``knows`` says what it uses beside images and labels.

    ``as_study``: Adam at a constant rate with early stopping and no augmentation, instead of the league's budget.
    """

    title: str
    build: Callable[[Material], Recipe] = lambda material: Recipe()
    knows: str = "nothing"
    augmented: bool = True
    as_study: bool = False
    needs_conflicts: bool = False
    strength: float | None = None
    network: Callable[[int], nn.Module] = robust
    prepare: Callable[[ColoredDigits, int, Look], ColoredDigits] = lambda digits, seed, look: digits


def lff(material: Material) -> Recipe:
    """LfF with the book's LazyCNN as the biased network."""
    biased = models.build("LazyCNN", material.point.seed).to(material.labels.device)
    return interventions.learning_from_failure(biased, material.labels)


def gradient_resampling(material: Material) -> Recipe:
    """PGD with the book's LazyCNN as the critic."""
    critic = critics.train_whole(material.images, material.labels, material.critic_settings("lazy"))
    features = training.batched(critic.features, material.images).flatten(1)
    return interventions.gradient_norm_resampling(training.batched(critic.fc, features), features, material.labels)


def randomly_colored(digits: ColoredDigits, seed: int, look: Look) -> ColoredDigits:
    """The same digits in colours that are independent of them."""
    return data.recolor(digits, data.draw_colors(digits.labels, 0.1, seed), seed=seed, **look)


METHODS: dict[str, Method] = {
    "erm": Method("ERM + BatchNorm (study)", augmented=False, as_study=True),
    "erm_unnormalized": Method("ERM without BatchNorm", augmented=False, as_study=True, network=Unnormalized),
    "study_penalty": Method(
        "Colour-gradient penalty (study)",
        lambda m: interventions.study_penalty(m.point.strength, m.steps),
        "the bias is colour",
        augmented=False,
        as_study=True,
        strength=10.0,
    ),
    "erm_augmented": Method("ERM + geometry"),
    "study_penalty_augmented": Method(
        "Study's penalty + geometry",
        lambda m: interventions.study_penalty(m.point.strength, m.steps),
        "the bias is colour",
        strength=10.0,
    ),
    "recoloring_penalty": Method(
        "Recolouring penalty",
        lambda m: interventions.recoloring_penalty(m.point.strength, m.steps),
        "the bias is a global colour",
        strength=3.0,
    ),
    "spectral_decoupling": Method(
        "Spectral decoupling", lambda m: interventions.spectral_decoupling(m.point.strength), strength=0.01
    ),
    "just_train_twice": Method(
        "Just train twice",
        lambda m: interventions.just_train_twice(m.critic, m.labels, m.point.strength),
        "a critic",
        needs_conflicts=True,
        strength=20.0,
    ),
    "learning_from_failure": Method("Learning from failure", lff, "a critic beside"),
    "gradient_resampling": Method("Gradient-norm resampling", gradient_resampling, "a critic"),
    "cell_reweighting": Method(
        "Cell reweighting",
        lambda m: interventions.cell_reweighting(m.critic, m.labels),
        "a critic",
        needs_conflicts=True,
    ),
    "logit_correction": Method(
        "Logit correction",
        lambda m: interventions.logit_correction(m.critic, m.labels),
        "a critic",
        needs_conflicts=True,
    ),
    "corrected_resampling": Method(
        "Logit correction + resampling",
        lambda m: interventions.logit_correction(m.critic, m.labels, m.point.strength),
        "a critic",
        needs_conflicts=True,
        strength=8.0,
    ),
    "corrected_recoloring": Method(
        "Logit correction + resampling + recolouring",
        lambda m: interventions.corrected_recoloring(m.critic, m.labels, m.point.strength, m.steps),
        "a critic; the bias is a global colour",
        needs_conflicts=True,
        strength=8.0,
    ),
    "corrected_teacher": Method(
        "Logit correction + resampling + teacher",
        lambda m: interventions.logit_correction(m.critic, m.labels, m.point.strength, m.average.network),
        "a critic",
        needs_conflicts=True,
        strength=8.0,
    ),
}
"""Label-free: images and labels as they are. ``knows`` is what each presumes beside them."""

BRACKETS: dict[str, Method] = {
    "oracle": Method("Oracle: colours random", prepare=randomly_colored, knows="unbiased images"),
    "group_labels": Method(
        "True colours as critic",
        lambda m: interventions.logit_correction(m.colors, m.labels, 8.0),
        "colour labels",
        needs_conflicts=True,
    ),
    "conflict_only": Method(
        "Conflicting images only",
        prepare=lambda digits, seed, look: digits[digits.conflicting],
        knows="colour labels",
        needs_conflicts=True,
    ),
    "grayscale": Method("Grey images", network=Grayscale, knows="other inputs"),
    "colour_only": Method("Colour only", network=lambda seed: models.build("ColorCritic", seed), augmented=False),
}
"""What holds the league: each changes the images or sees the truth."""

BEST = "corrected_resampling"
ENTRIES = METHODS | BRACKETS


def check(point: Point) -> Method:
    """The point's method, or a ``ClearError`` that says why the combination is impossible."""
    if point.method not in ENTRIES:
        raise ClearError(f"unknown method {point.method!r}: choose one of {', '.join(ENTRIES)}")
    method = ENTRIES[point.method]
    if point.critic not in critics.CRITICS:
        raise ClearError(f"unknown critic {point.critic!r}: choose one of {', '.join(critics.CRITICS)}")
    if point.bias == 1 and method.needs_conflicts:
        raise ClearError(f"{point.method} learns from conflicting images, and with bias 1.0 there are none")
    if point.strength is not None and method.strength is None:
        raise ClearError(f"{point.method} has no strength: leave it out, or choose a method with a penalty or weight")
    if point.strength is not None and point.strength <= 0:
        raise ClearError(f"strength {point.strength} switches {point.method} off: give more than 0, or choose erm")
    return method


def run(
    point: Point,
    path: Path,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[nn.Module, int], None] | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Train one point's network and judge it once, after its last epoch.

    Args:
        path: the data set of task 0.
        on_epoch: receives the network and the epoch's number, to watch and not to choose.

    Returns:
        The network in evaluation mode, and its figures: accuracies and shares as fractions, processor ``seconds`` of
        all training, critic included.
    """
    look, (biased, easy) = data.look(path), biased_subsets(point, path, device)
    started = time.process_time()
    model = train_on(point, biased, easy, look, on_epoch)
    seconds = time.process_time() - started
    hard = data.load(path, "hard")[: point.hard_size].to(device)
    score = {"balanced_validation": label_free_score(model, easy, validation_critic(like(point), path, device))}
    shifted = shifts(model, hard[:SHIFT_SIZE], look)
    return model, {"seconds": seconds, **score, **judge(model, easy, hard), **shifted}


def train(point: Point, path: Path, device: torch.device | str = "cpu") -> nn.Module:
    """One point's network in evaluation mode, not judged; arguments as for ``run``."""
    return train_on(point, *biased_subsets(point, path, device), data.look(path))


def train_on(
    point: Point,
    biased: ColoredDigits,
    easy: ColoredDigits,
    look: Look,
    on_epoch: Callable[[nn.Module, int], None] | None = None,
) -> nn.Module:
    """The point's network, trained on ``biased`` images and, as a study's row, stopped by ``easy`` ones."""
    method = ENTRIES[point.method]
    point = replace(point, strength=method.strength) if point.strength is None else point
    seen = method.prepare(biased, point.seed, look)
    truth = seen.colors if point.method in BRACKETS else None
    model = method.network(point.seed).to(biased.images.device, memory_format=torch.channels_last)
    material = Material(seen.images, seen.labels, point, training.MovingAverage(model), truth)
    train_network(model, material, method, easy, on_epoch)
    return model


def biased_subsets(point: Point, path: Path, device: torch.device | str) -> tuple[ColoredDigits, ColoredDigits]:
    """Training and validation images of a possible point, recoloured where it has a bias of its own."""
    check(point)
    subsets = data.easy_subsets(path, point.train_size, point.validation_size, point.seed, device)
    if point.bias is None:
        return subsets
    draws = [data.draw_colors(digits.labels, point.bias, 2 * point.seed + i) for i, digits in enumerate(subsets)]
    look = data.look(path)
    train, easy = (data.recolor(d, c, seed=point.seed, **look) for d, c in zip(subsets, draws, strict=True))
    return train, easy


def train_network(
    model: nn.Module,
    material: Material,
    method: Method,
    easy: ColoredDigits,
    on_epoch: Callable[[nn.Module, int], None] | None = None,
) -> None:
    """The league's budget, to be judged by the average of its last steps; or the study's, by its best epoch."""
    point, recipe = material.point, method.build(material)
    parameters = [p for network in (model, *recipe.beside) for p in network.parameters()]
    stopping = training.EarlyStopping(model, STUDY_PATIENCE) if method.as_study else None
    optimizer, scheduler = study_optimizer(parameters) if method.as_study else one_cycle(parameters, material)

    def after(epoch: int) -> bool:
        if on_epoch is not None:
            on_epoch(model, epoch)
        if stopping is None:
            return False
        return stopping.update(epoch, accuracy(training.predict(model, easy.images).argmax(1), easy.labels))

    training.fit(
        model,
        material.images,
        material.labels,
        optimizer=optimizer,
        epochs=point.epochs,
        batch_size=point.batch_size,
        seed=point.seed,
        loss=recipe.loss,
        scheduler=scheduler,
        augment=augment.geometric() if method.augmented else None,
        order=recipe.order,
        precision=training.resolve_precision("auto", material.images.device),
        average=None if method.as_study else material.average,
        on_epoch=after,
    )
    if stopping is None:
        material.average.apply()
    else:
        stopping.restore()


def one_cycle(parameters: list[nn.Parameter], material: Material) -> tuple[Optimizer, LRScheduler]:
    """The league's optimiser: AdamW, one cycle of the learning rate."""
    rate = material.point.learning_rate
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=material.point.weight_decay)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=material.steps)


def study_optimizer(parameters: list[nn.Parameter]) -> tuple[Optimizer, None]:
    """The study's: Adam at a constant rate."""
    return torch.optim.Adam(parameters, lr=STUDY_RATE), None


def label_free_score(model: nn.Module, easy: ColoredDigits, critic: Tensor) -> float:
    """What may choose between methods: validation accuracy balanced over (critic's class, label) cells."""
    return critics.balanced_accuracy(training.predict(model, easy.images).argmax(1), critic, easy.labels)


def like(point: Point) -> Point:
    """The plainest point with the same images."""
    return Point("erm", point.seed, point.train_size, point.validation_size, bias=point.bias)


@lru_cache(maxsize=1)
def validation_critic(point: Point, path: Path, device: torch.device | str) -> Tensor:
    """A critic's answers on the point's validation images, ``int64 [N]``: the same for every method."""
    biased, easy = biased_subsets(point, path, device)
    critic = critics.train_whole(biased.images, biased.labels, critics.CRITICS["lazy"])
    return critics.classes(critic, easy.images)


def judge(model: nn.Module, easy: ColoredDigits, hard: ColoredDigits) -> dict[str, float]:
    """Accuracies, who is followed, the worst digit."""
    easy_answers, answers = (training.predict(model, digits.images).argmax(1) for digits in (easy, hard))
    return {**cheating(easy_answers, easy, answers, hard), "worst_digit": worst_digit(hard.labels, answers)}


def shifts(model: nn.Module, hard: ColoredDigits, look: Look) -> dict[str, float]:
    """Accuracy on hard digits in colours never seen in training, and on a texture three times as strong."""
    other = next(name for name in ("tab10", "study") if name != look["palette"])
    shifted = {
        "unseen_colours": data.recolor(hard, hard.colors, other),
        "texture_shift": data.recolor(hard, hard.colors, look["palette"], 3 * look["noise"]),
    }
    return {name: accuracy(training.predict(model, d.images).argmax(1), d.labels) for name, d in shifted.items()}
