"""Targeted attacks side by side: this book's against those of torchattacks and foolbox, on the same images, in turn.

Needs a data file and networks as a run of the book leaves them. Prints, for each network: PGD's success (target
answered with confidence above 0.9), seconds and ratios at equal radius, step size, steps and start, and the success
when no image leaves early, as in the libraries; DeepFool's success and median L2 beside PGD's; the smallest radius of
the margin PGD beside foolbox's FMN.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import foolbox
import torch
import torchattacks
from side_by_side import timed
from torch import Tensor, nn

from lazyutils import attack_peers, attacks, checkpoints, data, perturbations, training

SOURCE, TARGET, SURE = 7, 3, 0.9
WALL = time.perf_counter


def libraries(model: nn.Module, eps: float, steps: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """PGD of both libraries from the clean images, step size eps / 10."""
    theirs = torchattacks.PGD(model, eps=eps, alpha=eps / 10, steps=steps, random_start=False)
    theirs.set_mode_targeted_by_label(quiet=True)
    pool = foolbox.attacks.LinfPGD(abs_stepsize=eps / 10, steps=steps, random_start=False)
    victim = foolbox.PyTorchModel(model, bounds=(0, 1), device=next(model.parameters()).device)
    goal = foolbox.criteria.TargetedMisclassification

    def wanted(images: Tensor) -> Tensor:
        return torch.full((len(images),), TARGET, device=images.device)

    return {
        "torchattacks": lambda images: theirs(images, wanted(images)),
        "foolbox": lambda images: pool.run(victim, images, goal(wanted(images)), epsilon=eps),
    }


def compare_pgd(name: str, model: nn.Module, images: Tensor, *, eps: float, steps: int, batch: int) -> None:
    labels = torch.full((len(images),), SOURCE, device=images.device)
    seconds, ours = timed(lambda: attacks.pgd(model, images, labels, TARGET, eps, steps=steps), WALL)
    last = attacks.pgd(model, images, labels, TARGET, eps, steps=steps, confidence=1.0)
    line = f"{name:12} eps {eps:.2f}  PGD ours {ours.success.double().mean():.3f} in {seconds:6.1f} s"
    line += f" (all steps taken: {(last.confidence > SURE).double().mean():.3f})"
    for library, attack in libraries(model, eps, steps).items():
        theirs, found = timed(lambda attack=attack: torch.cat([attack(part) for part in images.split(batch)]), WALL)
        sure = (training.predict(model, found).softmax(1)[:, TARGET] > SURE).double().mean()
        line += f" | {library} {sure:.3f} in {theirs:6.1f} s, ratio {theirs / seconds:5.2f}"
    print(line, flush=True)


def compare_deepfool(name: str, model: nn.Module, images: Tensor, *, eps: float) -> None:
    labels = torch.full((len(images),), SOURCE, device=images.device)
    pgd = attacks.pgd(model, images, labels, TARGET, eps)
    deepfool = attacks.deepfool(model, images, labels, TARGET, eps, steps=500)
    both = pgd.success & deepfool.success
    share = deepfool.success.sum().item() / max(1, pgd.success.sum().item())
    sizes = f"{deepfool.l2[both].median():.3f} against {pgd.l2[both].median():.3f}" if both.any() else "none succeeds"
    print(f"{name:12} eps {eps:.2f}  DeepFool / PGD success {share:.3f}, median L2 {sizes}", flush=True)


def compare_radius(name: str, model: nn.Module, images: Tensor, steps: int) -> None:
    labels = torch.full((len(images),), SOURCE, device=images.device)
    options = {"steps": steps, "confidence": 0.0, "loss": "margin", "momentum": 0.75}

    def margin(x: Tensor, y: Tensor, eps: Tensor) -> Tensor:
        return attacks.pgd(model, x, y, TARGET, eps, **options).success

    seconds, ours = timed(lambda: perturbations.minimal_eps(margin, images, labels, largest=0.6), WALL)
    theirs, fmn = timed(lambda: attack_peers.fmn_minimal_eps(model, images, TARGET, steps=steps), WALL)
    line = f"median radius ours {ours.median():.4f} in {seconds:.1f} s, FMN {fmn.median():.4f} in {theirs:.1f} s"
    print(f"{name:12} answer alone: {line}", flush=True)


RUN = Path("runs/quick")
NETWORKS = [RUN / "models/lazycnn.safetensors", RUN / "models/robust_erm.safetensors"]
"""What ``make notebooks`` leaves."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", type=Path, nargs="*", default=NETWORKS, help="checkpoints (default: of quick)")
    parser.add_argument("--data", type=Path, default=RUN / "data/colored_mnist.safetensors", help="(default: of quick)")
    parser.add_argument("--images", type=int, default=1000, help="7s of the hard set, then of the easy set")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=500, help="images a batch for the libraries")
    parser.add_argument("--eps", type=float, nargs="+", default=[0.05])
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    sets = [data.load(given.data, split) for split in ("hard", "easy")]
    sevens = torch.cat([digits.images[digits.labels == SOURCE] for digits in sets])
    for path in given.networks:
        model, _ = checkpoints.load(path)
        images = sevens[training.predict(model, sevens).argmax(1) == SOURCE][: given.images]
        for eps in given.eps:
            compare_pgd(path.stem, model, images, eps=eps, steps=given.steps, batch=given.batch)
            compare_deepfool(path.stem, model, images[:100], eps=eps)
        compare_radius(path.stem, model, images[:50], given.steps // 2)


if __name__ == "__main__":
    main()
