"""What a layer still knows: images recovered from activations alone (Mahendran and Vedaldi 2015, arXiv 1412.0035)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lazyutils import fold, hooks
from lazyutils.data import ColoredDigits
from lazyutils.errors import ClearError
from lazyutils.parametrization import PIXELS


@dataclass(frozen=True)
class Inversion:
    """Images recovered from several layers.

    Attributes:
        layers: their names, L of them.
        images: ``float32 [L, N, 3, H, W]`` in [0, 1].
        error: ``float32 [L, N]``, squared distance to the reference's activation over that activation's squared norm.
    """

    layers: tuple[str, ...]
    images: Tensor
    error: Tensor


def total_variation(images: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels of each image, ``[N]``."""
    down = (images[:, :, 1:] - images[:, :, :-1]).square().mean(dim=(1, 2, 3))
    across = (images[:, :, :, 1:] - images[:, :, :, :-1]).square().mean(dim=(1, 2, 3))
    return down + across


def invert(
    model: nn.Module,
    references: Tensor,
    layers: Sequence[str],
    *,
    tv_weight: float = 0.0,
    steps: int = 200,
    lr: float = 0.05,
    seed: int = 0,
) -> Inversion:
    """From noise to images whose activations equal those of ``references``: all layers and images at once.

    Minimises ``||phi(x) - phi(x0)||^2 / ||phi(x0)||^2 + tv_weight * TV(x)`` (equations 1 and 5) for each image.

    Args:
        references: ``float32 [N, 3, H, W]`` in [0, 1], square.
        tv_weight: weight of ``total_variation``: smoother images, looser agreement.
        steps, lr: of Adam, in the pixels' logits.
        seed: of the one noise image that all start from.

    Raises:
        ClearError: unknown layer, unfit images, or no step asked for.
    """
    if steps < 1 or not layers:
        raise ClearError(f"steps ({steps}) and layers ({len(layers)}) must be at least 1")
    goals = hooks.collect(model, references, layers)
    size = references.shape[-1]
    start = PIXELS.start(size, seed).to(references.device)
    free = start.expand(len(layers), *references.shape).clone().requires_grad_()
    optimizer = torch.optim.Adam([free], lr=lr, fused=True)

    def distances(images: Tensor) -> Tensor:
        """Relative squared distance to the goals, ``[L, N]``."""
        rows = []
        for layer, own in zip(layers, images, strict=True):
            with hooks.stopping_at(model, layer) as activation:
                difference = (activation(own) - goals[layer]).flatten(1)
            rows.append(difference.square().sum(1) / goals[layer].flatten(1).square().sum(1).clamp(min=1e-12))
        return torch.stack(rows)

    def render() -> Tensor:
        return PIXELS.render(free.flatten(0, 1), size).view(free.shape)

    with hooks.frozen(model), fold.folded(model):
        for _ in range(steps):
            images = render()
            loss = distances(images).sum()
            if tv_weight:
                loss = loss + tv_weight * total_variation(images.flatten(0, 1)).sum()
            free.grad = torch.autograd.grad(loss, free)[0].contiguous()  # fused Adam wants the layout of ``free``
            optimizer.step()
        with torch.no_grad():
            images = render()
            return Inversion(tuple(layers), images, distances(images))


# --- how much of the colour and how much of the shape came back ------------------------------------------------------


def background_color(images: Tensor, masks: Tensor) -> Tensor:
    """Mean colour ``[N, 3]`` of the pixels off the stroke; ``masks bool [N, H, W]`` is True on the stroke."""
    weight = (~masks).unsqueeze(1).to(images)
    return (images * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3)).clamp(min=1)


def color_error(recovered: Tensor, references: Tensor, masks: Tensor) -> Tensor:
    """How far the background's mean colour is from the reference's, ``[N]``: mean of |R|, |G|, |B|, 0 to 1."""
    return (background_color(recovered, masks) - background_color(references, masks)).abs().mean(1)


def stroke_fit(recovered: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """The mixture of R, G, B that shows the stroke best: least squares in each image.

    Returns:
        The fitted and the true stroke, both centred, ``[N, H * W]``.
    """
    pixels = recovered.flatten(2).transpose(1, 2).double()  # [N, P, 3]
    pixels = pixels - pixels.mean(1, keepdim=True)
    stroke = masks.flatten(1).double()
    stroke = stroke - stroke.mean(1, keepdim=True)
    gram = pixels.transpose(1, 2) @ pixels + 1e-9 * torch.eye(3, dtype=torch.float64, device=pixels.device)
    mixture = torch.linalg.solve(gram, pixels.transpose(1, 2) @ stroke[:, :, None])  # [N, 3, 1]
    return (pixels @ mixture)[:, :, 0], stroke


def shape_correlation(recovered: Tensor, masks: Tensor) -> Tensor:
    """How well a recovered image shows the reference's stroke, ``[N]``, 0 to 1: multiple correlation with R, G, B.

    A stroke of any colour on any background counts; so does a little chance, which the masks of other images measure.
    """
    fitted, stroke = stroke_fit(recovered, masks)
    return (fitted.norm(dim=1) / stroke.norm(dim=1).clamp(min=1e-12)).clamp(max=1).float()


def stroke_iou(recovered: Tensor, masks: Tensor) -> Tensor:
    """Intersection over union ``[N]`` of the stroke with the as many pixels where ``stroke_fit`` is highest."""
    stroke = masks.flatten(1)
    rank = stroke_fit(recovered, masks)[0].argsort(dim=1, descending=True).argsort(dim=1)
    chosen = rank < stroke.sum(1, keepdim=True)
    return (chosen & stroke).sum(1) / (chosen | stroke).sum(1).clamp(min=1)


def scores(found: Inversion, references: ColoredDigits) -> dict[str, dict[str, float]]:
    """Means over the references, by layer.

    Returns:
        ``colour_error`` and ``gray_error`` (what plain grey would get), ``shape_correlation`` and ``shape_chance``
        (with another reference's stroke), ``stroke_iou``, and ``error`` of the activations.
    """
    masks, others = references.masks, references.masks.roll(1, dims=0)
    gray = torch.full_like(references.images, 0.5)
    table = {}
    for layer, images, error in zip(found.layers, found.images, found.error, strict=True):
        measures = {
            "colour_error": color_error(images, references.images, masks),
            "gray_error": color_error(gray, references.images, masks),
            "shape_correlation": shape_correlation(images, masks),
            "shape_chance": shape_correlation(images, others),
            "stroke_iou": stroke_iou(images, masks),
            "error": error,
        }
        table[layer] = {name: values.mean().item() for name, values in measures.items()}
    return table
