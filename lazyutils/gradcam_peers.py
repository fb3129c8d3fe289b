"""captum and the grad-cam package behind one signature, to compare with (both must be installed)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor, nn

from lazyutils.errors import ClearError
from lazyutils.gradcam import GradCAM, to_display
from lazyutils.hooks import find_layer

try:
    from captum.attr import LayerGradCam
    from pytorch_grad_cam import GradCAM as PackageGradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
except ModuleNotFoundError as missing:
    raise ClearError(f"{missing.name} is not installed: run `pip install captum grad-cam`, then try again") from None

Displayed = Callable[[nn.Module, str, Tensor, Tensor | int], Tensor]
PART = 20
"""Images compared at once: the package's gradient runs through all of a network, in double precision too."""


def book(model: nn.Module, layer: str, images: Tensor, targets: Tensor | int) -> Tensor:
    """This book's displayed map, ``[N, H, W]``."""
    return GradCAM(model, layer)(images, targets).displayed


def captum_raw(model: nn.Module, layer: str, images: Tensor, targets: Tensor | int) -> Tensor:
    """captum's map: weighted sum without ReLU, ``[N, h, w]``."""
    return LayerGradCam(model, find_layer(model, layer)).attribute(images, target=targets)[:, 0].detach()


def captum(model: nn.Module, layer: str, images: Tensor, targets: Tensor | int) -> Tensor:
    """captum's map, displayed by this book's recipe, ``[N, H, W]``."""
    return to_display(captum_raw(model, layer, images, targets), images.shape[2:])


def package(model: nn.Module, layer: str, images: Tensor, targets: Tensor | int) -> Tensor:
    """The grad-cam package's displayed map, ``[N, H, W]``; an int is passed on as its single target."""
    chosen = [targets] if isinstance(targets, int) else targets.tolist()
    with PackageGradCAM(model, [find_layer(model, layer)]) as cam:
        return torch.from_numpy(cam(images, [ClassifierOutputTarget(target) for target in chosen])).to(images)


LIBRARIES: dict[str, Displayed] = {"this book": book, "captum": captum, "grad-cam": package}


def pair(model: nn.Module, layer: str, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The displayed maps of this book and of the grad-cam package, ``[N, H, W]`` each."""
    return book(model, layer, images, targets), package(copy.deepcopy(model), layer, images, targets)


def compare(model: nn.Module, layers: Sequence[str], images: Tensor, classes: int = 10) -> list[dict[str, float | str]]:
    """Largest differences over all images, places and target classes.

    The displayed maps are compared twice: in the network's own float32, and in double precision. Where the
    evidence for a class nearly cancels, scaling to 0-1 blows up the float32 rounding of either side, and no map is
    more exact than the package's own ``rounding``.

    Returns:
        One row a layer: ``layer``, ``maps`` (number compared), ``raw`` (against captum), ``largest`` (raw value, to
        judge ``raw`` by), ``float32`` and ``displayed`` (against the grad-cam package, the latter in double
        precision), ``rounding`` (the package's float32 against its own double precision).
    """
    single, double = copy.deepcopy(model), copy.deepcopy(model).double()
    rows = []
    for layer in layers:
        worst = dict.fromkeys(("raw", "largest", "float32", "rounding", "displayed"), 0.0)
        for target, part in product(range(classes), images.split(PART)):
            everyone = torch.full((len(part),), target, device=images.device)
            ours = GradCAM(single, layer)(part, everyone)
            theirs = package(single, layer, part, everyone)
            exact = [way(double, layer, part.double(), everyone) for way in (book, package)]
            found = {
                "raw": gap(ours.raw, captum_raw(single, layer, part, everyone)),
                "largest": ours.raw.abs().max().item(),
                "float32": gap(ours.displayed, theirs),
                "rounding": gap(theirs, exact[1]),
                "displayed": gap(*exact),
            }
            worst = {name: max(value, found[name]) for name, value in worst.items()}
        rows.append({"layer": layer, "maps": classes * len(images), **worst})
    return rows


def gap(first: Tensor, second: Tensor) -> float:
    """Largest absolute difference."""
    return (first - second).abs().max().item()


def pitfalls(model: nn.Module, layer: str, images: Tensor, target: int) -> list[dict[str, str]]:
    """How far each library's maps move when nothing that matters changes, and what it leaves behind.

    Returns:
        One row a situation; a column a library: the largest difference to its map in the plain situation, or its error.
    """
    plain = with_relus(model, in_place=False)
    everyone = torch.full((len(images),), target, device=images.device)
    situations = {
        "ReLU in place behind the layer": (with_relus(model, in_place=True), everyone),
        "all parameters frozen": (with_relus(model, in_place=False).requires_grad_(False), everyone),
        "one target for the whole batch": (plain, target),
    }
    rows = []
    for situation, (changed, targets) in situations.items():
        row = {"situation": situation}
        for name, library in LIBRARIES.items():
            try:
                difference = gap(library(plain, layer, images, everyone), library(changed, layer, images, targets))
                row[name] = f"{difference:.1g}"
            except Exception as error:  # whatever a library raises is its result here
                row[name] = type(error).__name__
        rows.append(row)
    left = {name: traces(library, plain, layer, images) for name, library in LIBRARIES.items()}
    return [*rows, {"situation": "left behind in the network", **left}]


def traces(library: Displayed, model: nn.Module, layer: str, images: Tensor) -> str:
    """What a library leaves behind in a network in training mode."""
    used = copy.deepcopy(model).train()
    library(used, layer, images, torch.zeros(len(images), dtype=torch.long, device=images.device))
    found = {
        "evaluation mode": not used.training,
        "gradients": any(parameter.grad is not None for parameter in used.parameters()),
        "hooks": any(module._forward_hooks or module._backward_hooks for module in used.modules()),
    }
    return ", ".join(name for name, left in found.items() if left) or "nothing"


def with_relus(model: nn.Module, in_place: bool) -> nn.Module:
    """A copy that computes the same, its ReLUs overwriting their input or not."""
    changed = copy.deepcopy(model)
    for module in changed.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = in_place
    return changed
