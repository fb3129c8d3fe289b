"""Penalties on the gradient of the answer with respect to the image, exact but without double backward.

A penalty P(g) on the input gradient g = dS/dx needs the mixed derivative d(dS/dx)/dtheta. Writing v = dP/dg,

    dP/dtheta = d/dtheta <g, v> = d/dtheta [S(x + e v) - S(x - e v)] / (2 e)        (v held fixed, e small),

so two ordinary passes, which give the cross-entropy as well (their mean, up to order e^2), replace double backward.
ReLU and max pooling would spoil the difference: their kinks, which double backward never sees, lie between x - e v
and x + e v. ``ActivationPattern`` therefore repeats the choices made at x in both passes. What is left of the error
comes from BatchNorm and falls with the square of e.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lazyutils.errors import ClearError
from lazyutils.training import Batch, Loss, cross_entropy

STEP = 0.005
"""Root mean square of e v, in units of the pixel range."""

Score = Callable[[Tensor, Tensor], Tensor]
Measure = Callable[[Tensor], Tensor]
Weight = Callable[[], float]


def target_score(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum of the targets' logits, from ``logits [B, 10]`` and ``targets int64 [B]``."""
    return logits.gather(1, targets[:, None]).sum()


def log_odds(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum of log p / (1 - p) of the targets: unlike log p its gradient does not vanish when the network is sure."""
    others = logits.scatter(1, targets[:, None], -torch.inf)
    return target_score(logits, targets) - others.logsumexp(1).sum()


def channel_variance(gradient: Tensor) -> Tensor:
    """The study's measure: variance of the gradient over R, G and B at each pixel, averaged.

    Args:
        gradient: ``float [B, 3, H, W]``.
    """
    return gradient.var(dim=1, correction=0).mean()


def recoloring_share(gradient: Tensor) -> Tensor:
    """Share of the gradient's energy that lies in recolouring the whole image, 0 to 1, averaged over images.

    The gradient is pooled over space before it is squared, since the shortcut is a global colour; and divided by its
    energy, so that merely shrinking all gradients gains nothing.

    Args:
        gradient: ``float [B, 3, H, W]``.
    """
    pixels = gradient.shape[2] * gradient.shape[3]
    uniform = pixels * gradient.mean((2, 3)).square().sum(1)
    return (uniform / (gradient.square().sum((1, 2, 3)) + torch.finfo(gradient.dtype).tiny)).mean()


class ActivationPattern(TorchFunctionMode):
    """While active, records which units ReLU and max pooling let through; after ``replay``, repeats that choice.

    Max pooling must follow a ReLU directly: the unit it picks is then kept in the ReLU's own record, and the
    repetition is a cheap sum over each window.
    """

    def __init__(self) -> None:
        super().__init__()
        self.passed: list[Tensor] = []  # for each ReLU: positive where the unit is let through
        self.latest: Tensor | None = None
        self.position: int | None = None

    def replay(self) -> ActivationPattern:
        """Start again at the network's first layer, now repeating."""
        self.position = 0
        return self

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is F.relu:
            return self.relu(args[0])
        if function in (F.max_pool2d, torch.max_pool2d):
            return self.max_pool(args[0], *args[1:], **kwargs)
        return function(*args, **kwargs)

    def relu(self, x: Tensor) -> Tensor:
        """ReLU, or the earlier choice of units."""
        if self.position is None:
            self.latest = torch.relu(x)
            self.passed.append(self.latest.detach())
            return self.latest
        self.position += 1
        return torch.ops.aten.threshold_backward(x, self.passed[self.position - 1], 0)

    def max_pool(self, x: Tensor, size: int, *args: Any, **kwargs: Any) -> Tensor:
        """Max pooling, or the sum of the earlier choice."""
        if self.position is not None:
            return F.avg_pool2d(x, size, divisor_override=1)
        out = F.max_pool2d(x, size, *args, **kwargs)
        if x is not self.latest or (out.shape[2] * size, out.shape[3] * size) != x.shape[2:]:
            raise ClearError("this penalty repeats max pooling only right after a ReLU, with windows that tile the map")
        chosen = x.detach() == F.interpolate(out.detach(), scale_factor=size)
        self.passed[-1] = self.passed[-1] * chosen
        return out


def penalized_cross_entropy(
    score: Score, measure: Measure, weight: Weight, predicted: bool = False, fit: Loss = cross_entropy
) -> Loss:
    """Cross-entropy plus weight times a penalty on the input gradient of ``score``, at about three plain steps.

    Args:
        score: maps (logits, targets) to the scalar S whose gradient is penalised.
        measure: maps the gradient ``[B, 3, H, W]`` to the penalty P.
        weight: gives P's weight, once a step.
        predicted: take the network's own answers as targets instead of the labels.
        fit: the cross-entropy CE, which may weigh or correct the logits, but asks the model only about the batch.

    Returns:
        A loss for ``training.fit``: its value is CE + weight P, its gradient that of double backward.
    """

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        require_gradients(model)
        images, pattern = batch.images.detach().requires_grad_(), ActivationPattern()
        with pattern:
            logits = model(images)
        targets = logits.argmax(1) if predicted else batch.labels
        (gradient,) = torch.autograd.grad(score(logits.float(), targets), images)
        value, direction = value_and_direction(measure, gradient)
        step = STEP / direction.square().mean().sqrt().clamp(min=torch.finfo(direction.dtype).tiny)

        def shifted(step: Tensor) -> Tensor:
            buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
            with pattern.replay():
                return functional_call(model, buffers, (images.detach() + step * direction,))

        ahead, behind = shifted(step), shifted(-step)
        mean = (fit(lambda images: ahead, batch) + fit(lambda images: behind, batch)) / 2
        slope = (score(ahead.float(), targets) - score(behind.float(), targets)) / (2 * step)
        return mean + weight() * (value + slope - slope.detach())

    return loss


def value_and_direction(measure: Measure, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """P(g) and v = dP/dg, both detached."""
    gradient = gradient.detach().requires_grad_()
    value = measure(gradient)
    (direction,) = torch.autograd.grad(value, gradient)
    return value.detach(), direction


def require_gradients(model: nn.Module) -> None:
    """Refuse a gradient penalty where no gradient can flow."""
    if not torch.is_grad_enabled():
        raise ClearError("a gradient penalty needs gradients, and torch.no_grad() is active: train outside of it")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ClearError("a gradient penalty needs gradients, and every parameter is frozen: unfreeze some")


def double_backward_penalty(
    model: nn.Module, images: Tensor, score: Score, measure: Measure, targets: Tensor | None = None
) -> Tensor:
    """The plain way: the penalty as a differentiable scalar, for ``torch.autograd`` to differentiate again.

    Args:
        images: ``float [B, 3, H, W]``.
        targets: ``int64 [B]``; None takes the network's own answers.
    """
    require_gradients(model)
    images = images.detach().requires_grad_()
    logits = model(images)
    total = score(logits, logits.argmax(1) if targets is None else targets)
    (gradient,) = torch.autograd.grad(total, images, create_graph=True)
    return measure(gradient)


class LinearRamp:
    """A weight that grows linearly from 0 to ``final`` over ``steps`` calls, as in the study, then stays."""

    def __init__(self, final: float, steps: int) -> None:
        if final <= 0 or steps < 1:
            raise ClearError(f"a penalty of weight {final} over {steps} steps penalises nothing: give both above 0")
        self.final, self.steps, self.calls = final, steps, 0

    def __call__(self) -> float:
        """This step's weight."""
        self.calls += 1
        return self.final * min(1.0, (self.calls - 1) / max(1, self.steps - 1))
