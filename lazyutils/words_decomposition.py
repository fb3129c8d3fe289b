"""The sentences of Task 6 that hold numbers, so that what the page says is what the run measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from lazyutils.ablation import Examination, Matched, Proof
from lazyutils.plots import mean_sd, percent

MARGIN = 0.05
"""Shares that differ by less are called alike."""
SAME = 0.9
"""Features of two dictionaries with at least this cosine are called the same."""
GUESSING = 0.1
"""Share of colour answers of a network that guesses one of ten digits."""


def row_names(count: int) -> dict[str, str]:
    """What the page calls each edit that it shows; keys as in ``Proof.edits`` and ``edits_with_heads``."""
    return {
        "colour": f"{count} colour features → mean",
        "colour_zero": f"{count} colour features → 0",
        "digit": f"{count} digit features → mean",
        "random": f"{count} random features → mean",
        "linear": "colour means erased (linear)",
        "colour+head": "colour features off, new head",
        "remaining+head": "remaining features only, new head",
        "linear+head": "linear erasure, new head",
    }


def ceiling(ceilings: Mapping[str, Mapping[str, float]], original: Mapping[str, float]) -> str:
    """What the last layer lets a linear reader know."""
    last = ceilings["relu3"]
    unused = "more shape is in the state than the head uses"
    verdict = unused if last["digit"] > original["hard"] + MARGIN else "no shape in the state goes unused"
    return (
        f"The network answers {percent(original['hard'])} of the hard images rightly; a linear reader of the same "
        f"numbers finds {percent(last['digit'])} of the digits: {verdict}. The colour is read rightly in "
        f"{percent(last['colour'])}."
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
    lead = after["colour_share"] - after["digit_share"]
    leaning = "the colour's digit" if lead > 0 else "the true digit" if lead < 0 else "neither"
    return (
        f"Task 4's network, which reads digits, finds the true digit in {percent(before['digit_share'])} of these "
        f"images, in {percent(after['digit_share'])} of their reconstructions; there it sees the *colour's* digit in "
        f"{percent(after['colour_share'])}. The reconstructions lean to {leaning}. What mere "
        "blur would do isn't tested.\n\n"
    )


def rule(found: Mapping[str, tuple[Sequence[Mapping[str, Any]], Tensor]]) -> str:
    """The study's visual rule against the measured verdict, a row of a table for each autoencoder.

    Args:
        found: its name to the rows of ``decomposition.rule_over_steps`` and the measured verdict ``bool [K]``.
    """
    ascents = next(iter(found.values()))[0]
    first, last = ascents[0]["steps"], ascents[-1]["steps"]
    rows = [
        f"| {name} | {percent(rows[0]['called_share'])} | {percent(rows[-1]['called_share'])} "
        f"| {percent(measured.double().mean().item())} | {percent(rows[-1]['accuracy'])} | {rows[-1]['kappa']:.2f} "
        f"| {rows[-1]['auroc']:.2f} |"
        for name, (rows, measured) in found.items()
    ]
    return (
        f"| units of | called COLOUR, {first} steps | called COLOUR, {last} steps | measured colour (η² > 0.5) "
        f"| verdict right | Cohen's κ | AUROC |\n|---|--:|--:|--:|--:|--:|--:|\n" + "\n".join(rows) + "\n\n"
        f"The last three columns are at {last} steps: κ is 0 for guessing and 1 for agreement, the AUROC is that of "
        "flatness as a mere ranking, without a threshold. The study probed its pixel autoencoder. Ours has its recipe, "
        "but not its weights, and our ascent need not be its ascent: this tests the rule, not the study's count."
    )


def pareto(rows: Sequence[Mapping[str, Any]], original: Mapping[str, float]) -> str:
    """How the study's autoencoders stand against the modern ones, and what reconstruction costs the answers."""
    best = max((row for row in rows if row["kind"] == "study"), key=lambda row: row["explained_variance"])
    modern = [row for row in rows if row["kind"] != "study"]
    ahead = [row for row in modern if row["explained_variance"] > best["explained_variance"] and row["l0"] < best["l0"]]
    hard = [row["spliced_hard"] for row in rows]
    return (
        f"The study's recipe explains {percent(best['explained_variance'])} at best, with {best['l0']:.0f} active "
        f"latents; {len(ahead)} of the {len(modern)} TopK and BatchTopK autoencoders explain more with fewer. From a "
        f"reconstruction the network answers {percent(min(hard))} to {percent(max(hard))} of the hard images rightly, "
        f"from its own state {percent(original['hard'])}."
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
        "cosine of matched features: "
        + listed(medians := {name: values.median().item() for name, values in cosines.items()})
        + kinship(medians)
    )


def kinship(medians: Mapping[str, float]) -> str:
    """Whether another seed found the same features, from median cosines; nothing where there is no other seed."""
    if (seed := medians.get("another seed")) is None:
        return ""
    controls = max(value for name, value in medians.items() if name != "another seed")
    related = "related, but not the same" if seed > controls + MARGIN else "no nearer than the controls"
    return f" Another seed's features are {'the same' if seed > SAME else related}."


def selectivity(groups: Mapping[str, tuple[Tensor, Tensor]], answered: Mapping[str, Tensor]) -> str:
    """Medians of what units answer to; ``answered`` holds the number of colours each unit answers to."""
    return (
        "Median colour η²: "
        + listed({name: color.median().item() for name, (color, _) in groups.items()})
        + " Colours a unit answers to, on average: "
        + listed({name: levels.double().mean().item() for name, levels in answered.items()})
        + f" Largest digit η² of any feature: {next(iter(groups.values()))[1].max():.2f}."
    )


def effects(
    tests: Mapping[str, Mapping[str, float]],
    equals: Mapping[str, Mapping[str, float]],
    proofs: Sequence[Proof],
    matched: Sequence[Matched],
) -> str:
    """The colour features' effects against both kinds of random sets as a table, and what that comes to.

    Args:
        tests, equals: figures to ``ablation.against_random``, of as many features and of as much variance.
    """
    labels = {"colour_share": "colour answers", "hard": "hard accuracy", "easy": "easy accuracy"}
    reached = all(one.reached for one in matched)
    rows = [
        f"| {labels[key]} | {100 * one['effect']:+.1f} | {control(one)} | {control(equals[key], reached)} |"
        for key, one in tests.items()
    ]
    draws = len(proofs[0].random)
    colored, random = (mean([proof.moved[name] for proof in proofs]) for name in ("colour", "random"))
    size, share = mean([one.size for one in matched]), mean([one.share for one in matched])
    short = sum(not one.reached for one in matched)
    reach = f"on average {size:.0f} features with {percent(share)}"
    missed = f", but in {short} of {len(proofs)} dictionaries even all of them carry less ({reach}), so it has no p"
    second = f" ({reach})" if reached else missed
    return (
        "| change in points | colour features off | as many random ones off | others off, up to as much variance |\n"
        "|---|--:|--:|--:|\n" + "\n".join(rows) + "\n\n"
        f"In brackets 95% of the random sets. Dictionaries: {len(proofs)}, sets for each: {draws}; no p is below "
        f"{1 / (draws + 1):.3f}. The colour features carry {percent(colored)} of the hard states' variance, as many "
        f"random ones {percent(random)}; the second control draws other features until they carry as much{second}. "
        + isolation(tests["colour_share"], equals["colour_share"], proofs[0].original["colour_share"], reached)
    )


def control(test: Mapping[str, float], sure: bool = True) -> str:
    """``"-6.5 (-10.8 to -3.1), p = 0.005"``; the mean alone where the sets aren't random."""
    range_and_p = f" ({100 * test['low']:+.1f} to {100 * test['high']:+.1f}), p = {test['p']:.3f}"
    return f"{100 * test['random']:+.1f}{range_and_p * sure}"


def isolation(many: Mapping[str, float], equal: Mapping[str, float], before: float, reached: bool) -> str:
    """The verdict on colour answers: whether the colour features take more than random sets, and how much stays.

    Args:
        many, equal: ``ablation.against_random`` of as many features and of as much variance.
        before: colour answers of the untouched network.
        reached: whether the others can carry as much variance.
    """
    after = before + many["effect"]
    if many["effect"] >= many["low"]:
        beyond = "no more than random sets"
    elif not reached:
        beyond = "more than as many random ones; the others have no set as large, so size and meaning aren't told apart"
    elif equal["effect"] < equal["low"]:
        beyond = "more than as many random ones, and than as much variance elsewhere"
    else:
        beyond = "more than as many random ones, but not than as much variance elsewhere: size may explain it"
    stays = "does not remove them" if after > GUESSING else "leaves no more of them than guessing would"
    return (
        f"Switching the colour features off lowers the colour answers {beyond}. The edit {stays}: {percent(after)} are "
        f"left of {percent(before)}."
    )


def dose(curves: Mapping[str, Sequence[Mapping[str, float]]], doses: Sequence[int], fixed: float) -> str:
    """Where the colour-first curve is best on hard images, and what that costs."""
    curve = curves["colour"]
    best = max(range(len(doses)), key=lambda position: curve[position]["hard"])
    start, at, random = curve[0], curve[best], curves["random"][best]
    if best == 0:
        return f"Colour first, no dose gives more right answers on hard images than none: {percent(start['hard'])}."
    return (
        f"Colour first, hard accuracy is highest with {doses[best]} features off: {percent(at['hard'])} (none off "
        f"{percent(start['hard'])}, Task 4's network {percent(fixed)}). There {percent(at['colour_share'])} of the "
        f"answers follow the colour (none off {percent(start['colour_share'])}), and easy accuracy is "
        f"{percent(at['easy'])} (none off {percent(start['easy'])}). With as many off in random order, hard accuracy "
        f"is {percent(random['hard'])}, colour answers {percent(random['colour_share'])}, easy accuracy "
        f"{percent(random['easy'])}."
    )


def steering(shares: Mapping[str, Tensor], doses: Sequence[float], names: Sequence[str]) -> str:
    """For how many colours the answer follows a push, and for which it flees; ``shares`` of ``decompose.steering``."""
    one, every, other = (shares[name] for name in ("one", "all", "other"))
    follow = [int((lines[:, -1] > lines[:, 0]).sum()) for lines in (one, every)]
    fallen = [
        ", ".join(name for name, line in zip(names, lines, strict=True) if line[-1] < line[0]) or "none"
        for lines in (one, every)
    ]
    unit = list(doses).index(1.0)
    caveat = " What answers to a colour need not push towards its digit." * (min(follow) < len(names))
    return (
        f"At dose {doses[-1]:g} the answer follows, that is, the digit is answered more often than at the start, for "
        f"{follow[0]} of {len(names)} colours with one feature and for {follow[1]} with all. It falls below the start "
        f"for {fallen[0]} with one feature, for {fallen[1]} with all. The mean at dose 1, what the colour itself adds, "
        f"is {percent(one[:, unit].mean().item())} with one and {percent(every[:, unit].mean().item())} with all "
        f"(start {percent(one[:, 0].mean().item())}); the control's mean ends at "
        f"{percent(other[:, -1].mean().item())}.{caveat}"
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
    original: Mapping[str, float], edits: Mapping[str, Any], names: Mapping[str, str], limits: Mapping[str, float]
) -> str:
    """What switching off gained, and the best of all edits shown.

    Args:
        edits: each edit to its figures over seeds. names: of the edits shown, ``row_names``.
        limits: what others reach on the hard set.
    """
    off, best = edits["colour"], max(names, key=lambda key: edits[key]["hard"]["mean"])
    top = (
        f"*{names[best]}* by {changes(original, edits[best])}. Its {percent(edits[best]['hard']['mean'])} right is the "
        f"maximum over the {len(names)} edits shown, picked on the hard images, and so flattered."
        if edits[best]["hard"]["mean"] > original["hard"]
        else "and no edit shown gives more right answers than the untouched network."
    )
    return (
        f"With its colour features off, the same network answers {spread(off['colour_share'])} of the hard images with "
        f"the colour instead of {percent(original['colour_share'])}, and {spread(off['hard'])} rightly instead of "
        f"{percent(original['hard'])}. In points, *{names['colour']}* changes colour answers and right answers by "
        f"{changes(original, off)}, {top} To compare, "
        + ", ".join(f"{name} {percent(value)}" for name, value in limits.items())
        + ". All edits, and the linear reader, know the colours: features and directions are chosen with true colours "
        "on repainted images. Task 4's method needs neither."
    )


def changes(original: Mapping[str, float], edit: Mapping[str, Any]) -> str:
    """``"-34 and +6"``: colour answers and right answers against the untouched network, in points."""
    return " and ".join(f"{100 * (edit[key]['mean'] - original[key]):+.0f}" for key in ("colour_share", "hard"))


def disappointments(original: Mapping[str, float], edits: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """What refitted heads and the dictionary's own edit came to, against the untouched network and linear erasure."""
    answers = "; ".join(
        f"{names[key]}: {spread(edits[key]['hard'])} right, {spread(edits[key]['colour_share'])} with the colour"
        for key in names
        if key.endswith("+head")
    )
    ahead = 100 * (edits["colour"]["hard"]["mean"] - edits["linear"]["hard"]["mean"])
    return (
        f"On hard images (untouched: {percent(original['hard'])} right, {percent(original['colour_share'])} with the "
        f"colour): {answers}. With the network's own head, {names['colour']} is {abs(ahead):.1f} points "
        f"{'ahead of' if ahead > 0 else 'behind'} {names['linear']} in hard accuracy."
    )


def spread(figure: Mapping[str, Any]) -> str:
    """``mean_sd``, but the mean alone where the seed plays no part."""
    return mean_sd(dict(figure)) if figure["sd"] else percent(figure["mean"])


def mean(values: Sequence[float]) -> float:
    """The plain average."""
    return sum(values) / len(values)


def listed(values: Mapping[str, float]) -> str:
    """``"a 0.12, b 0.34."``"""
    return ", ".join(f"{name} {value:.2f}" for name, value in values.items()) + "."
