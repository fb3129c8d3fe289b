"""Training side by side: LazyCNN against ImageFolder and DataLoader, RobustCNN against the matrix product.

LazyCNN's epoch is timed with as many cores and threads for both ways, the loader's two workers on these same cores:
first one core, as when tasks run side by side, then all cores with PyTorch's own number of threads. Wall seconds,
and processor seconds of the process and its workers together. Then, for RobustCNN on one thread, the share of the
floating-point speed that one large matrix product reaches beside it, in float32 and in bfloat16.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from side_by_side import seconds
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from lazyutils import data, export, mnist, models, training


def ours(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, **settings: Any) -> None:
    """One epoch of the book's training loop."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    training.fit(model, images, labels, optimizer=optimizer, epochs=1, **settings)


def plain(model: nn.Module, loader: DataLoader) -> None:
    """One epoch as tutorials write it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model.train()
    for images, labels in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()


def processor_seconds() -> float:
    """Used so far by this process and its finished workers."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def cheater_epochs(ways: dict[str, Callable[[], object]], images: int, repeats: int) -> None:
    """Print one epoch's images a second each way, and the ratios to the first way."""
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter(), processor_seconds()
            way()
            costs[name].append((time.perf_counter() - start[0], processor_seconds() - start[1]))
    best = {name: [min(column) for column in zip(*rows[1:], strict=True)] for name, rows in costs.items()}
    plainly = next(iter(best.values()))
    for name, (wall, processor) in best.items():
        print(
            f"  {name:23} {wall:6.2f} s {images / wall:8,.0f} images/s, {plainly[0] / wall:4.1f}x; "
            f"processor {processor:6.2f} s, {plainly[1] / processor:4.1f}x"
        )


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


def lazy_cnn(given: argparse.Namespace, easy: dict[str, torch.Tensor], images: torch.Tensor) -> None:
    """LazyCNN's part."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        tree = export.write_png_tree({"easy": easy}, scratch)
        folder = ImageFolder(Path(tree) / "easy_train", transforms.ToTensor())
        loader = DataLoader(folder, batch_size=given.batch, shuffle=True, num_workers=2)
        lazy = models.build("LazyCNN")
        ways: dict[str, Callable[[], object]] = {"ImageFolder, 2 workers": lambda: plain(lazy, loader)}
        for precision in training.PRECISIONS:
            settings = {"batch_size": given.batch, "loss": training.folded_cross_entropy, "precision": precision}
            ways[precision] = lambda s=settings: ours(lazy, images, easy["labels"], **s)
        for count in sorted({1, len(cores)}):
            os.sched_setaffinity(0, cores[:count])
            torch.set_num_threads(count)
            print(f"LazyCNN epoch, {count} core(s), {count} thread(s), batches of {given.batch}:")
            cheater_epochs(ways, len(images), given.repeats)


def robust_cnn(given: argparse.Namespace, images: torch.Tensor, labels: torch.Tensor) -> None:
    """RobustCNN's part."""
    robust, n = models.build("RobustCNN"), len(images)
    flops = training_flops(robust, images[:1])
    ways = {"product": product("float32", given.side)}
    for precision in training.PRECISIONS:
        settings = {"batch_size": given.robust_batch, "precision": precision}
        ways[precision] = lambda s=settings: ours(robust, images, labels, **s)
    taken = seconds(ways, given.repeats)
    peak = 2 * given.side**3 / taken["product"]
    print(f"matrix product, float32: {peak / 1e9:.0f} GFLOP/s; RobustCNN: {flops / 1e6:.1f} MFLOP an image and step")
    for precision in training.PRECISIONS:
        speed = flops * n / taken[precision]
        print(f"RobustCNN, {precision:8} {n / taken[precision]:7,.0f} images/s  {speed / peak:5.0%} of that product")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6_000, help="images an epoch (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=700, help="LazyCNN's images a step (default: %(default)s)")
    parser.add_argument("--robust-batch", type=int, default=256, help="RobustCNN's (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="timed repeats of each way (default: %(default)s)")
    parser.add_argument("--side", type=int, default=2048, help="of the square matrices (default: %(default)s)")
    parser.add_argument("--data", default="data", help="folder of MNIST (default: %(default)s)")
    given = parser.parse_args()
    digits = {name: tensor[: given.images] for name, tensor in mnist.load(given.data, print).items()}
    easy = data.colored_mnist(digits)["easy"]
    images = easy["images"].float() / 255
    lazy_cnn(given, easy, images)
    torch.set_num_threads(1)
    third = len(images) // 3
    robust_cnn(given, images[:third], easy["labels"][:third])


if __name__ == "__main__":
    main()
