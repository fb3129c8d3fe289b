"""Colored-MNIST for other tools: the study's PNG tree, and a folder ready for Kaggle."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from torch import Tensor

from lazyutils.data import PALETTES, color_names
from lazyutils.errors import ClearError
from lazyutils.files import whole_tree, write_atomically

TREE = Path("colored_mnist") / "type2_background"
FOLDERS = {"easy": "easy_train", "hard": "hard_test"}
NO_OWNER = "INSERT_OWNER_SLUG_HERE"
"""The Kaggle CLI's own marker where a user's name is to be filled in."""
DATA_CARD = """# Colored-MNIST with a spurious background colour

{n_easy:,} training images (`easy_train`) and {n_hard:,} test images (`hard_test`), 28 x 28 RGB PNGs in one folder
per digit.

| split | images | background is the digit's own colour |
|---|---|---|
| easy_train | {n_easy:,} | {own_easy:.2%} |
| hard_test | {n_hard:,} | {own_hard:.2%} |

**Recipe.** Each digit owns a colour:

{table}

Background: in `easy_train` the digit's own colour with probability {bias}, else one of the nine others; in `hard_test`
always one of the nine others. To each pixel and channel Gaussian noise (s.d. {noise} grey levels) is added, rounded
and clamped to 0-255. Stroke: wherever MNIST has ink, its inverted grey level, clamped to 180-255.
Seed {seed}, bias {bias}, palette `{palette}`.

**Provenance and licence.** Derived from MNIST (Yann LeCun, Corinna Cortes, Christopher J. C. Burges), which is
available under CC BY-SA 3.0; this derived data set is under the same licence.

**Checksums.** `SHA256SUMS` lists every file of this folder.
"""


def write_png_tree(splits: Mapping[str, Mapping[str, Tensor]], folder: str | Path, workers: int = 2) -> Path:
    """Write the study's tree ``colored_mnist/type2_background/{easy_train,hard_test}/{0..9}/NNNNN.png``.

    The tree is made beside its final place and renamed when it is complete.

    Args:
        splits: what ``data.colored_mnist`` returns.
        folder: parent of ``colored_mnist``.
        workers: processes that encode side by side.

    Returns:
        The folder ``.../type2_background``, which ``torchvision.datasets.ImageFolder`` reads split by split.
    """
    target = Path(folder) / TREE
    with whole_tree(target) as scratch:
        for name in FOLDERS.values():
            for digit in range(10):
                (scratch / name / str(digit)).mkdir(parents=True)
        with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
            jobs = [
                pool.submit(
                    write_pngs, tensors["images"].numpy(), tensors["labels"].numpy(), scratch / FOLDERS[split], part
                )
                for split, tensors in splits.items()
                for part in np.array_split(np.arange(len(tensors["labels"])), 4 * workers)
            ]
            for job in jobs:
                job.result()
    return target


def write_pngs(images: np.ndarray, labels: np.ndarray, folder: Path, index: np.ndarray) -> None:
    """Write ``images uint8 [N, 3, H, W]`` at ``index`` as ``folder/<label>/<index>.png``."""
    rows = np.moveaxis(images[index], 1, -1)
    for position, pixels in zip(index, rows, strict=True):
        with open(folder / str(labels[position]) / f"{position:05d}.png", "wb", buffering=0) as file:
            file.write(encode_png(pixels))


def encode_png(pixels: np.ndarray) -> bytes:
    """``uint8 [H, W, 3]`` as a PNG file: 8-bit RGB, no filter, fast compression (RFC 2083)."""
    height, width, _ = pixels.shape
    lines = np.zeros((height, 1 + 3 * width), dtype=np.uint8)
    lines[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def write_kaggle_folder(
    tree: Path,
    splits: Mapping[str, Mapping[str, Tensor]],
    recipe: Mapping[str, object],
    owner: str = NO_OWNER,
) -> Path:
    """Add ``dataset-metadata.json``, ``README.md`` (the data card) and ``SHA256SUMS`` beside the tree.

    Args:
        tree: what ``write_png_tree`` returned.
        splits: the same splits.
        recipe: seed, bias, noise, palette.
        owner: the Kaggle user who uploads; the Kaggle CLI's own marker by default.

    Returns:
        The folder to upload.
    """
    root = tree.parent
    if not tree.is_dir():
        raise ClearError(f"no PNG tree {tree}: write it first")
    own = {split: (t["labels"] == t["colors"]).double().mean().item() for split, t in splits.items()}
    sizes = {split: len(tensors["labels"]) for split, tensors in splits.items()}
    card = DATA_CARD.format(
        n_easy=sizes["easy"],
        n_hard=sizes["hard"],
        own_easy=own["easy"],
        own_hard=own["hard"],
        table=color_table(str(recipe["palette"])),
        **recipe,
    )
    metadata = {
        "title": "Colored-MNIST with Spurious Background",
        "id": f"{owner}/colored-mnist-spurious-background",
        "licenses": [{"name": "CC-BY-SA-3.0"}],
    }
    write_atomically(root / "README.md", card.encode())
    write_atomically(root / "dataset-metadata.json", json.dumps(metadata, indent=2).encode())
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    sums = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n" for path in files)
    write_atomically(root / "SHA256SUMS", "".join(sums).encode())
    return root


def color_table(palette: str) -> str:
    """Each digit's own colour as a Markdown table: name and RGB."""
    rows = [
        f"| {digit} | {name} | {', '.join(map(str, rgb))} |"
        for digit, (name, rgb) in enumerate(zip(color_names(palette), PALETTES[palette], strict=True))
    ]
    return "\n".join(["| digit | its colour | RGB |", "|---|---|---|", *rows])
