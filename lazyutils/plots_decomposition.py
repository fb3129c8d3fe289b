"""The figures of Task 6: dictionaries, what their features answer to, and what happens without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lazyutils.ablation import Proof
from lazyutils.data import color_names, palette_tensor
from lazyutils.decomposition import Features
from lazyutils.plots import COLOR, DIGIT, EASY, HARD, INK, NEITHER, REFERENCE, draw_image
from lazyutils.sae_metrics import density_histogram

KINDS = {
    "study": ("the study's", "s", COLOR),
    "topk": ("TopK", "o", DIGIT),
    "batchtopk": ("BatchTopK", "^", EASY),
}


def ceilings(found: Mapping[str, Mapping[str, float]], answered: float) -> Figure:
    """What a linear reader finds at each layer, and what the network itself answers rightly (hard images)."""
    figure, axes = plt.subplots(figsize=(7, 3.4))
    positions = np.arange(len(found))
    for shift, key, color, label in ((-0.2, "colour", COLOR, "colour"), (0.2, "digit", DIGIT, "digit")):
        heights = [100 * layer[key] for layer in found.values()]
        bars = axes.bar(positions + shift, heights, 0.38, color=color, label=f"{label}, by a linear probe")
        axes.bar_label(bars, fmt="%.0f", size=9)
    axes.axhline(100 * answered, color=INK, lw=1.2, ls="--", label="digit, by the network itself")
    axes.set_xticks(positions, found)
    axes.set(title="What could be known, and what is answered", ylabel="hard images right (%)", ylim=(0, 118))
    axes.legend(ncols=3, loc="upper center", fontsize=8, columnspacing=1)
    return figure


def paired_rows(rows: Mapping[str, Tensor], cell: float = 0.8) -> Figure:
    """Rows of images, one name a row; all rows hold equally many ``[M, 3, 28, 28]``."""
    count = len(next(iter(rows.values())))
    figure, axes = plt.subplots(len(rows), count, figsize=(count * cell + 1.2, len(rows) * cell), squeeze=False)
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, hspace=0.02, wspace=0.02)
    for panels, (name, images) in zip(axes, rows.items(), strict=True):
        for panel, image in zip(panels, images, strict=True):
            draw_image(panel, image)
        panels[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def verdict_grid(images: Tensor, sd: Tensor, mean: Tensor, side: int = 4) -> Figure:
    """Preferred inputs: the flattest left, the most textured right, each sorted by mean activation.

    Args:
        images: ``[K, 3, 28, 28]``. sd: ``[K]``, over space. mean: ``[K]``, mean activation.
    """
    figure = plt.figure(figsize=(7, 3.8))
    halves = figure.subfigures(1, 2, wspace=0.02)
    flattest = sd.argsort()[: side * side]
    roughest = sd.argsort(descending=True)[: side * side]
    for half, chosen, name in ((halves[0], flattest, "flattest"), (halves[1], roughest, "most textured")):
        half.suptitle(f"{name}: s.d. {sd[chosen].min():.2f} to {sd[chosen].max():.2f}", fontsize=11, fontweight="bold")
        ordered = chosen[mean[chosen].argsort(descending=True)]
        for panel, unit in zip(half.subplots(side, side).flat, ordered, strict=False):
            draw_image(panel, images[unit])
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, hspace=0.02, wspace=0.02)
    return figure


def rule(mean: Tensor, measured: Tensor, rows: Sequence[Mapping[str, float]]) -> Figure:
    """Left: every unit's mean activation, by measured verdict. Right: the visual rule against the ascent's length."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), width_ratios=(1.3, 1))
    order = mean.argsort(descending=True)
    positions = np.arange(len(mean))
    for verdict, color, label in ((True, COLOR, "colour (η² > 0.5)"), (False, DIGIT, "other")):
        chosen = (measured[order] == verdict).numpy()
        left.bar(positions[chosen], mean[order][chosen], 1.0, color=color, label=f"measured {label}")
    left.set(title="Mean activation of the hidden units", xlabel="unit, sorted", ylabel="mean activation")
    left.set_yscale("symlog", linthresh=0.01)
    left.set_xlim(-0.5, len(mean) - 0.5)
    left.legend()
    steps = [row["steps"] for row in rows]
    right.plot(steps, [100 * row["called_share"] for row in rows], "s-", color=COLOR, label="called COLOUR (%)")
    right.plot(steps, [100 * row["accuracy"] for row in rows], "o-", color=DIGIT, label="verdict right (%)")
    right.plot(steps, [100 * row["auroc"] for row in rows], "^:", color=NEITHER, label="AUROC of flatness (x 100)")
    right.set(title="The rule after longer ascents", xlabel="steps of gradient ascent", xscale="log", ylim=(-4, 104))
    right.set_xticks(steps, steps)
    right.minorticks_off()
    right.legend(fontsize=8)
    return figure


def pareto(rows: Sequence[Mapping[str, Any]], original: Mapping[str, float]) -> Figure:
    """Variance explained, and hard accuracy from the reconstruction, against the number of active latents."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    for kind, (label, marker, color) in KINDS.items():
        for width in sorted({row["width"] for row in rows if row["kind"] == kind}):
            chosen = sorted((r for r in rows if (r["kind"], r["width"]) == (kind, width)), key=lambda row: row["l0"])
            line = "" if kind == "study" else "-" if width <= 128 else ":"
            style = {"marker": marker, "color": color, "ls": line, "ms": 6}
            x = [row["l0"] for row in chosen]
            left.plot(x, [100 * row["explained_variance"] for row in chosen], label=f"{label}, {width}", **style)
            right.plot(x, [100 * row["spliced_hard"] for row in chosen], **style)
    right.axhline(100 * original["hard"], color=REFERENCE, ls="--", lw=1, label="the network's own state")
    left.set(title="Fidelity to the state", ylabel="variance explained (%)")
    right.set(title="Fidelity of the answer", ylabel="hard accuracy, spliced (%)")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("active latents an image (L0)")
    left.legend(title="kind, width", fontsize=8, title_fontsize=8)
    right.legend()
    return figure


def trust(density: Tensor, cosines: Mapping[str, Tensor]) -> Figure:
    """How often features fire, and how well two dictionaries agree."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.3))
    edges, counts = density_histogram(density)
    left.stairs(counts, edges, fill=True, color=DIGIT)
    left.set(xscale="log", xlabel="share of the images on which a feature fires", ylabel="features")
    left.set_title("Firing density")
    for (name, values), color in zip(cosines.items(), (DIGIT, REFERENCE, HARD), strict=False):
        right.ecdf(values.numpy(), label=name, color=color)
    right.set(title="Does another seed find the same?", xlabel="cosine with the matched feature", ylabel="share below")
    right.set_xlim(0, 1)
    right.legend(loc="lower right")
    return figure


def selectivity(groups: Mapping[str, tuple[Tensor, Tensor]]) -> Figure:
    """Colour eta squared against digit eta squared, one panel a group of units (colour, digit: each ``[U]``)."""
    figure, panels = plt.subplots(1, len(groups), figsize=(3.1 * len(groups), 3.2), sharex=True, sharey=True)
    highest = max(25.0, *(100 * digit.max().item() for _, digit in groups.values()))
    for panel, (name, (color, digit)) in zip(panels, groups.items(), strict=True):
        points = np.where((color > digit).numpy(), COLOR, DIGIT)
        panel.scatter(100 * color, 100 * digit, s=14, c=points, alpha=0.6, lw=0)
        panel.plot([0, 100], [0, 100], color=REFERENCE, lw=0.8, ls=":")
        panel.set_title(f"{name} ({len(color)})", fontsize=10)
        panel.set_xlabel("colour η² (%)")
        panel.set(xlim=(-3, 103), ylim=(-1, 1.04 * highest))
    panels[0].set_ylabel("digit η² (%)")
    return figure


def exhibits(preferred: Tensor, examples: Tensor, titles: Sequence[str], cell: float = 0.6) -> Figure:
    """For each of F features its preferred input and, in the same row, the images on which it is strongest.

    Args:
        preferred: ``[F, 3, 28, 28]``. examples: ``[F, M, 3, 28, 28]``.
        titles: one a feature, left of its row.
    """
    count, shown = examples.shape[:2]
    size = ((shown + 1) * cell + 2.6, count * cell + 0.3)
    figure, axes = plt.subplots(count, shown + 1, figsize=size, squeeze=False)
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, hspace=0.02, wspace=0.02)
    for row, panels in enumerate(axes):
        for panel, image in zip(panels, (preferred[row], *examples[row]), strict=True):
            draw_image(panel, image)
        panels[0].set_ylabel(titles[row], rotation=0, ha="right", va="center", fontsize=8.5)
    axes[0, 0].set_title("prefers", fontsize=9, fontweight="normal", loc="center")
    axes[0, 1].set_title("strongest images", fontsize=9, fontweight="normal", loc="left")
    return figure


def edits(figures: Mapping[str, Sequence[Mapping[str, float]]], reference: Mapping[str, float]) -> Figure:
    """Easy, hard and colour answers after each edit: mean over seeds, and a dot for each seed.

    Args:
        figures: name of the edit to one measurement a seed.
        reference: hard accuracies drawn as vertical lines, by name.
    """
    figure, axes = plt.subplots(figsize=(9, 0.9 + 0.42 * len(figures)))
    rows = np.arange(len(figures))
    for key, color, marker, label in (
        ("easy", EASY, "o", "easy accuracy"),
        ("hard", DIGIT, "D", "hard accuracy"),
        ("colour_share", COLOR, "X", "hard images answered with the colour"),
    ):
        values = [[100 * one[key] for one in seeds] for seeds in figures.values()]
        axes.scatter(
            [np.mean(seeds) for seeds in values], rows, s=60, color=color, marker=marker, label=label, zorder=3
        )
        axes.hlines(
            rows, [min(seeds) for seeds in values], [max(seeds) for seeds in values], color=color, lw=3, alpha=0.4
        )
    for (name, value), style in zip(reference.items(), ("--", ":"), strict=False):
        axes.axvline(100 * value, color=REFERENCE, ls=style, lw=1.2, label=name)
    axes.set_yticks(rows, figures)
    axes.grid(axis="y", lw=0.4)
    axes.invert_yaxis()
    axes.set(xlabel="% of the images", xlim=(-2, 102))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8.5)
    return figure


def dose(curves: Mapping[str, Sequence[Mapping[str, float]]], doses: Sequence[int], fixed: float) -> Figure:
    """Colour answers, hard and easy accuracy while more features are switched off, in three orders."""
    figure, panels = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True)
    styles = {
        "colour": (COLOR, "-", "colour first"),
        "random": (NEITHER, "--", "random order"),
        "digit": (DIGIT, "-.", "digit first"),
    }
    titles = {"colour_share": "Answers with the colour", "hard": "Hard accuracy", "easy": "Easy accuracy"}
    for panel, (key, title) in zip(panels, titles.items(), strict=True):
        for name, (color, style, label) in styles.items():
            panel.plot(
                doses, [100 * one[key] for one in curves[name]], color=color, ls=style, marker="o", ms=3, label=label
            )
        panel.set(title=title, xlabel="features switched off", ylim=(0, 102))
    panels[1].axhline(100 * fixed, color=REFERENCE, ls=":", lw=1.2, label="Task 4's network")
    panels[0].set_ylabel("% of the images")
    panels[1].legend(fontsize=8, loc="upper right", bbox_to_anchor=(1, 0.8))
    return figure


def steering(shares: Mapping[str, Tensor], doses: Sequence[float], palette: str) -> Figure:
    """Answers with a colour's digit as the state is pushed towards it: a line a colour, means, and the control."""
    figure, panels = plt.subplots(1, 2, figsize=(8.4, 3), sharey=True)
    swatches = (palette_tensor(palette).float() / 255).tolist()
    names = color_names(palette)
    for panel, name, title in (
        (panels[0], "one", "One feature pushed"),
        (panels[1], "all", "All colour features pushed"),
    ):
        for color, line in enumerate(100 * shares[name]):
            panel.plot(doses, line, color=swatches[color], lw=2, path_effects=outlined(2.8), label=names[color])
        panel.plot(doses, 100 * shares[name].mean(0), color=INK, lw=2.2, ls="--", label="mean")
        panel.plot(doses, 100 * shares["other"].mean(0), color=REFERENCE, lw=2.2, ls=":", label="another's feature")
        panel.set(title=title, ylim=(-2, 102), xlabel="dose (1: what the colour itself adds)")
    panels[0].set_ylabel("answered with its digit (%)")
    panels[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def outlined(width: float) -> list:
    """A thin dark outline, so that pale colours stay visible on white."""
    return [patheffects.Stroke(linewidth=width, foreground=INK), patheffects.Normal()]


def networks(proofs: Mapping[str, tuple[Features, Proof]]) -> Figure:
    """For each network: how much of its dictionary is colour, and what colour features decide."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    box_rows(left, {name: 100 * features.color_eta2 for name, (features, _) in proofs.items()})
    left.set(title="Colour in the features", xlabel="colour η² of a feature (%)", xlim=(-2, 102))
    rows = np.arange(len(proofs))
    for shift, key, color, label in (
        (-0.24, None, NEITHER, "untouched"),
        (0.0, "random", REFERENCE, "random features off"),
        (0.24, "colour", COLOR, "colour features off"),
    ):
        values = [100 * colour_answers(proof, key) for _, proof in proofs.values()]
        right.bar_label(right.barh(rows + shift, values, 0.22, color=color, label=label), fmt="%.0f", size=8, padding=2)
    right.set_yticks(rows, proofs)
    right.invert_yaxis()
    right.set(title="Answers with the colour", xlabel="% of the hard images", xlim=(0, 105))
    right.legend(fontsize=8)
    return figure


def colour_answers(proof: Proof, edit: str | None) -> float:
    """Share of colour answers: untouched (None), after a named edit, or averaged over the random sets."""
    if edit is None:
        return proof.original["colour_share"]
    if edit == "random":
        return float(np.mean([one["colour_share"] for one in proof.random]))
    return proof.edits[edit]["colour_share"]


def box_rows(axes: Axes, groups: Mapping[str, Tensor]) -> None:
    """One horizontal box a group, with its points."""
    axes.boxplot([values.numpy() for values in groups.values()], orientation="horizontal", showfliers=False, widths=0.5)
    jitter = torch.Generator().manual_seed(0)
    for row, values in enumerate(groups.values(), start=1):
        heights = row + 0.3 * (torch.rand(len(values), generator=jitter) - 0.5)
        axes.scatter(values, heights, s=7, color=COLOR, alpha=0.45, lw=0)
    axes.set_yticks(np.arange(1, len(groups) + 1), groups)
    axes.invert_yaxis()
