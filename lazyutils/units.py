"""One study of many units: their preferred images over seeds, and what the data say about each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lazyutils import hooks, training, visualize
from lazyutils.data import ColoredDigits
from lazyutils.selectivity import class_means, eta_squared, levels_answered, mean_answered, top_images
from lazyutils.visualize import Unit


@dataclass(frozen=True)
class UnitStudy:
    """Units, what they ask for, and what they answer to. S seeds, U units; all tensors on the CPU.

    Attributes:
        units: the U units.
        images: preferred images, ``float32 [S, U, 3, H, W]``.
        achieved: activation on them, ``float32 [S, U]``.
        grayed: activation on the same images without colour, ``float32 [S, U]``.
        natural_high, natural_median: highest and median activation over the natural images, ``float32 [U]``.
        top: indices of the nine natural images that activate each unit most, ``int64 [U, 9]``.
        color_eta2, digit_eta2: share of the activation's variance that the factor explains, ``float32 [U]``.
        colors_answered, digits_answered: ``selectivity.levels_answered``, ``int64 [U]``.
        worn: palette colour nearest to each preferred image's mean, ``int64 [S, U]`` (``visualize.palette_readout``).
        liked: colour whose natural images activate each unit most on average, ``int64 [U]``.
    """

    units: tuple[Unit, ...]
    images: Tensor
    achieved: Tensor
    grayed: Tensor
    natural_high: Tensor
    natural_median: Tensor
    top: Tensor
    color_eta2: Tensor
    digit_eta2: Tensor
    colors_answered: Tensor
    digits_answered: Tensor
    worn: Tensor
    liked: Tensor

    @property
    def excess(self) -> Tensor:
        """How far the preferred image exceeds nature, ``[S, U]``: 1 is the highest natural activation, 0 the median."""
        span = (self.natural_high - self.natural_median).clamp(min=1e-12)
        return (self.achieved - self.natural_median) / span

    @property
    def survival(self) -> Tensor:
        """Share of the response to the preferred image that is left without its colour, ``[S, U]``, 0 to 1."""
        return visualize.survival(self.grayed, self.achieved, self.natural_median)

    def of_layer(self, layer: str) -> list[int]:
        """Positions of a layer's units."""
        return [position for position, unit in enumerate(self.units) if unit.layer == layer]

    def summary(self) -> dict[str, dict[str, float | None]]:
        """For each layer: medians over units and seeds of excess and survival, means of all else.

        ``colours_answered`` and ``digits_answered`` are ``selectivity.mean_answered``: the mean over ``..._counted``
        units, None where there are none. ``palette_agreement`` is the share of preferred images that wear the colour
        which their unit likes best in natural images; chance gives one in the number of colours.
        """
        table = {}
        for layer in dict.fromkeys(unit.layer for unit in self.units):
            rows = self.of_layer(layer)
            colors, colors_counted = mean_answered(self.colors_answered[rows], self.color_eta2[rows])
            digits, digits_counted = mean_answered(self.digits_answered[rows], self.digit_eta2[rows])
            table[layer] = {
                "colour_eta2": self.color_eta2[rows].mean().item(),
                "digit_eta2": self.digit_eta2[rows].mean().item(),
                "colours_answered": colors,
                "colours_counted": colors_counted,
                "digits_answered": digits,
                "digits_counted": digits_counted,
                "excess": self.excess[:, rows].median().item(),
                "grey_survival": self.survival[:, rows].median().item(),
                "palette_agreement": (self.worn == self.liked)[:, rows].double().mean().item(),
            }
        return table


def unit_values(model: nn.Module, images: Tensor, units: Sequence[Unit]) -> Tensor:
    """Activation of every unit on every image, ``float32 [N, U]``."""
    layers = list(dict.fromkeys(unit.layer for unit in units))
    wanted = sorted({unit.reduction for unit in units})

    def reduce(activation: Tensor) -> Tensor:
        return torch.stack([visualize.reduce_maps(activation, name) for name in wanted], dim=1)

    values = hooks.collect(model, images, layers, reduce)  # layer: [N, reductions, C]
    return torch.stack([values[unit.layer][:, wanted.index(unit.reduction), unit.channel] for unit in units], dim=1)


def study_units(
    model: nn.Module, units: Sequence[Unit], natural: ColoredDigits, seeds: Sequence[int], palette: Tensor, **options
) -> UnitStudy:
    """Preferred images of ``units`` from every seed, and the units' answers to natural images.

    Args:
        natural: images on which colour and digit are independent (``selectivity.balanced_colors``).
        seeds: one maximisation of all units each.
        palette: ``uint8 [10, 3]``, the colours of ``natural``.
        options: of ``visualize.maximize``.
    """
    found = [visualize.maximize(model, units, seed=seed, **options) for seed in seeds]
    grayed = [unit_values(model, visualize.gray_out(run.images), units).diagonal() for run in found]
    values = unit_values(model, natural.images, units)
    figures = {
        "images": torch.stack([run.images for run in found]),
        "achieved": torch.stack([run.achieved for run in found]),
        "grayed": torch.stack(grayed),
        "natural_high": values.amax(0),
        "natural_median": values.median(0).values,
        "top": top_images(values, min(9, len(natural))),
        "color_eta2": eta_squared(values, natural.colors),
        "digit_eta2": eta_squared(values, natural.labels),
        "colors_answered": levels_answered(values, natural.colors),
        "digits_answered": levels_answered(values, natural.labels),
        "worn": torch.stack([visualize.palette_readout(run.images, palette) for run in found]),
        "liked": class_means(values, natural.colors).argmax(0),
    }
    return UnitStudy(tuple(units), **{name: figure.cpu() for name, figure in figures.items()})


def class_images(model: nn.Module, layer: str, palette: Tensor, seeds: Sequence[int], **options) -> dict[str, Tensor]:
    """Preferred images of the ten classes: do they wear the class's colour, and do they need it?

    Args:
        layer: the last one, whose ten outputs are the logits.
        palette: ``uint8 [10, 3]``, colour ``d`` belongs to class ``d``.

    Returns:
        ``images float32 [S, 10, 3, H, W]``, ``own_colour bool [S, 10]`` (the palette colour nearest to the image's mean
        is the class's), ``survives bool [S, 10]`` (the image is still answered with its class once it is grey).
    """
    classes = torch.arange(10)
    runs = [visualize.maximize(model, visualize.layer_units(model, layer), seed=s, **options).images for s in seeds]
    images = torch.stack(runs)
    gray = [training.predict(model, visualize.gray_out(run)).argmax(1).cpu() == classes for run in runs]
    worn = [visualize.palette_readout(run, palette).cpu() == classes for run in runs]
    return {"images": images.cpu(), "own_colour": torch.stack(worn), "survives": torch.stack(gray)}
