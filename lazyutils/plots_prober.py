"""The figures and tables of Task 2: filters, feature maps, recovered and preferred images, probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lazyutils.data import COLOR_NAMES, ColoredDigits, recolor
from lazyutils.inversion import Inversion
from lazyutils.plots import COLOR, DIGIT, INK, REFERENCE, as_image, draw_image, percent
from lazyutils.probes import HueSweep
from lazyutils.selectivity import FLOOR
from lazyutils.units import UnitStudy

ENERGY_COLORS = {
    "chromatic_flat": COLOR,
    "chromatic_pattern": "#f0b27a",
    "gray_flat": "#555555",
    "gray_pattern": "#c8c8c8",
}
ENERGY_NAMES = {
    "chromatic_flat": "chromatic, flat",
    "chromatic_pattern": "chromatic, patterned",
    "gray_flat": "grey, flat",
    "gray_pattern": "grey, patterned",
}
Scores = Mapping[str, Mapping[str, float]]


def short(layer: str) -> str:
    """A layer's name as it is shown: without the wrapper's prefix."""
    return layer.removeprefix("net.")


def tile(images: Tensor, columns: int, gap: int = 1, fill: float = 1.0) -> Tensor:
    """``[N, C, H, W]`` as one image of ``columns`` across, ``gap`` pixels of ``fill`` between them: ``[C, h, w]``."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    sheet = torch.full((channels, rows * (height + gap) - gap, columns * (width + gap) - gap), fill)
    for position, image in enumerate(images.cpu()):
        y, x = (height + gap) * (position // columns), (width + gap) * (position % columns)
        sheet[:, y : y + height, x : x + width] = image
    return sheet


def bare(axes: Axes) -> None:
    """No ticks, no frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


# --- filters and maps ------------------------------------------------------------------------------------------------


def filters(weight: Tensor) -> Figure:
    """Each filter (column) in each colour channel (row), one symmetric scale: red adds, blue takes away."""
    weight = weight.detach().cpu()
    limit = weight.abs().max().item()
    figure, panels = plt.subplots(3, len(weight), figsize=(1.15 * len(weight) + 1.2, 3.7), squeeze=False)
    for (row, column), axes in np.ndenumerate(panels):
        drawn = axes.imshow(weight[column, row], cmap="seismic", vmin=-limit, vmax=limit)
        bare(axes)
        if row == 0:
            axes.set_title(f"filter {column}", fontsize=9, fontweight="normal", loc="center")
        if column == 0:
            axes.set_ylabel(("red", "green", "blue")[row])
    figure.colorbar(drawn, ax=panels, label="weight", shrink=0.8, pad=0.02)
    return figure


def energy_bars(networks: Mapping[str, Mapping[str, Tensor]]) -> Figure:
    """Stacked bars: the mean over filters of ``selectivity.filter_energy``, one bar a network."""
    figure, axes = plt.subplots(figsize=(8.2, 0.5 * len(networks) + 1.5))
    left = np.zeros(len(networks))
    for part, color in ENERGY_COLORS.items():
        shares = np.array([100 * energies[part].mean().item() for energies in networks.values()])
        axes.barh(list(networks), shares, left=left, color=color, label=ENERGY_NAMES[part], edgecolor="white", lw=0.5)
        for row, (start, share) in enumerate(zip(left, shares, strict=True)):
            if share >= 3:
                ink = "white" if part == "gray_flat" else INK
                axes.text(start + share / 2, row, f"{share:.0f}", ha="center", va="center", fontsize=8, color=ink)
        left += shares
    axes.invert_yaxis()
    axes.set(xlabel="% of a filter's energy (sum of squared weights), mean over the first layer", xlim=(0, 100))
    axes.set_title("What the first filters are made of", pad=26)
    axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1.0), fontsize=8, borderaxespad=0.2)
    return figure


def feature_maps(images: Tensor, names: Sequence[str], maps: Mapping[str, Tensor]) -> Figure:
    """Layers down, images across, all channels of a layer in one panel; one scale a layer.

    Args:
        images: ``[M, 3, H, W]``.
        names: one an image.
        maps: layer to ``[M, C, h, w]``.
    """
    heights = [1.0] + [1.25 if len(m[0]) > 8 else 0.85 for m in maps.values()]
    figure, panels = plt.subplots(
        len(maps) + 1, len(images), figsize=(8.8, 0.92 * sum(heights)), height_ratios=heights, squeeze=False
    )
    for axes, image, name in zip(panels[0], images, names, strict=True):
        draw_image(axes, image, name)
    for row, (layer, activation) in zip(panels[1:], maps.items(), strict=True):
        low, high = activation.min().item(), activation.max().item()
        for axes, channels in zip(row, activation, strict=True):
            columns = 8 if len(channels) > 6 else 6
            sheet = tile(channels[:, None], columns, fill=torch.nan)[0]
            drawn = axes.imshow(sheet, cmap="cividis", vmin=low, vmax=high, interpolation="nearest")
            bare(axes)
        row[0].set_ylabel(short(layer), rotation=0, ha="right", va="center")
        figure.colorbar(drawn, ax=row, shrink=0.85, pad=0.01, aspect=10).ax.tick_params(labelsize=7)
    return figure


# --- inversion -------------------------------------------------------------------------------------------------------


def inversion_grid(found: Mapping[str, Inversion], references: Mapping[str, Tensor], columns: int = 6) -> Figure:
    """For each network the references and below them what each layer gives back."""
    rows = 1 + max(len(inversion.layers) for inversion in found.values())
    columns = min(columns, *(len(images) for images in references.values()))
    figure, panels = plt.subplots(1, len(found), figsize=(8.8, 0.62 * rows + 0.4), squeeze=False)
    for axes, (network, inversion) in zip(panels[0], found.items(), strict=True):
        shown = torch.cat([references[network][None, :columns].cpu(), inversion.images[:, :columns].cpu()])
        axes.imshow(as_image(tile(shown.flatten(0, 1), columns, gap=2)), interpolation="nearest")
        bare(axes)
        axes.set_yticks(14 + 30 * np.arange(len(shown)), ["reference", *map(short, inversion.layers)])
        axes.tick_params(length=0)
        axes.set_title(network)
        axes.set_anchor("N")
    return figure


def inversion_curves(scores: Mapping[str, Scores]) -> Figure:
    """What ``inversion.scores`` says of each layer: colour and shape that came back, one panel a network."""
    figure, panels = plt.subplots(1, len(scores), figsize=(8.8, 3.1), sharey=True, squeeze=False)
    for axes, (network, layers) in zip(panels[0], scores.items(), strict=True):
        names = [short(layer) for layer in layers]
        color = [1 - row["colour_error"] / row["gray_error"] for row in layers.values()]
        shape = [row["shape_correlation"] for row in layers.values()]
        chance = [row["shape_chance"] for row in layers.values()]
        axes.plot(names, color, color=COLOR, marker="o", label="colour (1 - error / error of grey)")
        axes.plot(names, shape, color=DIGIT, marker="s", label="shape (correlation with the stroke)")
        axes.plot(names, chance, color=DIGIT, lw=1, ls=":", label="shape, by chance (other strokes)")
        axes.set(title=network, xlabel="layer the image was recovered from")
        axes.tick_params(axis="x", rotation=30)
    panels[0, 0].set(ylabel="came back (1: all)", ylim=(min(0, panels[0, 0].get_ylim()[0]), 1.25))
    panels[0, 0].legend(loc="upper right", fontsize=7.5)
    return figure


# --- units -----------------------------------------------------------------------------------------------------------


def unit_sheet(
    study: UnitStudy, layers: Sequence[str], natural: ColoredDigits, extra: Mapping[str, UnitStudy] | None = None
) -> Figure:
    """Each layer's units: preferred image, (another objective's,) the nine most activating images, and readings.

    The readings: channel, share of variance by colour and by digit, the palette colour that the preferred image wears,
    and the one that the unit likes best in natural images.

    Args:
        extra: label to a study of the same units with another objective.
    """
    width = max(len(study.of_layer(layer)) for layer in layers)
    kinds = 2 + len(extra or {})
    figure, panels = plt.subplots(
        len(layers), 1, figsize=(8.8, len(layers) * (8.0 * kinds / width + 1.0)), squeeze=False
    )
    for axes, layer in zip(panels[:, 0], layers, strict=True):
        rows = study.of_layer(layer)
        top = [tile(natural.images[study.top[row]], 3, gap=0) for row in rows]
        sheets = [study.images[0, rows], *(other.images[0, rows] for other in (extra or {}).values())]
        large = [sheet.cpu().repeat_interleave(3, 2).repeat_interleave(3, 3) for sheet in sheets]
        axes.imshow(as_image(tile(torch.cat([*large, torch.stack(top)]), len(rows), gap=6)), interpolation="nearest")
        bare(axes)
        names = [study.units[rows[0]].reduction, *(extra or {}), "top 9"]
        axes.set_yticks(42 + 90 * np.arange(kinds), names)
        marks = [
            f"{study.units[row].channel}\n{100 * study.color_eta2[row]:.0f}\n{100 * study.digit_eta2[row]:.0f}\n"
            f"{COLOR_NAMES[study.worn[0, row]]}\n{COLOR_NAMES[study.liked[row]]}"
            for row in rows
        ]
        axes.set_xticks(42 + 90 * np.arange(len(rows)), marks, fontsize=7)
        axes.tick_params(length=0)
        axes.set_title(f"{short(layer)} (below: channel, colour %, digit %, colour worn, colour liked)", fontsize=10)
    return figure


def eta_scatter(studies: Mapping[str, UnitStudy]) -> Figure:
    """Each unit by how much of its variance colour and digit explain; one panel a network."""
    figure, panels = plt.subplots(1, len(studies), figsize=(8.8, 3.1), sharey=True, squeeze=False)
    markers, tones = "os^D", ("#0072b2", "#e69f00", "#009e73", "#cc79a7")
    for axes, (network, study) in zip(panels[0], studies.items(), strict=True):
        for position, layer in enumerate(dict.fromkeys(unit.layer for unit in study.units)):
            rows = study.of_layer(layer)
            x, y = 100 * study.color_eta2[rows], 100 * study.digit_eta2[rows]
            axes.scatter(x, y, s=26, marker=markers[position], color=tones[position], alpha=0.8, label=short(layer))
        axes.plot([0, 100], [100, 0], color=REFERENCE, lw=0.8, ls=":")
        axes.set(title=network, xlabel="% explained by colour", xlim=(-3, 103), ylim=(-3, 103))
        axes.legend(loc="upper right", handletextpad=0.2)
    panels[0, 0].set_ylabel("% explained by digit")
    return figure


def answered(mean: float | None, count: int) -> str:
    """How many levels units answer to, and how many units say so; a dash where none does."""
    return "–" if mean is None else f"{mean:.1f} ({count})"


def unit_table(studies: Mapping[str, UnitStudy]) -> Markdown:
    """``UnitStudy.summary`` of several networks as one table, and what its counts are of."""
    head = (
        "| Network | Layer | Colour explains | Digit explains | Colours answered | Digits answered "
        "| Preferred / natural | Left without colour | Wears the liked colour |"
    )
    lines = [head, "|---|---|--:|--:|--:|--:|--:|--:|--:|"]
    for network, study in studies.items():
        for layer, figures in study.summary().items():
            lines.append(
                f"| {network} | {short(layer)} | {percent(figures['colour_eta2'])} | {percent(figures['digit_eta2'])} "
                f"| {answered(figures['colours_answered'], figures['colours_counted'])} "
                f"| {answered(figures['digits_answered'], figures['digits_counted'])} "
                f"| {figures['excess']:.2f} | {percent(figures['grey_survival'], 0)} "
                f"| {percent(figures['palette_agreement'], 0)} |"
            )
    note = (
        f"*Answered*: mean over the units of whose variance the factor explains more than {percent(FLOOR, 0)}, and in "
        "brackets how many these are; – where there is none."
    )
    return Markdown("\n".join([*lines, "", note]))


def class_sheet(found: Mapping[str, Mapping[str, Tensor]]) -> Figure:
    """The preferred image of each class (column), first seed, one row a network."""
    figure, axes = plt.subplots(figsize=(8.8, 0.86 * len(found) + 0.7))
    images = torch.cat([classes["images"][0].cpu() for classes in found.values()])
    axes.imshow(as_image(tile(images, 10, gap=2)), interpolation="nearest")
    bare(axes)
    axes.set_yticks(14 + 30 * np.arange(len(found)), list(found))
    axes.set_xticks(14 + 30 * np.arange(10), [f"{digit}\n({name})" for digit, name in enumerate(COLOR_NAMES)])
    axes.tick_params(length=0)
    return figure


def class_table(found: Mapping[str, Mapping[str, Tensor]]) -> Markdown:
    """How often a class's preferred image wears its colour, and keeps its class in grey."""
    lines = ["| Network | Wears its class's colour | Keeps its class in grey |", "|---|--:|--:|"]
    for network, classes in found.items():
        worn, kept = (classes[key].double().mean().item() for key in ("own_colour", "survives"))
        lines.append(f"| {network} | {percent(worn, 0)} | {percent(kept, 0)} |")
    return Markdown("\n".join(lines))


# --- probes and counterfactuals --------------------------------------------------------------------------------------


def probe_curves(scores: Mapping[str, Scores], controls: Mapping[str, Scores]) -> Figure:
    """Accuracy of a linear probe for colour and for digit by layer; the untrained network's in thin dotted lines."""
    figure, panels = plt.subplots(1, len(scores), figsize=(8.8, 3.3), sharey=True, squeeze=False)
    for axes, network in zip(panels[0], scores, strict=True):
        names = [short(layer) for layer in scores[network]]
        for factor, color, marker in (("colour", COLOR, "o"), ("digit", DIGIT, "s")):
            trained = [100 * score[factor] for score in scores[network].values()]
            random = [100 * score[factor] for score in controls[network].values()]
            axes.plot(names, trained, color=color, marker=marker, label=f"{factor}, trained")
            axes.plot(names, random, color=color, marker=marker, ms=3, lw=1, ls=":", label=f"{factor}, untrained")
        axes.axhline(10, color=REFERENCE, lw=0.8)
        axes.set(title=network, xlabel="layer", ylim=(0, 103))
        axes.tick_params(axis="x", rotation=40)
    panels[0, 0].set_ylabel("probe accuracy (%)")
    panels[0, -1].legend(loc="lower left", fontsize=8)
    return figure


def sweep_strip(digits: ColoredDigits, sweeps: Mapping[str, HueSweep], look: Mapping[str, Any]) -> Figure:
    """A few digits on all ten backgrounds; under each image every network's answer, correct ones in bold.

    Args:
        digits: the first ones of each sweep.
        look: of the sweeps: palette, noise, seed.
    """
    painted = [recolor(digits, torch.full_like(digits.labels, color), **look) for color in range(10)]
    figure, panels = plt.subplots(len(digits), 10, figsize=(8.8, (0.95 + 0.17 * len(sweeps)) * len(digits) + 0.35))
    for column, version in enumerate(painted):
        for row in range(len(digits)):
            axes = panels[row, column]
            draw_image(axes, version.images[row], COLOR_NAMES[column] if row == 0 else "")
            for line, (network, sweep) in enumerate(sweeps.items()):
                answer = int(sweep.answers[row, column])
                right = answer == int(digits.labels[row])
                style = {"weight": "bold", "color": DIGIT} if right else {"color": INK}
                y = -0.14 - 0.19 * line
                axes.text(0.5, y, str(answer), transform=axes.transAxes, ha="center", va="center", size=8.5, **style)
                if column == 0:
                    axes.text(-0.1, y, network, transform=axes.transAxes, ha="right", va="center", size=8)
    return figure


def sweep_table(sweeps: Mapping[str, HueSweep]) -> Markdown:
    """``HueSweep.summary`` of several networks."""
    lines = ["| Network | Answer ever changes | Different answers of 10 | Follows colour | Follows digit |"]
    lines.append("|---|--:|--:|--:|--:|")
    for network, sweep in sweeps.items():
        s = sweep.summary()
        lines.append(
            f"| {network} | {percent(s['changed_share'])} | {s['distinct_answers']:.2f} "
            f"| {percent(s['colour_share'])} | {percent(s['digit_share'])} |"
        )
    return Markdown("\n".join(lines))


def corner_table(tables: Mapping[str, Scores]) -> Markdown:
    """``probes.corner_answers`` of several networks: colour's digit / stroke's digit · confidence."""
    corners = list(next(iter(tables.values())))
    lines = ["| Network | " + " | ".join(corners) + " |", "|---|" + "--:|" * len(corners)]
    for network, table in tables.items():
        cells = [
            f"{percent(c['colour_share'], 0)} / {percent(c['digit_share'], 0)} · {percent(c['confidence'], 0)}"
            for c in table.values()
        ]
        lines.append(f"| {network} | " + " | ".join(cells) + " |")
    return Markdown("\n".join(lines))


def corners_strip(corners: Mapping[str, Tensor], count: int = 3) -> Figure:
    """The first ``count`` images in each of the four corners."""
    figure, panels = plt.subplots(1, len(corners), figsize=(8.8, 1.35), squeeze=False)
    for axes, (name, images) in zip(panels[0], corners.items(), strict=True):
        draw_image(axes, tile(images[:count], count, gap=2), name)
    return figure
