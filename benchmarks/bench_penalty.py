"""What a gradient penalty costs: processor time of one training step, relative to a plain step.

The penalty's gradient is compared with true double backward on the same batch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lazyutils import models, penalties
from lazyutils.training import Batch, Loss, channels_last, cross_entropy

MEASURES = {
    "study's (channel variance)": (penalties.target_score, penalties.channel_variance),
    "recolouring share": (penalties.log_odds, penalties.recoloring_share),
}


def main() -> None:
    """Print one line a penalty and precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=9, help="steps timed of each kind, in turn")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = models.build("RobustCNN").to(memory_format=torch.channels_last).train()
    batch = random_batch(options.batch_size)
    for name, (score, measure) in MEASURES.items():
        steps = losses(score, measure)
        for precision in ("float32", "bfloat16"):
            seconds = side_by_side(model, batch, steps, precision, options.repeats)
            print(
                f"{name:27s} {precision:9s} plain 1.00  penalty {seconds['penalty'] / seconds['plain']:.2f}  "
                f"double backward {seconds['double backward'] / seconds['plain']:.2f}  "
                f"(plain step {seconds['plain'] * 1e3:.0f} ms)"
            )
        print(f"{name:27s} {relative_differences(model, batch, score, measure)}")


def losses(score: penalties.Score, measure: penalties.Measure) -> dict[str, Loss]:
    """The plain loss and the two ways to the penalised one."""

    def doubled(model: nn.Module, batch: Batch) -> Tensor:
        penalty = penalties.double_backward_penalty(model, batch.images, score, measure, batch.labels)
        return F.cross_entropy(model(batch.images), batch.labels) + penalty

    return {
        "plain": cross_entropy,
        "penalty": penalties.penalized_cross_entropy(score, measure, lambda: 1.0),
        "double backward": doubled,
    }


def random_batch(size: int) -> Batch:
    """Digits don't matter for the cost: smooth random images."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(size, 3, 7, 7, generator=generator)
    images = channels_last(F.interpolate(coarse, 28, mode="bilinear"))
    return Batch(images, torch.arange(size) % 10, torch.arange(size))


def gradient(model: nn.Module, batch: Batch, loss: Loss) -> Tensor:
    """One step's parameter gradient as a vector."""
    model.zero_grad()
    loss(model, batch).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def relative_differences(model: nn.Module, batch: Batch, score: penalties.Score, measure: penalties.Measure) -> str:
    """How far the fast penalty's gradient, and the cross-entropy's beside it, are from the plain way's (float32)."""
    steps = losses(score, measure)
    weights = {"none": lambda: 0.0, "one": lambda: 1.0}
    fast = {name: penalties.penalized_cross_entropy(score, measure, weight) for name, weight in weights.items()}
    fit, penalty = gradient(model, batch, fast["none"]), gradient(model, batch, fast["one"])
    plain, doubled = gradient(model, batch, steps["plain"]), gradient(model, batch, steps["double backward"])
    truth = doubled - plain
    return (
        f"gradients differ from double backward's by {(penalty - fit - truth).norm() / truth.norm():.1e} (penalty), "
        f"{(fit - plain).norm() / plain.norm():.1e} (cross-entropy)"
    )


def side_by_side(
    model: nn.Module, batch: Batch, steps: dict[str, Callable[..., Tensor]], precision: str, repeats: int
) -> dict[str, float]:
    """Median processor seconds of each kind of step, taken in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        for _ in range(repeats + 1):
            for name, loss in steps.items():
                started = time.process_time()
                gradient(model, batch, loss)
                seconds[name].append(time.process_time() - started)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
