"""The measurements of Task 5: which images, which attacks, and what is counted, for several networks at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lazyutils import attacks, blackbox, interrogation, perturbations, universal
from lazyutils.attack_peers import fmn_minimal_eps
from lazyutils.attacks import AttackResult
from lazyutils.data import ColoredDigits, labels_of, load, stratified_split
from lazyutils.errors import ClearError
from lazyutils.metrics import wilson_interval
from lazyutils.training import predict

Models = Mapping[str, nn.Module]
Split = tuple[int, int, int]
"""Training images, validation images and seed: arguments of ``stratified_split``."""
STRONG = {"loss": "margin", "momentum": 0.75}
"""PGD at its strongest where the answer alone counts: smooth steps between the rivals."""


@dataclass(frozen=True)
class Goal:
    """What an attack wants, and how long it may try.

    Attributes:
        source, target: the digit that is shown and the one that is to be answered.
        confidence: probability of the target above which an image counts as fooled.
        pgd_steps, deepfool_steps: gradient steps at most.
    """

    source: int
    target: int
    confidence: float
    pgd_steps: int
    deepfool_steps: int

    def run(self, method: str, model: nn.Module, images: Tensor, eps: float | Tensor) -> AttackResult:
        """One of the study's three methods, by name."""
        labels = torch.full((len(images),), self.source, device=images.device)
        given = (model, images, labels, self.target, eps)
        if method == "fgsm":
            return attacks.fgsm(*given, confidence=self.confidence)
        if method == "pgd":
            return attacks.pgd(*given, steps=self.pgd_steps, confidence=self.confidence)
        return attacks.deepfool(*given, steps=self.deepfool_steps, confidence=self.confidence)


METHODS = ("fgsm", "pgd", "deepfool")


def of_digit(path: Path, split: str, digit: int, count: int) -> ColoredDigits:
    """The first ``count`` images of ``digit`` in a split."""
    index = (labels_of(path, split) == digit).nonzero()[:count, 0]
    if not len(index):
        raise ClearError(f"the {split} set has no image of {digit}: choose another source")
    return load(path, split, index)


def split_of(sidecar: Mapping[str, Any]) -> Split:
    """What a checkpoint's network was trained on: one of Task 4's points, or Task 1's LazyCNN; so is a stand-in."""
    made = sidecar.get("point") or interrogation.made_with(sidecar)
    return made["train_size"], made["validation_size"], made["seed"] if "seed" in made else made["seeds"][0]


def unseen_easy(path: Path, splits: Sequence[Split], count: int, digit: int | None = None) -> ColoredDigits:
    """At most ``count`` easy images, of one digit or of all, that no network with one of ``splits`` was trained on."""
    labels = labels_of(path, "easy")
    seen = torch.zeros(len(labels), dtype=torch.bool)
    for split in splits:
        seen[stratified_split(labels, *split)[0]] = True
    _, validation = stratified_split(labels, *splits[0])
    unseen = validation[~seen[validation]]
    kept = unseen if digit is None else unseen[labels[unseen] == digit]
    return load(path, "easy", kept[:count])


def trained_on(path: Path, split: Split, count: int) -> Tensor:
    """Positions ``int64 [M]`` of at most ``count`` of the easy images that a network with this split was trained on."""
    return stratified_split(labels_of(path, "easy"), *split)[0][:count]


def joined(*parts: ColoredDigits) -> ColoredDigits:
    """Several sets as one, in that order."""
    return ColoredDigits(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(ColoredDigits)))


def spread(digits: ColoredDigits, count: int) -> ColoredDigits:
    """At most ``count`` images, evenly over the whole set."""
    return digits[torch.linspace(0, len(digits) - 1, min(count, len(digits))).long()]


def read_by(models: Iterable[nn.Module], digits: ColoredDigits) -> Tensor:
    """``bool [N]``: the images that every model answers with their label."""
    return torch.stack([predict(model, digits.images).argmax(1) == digits.labels for model in models]).all(0)


def answered(models: Iterable[nn.Module], digits: ColoredDigits) -> ColoredDigits:
    """The images that every model answers with their label."""
    right = read_by(models, digits)
    if not right.any():
        raise ClearError("no eligible image: none of them is answered with its label, choose another source or set")
    return digits[right]


def readable(model: nn.Module, digits: ColoredDigits) -> ColoredDigits:
    """The images that the model answers with their label, or all of them where it answers none so."""
    right = read_by([model], digits)
    return digits[right] if right.any() else digits


def comparable(models: Models, digits: ColoredDigits, needed: Sequence[str]) -> dict[str, nn.Module]:
    """The ``needed`` models, and each other one that reads an image which all those before it read."""
    kept = list(needed)
    for name in models:
        if name not in kept and read_by([models[key] for key in (*kept, name)], digits).any():
            kept.append(name)
    return {name: model for name, model in models.items() if name in kept}


@dataclass(frozen=True)
class Attacked:
    """One network's eligible images and what each method made of them."""

    digits: ColoredDigits
    results: dict[str, AttackResult]
    runner_up: int  # eligible images whose second answer is the target


def attack_all(models: Models, digits: ColoredDigits, goal: Goal, eps: float) -> dict[str, Attacked]:
    """The three methods against each network, on every image that it answers with the label.

    Raises:
        AssertionError: a result left the ball or [0, 1].
    """
    found = {}
    for name, model in models.items():
        mine = answered([model], digits)
        second = predict(model, mine.images).topk(2).indices[:, 1]
        results = {method: goal.run(method, model, mine.images, eps) for method in METHODS}
        for result in results.values():
            assert (result.images - mine.images).abs().max() <= eps + 1e-6
            assert result.images.min() >= 0 and result.images.max() <= 1
        found[name] = Attacked(mine, results, int((second == goal.target).sum()))
    return found


def shares_fooled(found: Mapping[str, Attacked]) -> dict[str, dict[str, float]]:
    """``[network][method]``: share of the eligible images that are fooled."""
    return {
        name: {method: result.success.double().mean().item() for method, result in attacked.results.items()}
        for name, attacked in found.items()
    }


def shares_by_color(found: Mapping[str, Attacked]) -> dict[str, dict[str, dict[str, float | None]]]:
    """``[network][half]``: number of eligible images and the shares that are fooled; None in an empty half.

    ``other_colour``: the background is another digit's, so that the cues disagree. ``own_colour``: both say the same.
    """

    def half(attacked: Attacked, where: Tensor) -> dict[str, float | None]:
        n = int(where.sum())
        shares = {key: result.success[where].double().mean().item() for key, result in attacked.results.items()}
        return {"n": n, **(shares if n else dict.fromkeys(shares))}

    shares = {}
    for name, attacked in found.items():
        against = attacked.digits.conflicting
        shares[name] = {"other_colour": half(attacked, against), "own_colour": half(attacked, ~against)}
    return shares


def rounded_success(model: nn.Module, result: AttackResult, goal: Goal) -> float:
    """Share of images that still fool the network once saved with 8 bits a channel."""
    return (
        universal.universal_success(
            model,
            perturbations.to_8_bits(result.images),
            goal.target,
            torch.zeros(()).to(result.images),
            goal.confidence,
        )
        .double()
        .mean()
        .item()
    )


def minimal_radii(models: Models, images: Tensor, goal: Goal, largest: float) -> dict[str, dict[str, Tensor]]:
    """``[network][method]``: smallest radius for each image ``float32 [N]``, infinite beyond ``largest``."""

    def radius(attack: Callable[[Tensor, Tensor], AttackResult]) -> Tensor:
        labels = torch.full((len(images),), goal.source, device=images.device)
        return perturbations.minimal_eps(lambda x, _y, eps: attack(x, eps).success, images, labels, largest=largest)

    return {
        name: {method: radius(lambda x, eps, at=(method, model): goal.run(*at, x, eps)) for method in METHODS}
        for name, model in models.items()
    }


def answer_radii(models: Models, images: Tensor, goal: Goal, largest: float) -> dict[str, dict[str, Tensor]]:
    """As ``minimal_radii``, for the bare answer: plain PGD, PGD at its strongest, and foolbox's FMN."""
    labels = torch.full((len(images),), goal.source, device=images.device)
    found = {}
    for name, model in models.items():

        def radius(model: nn.Module = model, **options: str | float) -> Tensor:
            def attack(x: Tensor, y: Tensor, eps: Tensor) -> Tensor:
                settings = {"steps": goal.pgd_steps, "confidence": 0.0, **options}
                return attacks.pgd(model, x, y, goal.target, eps, **settings).success

            return perturbations.minimal_eps(attack, images, labels, largest=largest)

        fmn = fmn_minimal_eps(model, images, goal.target, steps=2 * goal.pgd_steps)
        found[name] = {"PGD": radius(), "PGD, margin and momentum": radius(**STRONG), "FMN (foolbox)": fmn}
    return found


def transferred(models: Models, digits: ColoredDigits, goal: Goal, eps: float) -> dict[str, dict[str, float]]:
    """``[made against][shown to]``: share of images whose bare answer becomes the target.

    The attack takes all its steps: an image that stopped where the first network falls would have nothing to spare.
    """
    options = {"steps": goal.pgd_steps, "confidence": 1.0, **STRONG}
    made = {
        name: attacks.pgd(model, digits.images, digits.labels, goal.target, eps, **options).images
        for name, model in models.items()
    }
    return perturbations.transfer(models, made, goal.target, 0.0)


def surfaces(models: Models, image: Tensor, goal: Goal, eps: float, seed: int) -> dict[str, Tensor]:
    """``[network]``: log-odds of the target around ``image [3, H, W]``, towards the target and along random signs."""
    generator = torch.Generator().manual_seed(seed)
    across = eps * (torch.randint(0, 2, image.shape, generator=generator) * 2 - 1).to(image)
    return {
        name: perturbations.loss_surface(
            model, image, goal.target, goal.run("fgsm", model, image[None], eps).images[0] - image, across
        )
        for name, model in models.items()
    }


def masking_checks(
    models: Models, images: Tensor, goal: Goal, radii: Mapping[str, float], *, restarts: int, queries: int, seed: int
) -> dict[str, dict[str, float]]:
    """Would the gradients lie? For each network, success of the bare answer within its radius (Athalye et al. 2018).

    ``pgd`` once, ``restarts`` with random restarts, ``square`` without gradients, ``unbounded`` with a radius of 1
    (anything below 1 is suspicious), and ``zero_gradient``, the share of images with no gradient at all.
    """
    labels = torch.full((len(images),), goal.source, device=images.device)
    found = {}
    for name, model in models.items():
        given, eps = (model, images, labels, goal.target), radii[name]
        options = {"steps": goal.pgd_steps, "confidence": 0.0, **STRONG}
        generator = torch.Generator().manual_seed(seed)
        runs = {
            "pgd": attacks.pgd(*given, eps, **options),
            "restarts": attacks.pgd(*given, eps, restarts=restarts, generator=generator, **options),
            "square": blackbox.square(*given, eps, queries=queries, confidence=0.0, generator=generator),
            "unbounded": attacks.pgd(*given, 1.0, **options),
        }
        shares = {key: result.success.double().mean().item() for key, result in runs.items()}
        still = attacks.fgsm(*given, 0.1).linf == 0
        found[name] = {"radius": eps, **shares, "zero_gradient": still.double().mean().item()}
    return found


@dataclass(frozen=True)
class Drawing:
    """What a network's minimal perturbations draw.

    Attributes:
        delta: ``float32 [N, 3, H, W]``.
        shares: tint, stroke and pattern share of the energy, ``[N]`` each.
        colors: ``[10]``, mean cosine of the background's tint with the way to each colour.
        shapes: ``[10]``, mean correlation of the ink with each digit's stroke.
    """

    delta: Tensor
    shares: dict[str, Tensor]
    colors: Tensor
    shapes: Tensor


def drawings(models: Models, digits: ColoredDigits, goal: Goal, templates: Tensor, palette: str) -> dict[str, Drawing]:
    """The smallest perturbation (L2 DeepFool, no ball) of each network, taken apart; the data set's ``palette``.

    Failures are left out; where nothing succeeds, all are shown as far as they got.
    """
    found = {}
    for name, model in models.items():
        result = goal.run("deepfool", model, digits.images, 1.0)
        kept = result.success if result.success.any() else torch.ones_like(result.success)
        mine, delta = digits[kept], (result.images - digits.images)[kept]
        matches = perturbations.shape_matches(perturbations.ink(delta, mine.images, mine.masks), templates)
        found[name] = Drawing(
            delta,
            perturbations.energy_shares(delta, mine.masks),
            perturbations.tint_directions(delta, mine.masks, mine.colors, palette).nanmean(0),
            matches.mean(0),
        )
    return found


def noise_shares(digits: ColoredDigits, seed: int) -> dict[str, float]:
    """The mean energy shares of Gaussian noise on the same images, for comparison."""
    noise = torch.randn(digits.images.shape, generator=torch.Generator().manual_seed(seed)).to(digits.images)
    return {key: share.mean().item() for key, share in perturbations.energy_shares(noise, digits.masks).items()}


def medians(radii: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, float | None]]:
    """``[network][method]``: the median radius; None where half of the images or more were never fooled."""
    return {
        name: {
            method: value if (value := values.median().item()) < torch.inf else None for method, values in row.items()
        }
        for name, row in radii.items()
    }


def strongest(radii: Mapping[str, Mapping[str, Tensor]], largest: float) -> dict[str, float]:
    """``[network]``: the median radius of the method that needs least, at most ``largest``."""
    return {name: min(largest, *(values.median().item() for values in row.values())) for name, row in radii.items()}


def least(radii: Mapping[str, Tensor]) -> Tensor:
    """The smallest radius that any of the methods found for each image, ``float32 [N]``."""
    return torch.stack(list(radii.values())).amin(0)


def halves(values: Tensor, conflicting: Tensor) -> dict[str, float | None]:
    """Median of radii ``[N]`` over all images, those in another colour and those in their own; None for no image.

    It is infinite where half of the images or more were never fooled.
    """
    parts = {"all": values, "other_colour": values[conflicting], "own_colour": values[~conflicting]}
    return {name: part.median().item() if len(part) else None for name, part in parts.items()}


def relation(mine: Tensor, other: Tensor) -> str:
    """Does the one network need ``"more"`` than the other, ``"less"``, or are they ``"alike"``?

    Image by image, both ``[N]``; ties tell nothing. It is more, or less, where the 95% interval of the share of images
    with a larger radius leaves out one half.
    """
    larger, told = int((mine > other).sum()), int((mine != other).sum())
    low, high = wilson_interval(larger / told, told) if told else (0.0, 1.0)
    return "more" if low > 0.5 else "less" if high < 0.5 else "alike"
