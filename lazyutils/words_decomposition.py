"""The sentences of Task 6 that hold numbers, so that what the page says is what the run measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from lazyutils.decomposition import Examination, Proof
from lazyutils.plots import mean_sd, percent


def ceiling(ceilings: Mapping[str, Mapping[str, float]], original: Mapping[str, float]) -> str:
    """What the last layer lets a linear reader know."""
    last = ceilings["relu3"]
    return (
        f"The network answers {percent(original['hard'])} of the hard images rightly, although a linear reader of the "
        f"same numbers finds {percent(last['digit'])} of the digits: shape is in the state, and the head doesn't use "
        f"it. The colour is read rightly in {percent(last['colour'])}."
    )


def study(report: Mapping[str, float], original: Mapping[str, float], beyond: float) -> str:
    """Quality of the study's hidden autoencoder, and what its sigmoid costs."""
    return (
        f"The hidden autoencoder explains {percent(report['explained_variance'])} of the variance with "
        f"{report['l0']:.0f} active units. Spliced back, easy accuracy is {percent(report['spliced_easy'])} (network: "
        f"{percent(original['easy'])}) and hard accuracy {percent(report['spliced_hard'])} (network: "
        f"{percent(original['hard'])}). The cost of the sigmoid's range: {percent(beyond, 2)} of the hard entries lie "
        "above the largest training value and are out of reach, and the exact zeros of a ReLU never come back."
    )


def rebuilt(judge: Mapping[str, Mapping[str, float]]) -> str:
    """What a network that reads digits (Task 4's) sees in the pixel autoencoder's reconstructions of hard images."""
    before, after = judge["image"], judge["rebuilt"]
    return (
        f"Task 4's network, which reads digits, finds the true digit in {percent(before['digit_share'])} of these "
        f"images, in {percent(after['digit_share'])} of their reconstructions; there it sees the *colour's* digit in "
        f"{percent(after['colour_share'])}. An autoencoder with no labels at all has learnt the shortcut.\n\n"
    )


def rule(rows: Sequence[Mapping[str, Any]], measured: Tensor) -> str:
    """The study's visual rule against the measured verdict: in words and as a table (longest ascent)."""
    first, last = rows[0], rows[-1]
    return (
        f"After {last['steps']} steps the rule calls {percent(last['called_share'])} of the units COLOUR, after "
        f"{first['steps']} steps {percent(first['called_share'])}. Measured, the colour explains more than half of "
        f"{percent(measured.double().mean().item())}. At {last['steps']} steps:\n\n{verdict_table(last)}\n\n"
        f"Right for {percent(last['accuracy'])} of the units, Cohen's κ = {last['kappa']:.2f} (0 is guessing). As a "
        f"mere ranking, without a threshold, flatness has an AUROC of {last['auroc']:.2f}."
    )


def quality(figures: Mapping[str, Any], original: Mapping[str, float], cosines: Mapping[str, Tensor]) -> str:
    """Quality of the TopK dictionaries over seeds, and how stable their features are."""
    return (
        f"Variance explained {mean_sd(figures['explained_variance'])} with {figures['l0']['mean']:.0f} active latents, "
        f"dead {mean_sd(figures['dead_share'])} (at worst {percent(figures['dead_share']['worst'])}), dense "
        f"{mean_sd(figures['dense_share'])}. Spliced: easy "
        f"{mean_sd(figures['spliced_easy'])}, hard {mean_sd(figures['spliced_hard'])} (network "
        f"{percent(original['easy'])} and {percent(original['hard'])}). Of the hard answers that a mean state (zeros) "
        f"would change, it keeps {mean_sd(figures['recovered_mean'])} ({mean_sd(figures['recovered_zero'])}). Median "
        "cosine of matched features: " + listed({name: values.median().item() for name, values in cosines.items()})
    )


def selectivity(groups: Mapping[str, tuple[Tensor, Tensor]], answered: Mapping[str, Tensor]) -> str:
    """Medians of what units answer to; ``answered`` holds the number of colours each unit answers to."""
    return (
        "Median colour η²: "
        + listed({name: color.median().item() for name, (color, _) in groups.items()})
        + " Colours a unit answers to, on average: "
        + listed({name: levels.double().mean().item() for name, levels in answered.items()})
        + f" Largest digit η² of any feature: {next(iter(groups.values()))[1].max():.2f}."
    )


def effects(tests: Mapping[str, Mapping[str, float]], proofs: Sequence[Proof]) -> str:
    """``decomposition.against_random`` of several figures as a list, and how much variance the edits move."""
    labels = {"colour_share": "colour answers", "hard": "hard accuracy", "easy": "easy accuracy"}
    lines = [
        f"- {labels[key]}: {100 * one['effect']:+.1f} points with the colour features off, "
        f"{100 * one['random']:+.1f} with random ones (95% of the sets: {100 * one['low']:+.1f} to "
        f"{100 * one['high']:+.1f}), p = {one['p']:.3f}"
        for key, one in tests.items()
    ]
    moved = proofs[0].moved
    return "\n".join(lines) + (
        f"\n\n{len(proofs)} dictionaries, {len(proofs[0].random)} random sets each. The colour features carry "
        f"{percent(moved['colour'])} of the hard states' variance, a random set {percent(moved['random'])}: part of "
        "their effect is sheer size, as a shortcut's is."
    )


def carried(examined: Mapping[str, Examination]) -> str:
    """Whether other networks carry the colour, and whether they act on it."""
    return " ".join(
        f"{name}: a linear reader finds the colour in {percent(one.ceiling['colour'])} of the hard states, "
        f"{percent(one.proof.original['colour_share'])} of the answers follow it, and "
        f"{percent(one.proof.edits['colour']['colour_share'])} without the colour features."
        for name, one in examined.items()
    )


def summary(
    original: Mapping[str, float], ablation: Mapping[str, Any], heads: Mapping[str, Any], limits: Mapping[str, float]
) -> str:
    """What switching off gained; ``limits`` names what others reach on the hard set."""
    best, name = max((one["hard"]["mean"], name) for name, one in heads.items())
    lost, won = original["colour_share"] - ablation["colour"]["colour_share"]["mean"], best - original["hard"]
    gained = f"The colour answers lost {100 * lost:.0f} points; the right answers gained {100 * won:.0f} at best."
    return (
        f"With its colour features off, the same network answers {mean_sd(ablation['colour']['colour_share'])} of the "
        f"hard images with the colour instead of {percent(original['colour_share'])}, and "
        f"{mean_sd(ablation['colour']['hard'])} rightly instead of {percent(original['hard'])}. Erasing nine "
        f"directions without any autoencoder: {percent(ablation['linear']['hard'])} right. Best edit of all ({name}): "
        f"{percent(best)}. To compare, "
        + ", ".join(f"{name} {percent(value)}" for name, value in limits.items())
        + f". {gained}"
    )


def disappointments(original: Mapping[str, float], ablation: Mapping[str, Any], heads: Mapping[str, Any]) -> str:
    """What refitted heads and the dictionary's own edit came to, against the untouched network and linear erasure."""
    refitted = {name: one for name, one in heads.items() if name.endswith("+head")}
    answers = "; ".join(
        f"{name}: {mean_sd(one['hard'])} right, {mean_sd(one['colour_share'])} with the colour"
        for name, one in refitted.items()
    )
    ahead = ablation["colour"]["hard"]["mean"] - ablation["linear"]["hard"]
    return (
        f"On hard images (untouched: {percent(original['hard'])} right, {percent(original['colour_share'])} with the "
        f"colour), after each edit and a new head: {answers}. With the network's own head, switching off colour "
        f"features is {abs(100 * ahead):.1f} points {'ahead of' if ahead > 0 else 'behind'} linear erasure."
    )


def listed(values: Mapping[str, float]) -> str:
    """``"a 0.12, b 0.34."``"""
    return ", ".join(f"{name} {value:.2f}" for name, value in values.items()) + "."


def verdict_table(verdict: Mapping[str, float]) -> str:
    """``decomposition.agreement`` as a Markdown table."""
    return (
        "| the study's units | measured colour (η² > 0.5) | measured other |\n|---|---|---|\n"
        f"| called COLOUR by eye | {verdict['both']} | {verdict['only_called']} |\n"
        f"| called SHAPE by eye | {verdict['only_measured']} | {verdict['neither']} |"
    )
