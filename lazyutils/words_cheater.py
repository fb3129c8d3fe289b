"""The sentences and alt texts of Task 1 that hold numbers, so that what the pages say is what the run measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from lazyutils.data import COLOR_NAMES, ColoredDigits
from lazyutils.metrics import contingency, wilson_interval
from lazyutils.plots import mean_sd, percent

Curves = Mapping[str, Sequence[float]]
DIGITS = [f"digit {digit}" for digit in range(10)]
MARGIN = 0.05
"""Confidences that differ by less are called alike."""
RISE = 0.01
"""A curve that gained more than this over its last epochs is called rising."""
LAST = 3
"""So many passes are a curve's last ones."""


def diagonal(counts: Tensor) -> list[float]:
    """The diagonal's share of each row of a table of counts ``[10, 10]``; 0 for an empty row."""
    return (counts.diagonal().double() / counts.sum(1).clamp(min=1)).tolist()


def span(counts: Tensor, names: Sequence[str] = DIGITS) -> str:
    """The smallest and the largest share on the diagonal of ``counts [10, 10]``, with the names of their rows."""
    (low, least), *_, (high, most) = sorted(zip(diagonal(counts), names, strict=True))
    return (
        f"{percent(low, 0)} ({least}) to {percent(high, 0)} ({most})"
        if low < high
        else f"{percent(low, 0)} in each row"
    )


def curves(seeds: Sequence[Curves], color_line: float) -> str:
    """Alt text of ``plots_cheater.accuracy_curves``."""
    first, last = ({name: np.mean([seed[name][at] for seed in seeds]) for name in ("easy", "hard")} for at in (0, -1))
    return (
        f"Two curves over {len(seeds[0]['easy'])} epoch(s), means over seeds. Easy accuracy: {percent(first['easy'])} "
        f"after the first epoch, {percent(last['easy'])} after the last. Hard accuracy: {percent(first['hard'])} and "
        f"{percent(last['hard'])}. The dashed line of colour alone lies at {percent(color_line)}."
    )


def confusion(predictions: Mapping[str, Tensor], sets: Mapping[str, ColoredDigits]) -> str:
    """Alt text of ``plots_cheater.confusion_pair``."""
    spans = [f"{name} {span(contingency(digits.labels, predictions[name]))}" for name, digits in sets.items()]
    return f"Two tables of true against predicted digit. Shares on the diagonal: {'; '.join(spans)}."


def right_answers(predictions: Tensor, digits: ColoredDigits) -> str:
    """How the right answers to the hard images spread over the digits."""
    return (
        f"Right answers in the hard matrix, its diagonal: {span(contingency(digits.labels, predictions))}. A guesser "
        "would have about 10% in every row, a network that knows nothing but colours 0%."
    )


def backgrounds(predictions: Tensor, digits: ColoredDigits) -> str:
    """How many colours are answered with their own digit, and which one least."""
    counts = contingency(digits.colors, predictions)
    shares, favourites = diagonal(counts), counts.argmax(1).tolist()
    own = sum(favourite == color for color, favourite in enumerate(favourites))
    weakest = shares.index(min(shares))
    rival = "" if favourites[weakest] == weakest else f", and {favourites[weakest]} comes more often"
    return (
        f"On **{own} of 10 backgrounds** the most frequent answer is the colour's own digit. The weakest is "
        f"{COLOR_NAMES[weakest]}: its digit is the answer to {percent(shares[weakest])} of its images{rival}."
    )


def background_table(predictions: Tensor, digits: ColoredDigits) -> str:
    """Alt text of ``plots_cheater.color_prediction``."""
    shares = span(contingency(digits.colors, predictions), COLOR_NAMES)
    return f"Table of ten colours against ten answers. Share of each colour's own digit: {shares}."


def cues(shares: Mapping[str, Mapping[str, Any]]) -> str:
    """What the answers of each network follow, means over seeds."""
    bars = [
        f"{name} {percent(one['digit_share']['mean'])} the digit, {percent(one['colour_share']['mean'])} the colour's "
        f"digit, {percent(one['neither_share']['mean'])} neither"
        for name, one in shares.items()
    ]
    return f"Answers follow: {'; '.join(bars)}."


def headline(figures: Mapping[str, Any], images: int) -> str:
    """Accuracies and cues over seeds, beside what ``images`` hard images alone leave open."""
    hard = figures["hard_accuracy"]
    low, high = wilson_interval(hard["mean"], images)
    between = f"{percent(min(hard['values']))} and {percent(max(hard['values']))}"
    seeds = f"the seeds lie between {between}" if hard["n"] > 1 else "how much seeds differ, one seed can't tell"
    return (
        f"**Easy {mean_sd(figures['easy_accuracy'])}, hard {mean_sd(hard)}** ({hard['n']} seed(s)). On the hard images "
        f"{mean_sd(figures['colour_share'])} of the answers are the background's digit and "
        f"{mean_sd(figures['digit_share'])} the true one: shape bias {figures['shape_bias']['mean']:.2f}. The 95% "
        f"interval that comes from {images:,} images alone is {percent(low)} to {percent(high)}; {seeds}."
    )


def titles(digits: ColoredDigits, probabilities: Tensor) -> list[str]:
    """``"red 1\\n→ 0, 48.4%"`` of each image: truth, answer and the answer's probability ``[N, 10]``."""
    confidence, answers = probabilities.max(1)
    return [
        f"{COLOR_NAMES[color]} {label}\n→ {answer}, {percent(sure)}"
        for color, label, answer, sure in zip(
            digits.colors.tolist(), digits.labels.tolist(), answers.tolist(), confidence.tolist(), strict=True
        )
    ]


def strip(digits: ColoredDigits, probabilities: Tensor) -> str:
    """Alt text of ``plots_cheater.error_strip``."""
    shown = [title.replace("\n", " ") for title in titles(digits, probabilities)]
    return f"{len(shown)} digits on coloured backgrounds, each with truth, answer, confidence: {'; '.join(shown)}."


def confidence(hard: Tensor, hard_labels: Tensor, easy: Tensor, easy_labels: Tensor) -> str:
    """Whether confidence gives the errors on hard images away; ``hard``, ``easy``: probabilities ``[N, 10]``."""
    wrong = hard.max(1).values[hard.argmax(1) != hard_labels]
    right = easy.max(1).values[easy.argmax(1) == easy_labels]
    if not len(wrong) or not len(right):
        return "Confidences can't be compared: there is no wrong hard answer or no right easy one."
    apart = right.mean() - wrong.mean() > MARGIN
    hint = "Low confidence is a hint at an error" if apart else "Confidence hardly gives errors away"
    return (
        f"Mean confidence: {percent(wrong.mean().item())} in the wrong answers to hard images, "
        f"{percent(right.mean().item())} in the right answers to easy ones. {hint}; "
        f"{percent((wrong > right.mean()).double().mean().item())} of the errors are surer than the mean right answer."
    )


def trained_on(curves: Curves, epochs: int) -> str:
    """What happened to one network's accuracies after ``epochs``."""
    easy, hard = curves["easy"], curves["hard"]
    if len(hard) <= epochs:
        return f"The first seed's network is not trained on beyond epoch {epochs} in this run."
    return (
        f"From epoch {epochs} to epoch {len(hard)} the first seed's network goes from {percent(hard[epochs - 1])} to "
        f"{percent(hard[-1])} on the hard images, and from {percent(easy[epochs - 1])} to {percent(easy[-1])} on the "
        "easy ones."
    )


def capacity(figures: Mapping[str, Any], hard: Sequence[Sequence[float]], times: float, weights: str) -> str:
    """What ``times`` the parameters came to; ``hard``: a curve of hard accuracies for each seed."""
    curve = np.mean(hard, axis=0)
    back = min(LAST, len(curve) - 1)
    moved = f" (over the last {back} passes from {percent(curve[-1 - back])} to {percent(curve[-1])})" if back else ""
    colour, digit = (figures[key]["mean"] for key in ("colour_share", "digit_share"))
    verdict = f"{times:,.0f} times LazyCNN's parameters did not protect here" if colour > digit else "Shape won here"
    rising = colour > digit and curve[-1] - curve[-1 - back] > RISE
    open_end = " How long it would stay so is a matter of training time: the curve still rises." if rising else ""
    return (
        f"From {weights} weights, after {len(curve)} pass(es), ResNet-18 answers "
        f"{percent(figures['easy_accuracy']['mean'])} of the easy images and "
        f"{percent(figures['hard_accuracy']['mean'])} of the hard ones correctly, means over seeds{moved}. {verdict}: "
        f"{percent(colour)} of its hard answers follow the colour, {percent(digit)} the digit.{open_end}"
    )
