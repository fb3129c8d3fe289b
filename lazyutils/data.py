"""Colored-MNIST: grey digits on textured backgrounds whose colour predicts the digit.

The recipe is the study's: each digit owns a colour; in the easy set an image has its digit's own
colour with probability ``bias`` and one of the nine others otherwise; in the hard set no image has
its own colour. Background = colour + N(0, noise) in each channel; stroke = inverted grey level,
clamped to 180-255. All randomness of image ``i`` depends on the seed and on ``i`` alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lazyutils.errors import ClearError, DamagedFileError

COLOR_NAMES = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "magenta", "brown", "pink")
"""The study's colours; ``COLOR_NAMES[d]`` belongs to digit ``d``."""

PALETTES = {
    "study": (
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 0),
        (128, 0, 128),
        (255, 165, 0),
        (0, 255, 255),
        (255, 0, 255),
        (139, 69, 19),
        (255, 192, 203),
    ),
    "tab10": (
        (31, 119, 180),
        (255, 127, 14),
        (44, 160, 44),
        (214, 39, 40),
        (148, 103, 189),
        (140, 86, 75),
        (227, 119, 194),
        (127, 127, 127),
        (188, 189, 34),
        (23, 190, 207),
    ),
}
"""Ten RGB colours (0-255) each: the study's, and matplotlib's for colours never seen in training."""

STROKE_DARKEST = 180
CHUNK = 1000
SPLITS = ("easy", "hard")
EASY_IMAGES = 60_000


@dataclass(frozen=True)
class ColoredDigits:
    """Images with everything that is known about them.

    Attributes:
        images: ``float32 [N, 3, 28, 28]`` in [0, 1].
        labels: ``int64 [N]``, the digit.
        colors: ``int64 [N]``, index of the background colour in the palette.
        masks: ``bool [N, 28, 28]``, True on the stroke.
    """

    images: Tensor
    labels: Tensor
    colors: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor | np.ndarray | list[int]) -> ColoredDigits:
        """The images at ``index`` (slice, indices or boolean mask), in that order."""
        return ColoredDigits(*(getattr(self, field.name)[index] for field in fields(self)))

    @property
    def conflicting(self) -> Tensor:
        """``bool [N]``, True where the background is not the digit's own colour."""
        return self.colors != self.labels

    def to(self, device: torch.device | str) -> ColoredDigits:
        """The same images on ``device``."""
        return ColoredDigits(*(getattr(self, field.name).to(device) for field in fields(self)))


def palette_tensor(palette: str) -> Tensor:
    """``uint8 [10, 3]`` RGB values of a palette by name."""
    if palette not in PALETTES:
        raise ClearError(f"unknown palette {palette!r}: choose one of {', '.join(PALETTES)}")
    return torch.tensor(PALETTES[palette], dtype=torch.uint8)


def draw_colors(labels: Tensor, bias: float, seed: int) -> Tensor:
    """Colours that agree with the label with probability ``bias``, else one of the nine others.

    ``bias=0`` gives the hard set, ``bias=0.1`` colours that are independent of the digit.

    Args:
        labels: ``int64 [N]``.
        bias: probability of the digit's own colour, 0 to 1.
        seed: one seed, one colouring.

    Returns:
        ``int64 [N]``.
    """
    if not 0 <= bias <= 1:
        raise ClearError(f"bias {bias} is not a probability: choose 0 to 1")
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(len(labels), 2, generator=generator, dtype=torch.float64).to(labels.device)
    offset = 1 + (draws[:, 1] * 9).long()
    return torch.where(draws[:, 0] < bias, labels, (labels + offset) % 10)


def paint(gray: Tensor, colors: Tensor, palette: str = "study", noise: float = 20.0, seed: int = 0) -> Tensor:
    """Put digits on textured coloured backgrounds.

    Args:
        gray: ``uint8 [N, 28, 28]``, MNIST's grey levels (0 = paper).
        colors: ``int64 [N]``.
        palette: a name in ``PALETTES``.
        noise: standard deviation of the texture, in grey levels (0-255).
        seed: the texture of image ``i`` depends on ``seed`` and ``i`` alone.

    Returns:
        ``uint8 [N, 3, 28, 28]`` on the device of ``gray``; painted on the CPU, so that they are the same on any.
    """
    if noise < 0:
        raise ClearError(f"noise {noise} is negative: choose 0 or more grey levels")
    base, device = palette_tensor(palette).float(), gray.device
    gray, colors = gray.cpu(), colors.cpu()
    images = torch.empty(len(gray), 3, *gray.shape[1:], dtype=torch.uint8)
    for start in range(0, len(gray), CHUNK):
        part = slice(start, start + CHUNK)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + start)
        texture = torch.randn(CHUNK, *images.shape[1:], generator=generator)[: len(gray[part])]
        background = texture.mul_(noise).add_(base[colors[part], :, None, None]).round_().clamp_(0, 255)
        ink = gray[part, None]
        stroke = (255 - ink).clamp(min=STROKE_DARKEST)
        images[part] = torch.where(ink > 0, stroke, background.to(torch.uint8))
    return images.to(device)


def colored_mnist(
    mnist: Mapping[str, Tensor], bias: float = 0.95, palette: str = "study", noise: float = 20.0, seed: int = 0
) -> dict[str, dict[str, Tensor]]:
    """The whole data set: ``easy`` from MNIST's training images, ``hard`` from its test images.

    Args:
        mnist: what ``mnist.load`` returns.
        bias: probability that an easy image has its digit's own colour; a hard image never has.

    Returns:
        For each split ``images uint8 [N, 3, 28, 28]``, ``labels int64 [N]``, ``colors int64 [N]``,
        ``masks bool [N, 28, 28]`` (True where MNIST has ink).
    """
    splits = {}
    for stream, (split, source, share) in enumerate((("easy", "train", bias), ("hard", "test", 0.0))):
        gray, labels = mnist[f"{source}_images"], mnist[f"{source}_labels"]
        colors = draw_colors(labels, share, seed=2 * seed + stream)
        images = paint(gray, colors, palette, noise, seed=2 * seed + stream)
        splits[split] = {"images": images, "labels": labels, "colors": colors, "masks": gray > 0}
    return splits


def recolor(
    digits: ColoredDigits, colors: Tensor, palette: str = "study", noise: float = 20.0, seed: int = 0
) -> ColoredDigits:
    """The same digits on other backgrounds (counterfactuals), with fresh texture.

    Args:
        digits: the images whose strokes are kept.
        colors: ``int64 [N]``, the new colours.
    """
    strokes = (digits.images[:, 0] * 255).round().to(torch.uint8)
    backgrounds = paint(torch.zeros_like(strokes), colors, palette, noise, seed)
    images = torch.where(digits.masks[:, None], strokes[:, None], backgrounds)
    return replace(digits, images=images.float() / 255, colors=colors.to(images.device))


def save(path: str | Path, splits: Mapping[str, Mapping[str, Tensor]], metadata: Mapping[str, str]) -> None:
    """Write splits as one safetensors file, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = {f"{split}.{name}": tensor for split, tensors in splits.items() for name, tensor in tensors.items()}
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(flat, scratch, metadata=dict(metadata))
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def load(path: str | Path, split: str, index: Tensor | np.ndarray | range | None = None) -> ColoredDigits:
    """Read one split, or the images at ``index`` of it.

    Args:
        path: a file written by ``save``.
        split: ``"easy"`` or ``"hard"``.
        index: ``int64 [M]``; None takes all.

    Raises:
        ClearError: unknown split. DamagedFileError: the file can't be read.
    """
    if split not in SPLITS:
        raise ClearError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    take = slice(None) if index is None else torch.as_tensor(index)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = [file.get_tensor(f"{split}.{field.name}")[take] for field in fields(ColoredDigits)]
    except SafetensorError as error:
        raise DamagedFileError(f"{path} can't be read ({error}): delete it and run task 0 again") from None
    images, *rest = tensors
    return ColoredDigits(images.float().div_(255), *rest)


def metadata(path: str | Path) -> dict[str, str]:
    """The metadata that ``save`` stored: seed, bias, noise, palette."""
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def look(path: str | Path) -> dict[str, Any]:
    """How a data set was painted, as keywords of ``recolor``: its ``palette`` and ``noise``."""
    recipe = metadata(path)
    return {"palette": recipe["palette"], "noise": float(recipe["noise"])}


def color_names(palette: str) -> Sequence[str]:
    """A palette's ten names: the study's, and hexadecimal codes where there are none."""
    return COLOR_NAMES if palette == "study" else ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in PALETTES[palette]]


def labels_of(path: str | Path, split: str) -> Tensor:
    """All labels of a split, ``int64 [N]``, without its images."""
    with safe_open(path, framework="pt") as file:
        return file.get_tensor(f"{split}.labels")


def stratified_split(labels: Tensor, train_size: int, validation_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Disjoint random subsets with the class balance of the whole (``StratifiedShuffleSplit``).

    Args:
        labels: ``int64 [N]``.
        train_size, validation_size: numbers of images; together at most N.
        seed: one seed, one split.

    Returns:
        Indices ``int64 [train_size]`` and ``int64 [validation_size]``.
    """
    if train_size + validation_size > len(labels):
        raise ClearError(
            f"train_size {train_size} + validation_size {validation_size} exceed the {len(labels)} images there are"
        )
    from sklearn.model_selection import StratifiedShuffleSplit  # noqa: PLC0415 a second, which few processes need

    splitter = StratifiedShuffleSplit(1, train_size=train_size, test_size=validation_size, random_state=seed)
    train, validation = next(splitter.split(np.zeros(len(labels)), labels.numpy()))
    return torch.from_numpy(train), torch.from_numpy(validation)


def easy_subsets(
    path: str | Path, train_size: int, validation_size: int, seed: int, device: torch.device | str = "cpu"
) -> tuple[ColoredDigits, ColoredDigits]:
    """A stratified training and validation subset of the easy set, drawn by ``seed``."""
    train, validation = stratified_split(labels_of(path, "easy"), train_size, validation_size, seed)
    return load(path, "easy", train).to(device), load(path, "easy", validation).to(device)
