"""Task 6's dictionaries: what their features answer to, and what they do to the network's answers.

Built from ``sae`` (autoencoders), ``splice`` (edits), ``selectivity`` (what a unit answers to) and ``sae_metrics``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lazyutils import sae, sae_metrics, splice
from lazyutils.data import ColoredDigits, recolor
from lazyutils.metrics import accuracy, collect_seeds
from lazyutils.selectivity import balanced_colors, class_means, eta_squared

LEARNING_RATE = {"study": 1e-3, "topk": 5e-3, "batchtopk": 5e-3}
DECAY = {"study": 0.0, "topk": 0.8, "batchtopk": 0.8}
"""Adam's step, and the last share of the training over which it falls to 0: the study's for the study's."""


@dataclass(frozen=True)
class Material:
    """The states of one network at one site.

    Attributes:
        judged: easy and hard states, on which the network is questioned.
        train: ``float32 [N, D]``, states of biased training images: what autoencoders and new heads learn from.
        train_labels: ``int64 [N]``.
        balanced: ``float32 [M, D]``, states of other colourings of training digits, every digit in every colour.
        labels, colors: ``int64 [M]``, of the balanced images.
    """

    judged: splice.Subject
    train: Tensor
    train_labels: Tensor
    balanced: Tensor
    labels: Tensor
    colors: Tensor


def balanced_images(digits: ColoredDigits, seed: int, palette: str = "study", noise: float = 20.0) -> ColoredDigits:
    """The same digits, every digit equally often on every background; ``palette`` and ``noise`` are the data's."""
    return recolor(digits, balanced_colors(digits.labels, seed), palette, noise, seed)


def material(
    place: splice.Site, train: ColoredDigits, balanced: ColoredDigits, easy: ColoredDigits, hard: ColoredDigits
) -> Material:
    """Read all states at ``place``."""
    judged = splice.subject(place, easy, hard)
    states = place.read(train.images), train.labels, place.read(balanced.images)
    return Material(judged, *states, balanced.labels, balanced.colors)


def train_dictionary(
    x: Tensor, kind: str, width: int, *, epochs: int, seed: int = 0, **options: float
) -> sae.SparseAutoencoder:
    """A trained autoencoder of states ``x [N, D]``, with the settings that the book uses for its kind."""
    autoencoder = sae.build(kind, x.shape[1], width, seed, **options)
    sae.fit(autoencoder, x, epochs=epochs, seed=seed, learning_rate=LEARNING_RATE[kind], decay=DECAY[kind])
    return autoencoder


# --- quality ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def report(autoencoder: sae.SparseAutoencoder, made: Material) -> dict[str, float]:
    """Quality on easy states that the autoencoder didn't learn from, and the answers from reconstructions.

    ``recovered_zero`` and ``recovered_mean``: of the hard answers that replacing the state by zeros or by its mean
    would change, the share that the reconstruction keeps.
    """
    judged = made.judged
    predict, hard = judged.site.predict, judged.hard
    original = predict(hard)
    kept = accuracy(predict(autoencoder(hard)), original)
    baselines = {"zero": torch.zeros_like(hard), "mean": made.train.mean(0).expand_as(hard)}
    return {
        **sae_metrics.quality(autoencoder, judged.easy),
        "hard_explained_variance": sae_metrics.explained_variance(hard, autoencoder(hard)),
        **{f"spliced_{name}": value for name, value in judged.measure(autoencoder).items()},
        **{
            f"recovered_{name}": sae_metrics.recovered(kept, 1.0, accuracy(predict(states), original))
            for name, states in baselines.items()
        },
    }


def quality_over_seeds(autoencoders: Sequence[sae.SparseAutoencoder], made: Material) -> dict[str, Any]:
    """``report`` over autoencoders as mean and sd; ``dead_share`` also names the ``worst`` of them."""
    reports = [report(one, made) for one in autoencoders]
    dead = {"worst": max(one["dead_share"] for one in reports)}
    return (collected := collect_seeds(reports)) | {"dead_share": collected["dead_share"] | dead}


def pareto(
    made: Material, grid: Sequence[tuple[str, int, dict[str, float]]], *, epochs: int, states: int, seed: int = 0
) -> list[dict[str, Any]]:
    """One report for each (kind, width, options) of ``grid``, trained on the first ``states`` training states."""
    return [
        {
            "kind": kind,
            "width": width,
            **options,
            **report(train_dictionary(made.train[:states], kind, width, epochs=epochs, seed=seed, **options), made),
        }
        for kind, width, options in grid
    ]


# --- meaning ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Features:
    """What each of K latents answers to, on images where colour and digit are independent.

    Attributes:
        color_eta2, digit_eta2: ``float32 [K]``, share of its variance that colour or digit explains.
        by_color, by_digit: ``float32 [K, 10]``, its mean activation for each.
        mean, sd, density: ``float32 [K]``; density is the share of the images on which it is on.
    """

    color_eta2: Tensor
    digit_eta2: Tensor
    by_color: Tensor
    by_digit: Tensor
    mean: Tensor
    sd: Tensor
    density: Tensor

    def colored(self, count: int) -> Tensor:
        """The ``count`` features whose colour eta squared most exceeds their digit eta squared, ``int64 [count]``."""
        return (self.color_eta2 - self.digit_eta2).argsort(descending=True)[:count]

    def shaped(self, count: int) -> Tensor:
        """The ``count`` features with the largest digit eta squared among the others than ``colored(count)``."""
        score = self.digit_eta2.index_fill(0, self.colored(count), -1.0)
        return score.argsort(descending=True)[:count]

    def title(self, feature: int) -> str:
        """What it answers to, in few words."""
        return f"η² colour {self.color_eta2[feature]:.2f}, digit {self.digit_eta2[feature]:.2f}"

    def alive(self) -> Tensor:
        """Indices of the features that are ever on."""
        return (self.density > 0).nonzero()[:, 0]


@torch.no_grad()
def describe(autoencoder: sae.SparseAutoencoder, made: Material) -> Features:
    """Measure the latents of ``autoencoder`` on the balanced states."""
    z = autoencoder.encode(made.balanced)
    return Features(
        color_eta2=eta_squared(z, made.colors),
        digit_eta2=eta_squared(z, made.labels),
        by_color=class_means(z, made.colors).T.float(),
        by_digit=class_means(z, made.labels).T.float(),
        mean=z.mean(0),
        sd=z.std(0),
        density=sae_metrics.firing_density(z),
    )


def ceiling(made: Material, edit: splice.Edit = lambda x: x) -> dict[str, float]:
    """How well a linear reader, taught on balanced colours, finds the digit and the colour of the hard states."""
    states, hard = edit(made.balanced), edit(made.judged.hard)
    digit, color = (splice.fit_head(states, known) for known in (made.labels, made.colors))
    return {
        "digit": accuracy(digit(hard), made.judged.hard_labels),
        "colour": accuracy(color(hard), made.judged.hard_colors),
    }


# --- one feature at a time -------------------------------------------------------------------------------------------


@torch.no_grad()
def pushes(judged: splice.Subject, autoencoder: sae.SparseAutoencoder, features: Features, images: int = 200) -> Tensor:
    """Mean change of the ten logits when a feature rises by one standard deviation, ``float32 [K, 10]``."""
    x = judged.hard[:images]
    before = judged.site.logits(x)
    rises = [splice.steer(autoencoder, x, feature, features.sd[feature].item()) for feature in range(autoencoder.width)]
    return torch.stack([(judged.site.logits(rise) - before).mean(0) for rise in rises])


@torch.no_grad()
def steering(
    judged: splice.Subject, autoencoder: sae.SparseAutoencoder, features: Features, doses: Sequence[float], count: int
) -> dict[str, Tensor]:
    """Push the hidden state towards a colour, and see whether the answer follows.

    A colour's contrast in a latent is its mean on that colour minus its mean on the nine others; dose 1 adds it once.
    The features are chosen by that meaning alone, never by what they do to the answer.

    Returns:
        Shares of the hard images answered with colour c's digit, ``float32 [10, doses]``: ``one`` (the latent with
        the largest contrast for c), ``all`` (the ``count`` colour features together), ``other`` (as ``one``, along the
        next colour's latent).
    """
    others = (features.by_color.sum(1, keepdim=True) - features.by_color) / 9
    contrast = features.by_color - others  # [K, 10]
    best, colored = contrast.argmax(0), features.colored(count)
    shares = {name: torch.empty(10, len(doses)) for name in ("one", "all", "other")}
    z = autoencoder.encode(judged.hard)
    for color in range(10):
        moves = {name: torch.zeros(autoencoder.width) for name in shares}
        moves["one"][best[color]] = contrast[best[color], color]
        moves["all"][colored] = contrast[colored, color]
        moves["other"][best[(color + 1) % 10]] = contrast[best[color], color]
        for name, push in moves.items():
            for position, dose in enumerate(doses):
                x = judged.hard + autoencoder.shift(z, z + dose * push)
                shares[name][color, position] = (judged.site.predict(x) == color).float().mean()
    return shares


def rule_over_steps(
    place: splice.Site | None, autoencoder: sae.SparseAutoencoder, measured: Tensor, steps: Sequence[int]
) -> list[dict[str, float]]:
    """The study's visual rule after several lengths of the ascent, against the measured verdict ``bool [K]``.

    Args:
        place: where the autoencoder reads; None for an autoencoder of pixels.

    Returns:
        For each length ``steps``, ``called_share`` (units called COLOUR), ``accuracy`` and ``kappa`` of the rule, and
        ``auroc`` of flatness itself, which needs no threshold.
    """
    rows = []
    for count in steps:
        sd = splice.spatial_sd(splice.preferred_inputs(place, autoencoder, steps=count).images)
        verdict = agreement(sd < splice.FLAT, measured)
        auroc = (
            sae_metrics.auroc(-sd[:, None], measured.long(), 2)[0, 1].item() if 0 < measured.sum() < len(sd) else 0.5
        )
        called = (verdict["both"] + verdict["only_called"]) / len(sd)
        rows.append({"steps": count, "called_share": called, "auroc": auroc, **verdict})
    return rows


# --- another network, in one call ------------------------------------------------------------------------------------


def agreement(called: Tensor, measured: Tensor) -> dict[str, float]:
    """How a visual verdict stands against a measured one, both ``bool [K]``.

    Returns:
        ``both``, ``only_called``, ``only_measured``, ``neither`` (counts), ``accuracy``, and Cohen's ``kappa``: 0 for
        guessing with the same shares, 1 for agreement; 0 also where one side never varies.
    """
    counts = {
        "both": int((called & measured).sum()),
        "only_called": int((called & ~measured).sum()),
        "only_measured": int((~called & measured).sum()),
        "neither": int((~called & ~measured).sum()),
    }
    right = (counts["both"] + counts["neither"]) / len(called)
    p, q = called.double().mean().item(), measured.double().mean().item()
    chance = p * q + (1 - p) * (1 - q)
    return {**counts, "accuracy": right, "kappa": (right - chance) / (1 - chance) if chance < 1 else 0.0}
