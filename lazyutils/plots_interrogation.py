"""The figures and tables of Task 3: where heat lies, and what it is worth as evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lazyutils.data import ColoredDigits
from lazyutils.evidence import Case
from lazyutils.localization import Estimate, estimate
from lazyutils.metrics import accuracy
from lazyutils.plots import COLOR, DIGIT, INK, NEITHER, REFERENCE, draw_image

HEAT = "magma"
NETWORKS = {"lazycnn": "LazyCNN", "twin": "honest twin", "resnet18": "ResNet-18", "control": "control"}
NETWORK_COLORS = {"lazycnn": COLOR, "twin": DIGIT, "resnet18": "#cc79a7", "control": NEITHER}
LINES = {
    "Grad-CAM": (COLOR, "-"),
    "HiResCAM": ("#e69f00", "--"),
    "Input gradients": ("#009e73", "-."),
    "Integrated Gradients": (DIGIT, "-"),
    "Occlusion": ("#56b4e9", "--"),
    "Edges (no network)": (INK, ":"),
    "Random (no network)": (NEITHER, "-"),
}
"""Colour (Okabe-Ito) and dash of the methods that curves show; both differ, so that either suffices."""


def draw_heat(axes: Axes, heat: Tensor, mask: Tensor, title: str = "") -> None:
    """One map ``[H, W]`` in 0-1 with the stroke's outline; says so where there is no heat."""
    axes.imshow(heat.cpu(), cmap=HEAT, vmin=0, vmax=1, interpolation="nearest")
    axes.contour(mask.cpu().float(), levels=[0.5], colors="white", linewidths=0.8)
    if heat.max() == 0:
        axes.text(14, 25, "no heat", color="white", ha="center", size=8)
    axes.set_title(title, fontsize=8.5, fontweight="normal", loc="center")
    axes.set_axis_off()


def add_heat_scale(figure: Figure, panels: np.ndarray) -> None:
    """One colour scale for all maps of a figure."""
    scale = plt.cm.ScalarMappable(norm=plt.Normalize(0, 1), cmap=HEAT)
    figure.colorbar(scale, ax=panels, label="heat (each map scaled to 0-1)", shrink=0.6, pad=0.01)


def exhibits(found: Sequence[Mapping[str, Any]], columns: int = 2) -> Figure:
    """Image, map of the predicted class, map of the true class; ``columns`` exhibits a row.

    Args:
        found: what ``evidence.exhibit`` returns.
    """
    rows = -(-len(found) // columns)
    figure, panels = plt.subplots(rows, 3 * columns, figsize=(9.6, 1.95 * rows), squeeze=False)
    for position, case in enumerate(found):
        row, left = divmod(position, columns)
        axes = panels[row, 3 * left : 3 * left + 3]
        draw_image(axes[0], case["image"], case["title"], size=8.5)
        for panel, heat, caption in zip(axes[1:], case["maps"], case["captions"], strict=True):
            draw_heat(panel, heat, case["mask"], caption)
    add_heat_scale(figure, panels)
    return figure


def side_by_side(digits: ColoredDigits, ours: Tensor, theirs: Tensor) -> Figure:
    """A column an image: the image, this book's map, the library's map, their difference on its own scale."""
    images, masks = digits.images, digits.masks
    figure, panels = plt.subplots(4, len(images), figsize=(1.05 * len(images) + 1.4, 4.6))
    difference = (ours - theirs).abs().cpu()
    for column, image in enumerate(images):
        draw_image(panels[0, column], image)
        draw_heat(panels[1, column], ours[column], masks[column])
        draw_heat(panels[2, column], theirs[column], masks[column])
        last = panels[3, column].imshow(difference[column], cmap="cividis", vmin=0, vmax=max(1e-9, difference.max()))
        panels[3, column].set_axis_off()
    for row, label in enumerate(("image", "this book", "grad-cam", "difference")):
        panels[row, 0].text(-3, 14, label, rotation=90, va="center", ha="right", size=9)
    add_heat_scale(figure, panels[:3])
    figure.colorbar(last, ax=panels[3], label="|difference|", shrink=0.9, pad=0.01)
    return figure


def share_intervals(rows: Sequence[tuple[str, str, Tensor]], pixels: float) -> Figure:
    """Share of heat on the background: mean with 95% interval, and the middle half of the images.

    Args:
        rows: a key of ``NETWORK_COLORS``, a layer, and values ``[N]``.
        pixels: share of background pixels.
    """
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.36 * len(rows)))
    for position, (key, _, values) in enumerate(rows):
        known = values[~values.isnan()].cpu().numpy()
        empty = values.isnan().double().mean().item()
        axes.text(1.01, position, f"{empty:.1%}", transform=axes.get_yaxis_transform(), va="center", size=9)
        if not len(known):
            continue
        mean, color = estimate(values), NETWORK_COLORS[key]
        axes.plot(100 * np.quantile(known, [0.25, 0.75]), [position] * 2, color=color, lw=8, alpha=0.25)
        axes.plot(100 * mean.mean, position, "o", color=color)
        axes.plot([100 * mean.low, 100 * mean.high], [position] * 2, color=color, lw=2)
    axes.axvline(100 * pixels, color=REFERENCE, ls="--", lw=1)
    note = {"textcoords": "offset points", "xytext": (4, 0), "color": REFERENCE, "size": 9}
    axes.annotate("share of pixels", (100 * pixels, -0.7), **note)
    axes.text(1.01, -0.7, "maps without heat", transform=axes.get_yaxis_transform(), va="center", size=9)
    labels = [f"{NETWORKS[key]}, {layer}" if layer else "random heat, no network" for key, layer, _ in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set(
        xlabel="heat on the background (%)", ylim=(len(rows) - 0.5, -1.1), title="How much heat is off the stroke?"
    )
    return figure


def attainable(rows: Sequence[Mapping[str, float | int | str]], own_size: int, pixels: float) -> Figure:
    """By image size: what share a map of that grid can have at all (bar), and what it has (dot)."""
    figure, axes = plt.subplots(figsize=(7, 3.6))
    for position, row in enumerate(rows):
        if np.isnan(row["lowest"]):
            axes.text(
                position, 100 * pixels, "no heat\nat all", ha="center", va="center", size=9, backgroundcolor="white"
            )
            continue
        axes.bar(
            position, 100 * (row["highest"] - row["lowest"]), bottom=100 * row["lowest"], width=0.5, color="#dfe3e8"
        )
        axes.plot(position, 100 * row["background"], "o", color=COLOR)
    axes.axhline(100 * pixels, color=REFERENCE, ls="--", lw=1, zorder=0)
    names = [f"{row['size']} px{'*' * (row['size'] == own_size)}\n{row['grid']} cells" for row in rows]
    axes.set_xticks(range(len(rows)), names)
    axes.set(
        title="What the grid of the last block allows",
        xlabel="image size (* trained at), and its maps",
        ylabel="heat on the background (%)",
        ylim=(0, 102),
        xlim=(-0.6, len(rows) - 0.4),
    )
    return figure


def deletion_panels(curves: Mapping[str, Mapping[str, Mapping[str, Tensor]]]) -> Figure:
    """Mean deletion curves: a row a network, a column a fill, a line a method.

    Args:
        curves: network, method, then what ``evidence.judge`` returns.
    """
    fills = {"deletion_grey": "filled with grey", "deletion_colour": "filled with the own background"}
    figure, panels = plt.subplots(
        len(curves), 2, figsize=(9, 2.9 * len(curves)), sharex=True, sharey=True, squeeze=False
    )
    for row, (network, methods) in zip(panels, curves.items(), strict=True):
        for axes, (name, title) in zip(row, fills.items(), strict=True):
            for method, (color, dash) in LINES.items():
                mean = methods[method][name].mean(0).cpu()
                axes.plot(np.linspace(0, 100, len(mean)), mean, color=color, ls=dash, label=method)
            axes.set(title=f"{NETWORKS[network]}, {title}", ylim=(0, 1.02))
        row[0].set_ylabel("probability of the answer")
    for axes in panels[-1]:
        axes.set_xlabel("pixels replaced, hottest first (%)")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def cue_bars(changed: Mapping[str, Mapping[str, float]]) -> Figure:
    """How often each network's answer changes, by what was done to the image.

    Args:
        changed: network, then intervention, to a share in 0-1.
    """
    figure, axes = plt.subplots(figsize=(8, 3.6))
    interventions = list(next(iter(changed.values())))
    height = 0.8 / len(changed)
    for offset, (network, shares) in enumerate(changed.items()):
        places = np.arange(len(interventions)) + offset * height
        bars = axes.barh(
            places,
            [100 * shares[name] for name in interventions],
            height,
            color=NETWORK_COLORS[network],
            label=NETWORKS[network],
        )
        axes.bar_label(bars, fmt="%.0f%%", size=8, padding=2)
    axes.set_yticks(np.arange(len(interventions)) + 0.4 - height / 2, interventions)
    axes.invert_yaxis()
    axes.set(title="What the answer depends on", xlabel="answers that change (%)", xlim=(0, 110))
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0)
    return figure


def separation_dots(by_location: Mapping[str, float], by_counterfactual: Mapping[str, float]) -> Figure:
    """How well each method tells the cheater from its twin: by where heat is, and by what moves the map."""
    figure, axes = plt.subplots(figsize=(8, 1.3 + 0.36 * len(by_location)))
    for position, method in enumerate(by_location):
        ends = by_location[method], by_counterfactual[method]
        axes.plot(ends, [position] * 2, color=REFERENCE, lw=1, zorder=0)
        axes.plot(ends[0], position, "s", color=COLOR, label="where the heat is" if position == 0 else None)
        axes.plot(ends[1], position, "o", color=DIGIT, label="what moves the map" if position == 0 else None)
    axes.axvline(0.5, color=REFERENCE, ls="--", lw=1)
    axes.set_yticks(range(len(by_location)), list(by_location))
    axes.invert_yaxis()
    axes.set(
        title="Can it tell the cheater from the twin?",
        xlabel="separation (area under ROC: 0.5 no better than a coin, 1 always right, 0 always wrong)",
        xlim=(-0.02, 1.02),
    )
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def randomization_table(likeness: Mapping[str, Mapping[str, float]]) -> Figure:
    """Rank correlation with the trained network's maps as layers are forgotten; a row a method."""
    figure, axes = plt.subplots(figsize=(7, 0.9 + 0.36 * len(likeness)))
    stages = list(next(iter(likeness.values())))
    values = np.array([[row[stage] for stage in stages] for row in likeness.values()])
    names = [stages[0], *(f"... and {stage}" for stage in stages[1:])]
    scale = {"vmin": -1, "vmax": 1, "cmap": "vlag", "cbar_kws": {"label": "rank correlation"}}
    sns.heatmap(values, ax=axes, annot=True, fmt=".2f", xticklabels=names, yticklabels=list(likeness), **scale)
    axes.set(title="What is left of the map when the network forgets", xlabel="layers initialised anew")
    axes.tick_params(length=0)
    return figure


def answers_table(cases: Mapping[str, Case]) -> Markdown:
    """What each network's answers follow."""
    return table(
        [
            {"network": NETWORKS[key], "hard images": len(case.targets)}
            | {"answers with the digit": accuracy(case.targets, case.digits.labels)}
            | {"answers with the colour": accuracy(case.targets, case.digits.colors)}
            for key, case in cases.items()
        ]
    )


def methods_table(summaries: Mapping[str, Mapping[str, Mapping[str, Estimate]]]) -> Markdown:
    """Every method's measures, a row a network and method; intervals for the two measures of place."""
    place = {"background": "heat on background", "pointing": "hottest pixel on background"}
    areas = [f"{direction}_{fill}" for fill in ("grey", "colour") for direction in ("deletion", "insertion")]
    return table(
        [
            {"network": NETWORKS[key], "method": method}
            | {label: by[name] for name, label in place.items()}
            | {name.replace("_", ", "): by[name].mean for name in areas}
            | {"no heat": by["zero"].mean, "ms an image": f"{1000 * by['seconds'].mean:.2g}"}
            for key, methods in summaries.items()
            for method, by in methods.items()
        ]
    )


def table(rows: Sequence[Mapping[str, object]]) -> Markdown:
    """Rows with the same keys as a Markdown table; floats to three digits."""
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *([cell(row[head]) for head in heads] for row in rows)]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def cell(value: object) -> str:
    """A table's cell: three digits where they say something, two significant ones for the very small."""
    if isinstance(value, Estimate):
        return cell(value.mean) + (f" ± {cell((value.high - value.low) / 2)}" if value.n > 1 else "")
    if isinstance(value, float):
        return "–" if np.isnan(value) else f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
