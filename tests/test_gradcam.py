"""Grad-CAM against captum, the grad-cam package and finite differences; nothing of the network changes."""

from __future__ import annotations

import copy

import pytest
import torch
from captum.attr import LayerGradCam
from model_state import state
from pytorch_grad_cam import GradCAM as PackageGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from lazyutils import models
from lazyutils.errors import ClearError
from lazyutils.gradcam import GradCAM, layer_gradients, to_display
from lazyutils.hooks import captured, find_layer, frozen

NETWORKS = {
    "LazyCNN": ({}, ("conv1", "conv2", "conv3")),
    "RobustCNN": ({}, ("conv2", "conv3")),
    "ResNet18": ({"image_size": 48}, ("net.layer2", "net.layer3.0.conv1", "net.layer4.1.conv2")),
}
PICTURES = {"LazyCNN": 20, "RobustCNN": 20, "ResNet18": 3}
CASES = [(name, layer) for name, (_, layers) in NETWORKS.items() for layer in layers]


def network(name: str) -> nn.Module:
    """An untrained network with larger weights, so that its logits depend on the image as a trained one's do."""
    model = models.build(name, seed=1, **NETWORKS[name][0]).eval()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight.data *= 20
    return model


def pictures(n: int, seed: int = 0) -> torch.Tensor:
    """Blocks of random colour with noise, ``[n, 3, 28, 28]`` in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.rand(n, 3, 4, 4, generator=generator).repeat_interleave(7, 2).repeat_interleave(7, 3)
    return (0.8 * blocks + 0.2 * torch.rand(n, 3, 28, 28, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize(("name", "layer"), CASES)
def test_raw_map_equals_captum_for_every_class(name, layer):
    model, images = network(name), pictures(PICTURES[name])
    reference = LayerGradCam(copy.deepcopy(model), None)
    reference.layer = find_layer(reference.forward_func, layer)
    for target in range(10):
        raw = GradCAM(model, layer)(images, target).raw
        assert (raw - reference.attribute(images, target)[:, 0]).abs().max() < 1e-7


@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
@pytest.mark.parametrize(("name", "layer"), CASES)
def test_displayed_map_equals_the_grad_cam_package_for_every_class(name, layer, precision):
    model, images = network(name).to(precision), pictures(PICTURES[name]).to(precision)
    peer = copy.deepcopy(model)
    with PackageGradCAM(peer, [find_layer(peer, layer)]) as package:
        for target in range(10):
            theirs = torch.from_numpy(package(images, [ClassifierOutputTarget(target)] * len(images)))
            ours = GradCAM(model, layer)(images, target)
            assert (ours.displayed - theirs).abs().max() < 1e-5


def test_resizing_before_scaling_would_differ():
    raw = GradCAM(network("LazyCNN"), "conv3")(pictures(40), 3).raw
    large = nn.functional.interpolate(raw.relu()[:, None], size=(28, 28), mode="bilinear")[:, 0]
    lazy = (large - large.amin((1, 2), keepdim=True)) / (large.amax((1, 2), keepdim=True) + 1e-7)
    assert (lazy - to_display(raw, (28, 28))).abs().max() > 1e-5


def test_gradients_agree_with_finite_differences():
    model = network("LazyCNN").double()
    seen = layer_gradients(model, "conv3", pictures(1).double(), 4)
    step = 1e-6

    def tail(activations):
        return model.classify(activations.relu())[0, 4]

    generator = torch.Generator().manual_seed(0)
    for place in torch.randint(seen.activations.numel(), (40,), generator=generator):
        shift = torch.zeros(seen.activations.numel(), dtype=torch.double)
        shift[place] = step
        shift = shift.view_as(seen.activations)
        slope = (tail(seen.activations + shift) - tail(seen.activations - shift)) / (2 * step)
        assert slope.item() == pytest.approx(seen.gradients.flatten()[place].item(), abs=1e-5)


def test_sum_of_the_map_is_the_logit_without_bias_for_a_pooled_head():
    model, images = network("ResNet18"), pictures(5)
    maps = GradCAM(model, "net.layer4")(images, 2)
    bias = model.net.fc.bias[2]
    assert torch.allclose(maps.raw.sum((1, 2)), maps.logits[:, 2] - bias, rtol=1e-4, atol=1e-3)


class InPlace(nn.Module):
    """The same network twice: with operations in place behind the convolution, and with plain ones."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        self.conv = nn.Conv2d(3, 8, 5)
        self.relu = nn.ReLU(inplace=in_place)
        self.fc = nn.Linear(8 * 24 * 24, 10)

    def forward(self, x):
        y = self.conv(x)
        if self.in_place:
            y += 0.1
            y *= 2
        else:
            y = (y + 0.1) * 2
        return self.fc(self.relu(y).flatten(1))


def test_operations_in_place_behind_the_layer_change_nothing():
    plain, in_place = InPlace(False), InPlace(True)
    in_place.load_state_dict(plain.state_dict())
    images = pictures(6)
    assert torch.equal(GradCAM(plain, "conv")(images, 1).raw, GradCAM(in_place, "conv")(images, 1).raw)


def test_a_layer_that_works_in_place_itself_keeps_its_own_output():
    plain, in_place = InPlace(False), InPlace(True)
    in_place.load_state_dict(plain.state_dict())
    images = pictures(6)
    assert torch.equal(GradCAM(plain, "relu")(images, 1).raw, GradCAM(in_place, "relu")(images, 1).raw)


def test_frozen_parameters_give_the_same_maps():
    model, images = network("LazyCNN"), pictures(4)
    before = GradCAM(model, "conv2")(images, 0).raw
    model.requires_grad_(False)
    assert torch.equal(before, GradCAM(model, "conv2")(images, 0).raw)
    with torch.no_grad():
        assert torch.equal(before, GradCAM(model, "conv2")(images, 0).raw)


def test_one_target_serves_all_images_and_many_go_one_by_one():
    model, images = network("LazyCNN"), pictures(6)
    targets = torch.tensor([3, 1, 3, 0, 9, 3])
    cam = GradCAM(model, "conv3")
    one, many = cam(images, 3), cam(images, targets)
    assert torch.equal(one.raw[targets == 3], many.raw[targets == 3])
    assert not torch.equal(one.raw[1], many.raw[1])
    assert torch.equal(cam(images).targets, model(images).argmax(1))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_equals_its_images_one_by_one(name):
    model, images = network(name), pictures(7)
    layer = NETWORKS[name][1][-1]
    batch = GradCAM(model, layer, batch_size=3)(images)
    singles = [GradCAM(model, layer)(image[None]) for image in images]
    scale = batch.raw.abs().max()
    assert (batch.raw - torch.cat([single.raw for single in singles])).abs().max() < 1e-5 * scale
    assert (batch.displayed - torch.cat([single.displayed for single in singles])).abs().max() < 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_everything_is_as_it_was(name):
    model = network(name)
    model.train()
    next(iter(model.children())).eval()
    next(model.parameters()).requires_grad_(False)
    before = state(model)
    GradCAM(model, NETWORKS[name][1][0])(pictures(3), 1)
    assert state(model) == before


def test_everything_is_as_it_was_after_an_exception():
    model = network("LazyCNN").train()
    before = state(model)
    for failing in ({"images": pictures(2), "targets": 10}, {"images": pictures(2)[:, :2], "targets": 1}):
        with pytest.raises((ClearError, RuntimeError)):
            GradCAM(model, "conv3")(**failing)
        assert state(model) == before
    with pytest.raises(KeyboardInterrupt), frozen(model), captured(model, ["conv1"], cut=True):
        model(pictures(2))
        raise KeyboardInterrupt
    assert state(model) == before


def test_a_single_cell_or_negative_map_is_reported_as_empty():
    model = models.build("ResNet18", image_size=28).eval()
    maps = GradCAM(model, "net.layer4")(pictures(3), 0)
    assert maps.raw.shape == (3, 1, 1) and maps.empty.all()
    assert to_display(-torch.rand(2, 7, 7), (28, 28)).max() == 0


def test_an_unknown_layer_lists_the_layers():
    with pytest.raises(ClearError, match=r"no layer 'conv9'.*conv1.*conv3.*fc"):
        GradCAM(network("LazyCNN"), "conv9")


def test_a_layer_without_maps_is_refused():
    with pytest.raises(ClearError, match="no spatial maps"):
        GradCAM(network("LazyCNN"), "fc")(pictures(1))


class Twice(nn.Module):
    """One convolution used twice, one never, one whose output is thrown away."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never, self.lost = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

    def forward(self, x):
        self.lost(x)
        return self.twice(self.twice(x)).mean((2, 3))


@pytest.mark.parametrize(("layer", "says"), [("twice", "more than once"), ("never", "does not run"), ("lost", "reach")])
def test_a_layer_that_does_not_run_once_on_the_way_is_refused(layer, says):
    with pytest.raises(ClearError, match=says):
        GradCAM(Twice(), layer)(pictures(1))


@pytest.mark.parametrize("targets", [-1, 10, torch.tensor([0, 10]), torch.tensor([0.5, 1.0])])
def test_a_class_out_of_range_is_refused(targets):
    with pytest.raises(ClearError, match="from 0 to 9"):
        GradCAM(network("LazyCNN"), "conv3")(pictures(2), targets)


def test_bad_images_are_refused():
    cam, images = GradCAM(network("LazyCNN"), "conv3"), pictures(2)
    broken = images.clone()
    broken[1, 0, 3, 3] = float("nan")
    bad = {"NaN": broken, r"\[N, 3, height": images[0], "N >= 1": images[:0]}
    for says, given in bad.items():
        with pytest.raises(ClearError, match=says):
            cam(given)
    with pytest.raises(ClearError, match="2 images need as many targets"):
        cam(images, torch.tensor([1, 2, 3]))


def test_another_device_is_refused():
    with pytest.raises(ClearError, match=r"model is on cpu, the images on meta.*\.to\(device\)"):
        GradCAM(network("LazyCNN"), "conv3")(pictures(2).to("meta"))
