"""The PNG tree and the Kaggle folder: other tools read the same pixels back, and nothing half-written counts."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra import numpy as arrays
from PIL import Image
from torchvision.datasets import ImageFolder

from lazyutils import data, export
from lazyutils.errors import ClearError

RECIPE = {"seed": 0, "bias": 0.95, "noise": 20.0, "palette": "study"}


@pytest.fixture(scope="module")
def small(splits):
    return {split: {name: tensor[:300] for name, tensor in tensors.items()} for split, tensors in splits.items()}


@pytest.fixture(scope="module")
def tree(small, tmp_path_factory):
    return export.write_png_tree(small, tmp_path_factory.mktemp("export"))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40).map(lambda hw: (*hw, 3))))
def test_a_png_is_read_back_to_the_same_pixels(pixels):
    image = Image.open(io.BytesIO(export.encode_png(pixels)))
    image.verify()
    image = Image.open(io.BytesIO(export.encode_png(pixels)))
    assert (image.format, image.mode) == ("PNG", "RGB")
    assert np.array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("split", data.SPLITS)
def test_image_folder_reads_every_image_of_the_tree(tree, small, split):
    assert tree.parts[-2:] == ("colored_mnist", "type2_background")
    dataset = ImageFolder(tree / {"easy": "easy_train", "hard": "hard_test"}[split])
    assert dataset.classes == [str(digit) for digit in range(10)]
    assert len(dataset) == len(small[split]["labels"])
    for (path, label), (image, _) in zip(dataset.samples, dataset, strict=True):
        position = int(os.path.basename(path).removesuffix(".png"))
        assert label == small[split]["labels"][position]
        assert np.array_equal(np.asarray(image), small[split]["images"][position].permute(1, 2, 0))


def test_the_tree_does_not_depend_on_the_number_of_processes(tree, small, tmp_path):
    assert contents(export.write_png_tree(small, tmp_path, workers=1)) == contents(tree)


def test_a_failing_export_leaves_the_earlier_tree(small, tmp_path):
    tree = export.write_png_tree(small, tmp_path)
    before = contents(tree)
    wrong = {**small, "hard": {**small["hard"], "labels": small["hard"]["labels"] + 1}}  # a label 10: no such folder
    with pytest.raises(OSError, match="10"):
        export.write_png_tree(wrong, tmp_path)
    assert contents(tree) == before
    one = {split: {name: tensor[:1] for name, tensor in tensors.items()} for split, tensors in small.items()}
    assert len(contents(export.write_png_tree(one, tmp_path))) == 2, "the next export replaces the tree wholly"


def test_a_killed_export_leaves_no_half_tree(small, tmp_path):
    pid = os.fork()
    if not pid:
        os.setsid()
        blank = torch.zeros(30_000, 3, 28, 28, dtype=torch.uint8)
        export.write_png_tree({"easy": {"images": blank, "labels": torch.arange(30_000) % 10}}, tmp_path)
        os._exit(0)
    while not list(tmp_path.rglob("*.png")):
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert not (tmp_path / export.TREE).exists()
    tree = export.write_png_tree(small, tmp_path)
    assert [path.name for path in tree.parent.iterdir()] == [tree.name], "what the killed export left is gone"
    assert len(contents(tree)) == 600


def test_the_kaggle_folder_is_ready_to_upload(tree, small):
    root = export.write_kaggle_folder(tree, small, RECIPE)
    metadata = json.loads((root / "dataset-metadata.json").read_text())
    assert metadata["licenses"] == [{"name": "CC-BY-SA-3.0"}]
    assert 6 <= len(metadata["title"]) <= 50 and "/" in metadata["id"]
    card = (root / "README.md").read_text()
    share = (small["easy"]["labels"] == small["easy"]["colors"]).double().mean().item()
    for phrase in (
        "CC BY-SA 3.0",
        "LeCun",
        "MNIST",
        "| 0 | red | 255, 0, 0 |",
        f"{share:.2%}",
        "0.00%",
        "Seed 0",
        "bias 0.95",
    ):
        assert phrase in card
    sums = dict(reversed(line.split("  ")) for line in (root / "SHA256SUMS").read_text().splitlines())
    files = contents(root)
    files.pop("SHA256SUMS")
    assert sums == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    before = (root / "SHA256SUMS").read_text()
    export.write_kaggle_folder(tree, small, RECIPE)
    assert (root / "SHA256SUMS").read_text() == before


def test_a_kaggle_folder_needs_its_tree(small, tmp_path):
    with pytest.raises(ClearError, match="write it first"):
        export.write_kaggle_folder(tmp_path / export.TREE, small, RECIPE)


def test_another_palette_is_named_by_its_colours():
    table = export.color_table("tab10").splitlines()
    assert len(table) == 12 and table[2] == "| 0 | #1f77b4 | 31, 119, 180 |"
