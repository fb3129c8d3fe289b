"""Grad-CAM side by side: this book's against the grad-cam package on the same batches, and against one image at a time.

Prints one line a network and layer: fastest processor seconds (on one thread a busy machine then doesn't count) and
their ratios over alternating repeats in one process.
"""

from __future__ import annotations

import argparse
import time

import torch
from pytorch_grad_cam import GradCAM as PackageGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from side_by_side import seconds

from lazyutils import models
from lazyutils.gradcam import GradCAM
from lazyutils.hooks import find_layer

CASES = (
    ("LazyCNN", "conv3", {}, 1),
    ("LazyCNN", "conv1", {}, 1),
    ("RobustCNN", "conv3", {}, 4),
    ("ResNet18", "net.layer4", {"image_size": 64}, 20),
    ("ResNet18", "net.layer2", {"image_size": 64}, 20),
)
"""Network, layer, options, and by how much fewer images it gets."""


def package(model: torch.nn.Module, layer: str, images: torch.Tensor, targets: torch.Tensor, size: int) -> None:
    """The grad-cam package as its documentation uses it."""
    with PackageGradCAM(model, [find_layer(model, layer)]) as cam:
        for part, classes in zip(images.split(size), targets.split(size), strict=True):
            cam(part, [ClassifierOutputTarget(int(target)) for target in classes])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="images for LazyCNN; slower networks get fewer")
    parser.add_argument("--singles", type=int, default=500, help="images of the one-by-one way, scaled up")
    parser.add_argument("--batch", type=int, default=250, help="images a batch")
    parser.add_argument("--repeats", type=int, default=3, help="timed repeats of each way")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'network':10} {'layer':11} {'images':>6} {'ours':>8} {'package':>8} {'singles':>8}  package  singles")
    for name, layer, options, fewer in CASES:
        model = models.build(name, **options).eval()
        n = max(given.batch, given.images // fewer)
        few = max(1, given.singles // fewer)
        images, targets = torch.rand(n, 3, 28, 28), torch.randint(10, (n,))
        together, alone = GradCAM(model, layer, given.batch), GradCAM(model, layer, 1)
        taken = seconds(
            {
                "ours": lambda: together(images, targets),  # noqa: B023
                "package": lambda: package(model, layer, images, targets, given.batch),  # noqa: B023
                "singles": lambda: alone(images[:few], targets[:few]),  # noqa: B023
            },
            given.repeats,
            clock=time.process_time,
        )
        taken["singles"] *= n / few
        print(
            f"{name:10} {layer:11} {n:6} {taken['ours']:7.2f}s {taken['package']:7.2f}s {taken['singles']:7.2f}s"
            f"  {taken['package'] / taken['ours']:6.1f}x  {taken['singles'] / taken['ours']:6.1f}x",
            flush=True,
        )


if __name__ == "__main__":
    main()
