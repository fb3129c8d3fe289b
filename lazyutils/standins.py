"""What a notebook that runs alone takes instead of an earlier task's file.

In this order: a data set attached on Kaggle, the checkpoints published with this package, a quick version made on the
spot. What is made is kept below ``<run>/standins``, apart from a run's own files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from lazyutils import checkpoints, data, league, mnist, models, training
from lazyutils.errors import ClearError, MissingArtefactError
from lazyutils.league import BEST, Point

PUBLISHED = Path(__file__).with_name("published")
"""Checkpoints of the published edition."""
DATA = "data/colored_mnist.safetensors"
RECIPE = {"bias": 0.95, "noise": 20.0, "palette": "study", "seed": 0}
"""Task 0's parameters."""
Report = Callable[[str], None]


def provide(relative: str, directory: Path, mnist_root: Path, device: torch.device, report: Report) -> tuple[Path, str]:
    """A file that stands in for ``directory / relative``.

    Args:
        relative: ``data/colored_mnist.safetensors`` or ``models/<name>.safetensors`` with a name in ``MAKERS``.
        directory: the run's folder.
        mnist_root: where MNIST is kept, should the data set have to be made.
        report: receives a line for each damaged file that is passed over, and before long work.

    Returns:
        Its path, and its origin in words.

    Raises:
        MissingArtefactError: nothing knows how to make it.
        ClearError: it can't be made, such as without MNIST.
    """
    name = Path(relative).stem
    if relative != DATA and name not in MAKERS:
        raise MissingArtefactError(f"{directory / relative} is missing, and nothing can stand in for it")
    for path, origin in candidates(relative, directory):
        try:
            verify(path)
        except ClearError as error:
            report(f"Passed over: {error}.")
        else:
            return path, origin
    report(f"Making a quick version of {relative} on the spot.")
    target = directory / "standins" / relative
    if relative == DATA:
        splits = data.colored_mnist(mnist.load(mnist_root, report), **RECIPE)
        save_data(target, splits)
    else:
        source = directory / DATA
        if not source.is_file():
            source, _ = provide(DATA, directory, mnist_root, device, report)
        MAKERS[name](target, source, device)
    return target, "a quick version made on the spot"


def save_data(path: Path, splits: dict[str, dict[str, torch.Tensor]]) -> None:
    """Write a data set that was painted by ``RECIPE``."""
    data.save(path, splits, {key: str(value) for key, value in RECIPE.items()})


def candidates(relative: str, directory: Path) -> Iterator[tuple[Path, str]]:
    """Files to look at, best first, each with its origin."""
    name = Path(relative).name
    found = [(path, "the attached Kaggle input") for path in sorted(mnist.KAGGLE_INPUT.rglob(name))]
    found += [
        (PUBLISHED / name, "the published edition"),
        (directory / "standins" / relative, "a quick version made earlier"),
    ]
    return ((path, origin) for path, origin in found if path.is_file())


def verify(path: Path) -> None:
    """Raise a ``ClearError`` unless the file is whole: a checkpoint by its SHA-256, the data set by its header."""
    if path.name == Path(DATA).name:
        data.load(path, "hard", torch.arange(1))
    else:
        checkpoints.load(path)


def lazycnn(target: Path, source: Path, device: torch.device) -> None:
    """The cheater of Task 1, as that page trains it."""
    train, _ = data.easy_subsets(source, 12000, 3000, 0, device)
    model = models.build("LazyCNN", 0).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    training.fit(model, train.images, train.labels, optimizer=optimizer, epochs=15, batch_size=700)
    checkpoints.save(target, model, {"standin": True})


def resnet18(target: Path, source: Path, device: torch.device, size: int = 6000) -> None:
    """ResNet-18 of Task 1 on 64 pixels, with half the images: ``size`` of them."""
    train, _ = data.easy_subsets(source, size, 1000, 0, device)
    model, origin = models.pretrained_resnet18(64, 0)
    model.to(device).eval()
    half, features = models.TunedHalf(model), training.batched(model.frozen, train.images)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    training.fit(half, features, train.labels, optimizer=optimizer, epochs=2, batch_size=64)
    checkpoints.save(target, model, {"standin": True, "weights": origin}, image_size=64)


def robust(target: Path, source: Path, device: torch.device, point: Point) -> None:
    """One of Task 4's networks."""
    model = league.train(point, source, device)
    checkpoints.save(target, model, {"standin": True})


MAKERS: dict[str, Callable[[Path, Path, torch.device], None]] = {
    "lazycnn": lazycnn,
    "resnet18": resnet18,
    "robust_erm": partial(robust, point=Point("erm", epochs=5)),
    "robust_best": partial(robust, point=Point(BEST, epochs=8)),
}
"""By the name of the checkpoint: each takes the target, the data set and the device."""
