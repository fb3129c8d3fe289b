"""Training with freed memory kept and with glibc's habits, side by side in processes of their own.

Prints a network's fastest processor seconds of an epoch each way, and their ratio.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import torch
from side_by_side import timed

from lazyutils import memory, models, training

BATCHES = {"LazyCNN": 700, "ColorCritic": 128, "RobustCNN": 128}


def epoch(name: str, images: int) -> float:
    """Processor seconds of the second epoch in this process."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(images, 3, 28, 28, generator=generator)
    labels = torch.randint(10, (images,), generator=generator)
    model = models.build(name)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def train() -> None:
        training.fit(model, pictures, labels, optimizer=optimizer, epochs=1, batch_size=BATCHES[name])

    train()
    return timed(train)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2_100, help="images an epoch (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each way (default: %(default)s)")
    parser.add_argument("--child", nargs=2, metavar=("NETWORK", "WAY"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.child:
        name, way = given.child
        if way == "kept":
            memory.keep_freed()
        print(epoch(name, given.images))
        return
    for name in BATCHES:
        best = {}
        for _ in range(given.repeats):
            for way in ("kept", "returned"):
                command = [sys.executable, __file__, "--images", str(given.images), "--child", name, way]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                best[way] = min(best.get(way, float("inf")), float(done.stdout))
        ratio = best["returned"] / best["kept"]
        print(f"{name:12} kept {best['kept']:5.2f} s, returned {best['returned']:5.2f} s: {ratio:.2f}x", flush=True)


if __name__ == "__main__":
    main()
