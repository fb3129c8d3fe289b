"""The other methods against captum and the grad-cam package, and what all of them promise."""

from __future__ import annotations

import pytest
import torch
from captum.attr import IntegratedGradients, LayerGradCam, Saliency
from pytorch_grad_cam import GradCAMPlusPlus, HiResCAM, LayerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from lazyutils import models, saliency
from lazyutils.errors import ClearError
from lazyutils.saliency import METHODS, attribute_path, explain, pixel_gradients

PACKAGE = {"Grad-CAM++": GradCAMPlusPlus, "HiResCAM": HiResCAM, "LayerCAM": LayerCAM}


@pytest.fixture
def model() -> nn.Module:
    """LazyCNN with a larger last layer, so that its logits are of a trained network's size."""
    network = models.build("LazyCNN", seed=1).eval()
    network.fc.weight.data *= 20
    return network


@pytest.fixture
def images() -> torch.Tensor:
    """Blocks of random colour, ``[12, 3, 28, 28]`` in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(12, 3, 4, 4, generator=generator).repeat_interleave(7, 2).repeat_interleave(7, 3)


@pytest.mark.parametrize("method", PACKAGE)
@pytest.mark.parametrize("layer", ["conv2", "relu3"])
def test_layer_methods_equal_the_grad_cam_package(method, layer, model, images):
    model, images = model.double(), images.double()  # so that rounding doesn't hide a difference
    ours = explain(method, model, images, 4, layer)
    with PACKAGE[method](model, [getattr(model, layer)]) as package:
        theirs = torch.from_numpy(package(images, [ClassifierOutputTarget(4)] * len(images)))
    assert (ours - theirs).abs().max() < 1e-5


def test_input_gradients_equal_captum(model, images):
    ours, _ = pixel_gradients(model, images, 4)
    theirs = Saliency(model).attribute(images.requires_grad_(), target=4, abs=False)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_integrated_gradients_equal_captum_and_add_up(model, images):
    ours = attribute_path(model, images, 4, steps=20)
    theirs = IntegratedGradients(model).attribute(
        images, torch.full_like(images, saliency.GRAY), target=4, n_steps=20, method="riemann_middle"
    )
    assert torch.allclose(ours, theirs, atol=1e-4)
    fine = attribute_path(model, images, 4, steps=300).sum((1, 2, 3))
    gap = (model(images) - model(torch.full_like(images, saliency.GRAY)))[:, 4]
    assert torch.allclose(fine, gap, atol=0.02 * gap.abs().max().item())


def test_hires_cam_differs_from_grad_cam_with_a_flattened_head_and_equals_it_with_a_pooled_one(model, images):
    flat = [explain(method, model, images, 2, "relu3") for method in ("Grad-CAM", "HiResCAM")]
    assert (flat[0] - flat[1]).abs().max() > 0.1
    pooled = models.build("ResNet18", seed=0, image_size=64)
    pooled = [explain(method, pooled, images, 2, "net.layer4") for method in ("Grad-CAM", "HiResCAM")]
    assert torch.allclose(*pooled, atol=1e-4)


def test_occlusion_finds_the_only_patch_that_matters(images):
    class Corner(nn.Module):
        """Class 1 is the brightness of the upper left 7 x 7 pixels."""

        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return torch.stack([torch.zeros(len(x)), x[:, :, :7, :7].mean((1, 2, 3))], dim=1)

    heat = explain("Occlusion", Corner(), torch.ones(2, 3, 28, 28), 1, "")
    assert heat[:, :7, :7].min() > 0 and heat[:, 13:, 13:].max() == 0 and heat[:, 0, 0].min() == heat.max()


@pytest.mark.parametrize(("patch", "stride"), [(7, 8), (0, 1), (29, 3), (7, 0)])
def test_patches_that_leave_gaps_are_refused(patch, stride, model, images):
    with pytest.raises(ClearError, match="patch"):
        saliency.occlusion(model, images, 0, patch=patch, stride=stride)


def test_patches_cover_every_pixel():
    for patch, stride in ((7, 3), (28, 28), (5, 5), (1, 1), (9, 4)):
        covered = torch.zeros(28)
        for start in saliency.starts(28, patch, stride):
            covered[start : start + patch] += 1
        assert covered.min() >= 1


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_heat_and_leaves_the_network_alone(method, model, images):
    model.train()
    model.conv1.weight.requires_grad_(False)
    global_state = torch.get_rng_state()
    targets = torch.arange(12) % 10
    heat = explain(method, model, images, targets, "conv3", batch_size=12)
    assert heat.shape == (12, 28, 28) and heat.min() >= 0 and heat.max() <= 1 + 1e-6 and not heat.requires_grad
    again = explain(method, model, images, targets, "conv3", batch_size=12)
    assert torch.equal(heat, again)
    assert model.training and not model.conv1.weight.requires_grad and model.conv2.weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(global_state, torch.get_rng_state()) and not images.requires_grad


@pytest.mark.parametrize("method", [name for name in METHODS if not name.startswith("Random")])
def test_a_batch_equals_its_images_one_by_one(method, model, images):
    batch = explain(method, model, images[:4], None, "conv3")
    singles = torch.cat([explain(method, model, image[None], None, "conv3") for image in images[:4]])
    assert torch.allclose(batch, singles, atol=1e-4)


@pytest.mark.parametrize("method", ["Input gradients", "Integrated Gradients", "Occlusion"])
def test_no_target_means_the_predicted_class(method, model, images):
    predicted = model(images).argmax(1)
    assert torch.allclose(explain(method, model, images, None, ""), explain(method, model, images, predicted, ""))


def test_frozen_network_and_no_grad_block_still_explain(model, images):
    before = explain("Integrated Gradients", model, images, 1, "conv3")
    model.requires_grad_(False)
    with torch.no_grad():
        assert torch.equal(before, explain("Integrated Gradients", model, images, 1, "conv3"))


def test_raw_grad_cam_is_the_same_through_both_doors(model, images):
    heat = explain("Grad-CAM", model, images, 3, "conv3")
    raw = LayerGradCam(model, model.conv3).attribute(images, target=3)[:, 0].detach()
    assert torch.equal(heat, saliency.to_display(raw, (28, 28)))


@pytest.mark.parametrize("method", METHODS)
def test_bad_input_is_one_clear_error(method, model, images):
    broken = images.clone()
    broken[0, 0, 0, 0] = float("nan")
    with pytest.raises(ClearError, match="NaN"):
        explain(method, model, broken, 1, "conv3")
    with pytest.raises(ClearError, match="unknown method 'Grad-CAN'"):
        explain("Grad-CAN", model, images, 1, "conv3")


@pytest.mark.parametrize("method", [name for name in METHODS if "no network" not in name])
def test_a_class_out_of_range_is_refused(method, model, images):
    with pytest.raises(ClearError, match="from 0 to 9"):
        explain(method, model, images, 10, "conv3")
