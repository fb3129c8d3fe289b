"""What a perturbation is: how large it must be, where its energy lies, which colour and which shape it draws.

``delta`` is adversarial minus clean image, ``[N, 3, H, W]``; energy is the sum of its squares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lazyutils.attacks import Active, Constraint
from lazyutils.data import palette_tensor
from lazyutils.errors import ClearError
from lazyutils.goals import reached, shortfall
from lazyutils.training import predict

PROJECTIONS = 25  # bisections for the mean of a clamped perturbation


def candidates(
    models: Sequence[nn.Module], images: Tensor, labels: Tensor, *, source: int, target: int
) -> tuple[Tensor, Tensor]:
    """Images of ``source`` that every model gets right, those that all hold nearest to ``target`` first.

    Returns:
        Positions ``int64 [M]``, and the target's worst rank among the models' answers ``int64 [M]``: 1 where it is
        every model's runner-up, the study's rule.

    Raises:
        ClearError: there is none.
    """
    right, rank, liking = labels == source, torch.ones_like(labels), torch.zeros(len(labels), device=labels.device)
    for model in models:
        probability = predict(model, images).softmax(1)
        right = right & (probability.argmax(1) == source)
        rank = torch.maximum(rank, (probability > probability[:, target : target + 1]).sum(1))
        liking = liking + probability[:, target] / len(models)
    where = right.nonzero()[:, 0]
    if not len(where):
        raise ClearError(f"no image of {source} is answered {source} by all the models: choose another source or set")
    order = (rank[where] - liking[where]).argsort()
    return where[order], rank[where][order]


def minimal_eps(
    attack: Callable[[Tensor, Tensor, Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    largest: float = 0.3,
    doublings: int = 5,
    bisections: int = 5,
) -> Tensor:
    """The smallest radius at which ``attack`` succeeds, for each image by itself.

    First the radius doubles from ``largest / 2**doublings`` until the image falls, then the last
    interval is bisected. Error: at most a share ``2**-bisections`` of that interval, which the doubling leaves as long
    as its lower end, or from 0 on where the first radius succeeds.

    Args:
        attack: maps images, labels and ``eps [M]`` to success ``bool [M]``.
        images: ``float32 [N, 3, H, W]``.
        labels: ``int64 [N]``.

    Returns:
        ``float32 [N]``; 0 where nothing has to change, infinite where ``largest`` isn't enough.
    """
    if not 0 < largest <= 1 or doublings < 0 or bisections < 0:
        raise ClearError(f"largest ({largest}) must be above 0, up to 1; doublings and bisections at least 0")
    low = images.new_zeros(len(images))
    high = torch.full_like(low, torch.inf)
    for eps in (0.0, *(largest / 2**halving for halving in range(doublings, -1, -1))):
        todo = high.isinf().nonzero()[:, 0]
        if not len(todo):
            break
        falls = attack(images[todo], labels[todo], torch.full_like(low[todo], eps))
        high[todo[falls]], low[todo[~falls]] = eps, eps
    todo = ((high > 0) & high.isfinite()).nonzero()[:, 0]
    for _ in range(bisections if len(todo) else 0):
        middle = (low[todo] + high[todo]) / 2
        falls = attack(images[todo], labels[todo], middle)
        high[todo], low[todo] = torch.where(falls, middle, high[todo]), torch.where(falls, low[todo], middle)
    return high


def success_curve(minimal: Tensor, radii: Tensor) -> Tensor:
    """Share of images ``[R]`` that fall within each of ``radii [R]``, from ``minimal [N]``; never decreases."""
    return (minimal[None] <= radii[:, None]).double().mean(1)


def background_mean(values: Tensor, masks: Tensor) -> Tensor:
    """Mean of ``values [N, 3, H, W]`` over the background, ``[N, 3]``; ``masks bool [N, H, W]`` are the strokes."""
    background = ~masks[:, None]
    return (values * background).sum((2, 3)) / background.sum((2, 3)).clamp(min=1)


def energy_shares(delta: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """How ``delta``'s energy splits; the three shares, ``[N]`` each, add up to 1.

    ``tint``: one uniform colour over the background. The differences between any four palette
    colours span all such tints, so this is also the share in the recolouring subspace.
    ``stroke``: on the digit's own pixels. ``pattern``: the rest of the background.
    A random perturbation has a tint share of 3 divided by the number of values.
    """
    total = delta.pow(2).sum((1, 2, 3)).clamp(min=1e-12)
    stroke = (delta * masks[:, None]).pow(2).sum((1, 2, 3)) / total
    tint = background_mean(delta, masks).pow(2).sum(1) * (~masks).sum((1, 2)) / total
    return {"tint": tint, "stroke": stroke, "pattern": 1 - stroke - tint}


def tint_directions(delta: Tensor, masks: Tensor, colors: Tensor, palette: str = "study") -> Tensor:
    """Cosine between the background's mean change and the way to each palette colour, ``[N, 10]``.

    NaN for an image's own colour. Column ``k`` near 1: the perturbation pushes the background towards
    the colour of digit ``k``.
    """
    base = palette_tensor(palette).to(delta) / 255
    ways = base[None] - base[colors][:, None]
    cosines = F.cosine_similarity(background_mean(delta, masks)[:, None], ways, dim=2)
    return cosines.scatter(1, colors[:, None], torch.nan)


def ink(delta: Tensor, images: Tensor, masks: Tensor) -> Tensor:
    """How much ``delta`` moves each pixel from the background's colour to the stroke's, ``[N, H, W]``.

    Positive where a stroke is drawn, negative where it is washed out.
    """
    paper = background_mean(images, masks)
    pen = background_mean(images, ~masks)
    way = F.normalize(pen - paper, dim=1)
    return (delta * way[:, :, None, None]).sum(1)


def shape_templates(masks: Tensor, labels: Tensor, source: int) -> Tensor:
    """Mean stroke of each digit minus that of ``source``, ``float32 [10, H, W]``."""
    means = torch.stack([masks[labels == digit].float().mean(0) for digit in range(10)])
    return means - means[source]


def shape_matches(drawn: Tensor, templates: Tensor) -> Tensor:
    """Pearson correlation of each ``drawn [N, H, W]`` with each of ``templates [10, H, W]``: ``[N, 10]``.

    NaN for the source digit, whose template is empty.
    """

    def standard(maps: Tensor) -> Tensor:
        flat = maps.flatten(1)
        return F.normalize(flat - flat.mean(1, keepdim=True), dim=1)

    matches = standard(drawn) @ standard(templates).T
    return matches.masked_fill((templates == 0).flatten(1).all(1)[None], torch.nan)


def to_8_bits(images: Tensor) -> Tensor:
    """Images as a file stores them: each value rounded to the nearest of 256 levels, still in [0, 1]."""
    return (images * 255).round() / 255


class TintOnly(Constraint):
    """Colour-only attack: one uniform tint over the background, at most eps in each channel."""

    def __init__(self, masks: Tensor) -> None:
        self.background = ~masks[:, None]

    def _spread(self, values: Tensor, index: Tensor) -> Tensor:
        background = self.background[index]
        return background_mean(values, ~background[:, 0])[:, :, None, None] * background

    def direct(self, gradient: Tensor, index: Tensor) -> Tensor:
        return self._spread(gradient, index)

    def project(self, batch: Active) -> Tensor:
        return self._spread(batch.delta, batch.index).clamp(-batch.eps, batch.eps)


class ShapeOnly(Constraint):
    """Shape-only attack: any pattern that leaves the background's mean colour as it is."""

    def __init__(self, masks: Tensor) -> None:
        self.masks = masks

    def direct(self, gradient: Tensor, index: Tensor) -> Tensor:
        masks = self.masks[index]
        return gradient - background_mean(gradient, masks)[:, :, None, None] * ~masks[:, None]

    def project(self, batch: Active) -> Tensor:
        """Shift the background of each channel, found by bisection, so that its mean is 0 after clamping."""
        lower, upper = batch.bounds()
        masks = self.masks[batch.index]
        low, high = (sign * torch.ones_like(batch.clean[:, :, :1, :1]) * 2 for sign in (-1, 1))
        for _ in range(PROJECTIONS):
            middle = (low + high) / 2
            mean = background_mean((batch.delta - middle).clamp(lower, upper), masks)[:, :, None, None]
            low, high = torch.where(mean > 0, middle, low), torch.where(mean > 0, high, middle)
        return torch.where(masks[:, None], batch.delta, batch.delta - high).clamp(lower, upper)


def transfer(
    models: Mapping[str, nn.Module], adversarial: Mapping[str, Tensor], target: int, confidence: float = 0.9
) -> dict[str, dict[str, float]]:
    """Share of the images made against one network that fool another: ``[made against][shown to]``."""

    def share(model: nn.Module, images: Tensor) -> float:
        wanted = torch.full((len(images),), target, device=images.device)
        return reached(predict(model, images), wanted, confidence).double().mean().item()

    return {
        made: {shown: share(model, images) for shown, model in models.items()} for made, images in adversarial.items()
    }


def loss_surface(
    model: nn.Module, image: Tensor, target: int, first: Tensor, second: Tensor, *, size: int = 21
) -> Tensor:
    """Log-odds of the target on a plane through an image, ``float32 [size, size]``.

    Args:
        image: ``float32 [3, H, W]`` in [0, 1].
        first, second: ``[3, H, W]``, the plane's axes; row ``i`` and column ``j`` show the image plus
            ``a_i * first + b_j * second``, clamped to [0, 1], with ``a`` and ``b`` from -1 to 1.
    """
    if size < 2:
        raise ClearError(f"size {size} is too small for a surface: choose at least 2")
    axis = torch.linspace(-1, 1, size, dtype=image.dtype, device=image.device)[:, None, None, None]
    plane = image + (axis * first)[:, None] + (axis * second)[None]
    logits = predict(model, plane.flatten(0, 1).clamp(0, 1))
    wanted = torch.full((len(logits),), target, device=image.device)
    return -shortfall(logits, wanted, 0.5).view(size, size)
