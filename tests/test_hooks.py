"""Hooks, modes, flags and gradients are as found after every call, also after an exception."""

import pytest
import torch
from model_state import count_hooks
from torch import nn

from lazyutils import hooks, models
from lazyutils.errors import ClearError

IMAGES = torch.rand(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.conv(x)).mul_(2)


def test_captures_what_the_layers_put_out():
    model = models.build("LazyCNN", 0)
    with hooks.captured(model, ["conv1", "relu2"]) as record:
        model(IMAGES)
    first = model.conv1(model.normalize(IMAGES))
    torch.testing.assert_close(record["conv1"], first)
    torch.testing.assert_close(record["relu2"], model.conv2(first.relu()).relu())


def test_an_operation_in_place_behind_the_layer_changes_nothing():
    model = InPlace()
    with hooks.captured(model, ["conv"]) as record:
        model(IMAGES)
    torch.testing.assert_close(record["conv"], model.conv(IMAGES))
    assert (record["conv"] < 0).any()


def test_cut_ends_the_backward_pass_at_the_layer():
    model = models.build("LazyCNN", 0).requires_grad_(False)
    images = IMAGES.clone().requires_grad_()
    before = []
    model.conv1.register_forward_hook(lambda _module, _inputs, output: before.append(output.requires_grad))
    with hooks.captured(model, ["conv2"], cut=True) as record:
        logits = model(images)
    assert before == [False] and torch.is_grad_enabled()
    (gradient,) = torch.autograd.grad(logits.sum(), record["conv2"])
    assert gradient.shape == record["conv2"].shape and record["conv2"].is_leaf


def test_stopping_computes_nothing_behind_the_layer():
    model = models.build("LazyCNN", 0)
    called = []
    handle = model.conv3.register_forward_hook(lambda *_: called.append(True))
    with hooks.stopping_at(model, "conv2") as activation:
        out = activation(IMAGES)
    torch.testing.assert_close(out, model.conv2(model.conv1(model.normalize(IMAGES)).relu()))
    with hooks.stopping_at(model, "conv3", before=True) as state:
        torch.testing.assert_close(state(IMAGES), out.relu())
    handle.remove()
    assert not called and count_hooks(model) == 0


def test_stopping_at_a_layer_that_never_runs_is_an_error():
    model = models.build("LazyCNN", 0)
    model.spare = nn.Conv2d(3, 3, 1)
    with hooks.stopping_at(model, "spare") as activation, pytest.raises(ClearError, match="doesn't use 'spare'"):
        activation(IMAGES)
    assert count_hooks(model) == 0


@pytest.mark.parametrize(
    "enter",
    [
        lambda m: hooks.captured(m, ["conv1"]),
        lambda m: hooks.stopping_at(m, "conv1"),
        lambda m: hooks.stopping_at(m, "conv1", before=True),
    ],
)
def test_hooks_go_away_after_an_exception(enter):
    model = models.build("LazyCNN", 0)
    with pytest.raises(RuntimeError, match="halfway"), enter(model):
        assert count_hooks(model) == 1
        raise RuntimeError("halfway")
    assert count_hooks(model) == 0


def test_an_unknown_second_layer_leaves_no_hook_on_the_first():
    model = models.build("LazyCNN", 0)
    with pytest.raises(ClearError, match="no layer 'conv9': choose one of normalize, conv1"):
        hooks.collect(model, IMAGES, ["conv1", "conv9"])
    assert count_hooks(model) == 0


def test_frozen_restores_every_mode_and_flag():
    model = models.build("RobustCNN", 0).train()
    model.bn1.eval()
    model.conv2.weight.requires_grad_(False)
    before = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    with pytest.raises(RuntimeError), hooks.frozen(model):
        assert not model.training and not any(p.requires_grad for p in model.parameters())
        raise RuntimeError
    assert before == ([m.training for m in model.modules()], [p.requires_grad for p in model.parameters()])


def test_collect_in_batches_equals_one_batch():
    model = models.build("RobustCNN", 0).train()
    whole = hooks.collect(model, IMAGES, ["conv1", "fc"])
    parts = hooks.collect(model, IMAGES, ["conv1", "fc"], batch_size=2)
    for layer in whole:
        torch.testing.assert_close(whole[layer], parts[layer])
        assert not whole[layer].requires_grad
    assert model.training and all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[0], "shape"),
        (IMAGES[:0], "N >= 1"),
        (IMAGES.clone().index_fill(0, torch.tensor([1]), torch.nan), "NaN"),
        (IMAGES.to("meta"), "the model is on cpu, the images on meta"),
    ],
)
def test_unfit_images_are_one_clear_error(images, message):
    with pytest.raises(ClearError, match=message):
        hooks.collect(models.build("LazyCNN", 0), images, ["conv1"])


@pytest.mark.parametrize("targets", [torch.tensor([0, 1]), torch.tensor([0, 1, 10]), torch.tensor([-1, 0, 0])])
def test_unfit_targets_are_one_clear_error(targets):
    with pytest.raises(ClearError, match="target"):
        hooks.check_targets(targets, 3)
