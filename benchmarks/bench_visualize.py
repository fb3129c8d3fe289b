"""Feature visualisation in one batch against loops, in one run, side by side.

`python benchmarks/bench_visualize.py` prints times, ratios, and how equal the results are. The plain loop is what a
notebook usually holds: a hook, a whole forward pass with gradients for all parameters, Adam, one neuron at a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from side_by_side import timed
from torch import Tensor, nn

from lazyutils import inversion, models, visualize
from lazyutils.parametrization import PIXELS, Parametrization, color_statistics
from lazyutils.visualize import Unit

LAYERS = ("conv1", "conv2", "conv3")


def plain_loop(model: nn.Module, units: Sequence[Unit], steps: int) -> Tensor:
    """The usual loop over neurons from the same noise; the achieved objectives, ``[U]``."""
    achieved, record = [], {}
    start = PIXELS.start(28, seed=0)
    for unit in units:
        free = start.clone()[None].requires_grad_()
        optimizer = torch.optim.Adam([free], lr=0.05)
        hook = lambda _m, _i, out: record.update(out=out)  # noqa: E731
        handle = model.get_submodule(unit.layer).register_forward_hook(hook)
        for _ in range(steps):
            optimizer.zero_grad()
            model(free.sigmoid())
            value = visualize.reduce_maps(record["out"], unit.reduction)[0, unit.channel]
            (-value).backward()
            optimizer.step()
        model(free.sigmoid())
        achieved.append(visualize.reduce_maps(record["out"], unit.reduction)[0, unit.channel].item())
        handle.remove()
    return torch.tensor(achieved)


def report(name: str, rounds: Sequence[dict[str, tuple[float, Tensor]]], first: str) -> None:
    """Best time of each way, its ratio to ``first``, and the largest relative difference of the results."""
    print(f"\n{name}")
    reference = rounds[0][first][1]
    best = min(r[first][0] for r in rounds)
    for way in rounds[0]:
        seconds = min(r[way][0] for r in rounds)
        difference = ((rounds[0][way][1] - reference).abs() / reference.abs().clamp(min=1e-2)).max().item()
        print(f"  {way:28s} {seconds:7.2f} s  {seconds / best:5.1f}x   largest relative difference {difference:.1e}")


def main() -> None:
    """Run both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=48, help="of every optimisation")
    parser.add_argument("--references", type=int, default=16, help="images to invert")
    parser.add_argument("--rounds", type=int, default=3, help="times everything is measured; the best counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, steps = models.build("LazyCNN", seed=0), options.steps
    units = [u for layer in LAYERS for r in visualize.REDUCTIONS for u in visualize.layer_units(model, layer, r)]
    images = torch.rand(options.references, 3, 28, 28, generator=torch.Generator().manual_seed(0))

    literature = {"jitter": 2, "parametrization": Parametrization(True, colors=color_statistics(images))}

    def one_by_one(**settings) -> Tensor:
        return torch.cat([visualize.maximize(model, [unit], steps=steps, **settings).achieved for unit in units])

    def inverted(parts: Sequence[Tensor], groups: Sequence[Sequence[str]]) -> Tensor:
        """Errors ``[layers, references]`` of the inversion in these portions."""
        rows = [[inversion.invert(model, part, group, steps=steps, lr=0.2).error for part in parts] for group in groups]
        return torch.cat([torch.cat(row, dim=1) for row in rows])

    together, single, stages = [images], images.split(1), ("conv1", "relu1", "conv2", "relu2", "conv3", "relu3")
    activation, fourier, inverting = [], [], []
    for _ in range(options.rounds):
        activation.append(
            {
                "batched": timed(lambda: visualize.maximize(model, units, steps=steps).achieved),
                "same function, loop": timed(one_by_one),
                "plain loop": timed(lambda: plain_loop(model, units, steps)),
            }
        )
        fourier.append(
            {
                "batched": timed(lambda: visualize.maximize(model, units, steps=steps, **literature).achieved),
                "same function, loop": timed(lambda: one_by_one(**literature)),
            }
        )
        inverting.append(
            {
                "batched": timed(lambda: inverted(together, [stages])),
                "image by image, layer by layer": timed(lambda: inverted(single, [[layer] for layer in stages])),
            }
        )
    report(f"activation maximisation, {len(units)} objectives of LazyCNN, {steps} steps", activation, "batched")
    report("the same with Fourier coefficients, jitter and decorrelated colours", fourier, "batched")
    report(f"inversion, {options.references} images x {len(stages)} layers, {steps} steps", inverting, "batched")


if __name__ == "__main__":
    main()
