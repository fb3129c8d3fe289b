"""The steps of Task 3 that join several networks: the honest twin, the exhibits, and who can be told from whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lazyutils import data, evidence, localization, models
from lazyutils.errors import ClearError
from lazyutils.evidence import Case
from lazyutils.gradcam import GradCAM
from lazyutils.saliency import random_heat
from lazyutils.training import fit

Measures = Mapping[str, Tensor]
"""What ``evidence.judge`` returns."""
STANDIN = {"train_size": 12000, "validation_size": 3000, "seeds": [0], "epochs": 15, "batch_size": 700}
"""Task 1's parameters of a LazyCNN whose sidecar holds none: one made on the spot."""
TWIN_BATCH = 64
"""Images a step of the honest twin's training."""


def made_with(sidecar: Mapping[str, Any]) -> dict[str, Any]:
    """Task 1's parameters that made the LazyCNN of a checkpoint's sidecar."""
    return {**STANDIN, **sidecar.get("parameters", {})}


def training_digits(path: Path, sidecar: Mapping[str, Any], size: int) -> data.ColoredDigits:
    """The first ``size`` of the easy images that a LazyCNN was trained on, or all where there are fewer."""
    made = made_with(sidecar)
    digits, _ = data.easy_subsets(path, made["train_size"], made["validation_size"], made["seeds"][0])
    return digits[:size]


def honest_twin(
    path: Path, sidecar: Mapping[str, Any], look: Mapping[str, Any], device: torch.device, *, size: int, epochs: int
) -> nn.Module:
    """A LazyCNN's initial weights and digits, but random backgrounds: colour says nothing. Trained with Adam.

    Args:
        path: the data set's file.
        sidecar: of that LazyCNN's checkpoint; its first seed is that of weights and order.
        look: ``palette``, ``noise`` and ``seed`` of the backgrounds.
        size: images to train with, at most as many as that LazyCNN was trained on.
        epochs: passes over them.
    """
    digits, seed = training_digits(path, sidecar, size), made_with(sidecar)["seeds"][0]
    digits = data.recolor(digits, data.draw_colors(digits.labels, 0.1, look["seed"]), **look).to(device)
    twin = models.build("LazyCNN", seed).to(device)
    optimizer = torch.optim.Adam(twin.parameters(), lr=2e-3)
    settings = {"epochs": epochs, "batch_size": TWIN_BATCH, "seed": seed}
    fit(twin, digits.images, digits.labels, optimizer=optimizer, **settings)
    return twin


def zeros(hard: data.ColoredDigits, look: Mapping[str, Any]) -> dict[str, data.ColoredDigits]:
    """The first green 0 of the hard set, and the same 0 repainted red, its own colour.

    Raises:
        ClearError: there is no green 0 among the images.
    """
    found = ((hard.labels == 0) & (hard.colors == 1)).nonzero()[:1, 0]
    if not len(found):
        raise ClearError(f"no green 0 among {len(hard)} hard images: take more of them")
    green = hard[found]
    return {"red 0": data.recolor(green, green.labels, **look), "green 0": green}


def exhibits(cases: Mapping[str, Case], names: Mapping[str, str], zero: Mapping[str, data.ColoredDigits]) -> list[dict]:
    """Every zero before every network in ``cases``, titled with the network's name."""
    return [
        evidence.exhibit(f"{names[key]}\n{title}", case.model, case.layer, digit.to(case.targets.device))
        for key, case in cases.items()
        for title, digit in zero.items()
    ]


def locations(
    cases: Mapping[str, Case], layers: Mapping[str, Sequence[str]]
) -> tuple[list[tuple[str, str, Tensor]], dict[str, Tensor], dict[str, float]]:
    """Share of Grad-CAM's heat on the background for the answered class, at several layers, and for noise.

    Returns:
        Rows (network, layer, shares ``[N]``), the last one for the control; the shares at each network's own layer;
        the share of maps without heat there.
    """
    rows, shares, zero = [], {}, {}
    for key, case in cases.items():
        for layer in layers[key]:
            cam = GradCAM(case.model, layer, batch_size=250)(case.digits.images, case.targets)
            found = localization.heat_share(cam.displayed, case.background)
            rows.append((key, layer, found))
            if layer == case.layer:
                shares[key], zero[key] = found, cam.empty.double().mean().item()
    case = next(iter(cases.values()))
    noise = random_heat(case.model, case.digits.images, None)
    return [*rows, ("control", "", localization.heat_share(noise, case.background))], shares, zero


def separations(
    suspect: Mapping[str, Measures], innocent: Mapping[str, Measures]
) -> tuple[dict[str, float], dict[str, float]]:
    """How well each method tells two networks apart, image by image: by where heat is, and by what moves the map."""
    measures: tuple[Callable[[Measures], Tensor], ...] = (lambda by: by["background"], evidence.cue_contrast)
    by_location, by_counterfactual = (
        {name: localization.separation(measure(suspect[name]), measure(innocent[name])) for name in suspect}
        for measure in measures
    )
    return by_location, by_counterfactual


def verdicts(
    suspect: Mapping[str, Measures], innocent: Mapping[str, Measures], color_effect: Tensor
) -> list[dict[str, Any]]:
    """One row a method: what moves its maps, for both networks, and whether heat knows the colour's effect.

    Args:
        color_effect: fall of the suspect's logit when the colour is exchanged, ``[N]``, N at least the images judged.
    """
    rows = []
    for name, by in suspect.items():
        summaries = {"suspect": evidence.summarize(by), "twin": evidence.summarize(innocent[name])}
        moved = {
            f"{who}: moved by {cue}": summaries[who][measure]
            for who in summaries
            for cue, measure in (("colour", "recoloured"), ("shape", "reshaped"))
        }
        known = localization.spearman(by["background"], color_effect[: len(by["background"])])
        rows.append({"method": name, **moved, "heat knows colour's effect": known})
    return rows
