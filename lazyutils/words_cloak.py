"""The sentences of Task 5 that hold numbers, so that what the page says is what the run measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from lazyutils.cloak import Attacked, Drawing, halves, least, relation, shares_by_color, shares_fooled
from lazyutils.cloak_beyond import Attempt
from lazyutils.data import COLOR_NAMES
from lazyutils.plots import percent
from lazyutils.plots_cloak import METHOD_NAMES, NAMES, share

Curves = Mapping[str, Sequence[Mapping[str, float]]]
"""What ``cloak_beyond.universal_curves`` returns: ``[network]``, one entry a radius."""
MARGIN = 0.1
"""A cosine or correlation that leads the next by less singles nothing out."""
VISIBLE = 2
"""A noise of so many times the page's radius is called visible."""
DIGITS = tuple("0123456789")
IN_WORDS = {
    "lazycnn": "LazyCNN",
    "twin": "the honest twin",
    "robust_erm": "the plain RobustCNN",
    "robust_best": "the fixed RobustCNN",
}


def each(values: Mapping[str, float | None], digits: int = 0) -> str:
    """``"12% (LazyCNN), ..."``: one share a network; a dash where there is none."""
    return ", ".join(f"{share(value, digits)} ({NAMES[name]})" for name, value in values.items())


def listed(names: Iterable[str]) -> str:
    """``"LazyCNN, the honest twin and the fixed RobustCNN"``: networks by their keys."""
    *first, last = (IN_WORDS[name] for name in names)
    return f"{', '.join(first)} and {last}" if first else last


def chosen(images: int, rank: Tensor, missing: Sequence[str], source: int, target: int) -> str:
    """How many images fit the study's rule (``rank`` 1), and which networks of the page can't be compared."""
    left_out = f" Left out, as it shares no image with the others that it reads: {listed(missing)}." if missing else ""
    return (
        f"Of {images:,} images of {source} LazyCNN and the fixed network both read {len(rank):,}, with {target} as the "
        f"second choice of both: **{int((rank == 1).sum())}**. Where that leaves fewer than five, the next best join."
        f"{left_out}"
    )


def success(found: Mapping[str, Attacked], eps: float, confidence: float) -> str:
    """The best method's success on each network, and on both halves of its images."""
    best = {name: max(shares.values()) for name, shares in shares_fooled(found).items()}
    halved = shares_by_color(found)

    def half(which: str) -> str:
        rows = {name: [parts[which][method] for method in METHOD_NAMES] for name, parts in halved.items()}
        return each({name: None if None in row else max(row) for name, row in rows.items()}, 1)

    return (
        f"Within {eps}, at more than {confidence:.0%} confidence, the best method fools **{each(best, 1)}** of the "
        f"images. On another colour than the digit's own, where the cues disagree: {half('other_colour')}; on its own: "
        f"{half('own_colour')}."
    )


def tools(radii: Mapping[str, float | None]) -> str:
    """The median radius that each attack needs on the lazy network, and what momentum is worth."""
    said = ", ".join(
        f"{method} {'more than was searched' if value is None else f'{value:.3f}'}" for method, value in radii.items()
    )
    plain, strong = (math.inf if value is None else value for value in list(radii.values())[:2])
    helps = (
        "The margin and momentum get by with less than plain steps: where several rivals are level with the target, a "
        "plain step that beats one may lose to another."
        if strong < plain
        else "The margin and momentum bring nothing here."
    )
    return f"What each attack needs for the bare answer of LazyCNN's median image: {said}. {helps}"


def likeness(found: Mapping[str, Drawing], target: int) -> str:
    """How near each network's tint is to the target's colour and its ink to the target's stroke, and to all others."""
    head = f"| network | tint to {COLOR_NAMES[target]} | other colours | ink to {target} | other digits |"
    lines, leaders = [head, "|---|--:|--:|--:|--:|"], []
    for name, drawing in found.items():
        cells = [*beside(drawing.colors, target), *beside(drawing.shapes, target)]
        lines.append(f"| {NAMES[name]} | {' | '.join(cells)} |")
        first = [leader(values) for values in (drawing.colors, drawing.shapes)]
        said = [called[place] for place, called in zip(first, (COLOR_NAMES, DIGITS), strict=True) if place is not None]
        if said:
            leaders.append(f"{' and '.join(said)} ({NAMES[name]})")
    verdict = f"these are singled out: {', '.join(leaders)}" if leaders else "no colour and no digit is singled out"
    table = "\n".join(lines)
    return f"{table}\n\nWhere a lead of {MARGIN} over the next is asked for, {verdict}."


def beside(values: Tensor, target: int) -> list[str]:
    """The target's entry of ``values [10]``, and the range of the others; a dash where there is none (NaN)."""
    mine, others = values[target], torch.cat([values[:target], values[target + 1 :]])
    known = others[others.isfinite()]
    return [
        f"{mine:.2f}" if mine.isfinite() else "–",
        f"{known.min():.2f} to {known.max():.2f}" if len(known) else "–",
    ]


def leader(values: Tensor) -> int | None:
    """The place of the largest of ``values [10]``, where it leads the next by the margin."""
    (first, second), places = values.nan_to_num(-1).topk(2)
    return int(places[0]) if first - second >= MARGIN else None


def attempt(found: Attempt, unseen: int) -> str:
    """What the two universal perturbations are worth on images that neither saw."""
    return (
        f"Of {unseen} unseen images, of which LazyCNN reads {percent(found.read, 0)}, Optuna's best perturbation fools "
        f"**{percent(found.fooled)}**, the gradient's **{percent(found.gradient_fooled)}**."
    )


def by_color(found: Mapping[str, Tensor]) -> str:
    """How much a perturbation of their own helps the backgrounds, the mean over them."""
    means = {name: values.nanmean(1).tolist() for name, values in found.items()}
    said = ", ".join(f"{percent(one)} → {percent(own)} ({NAMES[name]})" for name, (one, own) in means.items())
    return (
        f"The mean over the backgrounds, one perturbation for all → one for each: {said}. If the study's reason were "
        "the whole one, the second number would be near 100%."
    )


def tint_alone(kinds: Mapping[str, Mapping[str, Sequence[float]]], radii: Sequence[float], eps: float) -> str:
    """What a tint without any pattern does, within the page's radius and within the widest."""
    alone = {name: by["colour only"] for name, by in kinds.items()}
    near = each({name: shares[list(radii).index(eps)] for name, shares in alone.items()})
    return (
        f"A tint alone fools {near} of the images within {eps}, and within {radii[-1]} "
        f"{each({name: shares[-1] for name, shares in alone.items()})}."
    )


def hardening(costs: Mapping[str, Mapping[str, float]], images: int) -> str:
    """What the adversary costs, against the control that was trained on without one.

    Args:
        costs: three rows: the fixed network, the control, the hardened one.
        images: number of hard images that were asked.
    """
    fixed, control, strong = (row["hard_accuracy"] for row in costs.values())
    price = control - strong
    error = math.sqrt(sum(share * (1 - share) for share in (control, strong)) / images)
    if abs(price) <= 2 * error:
        said = f"the difference, {100 * -price:+.1f} points, is no more than chance makes of {images:,} images"
    else:
        said = f"the adversary {'costs' if price > 0 else 'brings'} {100 * abs(price):.1f} points"
    pgd = " → ".join(percent(row["pgd"]) for row in costs.values())
    return (
        f"Training on without an adversary takes the hard accuracy from {percent(fixed)} to {percent(control)}; with "
        f"one it ends at {percent(strong)}: {said}. PGD's success, in the same order: {pgd}. One training each."
    )


def victim(radii: Mapping[str, Mapping[str, Tensor]], conflicting: Tensor) -> str:
    """Is the lazy network the easier victim? Said from the radii that its answers and the others' need.

    Args:
        radii: ``[network][method]``, smallest radius for each image ``[N]``.
        conflicting: ``bool [N]``, images on another colour than the digit's own.
    """
    smallest = {name: least(row) for name, row in radii.items()}
    medians = {name: halves(values, conflicting)["all"] for name, values in smallest.items()}
    said = ", ".join(
        f"{f'{value:.3f}' if value < math.inf else 'more than was searched'} ({NAMES[name]})"
        for name, value in medians.items()
    )
    relations = compared(smallest)
    only = compared({name: values[conflicting] for name, values in smallest.items()})
    answer = {("more",): "No, the opposite.", ("less",): "Yes."}.get(tuple(set(relations.values())), "Not clearly.")
    same = "That holds for" if only == relations else f"It needs {sorted_out(only)} on"
    count = int(conflicting.sum())
    half = f" {same} the {count} images on another colour alone." if count else ""
    return (
        f"**Is the lazy network the easier victim? {answer}** The median image's answer changes at a radius of {said}. "
        f"Image by image, LazyCNN needs {sorted_out(relations)}.{half} {cause(relations.get('twin'))}"
    )


def compared(smallest: Mapping[str, Tensor]) -> dict[str, str]:
    """LazyCNN's ``relation`` to each other network."""
    return {name: relation(smallest["lazycnn"], values) for name, values in smallest.items() if name != "lazycnn"}


def sorted_out(relations: Mapping[str, str]) -> str:
    """``"a larger radius than A and B, a smaller one than C"``: networks by LazyCNN's relation to them."""
    phrases = {"more": "a larger radius than", "less": "a smaller one than", "alike": "no clearly different one from"}
    groups = {kind: [name for name, found in relations.items() if found == kind] for kind in phrases}
    return ", ".join(f"{phrases[kind]} {listed(names)}" for kind, names in groups.items() if names)


def cause(twin: str | None) -> str:
    """What LazyCNN's relation to its honest twin allows to say about laziness."""
    if twin is None:
        return "Its honest twin is missing here, so architecture and laziness can't be told apart."
    return {
        "more": "The honest twin has LazyCNN's architecture and initial weights, so neither protects it: its training "
        "does. Backgrounds that give the answer away are a part of that; so are its optimiser and its number of steps.",
        "less": "Beside its honest twin, of the same architecture, the lazy network is the easier victim; a RobustCNN "
        "differs from it in more than laziness.",
        "alike": "Nothing clear sets it apart from its honest twin, of the same architecture: what sets it apart from "
        "a RobustCNN need not be laziness.",
    }[twin]


def reasons(shares: Mapping[str, float], alone: str) -> str:
    """How much of the smallest perturbations is tint; ``alone`` says what a tint does without the rest."""
    tints = {name: share for name, share in shares.items() if name in NAMES}
    ratios = [
        f"{tints['lazycnn'] / share:.1f} times {IN_WORDS[name]}'s"
        for name, share in tints.items()
        if name != "lazycnn" and share > 0
    ]
    ratio = f" LazyCNN's share is {', '.join(ratios)}." if ratios else ""
    return (
        f"**Are they fooled for different reasons?** A tint of the background carries {each(tints, 1)} of the energy "
        f"of the smallest perturbation, {percent(shares['random'], 2)} in noise; strokes and patterns carry the rest."
        f"{ratio} {alone}"
    )


def one_noise(curves: Curves, radii: Sequence[float], eps: float, target: int) -> str:
    """What one perturbation for all does within ``eps``, and from which radius on it makes most images the target."""
    at = list(radii).index(eps)
    near = each({name: points[at]["answer"] for name, points in curves.items()}, 1)
    start = {name: reach([point["answer"] for point in points], radii) for name, points in curves.items()}
    reached = {name: radius for name, radius in start.items() if radius is not None}
    never = [name for name in start if name not in reached]
    said = [f"from {radius} on for {IN_WORDS[name]}" for name, radius in reached.items()]
    said += [f"at no radius up to {radii[-1]} for {listed(never)}"] if never else []
    wide = min((radius for radius in reached.values() if radius >= VISIBLE * eps), default=None)
    visible = f" A noise of {wide} is visible: {round(255 * wide)} of 255 levels." if wide else ""
    return (
        f"**One noise for every image?** Within {eps} it makes {near} of the unseen images a {target}. It makes more "
        f"than half of them one {'; '.join(said)}.{visible}"
    )


def reach(shares: Sequence[float], radii: Sequence[float]) -> float | None:
    """The radius from which on every share is above one half; None where the last one is not."""
    below = [place for place, share in enumerate(shares) if share <= 0.5]
    first = below[-1] + 1 if below else 0
    return radii[first] if first < len(radii) else None
