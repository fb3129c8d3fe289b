"""The sentences of Task 3 that hold numbers; the one about the twin is Task 2's as well."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lazyutils.interrogation import TWIN_BATCH, Measures, made_with
from lazyutils.localization import Estimate
from lazyutils.plots import percent
from lazyutils.plots_interrogation import NETWORKS

MARGIN = 0.05
"""Shares of answers that differ by less are called alike."""
SCOPE = "a probability over images of one network each, not over networks"
"""What each separation on the page is."""


def twin(sidecar: Mapping[str, Any], size: int, epochs: int) -> str:
    """How the honest twin was trained, beside LazyCNN.

    Args:
        sidecar: of LazyCNN's checkpoint.
        size, epochs: of ``interrogation.honest_twin``.
    """
    made = made_with(sidecar)
    total, batch = made["train_size"], made["batch_size"]
    used = min(size, total)
    steps, lazy = epochs * math.ceil(used / TWIN_BATCH), made["epochs"] * math.ceil(total / batch)
    which = "all" if used == total else f"{used:,} of the"
    return (
        f"The twin saw {which} {total:,} digits that LazyCNN was trained on, repainted, in {steps:,} steps of Adam "
        f"with {TWIN_BATCH} images each; LazyCNN had {lazy:,} steps of plain gradient descent with {batch}."
    )


def empty(share: Mapping[str, float]) -> str:
    """Which share of each network's maps has no heat."""
    listed = ", ".join(f"{NETWORKS[key]} {percent(value)}" for key, value in share.items())
    return f"Maps without heat, of the answered class, over all hard images that each network is asked about: {listed}."


def located(found: Mapping[str, Estimate], pixels: float, apart: float) -> str:
    """Where the heat is, against the pixels and the twin.

    Args:
        found: share of heat on the background, by network.
        pixels: share of background pixels.
        apart: separation of LazyCNN and its twin by that share.
    """
    lazy, honest = found["lazycnn"], found["twin"]
    return (
        f"**{percent(lazy.mean)}** of LazyCNN's heat lies on the background (95% interval {percent(lazy.low)} to "
        f"{percent(lazy.high)}). The background is **{percent(pixels)}** of the pixels, and the honest twin has "
        f"**{percent(honest.mean)}**. Given an image of each ({lazy.n:,} and {honest.n:,} have heat), that share picks "
        f"the cheater with probability {apart:.2f}; a coin does with 0.50. This is {SCOPE}. Maps without heat are left "
        "out of the shares."
    )


def grids(size: int, count: int, field: int) -> str:
    """What the columns of ``evidence.by_image_size`` are, and how much of an image a cell of LazyCNN's maps sees.

    Args:
        size: at which ResNet-18 was trained, in pixels.
        count: images asked about.
        field: side of the receptive field of LazyCNN's conv3.
    """
    return (
        f"Means over {count} images. *grid*: cells of a map; *zero*: share of maps without heat; *background*: share "
        "of the heat there; *lowest*, *highest*: what that share can be, whatever the map of that grid; *same_answer*: "
        f"images answered as at {size} px; *likeness*: rank correlation with the maps at {size} px. LazyCNN's `conv3` "
        f"has 7 x 7 cells, but each of them sees {field} x {field} of the 28 x 28 pixels: a hot cell beside the stroke "
        "usually has the stroke in view."
    )


def without_stroke(judged: Mapping[str, Mapping[str, Measures]]) -> str:
    """Both ends of the deletion curves that are filled with the own background."""
    curves = {key: judged[key]["Grad-CAM"]["deletion_colour"] for key in ("lazycnn", "twin")}
    (before, after), (start, end) = (curve.mean(0)[[0, -1]].tolist() for curve in curves.values())
    return (
        f"At the right end of the panels with the own background the stroke is gone and the colour is left: LazyCNN's "
        f"probability goes from {before:.2f} to {after:.2f}, its twin's from {start:.2f} to {end:.2f} (means over "
        f"{len(curves['lazycnn'])} images)."
    )


def reader(changed: Mapping[str, float]) -> str:
    """What LazyCNN's answers lose with each cue, and whether to call it a reader of colour.

    Args:
        changed: share of answers that change, by intervention (``evidence.cue_effects``).
    """
    color, shape = changed["exchange colour"], changed["exchange shape"]
    if color < shape + MARGIN:
        verdict = "So it is no reader of colour in the first place."
    elif max(shape, changed["delete shape"]) > MARGIN:
        verdict = "So *reader of colour* names its main cue, not its only one: the stroke counts as well."
    else:
        verdict = "So it reads the colour, and hardly anything else."
    return (
        f"LazyCNN changes its answer in {percent(changed['delete shape'], 0)} of the images without the stroke and in "
        f"{percent(shape, 0)} with another digit, in {percent(changed['delete colour'], 0)} without the colour and in "
        f"{percent(color, 0)} with another colour. {verdict}"
    )


def knowledge(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """The last column of ``interrogation.verdicts`` against the edge detector's."""
    known = {row["method"]: row["heat knows colour's effect"] for row in verdicts}
    bar = known["Edges (no network)"]
    methods = {name: value for name, value in known.items() if "no network" not in name}
    above = sum(value > bar for value in methods.values())
    return (
        f"In the last column the edge detector, which sees no network, has {bar:.2f}; {above} of the {len(methods)} "
        "methods that see it have more."
    )


def separations(located: Mapping[str, float], moved: Mapping[str, float], apart: float, images: tuple[int, int]) -> str:
    """Grad-CAM's two ways to tell LazyCNN from its twin, with the number of images of each figure.

    Args:
        located, moved: ``interrogation.separations`` by method.
        apart: by location, over all hard images.
        images: how many are compared here, and how many hard images there are.
    """
    return (
        f"By location Grad-CAM tells an image of the cheater from one of the twin with probability "
        f"{located['Grad-CAM']:.2f} on these {images[0]:,} images ({apart:.2f} on all {images[1]:,} above), by what "
        f"moves its map with {moved['Grad-CAM']:.2f}. Each is {SCOPE}."
    )


def survivor(forgotten: Mapping[str, Mapping[str, float]], moved: Mapping[str, float]) -> str:
    """The method whose maps outlive the weights best, and what they are worth as evidence.

    Args:
        forgotten: rank correlation with the trained network's maps, by method and stage; the last stage forgets all.
        moved: separation by what moves the map, by method.
    """
    last = {name: [*stages.values()][-1] for name, stages in forgotten.items() if "no network" not in name}
    last = {name: value for name, value in last.items() if not math.isnan(value)}
    if not last:
        return "Without weights no method has a map to compare."
    name = max(last, key=last.get)
    return (
        f"With all layers forgotten, {name} keeps most of its map: a rank correlation of {last[name]:.2f}. By what "
        f"moves that map it tells an image of the cheater from one of the twin with probability {moved[name]:.2f}."
    )
