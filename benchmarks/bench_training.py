"""Training side by side: LazyCNN against ImageFolder and DataLoader, RobustCNN against the matrix product.

Prints images a second of each way with the ratio of an epoch; then, for RobustCNN, the share of the floating-point
speed that one large matrix product reaches beside it, in float32 and in bfloat16. ``--cores 1`` gives the loader's
workers no core of their own, as when tasks run side by side.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from side_by_side import seconds
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from lazyutils import data, export, mnist, models, training


def ours(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, batch: int, precision: str) -> None:
    """One epoch of the book's training loop."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    training.fit(model, images, labels, optimizer=optimizer, epochs=1, batch_size=batch, precision=precision)


def plain(model: nn.Module, loader: DataLoader) -> None:
    """One epoch as tutorials write it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model.train()
    for images, labels in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()


def training_flops(model: nn.Module, image: torch.Tensor) -> float:
    """Floating-point operations of one image's training step: forward, both gradients; none for the image's own."""
    counts = []

    def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        per_output = 2 * module.weight[0].numel()
        counts.append(per_output * output[0].numel())

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        model.eval()(image)
    for hook in hooks:
        hook.remove()
    return 3 * sum(counts) - counts[0]


def product(precision: str, side: int) -> Callable[[], torch.Tensor]:
    """One product of two square matrices."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(side, side, generator=generator).to(getattr(torch, precision)) for _ in range(2))
    return lambda: a @ b


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6_000, help="images an epoch (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=256, help="images a step (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="timed repeats of each way (default: %(default)s)")
    parser.add_argument("--side", type=int, default=2048, help="of the square matrices (default: %(default)s)")
    parser.add_argument("--cores", type=int, help="cores that this process and its workers may use (default: all)")
    parser.add_argument("--data", default="data", help="folder of MNIST (default: %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.cores is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
    digits = {name: tensor[: given.images] for name, tensor in mnist.load(given.data, print).items()}
    splits = data.colored_mnist(digits)
    images, labels = splits["easy"]["images"].float() / 255, splits["easy"]["labels"]
    with tempfile.TemporaryDirectory() as scratch:
        tree = export.write_png_tree({"easy": splits["easy"]}, scratch)
        folder = ImageFolder(Path(tree) / "easy_train", transforms.ToTensor())
        loader = DataLoader(folder, batch_size=given.batch, shuffle=True, num_workers=2)
        lazy = models.build("LazyCNN")
        ways: dict[str, Callable[[], object]] = {"ImageFolder, 2 workers": lambda: plain(lazy, loader)}
        for precision in training.PRECISIONS:
            ways[precision] = lambda p=precision: ours(lazy, images, labels, given.batch, p)
        taken = seconds(ways, given.repeats)
    for name, value in taken.items():
        print(f"LazyCNN epoch, {name:23} {value:6.2f} s  {given.images / value:8,.0f} images/s")
    for precision in training.PRECISIONS:
        print(f"LazyCNN epoch, {precision}: {taken['ImageFolder, 2 workers'] / taken[precision]:.1f}x the plain way")
    robust = models.build("RobustCNN")
    flops = training_flops(robust, images[:1])
    n = given.images // 3
    ways = {"product": product("float32", given.side)}
    for precision in training.PRECISIONS:
        ways[precision] = lambda p=precision: ours(robust, images[:n], labels[:n], given.batch, p)
    taken = seconds(ways, given.repeats)
    peak = 2 * given.side**3 / taken["product"]
    print(f"matrix product, float32: {peak / 1e9:.0f} GFLOP/s; RobustCNN: {flops / 1e6:.1f} MFLOP an image and step")
    for precision in training.PRECISIONS:
        speed = flops * n / taken[precision]
        print(f"RobustCNN, {precision:8} {n / taken[precision]:7,.0f} images/s  {speed / peak:5.0%} of that product")


if __name__ == "__main__":
    main()
