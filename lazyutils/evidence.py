"""All measures for one network and its images: what the network does with each cue, and what each method's maps say."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lazyutils import counterfactuals, localization
from lazyutils.data import ColoredDigits, recolor
from lazyutils.gradcam import GradCAM
from lazyutils.hooks import captured, frozen
from lazyutils.models import ResNet18
from lazyutils.saliency import explain
from lazyutils.sanity import cascading_randomization
from lazyutils.training import predict


@dataclass(frozen=True)
class Case:
    """A network with the images it is asked about.

    Attributes:
        model: in evaluation mode.
        layer: dotted name of the layer that layer methods look at.
        stages: parts of the network from the logits down, for the randomisation check.
        digits: the images, on the model's device.
        targets: the class to explain, the network's own answer, ``int64 [N]``.
        recolored, reshaped: the images with another background, and with another digit, ``float32 [N, 3, 28, 28]``.
    """

    model: nn.Module
    layer: str
    stages: Sequence[str]
    digits: ColoredDigits
    targets: Tensor
    recolored: Tensor
    reshaped: Tensor

    @property
    def background(self) -> Tensor:
        """``bool [N, 28, 28]``, True off the stroke."""
        return ~self.digits.masks

    def first(self, n: int) -> Case:
        """The same case with its first ``n`` images."""
        parts = ("digits", "targets", "recolored", "reshaped")
        return replace(self, **{part: getattr(self, part)[:n] for part in parts})


STAGES = {
    "LazyCNN": ("fc", "conv3", "conv2", "conv1"),
    "ResNet18": ("net.fc", "net.layer4", "net.layer3", "net.layer2", "net.layer1", "net.bn1", "net.conv1"),
}


def open_case(
    model: nn.Module, layer: str, digits: ColoredDigits, *, palette: str = "study", noise: float = 20.0, seed: int = 0
) -> Case:
    """Ask a network about images, and prepare their counterfactuals.

    Args:
        model: an instance of a class in ``STAGES``.
        digits: on the CPU; they are moved to the model's device.
        palette, noise: of the counterfactual backgrounds, as the data's own.
        seed: of their texture.
    """
    device = next(model.parameters()).device
    recolored = recolor(digits, counterfactuals.next_colors(digits), palette, noise, seed).images.to(device)
    reshaped = counterfactuals.swap_shapes(digits, palette, noise, seed).images.to(device)
    digits = digits.to(device)
    targets = predict(model, digits.images).argmax(1)
    return Case(model, layer, STAGES[type(model).__name__], digits, targets, recolored, reshaped)


def exhibit(name: str, model: nn.Module, layer: str, digit: ColoredDigits) -> dict[str, Any]:
    """One image before a network: the answer, its confidence, and the maps of the answered and the true class.

    Args:
        name: begins the title.
        digit: a single image, on the model's device.
    """
    cam, true = GradCAM(model, layer), int(digit.labels)
    maps = [cam(digit.images, target) for target in (None, true)]
    probabilities, answer = maps[0].logits.softmax(1)[0], int(maps[0].targets)
    return {
        "title": name,
        "image": digit.images[0],
        "mask": digit.masks[0],
        "answer": answer,
        "confidence": probabilities[answer].item(),
        "maps": [found.displayed[0] for found in maps],
        "captions": [f"answer {answer}\n{probabilities[answer]:.1%}", f"truth {true}\n{probabilities[true]:.1%}"],
    }


def cue_effects(case: Case) -> dict[str, tuple[Tensor, Tensor]]:
    """What the network does when a cue is deleted or exchanged: truth to judge maps by.

    Returns:
        For each intervention the fall of the target's logit ``float32 [N]`` and whether the answer changed
        ``bool [N]``.
    """
    interventions = {
        "delete colour": counterfactuals.delete_color(case.digits),
        "exchange colour": case.recolored,
        "delete shape": counterfactuals.delete_shape(case.digits),
        "exchange shape": case.reshaped,
    }
    before = localization.target_scores(predict(case.model, case.digits.images), case.targets)
    effects = {}
    for name, images in interventions.items():
        logits = predict(case.model, images)
        fall = before - localization.target_scores(logits, case.targets)
        effects[name] = (fall, logits.argmax(1) != case.targets)
    return effects


def judge(method: str, case: Case, steps: int = 14) -> dict[str, Tensor]:
    """Every measure of one method's maps, per image.

    Returns:
        ``float32 [N]`` each: ``background`` (share of heat), ``pointing`` (hottest pixel on the background),
        ``recoloured``, ``reshaped`` (change of the map, see ``map_change``), ``zero`` (1 where there is no heat),
        ``seconds`` (the same for all images); and the curves of ``curves``.
    """
    start = time.perf_counter()
    maps = heat(method, case, case.digits.images)
    seconds = (time.perf_counter() - start) / len(maps)
    measures = {
        "background": localization.heat_share(maps, case.background),
        "pointing": localization.pointing_game(maps, case.background),
        "recoloured": map_change(maps, heat(method, case, case.recolored)),
        "reshaped": map_change(maps, heat(method, case, case.reshaped)),
        "zero": (maps.amax((1, 2)) == 0).float(),
        "seconds": torch.full((len(maps),), seconds),
    }
    return measures | curves(maps, case, steps)


def heat(method: str, case: Case, images: Tensor) -> Tensor:
    """A method's maps of ``images`` for the case's network and targets, ``float32 [N, 28, 28]``."""
    return explain(method, case.model, images, case.targets, case.layer)


def map_change(before: Tensor, after: Tensor) -> Tensor:
    """1 - rank correlation of two maps ``[N, H, W]``: 0 for the same map, 1 for unrelated ones; ``[N]``."""
    return 1 - localization.rank_correlation(before, after)


def curves(maps: Tensor, case: Case, steps: int = 14) -> dict[str, Tensor]:
    """Deletion and insertion curves with both fills, ``float32 [N, steps + 1]`` each."""
    images = case.digits.images
    fills = {
        "grey": torch.full_like(images, counterfactuals.GRAY),
        "colour": counterfactuals.color_card(case.digits),
    }
    found = {}
    for name, fill in fills.items():
        for direction, ends in (("deletion", (images, fill)), ("insertion", (fill, images))):
            curve = localization.deletion_curve(case.model, *ends, maps, case.targets, steps=steps)
            found[f"{direction}_{name}"] = curve
    return found


def randomization(method: str, case: Case, seed: int = 0) -> dict[str, Tensor]:
    """Likeness of the maps to those of the network with ever more layers untrained (rank correlation, ``[N]``)."""
    original = heat(method, case, case.digits.images)
    return {
        name: localization.rank_correlation(
            original, explain(method, model, case.digits.images, case.targets, case.layer)
        )
        for name, model in cascading_randomization(case.model, case.stages, seed)
    }


def summarize(measures: dict[str, Tensor]) -> dict[str, localization.Estimate]:
    """Means over images with 95% intervals, per measure; of a curve, its area."""
    numbers = {name: localization.area(values) if values.dim() == 2 else values for name, values in measures.items()}
    return {name: localization.estimate(values) for name, values in numbers.items()}


def cue_contrast(measures: dict[str, Tensor]) -> Tensor:
    """How much more a map changes with the colour than with the shape, per image, ``[N]``, about -1 to 1."""
    return measures["recoloured"] - measures["reshaped"]


def by_image_size(
    model: ResNet18, layer: str, digits: ColoredDigits, targets: Tensor, sizes: Sequence[int]
) -> list[dict[str, float | int | str]]:
    """The resolution artefact: the same weights and images, enlarged to other sizes before the first convolution.

    Args:
        model: left as it was; its own size is where its maps are compared with.
        digits: on the model's device.
        targets: ``int64 [N]``.
        sizes: sides in pixels.

    Returns:
        One row a size: ``size``, ``grid`` (of the layer's maps), ``zero`` (share without heat), ``background`` (mean
        share of heat), ``lowest``, ``highest`` (what a map of that grid could have), ``same_answer`` (share answered as
        targeted), ``likeness`` (rank correlation with the maps at the model's own size).
    """
    resized, background = copy.deepcopy(model), ~digits.masks
    own = GradCAM(model, layer, batch_size=50)(digits.images, targets).displayed
    rows = []
    for size in sizes:
        resized.image_size = size
        cam = GradCAM(resized, layer, batch_size=50)(digits.images, targets)
        height, width = cam.raw.shape[1:]
        bounds = localization.attainable_shares(background, (height, width))
        rows.append(
            {
                "size": size,
                "grid": f"{height} x {width}",
                "zero": cam.empty.float().mean().item(),
                "background": localization.estimate(localization.heat_share(cam.displayed, background)).mean,
                "lowest": bounds[0].mean().item(),
                "highest": bounds[1].mean().item(),
                "same_answer": (cam.logits.argmax(1) == targets).float().mean().item(),
                "likeness": localization.estimate(localization.rank_correlation(own, cam.displayed)).mean,
            }
        )
    return rows


def receptive_field(model: nn.Module, layer: str, images: Tensor) -> int:
    """Side in pixels of the part of an image that reaches the middle cell of a layer's maps.

    Args:
        images: ``float32 [N, 3, H, W]``, a few different ones, so that no ReLU hides a path everywhere.
    """
    with frozen(model), captured(model, [layer]) as record, torch.enable_grad():
        pixels = images.detach().clone().requires_grad_()
        model(pixels)
        height, width = record[layer].shape[2:]
        (reached,) = torch.autograd.grad(record[layer][:, :, height // 2, width // 2].sum(), pixels)
    rows = reached.abs().sum((0, 1, 3)).nonzero()
    return int(rows.max() - rows.min() + 1)


def as_json(value: Any) -> Any:
    """Figures as JSON takes them: estimates as dictionaries, what is not a number as null."""
    if is_dataclass(value):
        value = asdict(value)
    if isinstance(value, dict):
        return {key: as_json(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
