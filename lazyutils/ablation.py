"""Task 6's edits: what the network answers without some features, against random sets of features as the control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lazyutils import sae, sae_metrics, splice
from lazyutils.decomposition import Features, Material, ceiling, describe, report, train_dictionary


@dataclass(frozen=True)
class Proof:
    """Answers of one network with sets of equally many features of one autoencoder switched off.

    Attributes:
        original: the untouched network's ``easy``, ``hard``, ``colour_share``.
        edits: ``colour`` and ``digit`` (to their means), ``colour_zero`` and ``digit_zero`` (to zero).
        random: one entry a random set, to its means.
        moved: share of the hard states' variance that each set carries; ``random`` is the mean over the sets.
    """

    original: dict[str, float]
    edits: dict[str, dict[str, float]]
    random: list[dict[str, float]]
    moved: dict[str, float]


def prove(
    made: Material, autoencoder: sae.SparseAutoencoder, features: Features, *, count: int, draws: int, seed: int
) -> Proof:
    """Switch off ``count`` colour features, ``count`` digit features, and ``draws`` random sets of ``count``."""
    sets = {"colour": features.colored(count), "digit": features.shaped(count)}
    controls = splice.random_sets(features.alive(), count, draws, seed)
    zeros = torch.zeros_like(features.mean)
    off = splice.ablate_each(made.judged, autoencoder, list(sets.values()) + controls, features.mean)
    at_zero = splice.ablate_each(made.judged, autoencoder, list(sets.values()), zeros)
    edits = dict(zip(sets, off, strict=False)) | dict(zip((f"{name}_zero" for name in sets), at_zero, strict=True))
    carried = carried_variance(autoencoder, made.judged.hard, features.mean)
    moved = {name: block(carried, chosen) for name, chosen in sets.items()}
    moved["random"] = sum(block(carried, control) for control in controls) / draws
    return Proof(made.judged.measure(), edits, off[len(sets) :], moved)


@torch.no_grad()
def carried_variance(autoencoder: sae.SparseAutoencoder, x: Tensor, fill: Tensor) -> Tensor:
    """What each pair of latents carries of the variance of states ``x [N, D]``, ``float64 [K, K]``.

    A set's ``block`` is ``||decode(z') - decode(z)||^2`` over the variance, where z' has the set at ``fill [K]``: what
    switching the set off moves. The decoder has to be linear, as TopK's is.
    """
    change = (autoencoder.encode(x) - fill).double()
    unit = torch.eye(autoencoder.width)
    directions = autoencoder.shift(torch.zeros_like(unit), unit).double()  # [K, D]
    return (change.T @ change) * (directions @ directions.T) / (x - x.mean(0)).double().square().sum()


def block(carried: Tensor, chosen: Tensor) -> float:
    """The share of the variance that the latents ``chosen int64 [F]`` carry together."""
    return carried[chosen][:, chosen].sum().item()


@dataclass(frozen=True)
class Matched:
    """Random sets outside the colour features that carry as much variance as these, however many that takes.

    Attributes:
        answers: one entry a set, to its means.
        share: of the hard states' variance that a set carries, mean over the sets.
        size: features in a set, mean over the sets.
        reached: False where all other features together carry less; they are the set then, every time.
    """

    answers: list[dict[str, float]]
    share: float
    size: float
    reached: bool


def match_variance(
    made: Material, autoencoder: sae.SparseAutoencoder, features: Features, *, count: int, draws: int, seed: int
) -> Matched:
    """``draws`` random sets of other features, each grown until it carries what ``count`` colour features carry."""
    carried = carried_variance(autoencoder, made.judged.hard, features.mean)
    colored, alive = features.colored(count), features.alive()
    others = alive[~torch.isin(alive, colored)]
    target = block(carried, colored)
    reached = block(carried, others) >= target
    orders = splice.random_sets(others, len(others), draws if reached else 1, seed)
    sets = [grown(carried, order, target) for order in orders]
    answers = splice.ablate_each(made.judged, autoencoder, sets, features.mean)
    share = sum(block(carried, chosen) for chosen in sets) / len(sets)
    return Matched(answers * (draws // len(sets)), share, sum(map(len, sets)) / len(sets), reached)


def grown(carried: Tensor, order: Tensor, target: float) -> Tensor:
    """The shortest start of ``order int64 [F]`` that carries ``target`` of the variance; all where none does."""
    shares = carried[order][:, order].cumsum(0).cumsum(1).diagonal()
    return order[: int((shares < target).int().cumprod(0).sum()) + 1]


def against_random(
    proofs: Sequence[Proof], edit: str, figure: str, sets: Sequence[Sequence[Mapping[str, float]]] | None = None
) -> dict[str, float]:
    """How an edit's effect, averaged over autoencoders, stands against random sets: ``sets``, or as many features.

    The r-th control averages the r-th random set of every autoencoder, so that both sides are means over seeds.

    Args:
        sets: for each proof the answers with its random sets; its own ``random`` ones by default.

    Returns:
        ``effect`` and ``random`` (change of ``figure`` from the original), ``low`` and ``high`` (central 95% of the
        random sets), ``p`` (two-sided permutation test: as far from the random mean as the edit).
    """
    start = torch.tensor([proof.original[figure] for proof in proofs])
    effect = (torch.tensor([proof.edits[edit][figure] for proof in proofs]) - start).mean()
    sets = [proof.random for proof in proofs] if sets is None else sets
    drawn = torch.tensor([[one[figure] for one in answers] for answers in sets]) - start[:, None]
    controls = drawn.mean(0)
    low, high = sae_metrics.interval(controls.tolist())
    distance = (controls - controls.mean()).abs()
    p = sae_metrics.permutation_p((effect - controls.mean()).abs().item(), distance.tolist())
    return {"effect": effect.item(), "random": controls.mean().item(), "low": low, "high": high, "p": p}


def dose_curves(
    made: Material,
    autoencoder: sae.SparseAutoencoder,
    features: Features,
    doses: Sequence[int],
    *,
    draws: int,
    seed: int,
) -> dict[str, list[dict[str, float]]]:
    """Answers while more and more features go to their means: ``colour`` and ``digit`` first, or at ``random``.

    Returns:
        For each order one entry a dose; a random entry is the mean over ``draws`` orders.
    """
    width = autoencoder.width
    orders = {"colour": features.colored(width), "digit": features.digit_eta2.argsort(descending=True)}
    curves = {
        name: splice.ablate_each(made.judged, autoencoder, [order[:dose] for dose in doses], features.mean)
        for name, order in orders.items()
    }
    drawn = splice.random_sets(torch.arange(width), width, draws, seed)
    runs = [
        splice.ablate_each(made.judged, autoencoder, [order[:dose] for dose in doses], features.mean) for order in drawn
    ]
    curves["random"] = [
        {key: sum(run[position][key] for run in runs) / draws for key in runs[0][position]}
        for position in range(len(doses))
    ]
    return curves


def edits_with_heads(
    made: Material, autoencoder: sae.SparseAutoencoder, features: Features, count: int
) -> dict[str, dict[str, float]]:
    """Editing the state, with the network's own head and with a head refitted on the edited biased training states.

    Returns:
        ``linear`` (colour means erased), ``colour+head``, ``linear+head``, and ``remaining+head`` (a head that reads
        only the latents that are not colour features).
    """
    colored = features.colored(count)
    left = torch.ones(autoencoder.width, dtype=torch.bool).index_fill(0, colored, False)
    edits: Mapping[str, splice.Edit] = {
        "colour": lambda x: splice.ablate(autoencoder, x, colored, features.mean),
        "linear": splice.erase_color_means(made.balanced, made.colors),
        "remaining": torch.no_grad()(lambda x: autoencoder.encode(x)[:, left]),
    }
    heads = {name: splice.fit_head(edit(made.train), made.train_labels) for name, edit in edits.items()}
    answers = {f"{name}+head": made.judged.measure(edit, heads[name]) for name, edit in edits.items()}
    return {"linear": made.judged.measure(edits["linear"]), **answers}


def runs_by_edit(
    proofs: Sequence[Proof], headed: Sequence[Mapping[str, dict[str, float]]]
) -> dict[str, list[dict[str, float]]]:
    """All measurements of each edit: one an autoencoder, and for ``random`` one a set.

    Args:
        headed: ``edits_with_heads`` of the same autoencoders.
    """
    return {
        **{name: [proof.edits[name] for proof in proofs] for name in proofs[0].edits},
        "random": [one for proof in proofs for one in proof.random],
        **{name: [one[name] for one in headed] for name in headed[0]},
    }


@dataclass(frozen=True)
class Examination:
    """One network's dictionary, what its features mean, and what it answers without them."""

    report: dict[str, float]
    features: Features
    proof: Proof
    ceiling: dict[str, float]


def examine(made: Material, width: int, k: int, *, epochs: int, count: int, draws: int, seed: int) -> Examination:
    """Everything above for one TopK dictionary of one network's states."""
    autoencoder = train_dictionary(made.train, "topk", width, epochs=epochs, seed=seed, k=k)
    features = describe(autoencoder, made)
    proof = prove(made, autoencoder, features, count=count, draws=draws, seed=seed)
    return Examination(report(autoencoder, made), features, proof, ceiling(made))
