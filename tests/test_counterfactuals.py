"""Counterfactual images differ in one cue and in nothing else; randomised networks forget from the top."""

from __future__ import annotations

import pytest
import torch

from lazyutils import counterfactuals as change
from lazyutils import data, models, sanity
from lazyutils.errors import ClearError
from lazyutils.saliency import explain


@pytest.fixture
def digits() -> data.ColoredDigits:
    """60 coloured images with block letters for digits: digit d is a bar at column 2 d + 2."""
    labels = torch.arange(60) % 10
    gray = torch.zeros(60, 28, 28, dtype=torch.uint8)
    for image, label in zip(gray, labels.tolist(), strict=True):
        image[5:23, 2 * label + 2 : 2 * label + 6] = 200
    colors = (labels + 1 + torch.arange(60) // 10) % 10
    return data.ColoredDigits(data.paint(gray, colors).float() / 255, labels, colors, gray > 0)


def mean_color(images: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """Mean colour of a region, ``[N, 3]``."""
    weight = region[:, None].float()
    return (images * weight).sum((2, 3)) / weight.sum((2, 3))


def test_deleting_the_shape_keeps_the_background_and_hides_the_stroke(digits):
    images = change.delete_shape(digits)
    background = ~digits.masks[:, None].expand(-1, 3, -1, -1)
    assert torch.equal(images[background], digits.images[background])
    gap = mean_color(images, digits.masks) - mean_color(digits.images, ~digits.masks)
    assert gap.abs().max() < 0.04
    assert torch.equal(images, change.delete_shape(digits))


def test_the_color_card_holds_background_pixels_only(digits):
    card = change.color_card(digits, seed=3)
    for image, original, mask in zip(card[:5], digits.images[:5], digits.masks[:5], strict=True):
        allowed = {tuple(pixel) for pixel in original[:, ~mask].T.tolist()}
        assert {tuple(pixel) for pixel in image.flatten(1).T.tolist()} <= allowed


def test_deleting_the_color_keeps_the_stroke_and_greys_the_background(digits):
    images = change.delete_color(digits)
    stroke = digits.masks[:, None].expand(-1, 3, -1, -1)
    assert torch.equal(images[stroke], digits.images[stroke])
    assert torch.equal(images[:, 0], images[:, 1]) and torch.equal(images[:, 1], images[:, 2])
    assert (mean_color(images, ~digits.masks) - change.GRAY).abs().max() < 0.01


def test_swapping_shapes_keeps_every_color_and_changes_every_digit(digits):
    swapped = change.swap_shapes(digits)
    assert torch.equal(swapped.colors, digits.colors) and (swapped.labels != digits.labels).all()
    assert sorted(swapped.labels.tolist()) == sorted(digits.labels.tolist())
    gap = mean_color(swapped.images, ~swapped.masks) - mean_color(digits.images, ~digits.masks)
    assert gap.abs().max() < 0.02
    with pytest.raises(ClearError, match="balanced"):
        change.swap_shapes(digits[digits.labels == 1])


def test_next_colors_are_neither_own_nor_the_digits(digits):
    colors = change.next_colors(digits)
    assert (colors != digits.colors).all() and (colors != digits.labels).all()


def test_cascading_randomization_forgets_from_the_top_and_spares_the_original():
    model = models.build("LazyCNN", seed=5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    global_state, forgotten = torch.get_rng_state(), []
    for name, copy in sanity.cascading_randomization(model, ("fc", "conv3", "conv2", "conv1"), seed=7):
        forgotten.append(name)
        for layer in ("conv1", "conv2", "conv3", "fc"):
            same = torch.equal(copy.state_dict()[f"{layer}.weight"], before[f"{layer}.weight"])
            assert same == (layer not in forgotten)
    assert forgotten == ["fc", "conv3", "conv2", "conv1"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(global_state, torch.get_rng_state())
    with pytest.raises(ClearError, match="no layer 'conv7'"):
        next(sanity.cascading_randomization(model, ["conv7"]))


def test_a_block_is_forgotten_whole():
    model = models.build("ResNet18", seed=5, image_size=32)
    ((name, copy),) = sanity.cascading_randomization(model, ["net.layer4"], seed=9)
    changed = {
        key.split(".")[1] for key, value in copy.state_dict().items() if not torch.equal(value, model.state_dict()[key])
    }
    assert name == "net.layer4" and changed == {"layer4"}


def test_an_edge_detector_does_not_notice_randomization_and_grad_cam_does(digits):
    model = models.build("LazyCNN", seed=5)
    originals = {
        method: explain(method, model, digits.images, 2, "conv3") for method in ("Grad-CAM", "Edges (no network)")
    }
    *_, (_, forgetful) = sanity.cascading_randomization(model, ("fc", "conv3", "conv2", "conv1"))
    for method, original in originals.items():
        same = torch.equal(original, explain(method, forgetful, digits.images, 2, "conv3"))
        assert same == (method == "Edges (no network)")
