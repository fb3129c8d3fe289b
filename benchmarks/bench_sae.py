"""Autoencoders of LazyCNN-sized states: training time against a peer, and preferred inputs against a loop.

The peer is `overcomplete` (its TopK autoencoder and training loop); install it with
`pip install --no-deps overcomplete einops timm scikit-image opencv-python-headless` to see its line.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lazyutils import models, sae, sae_metrics, splice
from lazyutils.parametrization import PIXELS

SIZE = 784


def seconds(function: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def planted_states(count: int, atoms: int = 100, seed: int = 0) -> Tensor:
    """States like a ReLU layer's: sums of about ten of ``atoms`` directions, plus noise, rectified."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(atoms, SIZE, generator=generator)
    weights = torch.rand(count, atoms, generator=generator) * (torch.rand(count, atoms, generator=generator) < 0.1)
    return (weights @ directions + 0.05 * torch.randn(count, SIZE, generator=generator)).relu()


def ours(x: Tensor, kind: str, epochs: int, width: int, k: int) -> sae.SparseAutoencoder:
    """Our training with the settings of the book."""
    autoencoder = sae.build(kind, SIZE, width, **({} if kind == "study" else {"k": k}))
    sae.fit(autoencoder, x, epochs=epochs, learning_rate=5e-3, decay=0.8)
    return autoencoder


def theirs(x: Tensor, epochs: int, width: int, k: int) -> torch.nn.Module:
    """overcomplete's TopK autoencoder, its training loop, a plain data loader, the same optimiser settings."""
    from overcomplete.sae import TopKSAE, train_sae  # noqa: PLC0415

    torch.manual_seed(0)
    autoencoder = TopKSAE(SIZE, nb_concepts=width, top_k=k)
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=5e-3)
    loader = DataLoader(TensorDataset(x), batch_size=256, shuffle=True)
    with contextlib.redirect_stdout(io.StringIO()):
        train_sae(autoencoder, loader, squared_error, optimizer, nb_epochs=epochs, device="cpu")
    return autoencoder.eval()


def squared_error(x: Tensor, x_hat: Tensor, *_others: Tensor) -> Tensor:
    """The criterion that train_sae asks for."""
    return (x - x_hat).square().mean()


def bench_training(x: Tensor, epochs: int, width: int, k: int) -> None:
    """Seconds and variance explained, ours and the peer's."""
    for kind in ("study", "topk", "batchtopk"):
        trained: list[sae.SparseAutoencoder] = []
        spent = seconds(lambda kind=kind, kept=trained: kept.append(ours(x, kind, epochs, width, k)))
        figures = sae_metrics.quality(trained[0], x)
        print(
            f"{kind:>12}: {spent:6.1f} s for {epochs} epochs, 50 epochs {spent * 50 / epochs:6.1f} s; variance "
            f"explained {figures['explained_variance']:.3f}, L0 {figures['l0']:.1f}, dead {figures['dead_share']:.3f}"
        )
    try:
        peer: list[torch.nn.Module] = []
        spent = seconds(lambda: peer.append(theirs(x, epochs, width, k)))
    except (ImportError, AttributeError) as error:  # 0.3.0 meets an attribute that matplotlib 3.9 removed
        print(f"overcomplete: skipped, it can't be imported here ({error})")
        return
    with torch.no_grad():
        explained = sae_metrics.explained_variance(x, peer[0](x)[2])
    print(f"overcomplete: {spent:6.1f} s for {epochs} epochs; variance explained {explained:.3f}")


def plain_ascent(model: torch.nn.Module, autoencoder: sae.SparseAutoencoder, unit: int, steps: int) -> float:
    """What one unit's preferred input reaches, written the way a notebook does it, from the batch's own start."""
    free = PIXELS.start(28, 0)[None].requires_grad_()
    optimizer = torch.optim.Adam([free], lr=0.05)

    def value() -> Tensor:
        return autoencoder.pre_activations(model.features(torch.sigmoid(free)).flatten(1))[0, unit]

    for _ in range(steps):
        optimizer.zero_grad()
        (-value()).backward()
        optimizer.step()
    return value().item()


def bench_preferred(width: int, steps: int, looped: int, repeats: int = 5) -> None:
    """All units in one ascent against a loop over units (``looped`` of them, scaled up), in turn, equal steps."""
    model = models.build("LazyCNN")
    place = splice.site(model, "relu3")
    autoencoder = sae.build("topk", place.size, width, k=16)
    together, alone = [], []
    for _ in range(repeats):
        batch, loop = [], []
        together.append(
            seconds(lambda kept=batch: kept.append(splice.preferred_inputs(place, autoencoder, steps=steps)))
        )
        alone.append(
            seconds(lambda kept=loop: kept.extend(plain_ascent(model, autoencoder, u, steps) for u in range(looped)))
            * (width / looped)
        )
    apart = (batch[0].achieved[:looped] / torch.tensor(loop) - 1).abs().max()
    ratios = sorted(one / whole for one, whole in zip(alone, together, strict=True))
    print(
        f"preferred inputs of {width} units, {steps} steps: one batch {min(together):.2f} s, loop {min(alone):.2f} s:"
        f" {min(alone) / min(together):.1f} times (best of {repeats} each; {ratios[0]:.1f} to {ratios[-1]:.1f});"
        f" the values reached differ by {apart:.1e} at most"
    )


def main() -> None:
    """Parse the sizes and run both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10, help="epochs to time")
    parser.add_argument("--states", type=int, default=12000, help="number of states")
    parser.add_argument("--width", type=int, default=128, help="latents")
    parser.add_argument("--k", type=int, default=16, help="latents that stay")
    parser.add_argument("--steps", type=int, default=30, help="steps of gradient ascent")
    parser.add_argument("--looped", type=int, default=8, help="units that the loop really runs")
    parser.add_argument("--threads", type=int, default=1, help="processor threads of both ways")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bench_training(planted_states(options.states), options.epochs, options.width, options.k)
    bench_preferred(options.width, options.steps, options.looped)


if __name__ == "__main__":
    main()
