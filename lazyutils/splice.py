"""Edit a network's hidden state, put it back, and see what the same network now answers.

An edit of latents keeps the autoencoder's error: ``x' = decode(z') + (x - decode(z))`` (Marks et al. 2024, SHIFT,
arXiv 2403.19647). An edit that changes nothing therefore changes no answer, however bad the autoencoder is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lazyutils import fold, hooks, training, visualize
from lazyutils.data import ColoredDigits
from lazyutils.errors import ClearError
from lazyutils.metrics import accuracy
from lazyutils.models import ResNet18
from lazyutils.sae import SparseAutoencoder, check_states

Edit = Callable[[Tensor], Tensor]
"""Maps states ``[N, D]`` to states ``[N, D]``."""
FLAT = 0.15
"""The study calls a preferred input COLOUR when its standard deviation over space is below this."""


# --- a place in a network --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """Where states are read and put back.

    Attributes:
        model: the network; its mode and flags are as found after each call.
        layer: name of the layer whose output is the state.
        shape: of one state before flattening; ResNet-18's layer4 is averaged over space, as its head does anyway.
        before, after: the two halves of the network, images to ``[N, *shape]`` and ``[N, *shape]`` to logits.
    """

    model: nn.Module
    layer: str
    shape: tuple[int, ...]
    before: Callable[[Tensor], Tensor]
    after: Callable[[Tensor], Tensor]

    @property
    def size(self) -> int:
        """D, the number of entries of a state."""
        return torch.Size(self.shape).numel()

    def states(self, images: Tensor) -> Tensor:
        """States ``float32 [N, D]`` of ``images [N, 3, 28, 28]``; gradients flow to the images."""
        with hooks.frozen(self.model):
            return self.before(images).flatten(1)

    def read(self, images: Tensor, batch_size: int = 500) -> Tensor:
        """The same in batches, without gradients."""
        hooks.check_images(self.model, images)
        return training.batched(self.states, images, batch_size)

    def logits(self, states: Tensor) -> Tensor:
        """``float32 [N, 10]`` from states ``[N, D]``.

        Raises:
            ClearError: states of another size, or with NaN or infinite values.
        """
        check_states(states, self.size)
        with hooks.frozen(self.model):
            return self.after(states.view(-1, *self.shape))

    @torch.no_grad()
    def predict(self, states: Tensor) -> Tensor:
        """The network's answers ``int64 [N]`` from states ``[N, D]``."""
        return self.logits(states).argmax(1)


def site(model: nn.Module, layer: str) -> Site:
    """The place behind ``layer``: any direct layer of LazyCNN or RobustCNN, ``"layer4"`` of ResNet-18.

    Raises:
        ClearError: unknown layer, or one that can't be cut at.
    """
    layers = ["layer4"] if isinstance(model, ResNet18) else [name for name, _ in model.named_children()][:-1]
    if layer not in layers:
        raise ClearError(f"{type(model).__name__} can't be cut at {layer!r}: choose one of {', '.join(layers)}")
    before, after = halves(model, layers, layer)
    with torch.no_grad(), hooks.frozen(model):
        shape = tuple(before(torch.zeros(1, 3, 28, 28)).shape[1:])
    return Site(model, layer, shape, before, after)


def halves(model: nn.Module, layers: list[str], layer: str) -> tuple[Callable, Callable]:
    """The network up to and with ``layer``, and all that follows."""
    if isinstance(model, ResNet18):
        pooled = nn.Sequential(model.net.avgpool, nn.Flatten())
        return lambda images: pooled(model.features(images)), model.net.fc
    cut = layers.index(layer) + 1
    before = nn.Sequential(*(model.get_submodule(name) for name in layers[:cut]))
    return before, nn.Sequential(*(model.get_submodule(name) for name in layers[cut:]), nn.Flatten(), model.fc)


@dataclass(frozen=True)
class Subject:
    """A network at one site, with the easy and hard states on which edits are judged.

    Attributes:
        easy, hard: states ``float32 [N, D]``.
        easy_labels, hard_labels, hard_colors: ``int64 [N]``.
    """

    site: Site
    easy: Tensor
    easy_labels: Tensor
    hard: Tensor
    hard_labels: Tensor
    hard_colors: Tensor

    def measure(self, edit: Edit = lambda x: x, answer: Edit | None = None) -> dict[str, float]:
        """``easy`` and ``hard`` accuracy and ``colour_share`` (hard images answered with their colour's digit).

        Args:
            edit: applied to both sets of states.
            answer: states to answers ``int64 [N]``; the network's own by default.
        """
        answer = answer or self.site.predict
        return self.score(answer(edit(self.easy)), answer(edit(self.hard)))

    def score(self, easy: Tensor, hard: Tensor) -> dict[str, float]:
        """The three figures from answers ``int64 [N]`` on both sets."""
        return {
            "easy": accuracy(easy, self.easy_labels),
            "hard": accuracy(hard, self.hard_labels),
            "colour_share": accuracy(hard, self.hard_colors),
        }


def subject(place: Site, easy: ColoredDigits, hard: ColoredDigits) -> Subject:
    """Read the states of both sets of images at ``place``."""
    return Subject(place, place.read(easy.images), easy.labels, place.read(hard.images), hard.labels, hard.colors)


# --- edits of latents ------------------------------------------------------------------------------------------------


def check_features(features: Tensor, width: int) -> None:
    """Refuse features that the autoencoder doesn't have."""
    if features.numel() and not 0 <= int(features.min()) <= int(features.max()) < width:
        raise ClearError(f"features run from {features.min()} to {features.max()}: they are 0 to {width - 1}")


@torch.no_grad()
def ablate(
    autoencoder: SparseAutoencoder, x: Tensor, features: Tensor, fill: Tensor, z: Tensor | None = None
) -> Tensor:
    """Set latents to a constant, error term kept.

    Args:
        x: states ``[N, D]``.
        features: ``int64 [F]``, the latents that are set.
        fill: ``float32 [K]``, what each latent would be set to: its mean, or zeros.
        z: latents of ``x`` where they are known.

    Returns:
        ``x + decode(z') - decode(z)``, ``[N, D]``; ``x`` itself, to the bit, for no features.
    """
    check_states(x, autoencoder.size)
    check_features(features, autoencoder.width)
    z = autoencoder.encode(x) if z is None else z
    z_new = z.index_copy(1, features, fill[features].expand(len(z), -1))
    return x + autoencoder.shift(z, z_new)


@torch.no_grad()
def steer(autoencoder: SparseAutoencoder, x: Tensor, feature: int, amount: float) -> Tensor:
    """Add ``amount`` to one latent, error term kept: ``x + decode(z + amount e_j) - decode(z)``."""
    check_states(x, autoencoder.size)
    check_features(torch.tensor([feature]), autoencoder.width)
    z = autoencoder.encode(x)
    z_new = z.clone()
    z_new[:, feature] += amount
    return x + autoencoder.shift(z, z_new)


@torch.no_grad()
def ablate_each(
    judged: Subject, autoencoder: SparseAutoencoder, sets: Sequence[Tensor], fill: Tensor
) -> list[dict[str, float]]:
    """What the network answers with each of several sets of features ablated; states are encoded once.

    A dose curve is a list of growing sets, a control a list of random ones.

    Args:
        sets: each ``int64 [F]``.
        fill: as in ``ablate``.
    """
    latents = [(x, autoencoder.encode(x)) for x in (judged.easy, judged.hard)]
    predict = judged.site.predict
    return [
        judged.score(*(predict(ablate(autoencoder, x, features, fill, z)) for x, z in latents)) for features in sets
    ]


def random_sets(candidates: Tensor, count: int, draws: int, seed: int) -> list[Tensor]:
    """``draws`` random sets of ``count`` different ``candidates int64 [C]``."""
    if count > len(candidates):
        raise ClearError(f"can't draw {count} of {len(candidates)} features: ask for fewer")
    generator = torch.Generator().manual_seed(seed)
    return [candidates[torch.randperm(len(candidates), generator=generator)[:count]] for _ in range(draws)]


# --- what an autoencoder-free edit does ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Erasure:
    """Projection that makes all colours' mean states equal, so that no linear reader sees the colour.

    Equal class means are what linear guardedness asks for (Belrose et al. 2023, LEACE, arXiv 2306.03819); this is
    the plain orthogonal projection.

    Attributes:
        mean: ``float32 [D]``, the point that is kept.
        directions: ``float32 [9, D]``, orthonormal, what is removed.
    """

    mean: Tensor
    directions: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """``x - U^T U (x - mean)``, ``[N, D]``."""
        return x - ((x - self.mean) @ self.directions.T) @ self.directions


def erase_color_means(x: Tensor, colors: Tensor) -> Erasure:
    """The erasure of the directions between colours' mean states.

    Args:
        x: states ``[N, D]`` of images whose colours don't depend on the digit.
        colors: ``int64 [N]``; all ten must occur.
    """
    check_states(x)
    if len(colors.unique()) < 10:
        raise ClearError("not all ten colours occur: give more images")
    means = torch.stack([x[colors == color].mean(0) for color in range(10)])
    center = means.mean(0)
    directions = torch.linalg.svd(means - center, full_matrices=False).Vh[:9]
    return Erasure(center, directions)


# --- new heads -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinearHead:
    """A linear classifier on standardised states: ``argmax W (x - mean) / scale + b``."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def logits(self, x: Tensor) -> Tensor:
        """``float32 [N, 10]`` from states ``[N, D]``."""
        return F.linear((x - self.mean) / self.scale, self.weight, self.bias)

    def __call__(self, x: Tensor) -> Tensor:
        """Answers ``int64 [N]``."""
        return self.logits(x).argmax(1)


def fit_head(x: Tensor, labels: Tensor, penalty: float = 1e-3, steps: int = 60) -> LinearHead:
    """Multinomial logistic regression by L-BFGS; deterministic.

    On images with random colours it is a probe: its accuracy is what the layer lets a linear reader know.

    Args:
        x: states ``[N, D]``.
        labels: ``int64 [N]``, 0 to 9.
        penalty: weight of ``||W||^2``.
        steps: iterations at most.
    """
    check_states(x)
    mean, scale = x.mean(0), x.std(0).mean().clamp(min=1e-6)
    standardized = (x - mean) / scale
    weight = torch.zeros(10, x.shape[1], requires_grad=True)
    bias = torch.zeros(10, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(standardized, weight, bias), labels) + penalty * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(objective)
    return LinearHead(mean, scale, weight.detach(), bias.detach())


# --- what a feature wants to see -------------------------------------------------------------------------------------


def preferred_inputs(place: Site | None, autoencoder: SparseAutoencoder, **options) -> visualize.Preferred:
    """One image for each latent that raises it most: all latents in one gradient ascent.

    The objective is the pre-activation, which has a gradient also where the latent is off.

    Args:
        place: where the autoencoder reads; None for an autoencoder of pixels.
        options: of ``visualize.ascend``: steps, lr, seed, jitter, parametrization.
    """
    if place is None:
        return visualize.ascend(own_latent(autoencoder, lambda images: images), autoencoder.width, **options)
    with hooks.frozen(place.model), fold.folded(place.model):
        return visualize.ascend(own_latent(autoencoder, place.before), autoencoder.width, **options)


def own_latent(autoencoder: SparseAutoencoder, states: Callable[[Tensor], Tensor]) -> visualize.Objective:
    """Image ``u``'s pre-activation of latent ``u``, ``[K]``, from K images; ``states`` maps images to ``[K, ...]``."""
    weight, bias = (read.detach() for read in autoencoder.reading())
    return lambda images: (states(images).flatten(1) * weight).sum(1) + bias


def spatial_sd(images: Tensor) -> Tensor:
    """Standard deviation over space, averaged over the channels, ``[N]``: what the study's rule compares with ``FLAT``.

    Args:
        images: ``float32 [N, 3, H, W]`` in [0, 1].
    """
    return images.flatten(2).std(2).mean(1)
