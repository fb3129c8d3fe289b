"""The steps of Task 2 that join several networks, and what the page leaves as results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lazyutils import checkpoints, data, visualize
from lazyutils.metrics import accuracy
from lazyutils.probes import corner_answers, four_corners, hue_sweep, probe_layers
from lazyutils.selectivity import balanced_colors, filter_energy

Table = Mapping[str, Mapping[str, Any]]


def balanced(path: str | Path, split: str, size: int, look: Mapping[str, Any]) -> data.ColoredDigits:
    """The first ``size`` digits of a split, repainted so that each digit wears each colour equally often.

    Args:
        look: ``palette``, ``noise`` and ``seed`` of the backgrounds.
    """
    digits = data.load(path, split, range(size))
    return data.recolor(digits, balanced_colors(digits.labels, look["seed"]), **look)


def trio(path: str | Path, digit: int, look: Mapping[str, Any]) -> Tensor:
    """One hard image's digit on its own colour, on the next one, and on grey: ``float32 [3, 3, 28, 28]``."""
    hard = data.load(path, "hard", range(200))
    one = hard[(hard.labels == digit).nonzero()[:1, 0]]
    own, other = (data.recolor(one, (one.labels + step) % 10, **look) for step in (0, 1))
    return torch.cat([own.images, other.images, four_corners(own)["digit only"]])


def filter_energies(networks: Mapping[str, nn.Module], robust: Path) -> dict[str, dict[str, Tensor]]:
    """``selectivity.filter_energy`` of each network's first layer, and of RobustCNN's if its checkpoint is there."""
    if robust.is_file():
        networks = {**networks, "RobustCNN": checkpoints.load(robust)[0]}
    first = {name: next(m for m in model.modules() if isinstance(m, nn.Conv2d)) for name, model in networks.items()}
    return {name: filter_energy(conv.weight.cpu()) for name, conv in first.items()}


def dream_readouts(
    networks: Mapping[str, nn.Module], digits: data.ColoredDigits, palette: Tensor, steps: int
) -> dict[str, float]:
    """Dream each image towards another class: how often the background then comes nearest to that class's colour.

    Args:
        digits: on the networks' device.
        palette: ``uint8 [10, 3]``, colour ``d`` belongs to class ``d``.
    """
    targets = (digits.labels + 1 + torch.arange(len(digits), device=digits.labels.device) % 9) % 10
    weight = (~digits.masks)[:, None].to(digits.images)
    shares = {}
    for name, model in networks.items():
        final = visualize.dream(model, digits.images, targets, steps=steps)[-1]
        background = (final * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True)
        shares[name] = accuracy(visualize.palette_readout(background, palette), targets)
    return shares


def probe_all(
    networks: Mapping[str, nn.Module],
    layers: Mapping[str, list[str]],
    train: data.ColoredDigits,
    test: data.ColoredDigits,
) -> dict[str, dict[str, dict[str, float]]]:
    """``probes.probe_layers`` of several networks, each with its own layers."""
    return {name: probe_layers(model, layers[name], train, test) for name, model in networks.items()}


def counterfactuals(
    networks: Mapping[str, tuple[nn.Module, int]], digits: data.ColoredDigits, look: Mapping[str, Any]
) -> tuple[dict, dict]:
    """``probes.hue_sweep`` and ``probes.corner_answers`` of several networks.

    Args:
        networks: a name's model, and how many of ``digits`` (on the CPU) it is asked about.
    """
    sweeps, corners = {}, {}
    for name, (model, size) in networks.items():
        asked = digits[:size]
        sweeps[name] = hue_sweep(model, asked, **look)
        device = next(model.parameters()).device
        corners[name] = corner_answers(model, asked[asked.conflicting].to(device), look["seed"])
    return sweeps, corners


def plain(table: Any) -> Any:
    """A table as results keep it: no images, layers without the wrapper's prefix, no blanks, tensors as means."""
    if isinstance(table, Tensor):
        return table.double().mean().item()
    if not isinstance(table, Mapping):
        return table
    keys = {"LazyCNN": "lazycnn", "ResNet-18": "resnet18", "RobustCNN": "robustcnn", "honest twin": "twin"}
    keys["untrained ResNet-18"] = "untrained_resnet18"
    kept = {key: value for key, value in table.items() if key != "images"}
    return {keys.get(key, key.removeprefix("net.").replace(" ", "_")): plain(value) for key, value in kept.items()}
