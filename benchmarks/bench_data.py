"""Colored-MNIST side by side: whole tensors against the plain way, one PIL image at a time.

Prints images a second of each way, and two ratios: the data set as a file of tensors against painting and
saving one PNG at a time, and the PNG export (two processes) against the same plain loop's saving alone.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from side_by_side import seconds

from lazyutils import data, export, mnist


def paint_one(gray: np.ndarray, label: int, bias: float, generator: np.random.Generator) -> Image.Image:
    """The study's recipe for one image, written plainly."""
    others = [color for color in range(10) if color != label]
    color = label if generator.random() < bias else generator.choice(others)
    base = np.array(data.PALETTES["study"][color], dtype=float)
    pixels = np.clip(base + generator.normal(0, 20, (28, 28, 3)), 0, 255).astype(np.uint8)
    stroke = np.clip(255 - gray.astype(int), 180, 255).astype(np.uint8)
    pixels[gray > 0] = stroke[gray > 0][:, None]
    return Image.fromarray(pixels)


def plain(digits: dict[str, torch.Tensor], folder: Path) -> None:
    """Paint and save one image at a time."""
    generator = np.random.default_rng(0)
    for split, source, bias in (("easy_train", "train", 0.95), ("hard_test", "test", 0.0)):
        labels = digits[f"{source}_labels"].tolist()
        for digit in range(10):
            (folder / split / str(digit)).mkdir(parents=True, exist_ok=True)
        for position, (gray, label) in enumerate(zip(digits[f"{source}_images"].numpy(), labels, strict=True)):
            paint_one(gray, label, bias, generator).save(folder / split / str(label) / f"{position:05d}.png")


def save_plainly(images: list[Image.Image], folder: Path) -> None:
    """Save painted images one at a time."""
    for position, image in enumerate(images):
        image.save(folder / f"{position:05d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=12_000, help="MNIST training images; test images: a sixth")
    parser.add_argument("--repeats", type=int, default=3, help="timed repeats of each way (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes of the PNG export (default: %(default)s)")
    parser.add_argument("--data", default="data", help="folder of MNIST (default: %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {"train": given.images, "test": given.images // 6}
    digits = {name: tensor[: sizes[name.split("_")[0]]] for name, tensor in mnist.load(given.data, print).items()}
    n = len(digits["train_labels"]) + len(digits["test_labels"])
    splits = data.colored_mnist(digits)
    painted = [Image.fromarray(image.numpy()) for t in splits.values() for image in t["images"].permute(0, 2, 3, 1)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "flat").mkdir()
        taken = seconds(
            {
                "tensors: paint and save": lambda: data.save(folder / "x.safetensors", data.colored_mnist(digits), {}),
                "plain: paint and save": lambda: plain(digits, folder / "plain"),
                "export: PNG tree": lambda: export.write_png_tree(splits, folder, given.workers),
                "plain: save PNGs": lambda: save_plainly(painted, folder / "flat"),
            },
            given.repeats,
        )
    for name, value in taken.items():
        print(f"{name:26} {value:7.2f} s  {n / value:9,.0f} images/s")
    print(
        f"data set as tensors: {taken['plain: paint and save'] / taken['tensors: paint and save']:.1f}x the plain way"
    )
    print(f"PNG export:          {taken['plain: save PNGs'] / taken['export: PNG tree']:.1f}x the plain way")


if __name__ == "__main__":
    main()
