"""The sentences of Task 2 that hold numbers, so that what the page says is what the run measured."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lazyutils.parametrization import ColorStatistics
from lazyutils.plots import percent
from lazyutils.probes import HueSweep
from lazyutils.units import UnitStudy

Scores = Mapping[str, Mapping[str, float]]
MARGIN = 0.05
"""Shares that differ by less are called alike."""


def filters(energy: Mapping[str, Mapping[str, Tensor]]) -> str:
    """Chromatic and flat shares of the first layers, and whether RobustCNN's is among them."""
    parts = {name: {part: share.mean().item() for part, share in shares.items()} for name, shares in energy.items()}
    rows = [
        f"{name} {percent(p['chromatic_flat'] + p['chromatic_pattern'])} chromatic and "
        f"{percent(p['chromatic_flat'] + p['gray_flat'])} flat"
        for name, p in parts.items()
    ]
    missing = " RobustCNN, Task 4's network, has no bar: this run hasn't trained it." * ("RobustCNN" not in energy)
    return (
        f"In numbers: {', '.join(rows)}. Chance gives two thirds chromatic, so a share near it convicts nobody. *Flat* "
        "by chance is 1 / (pixels of the kernel); what lies far beyond it was trained. Only flat weights let a "
        f"background's mean pass.{missing}"
    )


def neurons(study: UnitStudy, controls: Mapping[str, UnitStudy]) -> str:
    """Colour and digit in conv3, against the untrained network and the honest twin."""
    mine = study.summary()["conv3"]
    twin, untrained = (controls[name].summary()["conv3"]["colour_eta2"] for name in ("honest twin", "untrained"))
    if untrained > mine["colour_eta2"] - MARGIN:
        origin = "a colour neuron is what one gets for nothing"
    else:
        share = "most" if untrained > mine["colour_eta2"] / 2 else "less than half"
        origin = f"so {share} of LazyCNN's share comes for nothing"
    honest = "less" if twin < untrained - MARGIN else "no less"
    return (
        f"Colour explains **{percent(mine['colour_eta2'])}** of a conv3 neuron's variance, the digit "
        f"{percent(mine['digit_eta2'])}. In an untrained network colour explains {percent(untrained)} ({origin}), in "
        f"the honest twin {percent(twin)} ({honest} than in the untrained one)."
    )


def digit(probed: Scores, free: Scores) -> str:
    """Whether LazyCNN's digit gets lost on the way or in the last layer."""
    inside, out, start = (probed[layer]["digit"] for layer in ("relu3", "fc", "pixels"))
    way = "is *not* thrown away on the way" if inside > start - MARGIN else "is partly lost on the way"
    lost, unread = start - inside, inside - out
    most = "most of the loss is in the *readout*" if unread > lost else "the *readout* loses the rest"
    readout = most if unread > MARGIN else "it stays"
    return (
        f"The digit {way}: a linear probe reads it from the pixels in {percent(start)} of cases, from relu3 in "
        f"{percent(inside)} (untrained {percent(free['relu3']['digit'])}), from the output in {percent(out)}: "
        f"{readout}."
    )


def repainting(sweeps: Mapping[str, HueSweep]) -> str:
    """What the background alone does to the answers."""
    lazy, twin = (sweeps[name].summary() for name in ("LazyCNN", "honest twin"))
    return (
        f"Repainting changes LazyCNN's answer to {percent(lazy['changed_share'])} of the digits; "
        f"{percent(lazy['colour_share'])} of its answers are the background's digit (the twin: "
        f"{percent(twin['colour_share'])}; chance 10%)."
    )


def eye(study: UnitStudy, untrained: UnitStudy) -> str:
    """How far the colour of a preferred image tells the colour that the unit likes."""
    rows = [
        f"{layer} {percent(row['palette_agreement'], 0)} (untrained "
        f"{percent(untrained.summary()[layer]['palette_agreement'], 0)})"
        for layer, row in study.summary().items()
    ]
    return (
        "Reading preferred images by eye. How often does one wear the colour that its neuron likes best in natural "
        f"images? {', '.join(rows)}; chance 10%. Only the controls and the balanced data tell a colour neuron."
    )


def climbs(dreams: Mapping[str, float], classes: Mapping[str, Mapping[str, Tensor]], sweep: HueSweep) -> str:
    """How far dreams and preferred images of classes show the shortcut."""
    worn, followed = classes["LazyCNN"]["own_colour"].double().mean().item(), sweep.summary()["colour_share"]
    hidden = max(dreams["LazyCNN"], worn) < followed - MARGIN
    return (
        "Dreams and preferred images as proof of the shortcut. LazyCNN's dreams come nearest to the class's own colour "
        f"in {percent(dreams['LazyCNN'], 0)} of cases (untrained: {percent(dreams['untrained'], 0)}), its preferred "
        f"images in {percent(worn, 0)}, chance 10%; its answers to repainted digits follow the colour in "
        f"{percent(followed, 0)}." + " A climb leaves the data, and out there the logit has no palette." * hidden
    )


def inversions(kept: Scores, probed: Scores) -> str:
    """What a recovered image shows of a stroke, beside what a probe reads in the same layer."""
    row = kept["conv3"]
    return (
        "Inversion as proof that *shape* is lost: a search that failed and information that is gone look alike. From "
        f"conv3 the stroke comes back with a correlation of {row['shape_correlation']:.2f} (chance "
        f"{row['shape_chance']:.2f}), and a probe reads the digit there in "
        f"{percent(probed['conv3']['digit'])} of cases."
    )


def decorrelation(colors: ColorStatistics) -> str:
    """How much there was to decorrelate."""
    covariance = colors.root @ colors.root
    sd = covariance.diagonal().sqrt()
    largest = (covariance / sd.outer(sd)).fill_diagonal_(0).abs().max().item()
    return (
        "Colour decorrelation is worth what the colours' correlation is: between two channels of the balanced training "
        f"images it is at most {largest:.2f} (1: the same)."
    )


def bullets(*sentences: str) -> str:
    """A list in Markdown."""
    return "\n".join(f"- {sentence}" for sentence in sentences)
