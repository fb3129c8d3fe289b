"""One training loop for every network of the book: tensors in memory, no data loader, no global state."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lazyutils.data import ColoredDigits
from lazyutils.errors import ClearError, DivergedError
from lazyutils.fold import folded
from lazyutils.metrics import accuracy

PRECISIONS = ("float32", "bfloat16")
CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Batch:
    """What one step sees: ``images [B, ...]``, ``labels int64 [B]``, and each one's ``index int64 [B]``."""

    images: Tensor
    labels: Tensor
    index: Tensor


Loss = Callable[[nn.Module, Batch], Tensor]
Augment = Callable[[Tensor, torch.Generator], Tensor]
Order = Callable[[torch.Generator], Tensor]


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy of the model's logits."""
    return F.cross_entropy(model(batch.images), batch.labels)


def folded_cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """``cross_entropy``, equal to rounding and faster where convolutions have few input channels (see ``fold``)."""
    with folded(model):
        return cross_entropy(model, batch)


def fit(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    optimizer: Optimizer,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    loss: Loss = cross_entropy,
    scheduler: LRScheduler | None = None,
    augment: Augment | None = None,
    order: Order | None = None,
    precision: str = "float32",
    average: MovingAverage | None = None,
    on_epoch: Callable[[int], bool | None] | None = None,
) -> list[float]:
    """Train ``model`` in place.

    Args:
        model: left in evaluation mode, in channels-last memory.
        images: ``float32 [N, 3, H, W]`` in [0, 1], or cached features that ``loss`` understands, of any dtype.
        labels: ``int64 [N]``.
        optimizer: over the parameters to train.
        epochs, batch_size: passes over the data; images a step.
        seed: of the order of images and of ``augment``.
        loss: maps (model, batch) to a scalar.
        scheduler: stepped after every batch.
        augment: maps (``images [B, ...]``, generator) to images of the same shape.
        order: draws one epoch's indices ``int64 [M]``; by default a permutation of all N.
        precision: ``"float32"``, or ``"bfloat16"`` for autocast.
        average: updated after every step.
        on_epoch: called after each epoch with its number (from 1), the model in evaluation mode;
            returning True stops.

    Returns:
        Mean training loss of each epoch.

    Raises:
        DivergedError: a loss was not finite; the model then has the last finished epoch's weights.
    """
    check_fit(epochs, batch_size, precision)
    model.to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(seed)
    draw = order or (lambda g: torch.randperm(len(labels), generator=g))
    last_good = copy.deepcopy(model.state_dict())
    history = []
    for epoch in range(1, epochs + 1):
        model.train()
        losses = []
        for step, index in enumerate(draw(generator).split(batch_size)):
            batch = take(images, labels, index, augment, generator)
            batch = replace(batch, images=channels_last(batch.images))
            with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                value = loss(model, batch)
            losses.append(value.item())
            if not math.isfinite(losses[-1]):
                model.load_state_dict(last_good)
                model.eval()
                raise DivergedError(
                    f"the loss became {losses[-1]} in epoch {epoch}, step {step + 1}: lower the learning rate or the "
                    f"penalty. The model has the weights of epoch {epoch - 1}"
                )
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            if average is not None:
                average.update()
        history.append(sum(losses) / len(losses))
        model.eval()
        last_good = copy.deepcopy(model.state_dict())
        if on_epoch is not None and on_epoch(epoch):
            break
    return history


def resolve_precision(precision: str, device: torch.device | str = "cpu") -> str:
    """``"auto"`` as ``"bfloat16"`` where the hardware computes in it, else ``"float32"``; others as they are."""
    if precision != "auto":
        return precision
    if torch.device(device).type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    flags = CPU_INFO.read_text() if CPU_INFO.is_file() else ""
    return "bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def check_fit(epochs: int, batch_size: int, precision: str) -> None:
    """Refuse impossible settings before any work."""
    if epochs < 1 or batch_size < 1:
        raise ClearError(f"epochs ({epochs}) and batch_size ({batch_size}) must be at least 1")
    if precision not in PRECISIONS:
        raise ClearError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")


def take(images: Tensor, labels: Tensor, index: Tensor, augment: Augment | None, generator: torch.Generator) -> Batch:
    """The batch at ``index``, augmented."""
    chosen = images[index]
    if augment is not None:
        chosen = augment(chosen, generator)
    return Batch(chosen, labels[index], index)


@torch.no_grad()
def batched(
    function: Callable[[Tensor], Tensor],
    images: Tensor,
    batch_size: int = 500,
    precision: str = "float32",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """``function`` over all images in batches, without gradients: ``dtype [N, ...]``, held once in memory."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        first = function(channels_last(images[:batch_size])).to(dtype)
        outputs = first.new_empty(len(images), *first.shape[1:])
        outputs[: len(first)] = first
        for start in range(batch_size, len(images), batch_size):
            part = slice(start, start + batch_size)
            outputs[part] = function(channels_last(images[part]))
    return outputs


def channels_last(images: Tensor) -> Tensor:
    """The same images in the memory layout in which convolutions are fastest; other shapes as they are."""
    return images.contiguous(memory_format=torch.channels_last) if images.dim() == 4 else images


def predict(model: nn.Module, images: Tensor, batch_size: int = 500) -> Tensor:
    """Logits ``float32 [N, 10]`` in evaluation mode; the model's mode is restored."""
    was_training = model.training
    model.eval()
    try:
        return batched(model, images, batch_size)
    finally:
        model.train(was_training)


@dataclass
class AccuracyCurves:
    """An ``on_epoch`` callback that notes the accuracy on named sets after every epoch.

    ``values`` maps each name to one accuracy (0 to 1) an epoch; nothing is selected by it.
    """

    model: nn.Module
    sets: Mapping[str, ColoredDigits]
    values: dict[str, list[float]] = field(default_factory=dict)

    def __call__(self, epoch: int) -> None:
        for name, digits in self.sets.items():
            predictions = predict(self.model, digits.images).argmax(1)
            self.values.setdefault(name, []).append(accuracy(predictions, digits.labels))


class MovingAverage:
    """An exponential moving average of a model's weights and running statistics (Polyak & Juditsky 1992).

    Early on its memory is short, about a ninth of the steps so far; then of 1 / (1 - ``decay``) steps.

    Attributes:
        network: the model with the averages, in evaluation mode and without gradients.
    """

    def __init__(self, model: nn.Module, decay: float = 0.998) -> None:
        self.model, self.decay, self.steps = model, decay, 0
        self.network = copy.deepcopy(model).eval().requires_grad_(False)

    def update(self) -> None:
        """Take in the model as it is after one more step."""
        self.steps += 1
        weight = max(1 - self.decay, 9 / (9 + self.steps))
        torch._foreach_lerp_(real_tensors(self.network), real_tensors(self.model), weight)

    def apply(self) -> None:
        """Give the model the averages."""
        torch._foreach_copy_(real_tensors(self.model), real_tensors(self.network))


def real_tensors(model: nn.Module) -> list[Tensor]:
    """A model's own weights and running statistics, detached; no counters."""
    return [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]


@dataclass
class EarlyStopping:
    """Stops after ``patience`` epochs without a better score and remembers the best weights."""

    model: nn.Module
    patience: int
    best_score: float = -math.inf
    best_epoch: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)

    def update(self, epoch: int, score: float) -> bool:
        """Note this epoch's score (higher is better); True when it is time to stop."""
        if score > self.best_score:
            self.best_score, self.best_epoch = score, epoch
            self.best_state = copy.deepcopy(self.model.state_dict())
        return epoch - self.best_epoch >= self.patience

    def restore(self) -> None:
        """Give the model its best weights back."""
        self.model.load_state_dict(self.best_state)
