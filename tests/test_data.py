"""Properties of Colored-MNIST: the recipe holds for every seed, bias and subset."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lazyutils import data
from lazyutils.errors import ClearError, DamagedFileError

SEEDS = st.integers(0, 10**6)
LABELS = torch.arange(20_000) % 10


def sha(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()


@pytest.fixture(scope="module")
def stored(splits, tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "colored_mnist.safetensors"
    data.save(path, splits, {"seed": "0", "bias": "0.95"})
    return path


@given(bias=st.floats(0, 1), seed=SEEDS)
def test_share_of_own_colours_is_within_binomial_bounds(bias, seed):
    own = (data.draw_colors(LABELS, bias, seed) == LABELS).sum().item()
    low, high = stats.binom.interval(1 - 1e-9, len(LABELS), bias)
    assert low <= own <= high


@given(seed=SEEDS)
def test_no_hard_image_has_its_own_colour_and_the_others_are_even(seed):
    colors = data.draw_colors(LABELS, 0.0, seed)
    offset = (colors - LABELS) % 10
    assert colors.min() >= 0 and colors.max() <= 9
    assert (offset != 0).all()
    assert stats.chisquare(torch.bincount(offset, minlength=10)[1:].numpy()).pvalue > 1e-7


@pytest.mark.parametrize("bias", [-0.01, 1.01, math.nan])
def test_bias_outside_its_range_is_refused(bias):
    with pytest.raises(ClearError, match="0 to 1"):
        data.draw_colors(LABELS, bias, 0)


def test_full_bias_leaves_no_exception():
    assert torch.equal(data.draw_colors(LABELS, 1.0, 3), LABELS)


def test_real_data_set_follows_the_recipe(digits):
    splits = data.colored_mnist(digits)
    easy, hard = splits["easy"], splits["hard"]
    assert easy["images"].shape == (60_000, 3, 28, 28) and hard["images"].shape == (10_000, 3, 28, 28)
    assert all(tensors["images"].dtype == torch.uint8 for tensors in splits.values())
    low, high = stats.binom.interval(1 - 1e-6, 60_000, 0.95)
    assert low <= (easy["colors"] == easy["labels"]).sum() <= high
    assert not (hard["colors"] == hard["labels"]).any()
    for split, source in (("easy", "train"), ("hard", "test")):
        gray, images = digits[f"{source}_images"].numpy(), splits[split]["images"].numpy()
        assert np.array_equal(splits[split]["masks"].numpy(), gray > 0)
        assert np.array_equal(splits[split]["labels"], digits[f"{source}_labels"])
        stroke = np.maximum(180, 255 - gray[gray > 0].astype(int))
        assert stroke.min() == 180 and stroke.max() <= 255
        for channel in range(3):
            assert np.array_equal(images[:, channel][gray > 0], stroke)


@given(seed=SEEDS, noise=st.floats(1, 40))
def test_texture_is_gaussian_around_the_colour(seed, noise):
    gray = torch.zeros(60, 28, 28, dtype=torch.uint8)
    images = data.paint(gray, torch.full((60,), 8), noise=noise, seed=seed).float()
    red, expected = images[:, 0], data.PALETTES["study"][8][0]  # 139: far from 0 and 255
    assert abs(red.mean().item() - expected) < 6 * noise / math.sqrt(red.numel()) + 0.05
    assert abs(red.std().item() / math.hypot(noise, math.sqrt(1 / 12)) - 1) < 0.03
    assert abs(np.corrcoef(red.flatten()[1:], red.flatten()[:-1])[0, 1]) < 6 / math.sqrt(red.numel())


def test_no_noise_gives_flat_colours():
    gray, colors = torch.zeros(10, 28, 28, dtype=torch.uint8), torch.arange(10)
    images = data.paint(gray, colors, palette="tab10", noise=0)
    assert torch.equal(images, data.palette_tensor("tab10")[:, :, None, None].expand_as(images))


@pytest.mark.parametrize("palette", data.PALETTES)
def test_a_palette_has_ten_distinct_colours(palette):
    assert len({tuple(color) for color in data.palette_tensor(palette).tolist()}) == 10


def test_unknown_palette_and_negative_noise_are_refused(few):
    gray, colors = few["train_images"][:2], torch.tensor([0, 1])
    with pytest.raises(ClearError, match=r"'neon'.*study, tab10"):
        data.paint(gray, colors, palette="neon")
    with pytest.raises(ClearError, match="negative"):
        data.paint(gray, colors, noise=-1)


def test_same_seed_same_bytes_other_seed_other_bytes(few, splits):
    torch.set_num_threads(2)
    try:
        again, other = data.colored_mnist(few), data.colored_mnist(few, seed=1)
    finally:
        torch.set_num_threads(1)
    for split in data.SPLITS:
        for name in ("images", "colors"):
            assert sha(again[split][name]) == sha(splits[split][name])
            assert sha(other[split][name]) != sha(splits[split][name])


@given(size=st.integers(1, 2500))
def test_an_image_does_not_depend_on_how_many_are_painted(few, splits, size):
    part = {name: tensor[:size] for name, tensor in few.items()}
    for split, tensors in data.colored_mnist(part).items():
        n = len(tensors["labels"])
        for name, tensor in tensors.items():
            assert torch.equal(tensor, splits[split][name][:n])


def test_painting_leaves_the_global_random_state_alone(few, global_random_state):
    data.colored_mnist({name: tensor[:50] for name, tensor in few.items()})


def test_other_seeds_and_splits_have_unrelated_texture(few):
    blank, colors = torch.zeros(200, 28, 28, dtype=torch.uint8), torch.full((200,), 8)
    textures = [data.paint(blank, colors, seed=seed)[:, 0].flatten().numpy() for seed in range(4)]
    correlations = np.corrcoef(textures) - np.eye(4)
    assert np.abs(correlations).max() < 6 / math.sqrt(textures[0].size)


@given(seed=SEEDS, palette=st.sampled_from(sorted(data.PALETTES)))
def test_recolouring_keeps_strokes_and_replaces_backgrounds(stored, seed, palette):
    before = data.load(stored, "hard", torch.arange(20))
    colors = data.draw_colors(before.labels, 0.1, seed)
    after = data.recolor(before, colors, palette, noise=5, seed=seed)
    stroke = before.masks[:, None].expand_as(before.images)
    assert torch.equal(after.images[stroke], before.images[stroke])
    assert torch.equal(after.labels, before.labels) and torch.equal(after.masks, before.masks)
    assert torch.equal(after.colors, colors)
    distance = (after.images * 255 - data.palette_tensor(palette)[colors][:, :, None, None]).abs()
    assert distance[~stroke].max() < 5 * 6.5


def test_a_stored_file_gives_back_what_was_saved(stored, splits):
    for split in data.SPLITS:
        whole = data.load(stored, split)
        assert torch.equal((whole.images * 255).round().to(torch.uint8), splits[split]["images"])
        assert whole.images.dtype == torch.float32 and whole.images.min() >= 0 and whole.images.max() <= 1
        assert torch.equal(whole.colors, splits[split]["colors"]) and torch.equal(whole.masks, splits[split]["masks"])
    assert data.metadata(stored) == {"seed": "0", "bias": "0.95"}


@given(index=st.lists(st.integers(0, 1999), min_size=1, max_size=30))
def test_loading_a_subset_gives_the_same_images(stored, splits, index):
    part = data.load(stored, "hard", torch.tensor(index))
    assert torch.equal((part.images * 255).round().to(torch.uint8), splits["hard"]["images"][index])
    assert torch.equal(part.labels, splits["hard"]["labels"][index])


def test_colored_digits_index_together(stored):
    whole = data.load(stored, "easy", torch.arange(100))
    part = whole[whole.conflicting]
    assert len(part) == int((whole.colors != whole.labels).sum()) and bool(part.conflicting.all())
    assert torch.equal(whole[10:20].labels, whole.labels[10:20])
    assert torch.equal(whole[[3, 1]].images, whole.images[[3, 1]])


def test_damaged_and_foreign_files_are_refused(stored, tmp_path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(stored.read_bytes()[:-1000])
    with pytest.raises(DamagedFileError, match="delete it and run task 0 again"):
        data.load(cut, "easy")
    data.save(tmp_path / "foreign.safetensors", {"other": {"x": torch.zeros(1)}}, {})
    with pytest.raises(DamagedFileError):
        data.load(tmp_path / "foreign.safetensors", "easy")
    with pytest.raises(ClearError, match="easy, hard"):
        data.load(stored, "medium")


def test_saving_leaves_no_scratch_file(stored, tmp_path):
    with pytest.raises(RuntimeError, match="memory"):  # two names for one tensor's memory: safetensors refuses
        shared = torch.zeros(4)
        data.save(tmp_path / "x.safetensors", {"easy": {"a": shared, "b": shared[:2]}}, {})
    assert not list(tmp_path.iterdir())
    assert [path.name for path in stored.parent.iterdir()] == [stored.name]


@given(seed=SEEDS, train=st.integers(100, 2000), validation=st.integers(100, 900))
def test_a_split_is_disjoint_stratified_and_repeatable(splits, seed, train, validation):
    labels = splits["easy"]["labels"]
    parts = data.stratified_split(labels, train, validation, seed)
    assert [len(part) for part in parts] == [train, validation]
    assert len(set(torch.cat(parts).tolist())) == train + validation
    for part in parts:
        share = torch.bincount(labels[part], minlength=10).double()
        assert (share - torch.bincount(labels).double() * len(part) / len(labels)).abs().max() < 2
    again = data.stratified_split(labels, train, validation, seed)
    assert all(torch.equal(a, b) for a, b in zip(parts, again, strict=True))


def test_a_split_larger_than_the_data_is_refused(splits):
    with pytest.raises(ClearError, match="exceed the 3000 images"):
        data.stratified_split(splits["easy"]["labels"], 2500, 501, 0)


def test_easy_subsets_are_the_split(stored, splits):
    train, validation = data.easy_subsets(stored, 200, 100, seed=5)
    first, second = data.stratified_split(splits["easy"]["labels"], 200, 100, 5)
    assert torch.equal(train.labels, splits["easy"]["labels"][first])
    assert torch.equal((validation.images * 255).round().to(torch.uint8), splits["easy"]["images"][second])
