"""Fine-tuning ResNet-18's last block side by side: frozen layers computed once against in every step.

Prints processor seconds of both ways for a training of some epochs at one resolution, and their ratio. An epoch's
time and the caching's are measured and added up, so that a longer training need not be run. The plain loop is
in float32, as tutorials write it; the book's is in float32 and, as on its page, in bfloat16.
"""

from __future__ import annotations

import argparse

import torch
from side_by_side import timed
from torch import nn
from torch.nn import functional as F

from lazyutils import models, training


def plain_epoch(model: models.ResNet18, images: torch.Tensor, labels: torch.Tensor, batch: int) -> None:
    """One epoch as tutorials write it: freeze, then run the whole network in every step."""
    tuned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(tuned, lr=0.01)
    model.train()
    for index in torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).split(batch):
        optimizer.zero_grad()
        F.cross_entropy(model(images[index]), labels[index]).backward()
        optimizer.step()


def cached_epoch(half: nn.Module, features: torch.Tensor, labels: torch.Tensor, batch: int, precision: str) -> None:
    """One epoch of the book's loop on kept features."""
    tuned = [parameter for parameter in half.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(tuned, lr=0.01)
    training.fit(half, features, labels, optimizer=optimizer, epochs=1, batch_size=batch, precision=precision)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=960, help="training images (default: %(default)s)")
    parser.add_argument("--image-size", type=int, default=64, help="side in pixels (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="images a step (default: %(default)s)")
    parser.add_argument(
        "--epochs", type=int, nargs="+", default=[2, 5, 7, 15], help="lengths of training (default: 2 5 7 15)"
    )
    parser.add_argument(
        "--repeats", type=int, default=3, help="timed repeats; the fastest counts (default: %(default)s)"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(given.images, 3, 28, 28, generator=generator)
    labels = torch.randint(10, (given.images,), generator=generator)
    model, _ = models.pretrained_resnet18(given.image_size, weights="random")
    plain, _ = models.pretrained_resnet18(given.image_size, weights="random")
    half = models.TunedHalf(model)
    times: dict[str, list[float]] = {"plain": []}
    for precision in training.PRECISIONS:
        times[f"once {precision}"], times[f"epoch {precision}"] = [], []
    for _ in range(given.repeats + 1):
        times["plain"].append(timed(lambda: plain_epoch(plain, images, labels, given.batch))[0])
        for precision in training.PRECISIONS:
            model.eval()
            kept = images, 100, precision, getattr(torch, precision)
            once, features = timed(lambda kept=kept: training.batched(model.frozen, *kept))
            times[f"once {precision}"].append(once)
            epoch = half, features, labels, given.batch, precision
            times[f"epoch {precision}"].append(timed(lambda epoch=epoch: cached_epoch(*epoch))[0])
    best = {name: min(values[1:]) for name, values in times.items()}
    for name, value in best.items():
        print(f"{name:16} {value:6.2f} s  {given.images / value:7,.0f} images/s")
    for precision in training.PRECISIONS:
        for epochs in given.epochs:
            ours = best[f"once {precision}"] + epochs * best[f"epoch {precision}"]
            ratio = epochs * best["plain"] / ours
            print(f"{precision:8} {epochs:3} epochs at {given.image_size} px: {ratio:.1f}x the plain loop")


if __name__ == "__main__":
    main()
