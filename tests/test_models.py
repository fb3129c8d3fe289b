"""The networks: shapes, parameter counts, initialisation by seed, and where ResNet-18's weights come from."""

from __future__ import annotations

import urllib.error

import pytest
import torch
from torch.nn import functional as F
from torchvision.models import resnet18

from lazyutils import models
from lazyutils.errors import ClearError, DamagedFileError

PARAMETERS = {
    "LazyCNN": (3 * 81 * 6 + 6) + (6 * 49 * 8 + 8) + (8 * 9 * 16 + 16) + (784 * 10 + 10),
    "RobustCNN": (75 * 32 + 32) + 64 + (32 * 9 * 64 + 64) + 128 + (64 * 9 * 128 + 128) + 256 + (128 * 49 * 10 + 10),
    "ColorCritic": (3 * 32 + 32) + (32 * 32 + 32) + (32 * 10 + 10),
    "ResNet18": 11_689_512 - (512 * 1000 + 1000) + (512 * 10 + 10),
}
FEATURES = {"LazyCNN": (16, 7, 7), "RobustCNN": (128, 7, 7), "ResNet18": (512, 2, 2)}
OPTIONS = {"ResNet18": {"image_size": 64}}


def build(name, seed=0):
    return models.build(name, seed, **OPTIONS.get(name, {})).eval()


def pictures(n, seed=0):
    return torch.rand(n, 3, 28, 28, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_logits_and_parameter_count(name):
    model = build(name)
    assert model(pictures(3)).shape == (3, 10)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", FEATURES)
def test_features_then_classify_is_the_network(name):
    model, images = build(name), pictures(2)
    assert model.features(images).shape == (2, *FEATURES[name])
    assert torch.equal(model.classify(model.features(images)), model(images))


@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_a_seed_decides_the_initial_weights(name, global_random_state):
    first, again, other = build(name, 3).state_dict(), build(name, 3).state_dict(), build(name, 4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_unknown_architecture_is_refused():
    with pytest.raises(ClearError, match="LazyCNN, RobustCNN"):
        models.build("DeepCNN")


def test_the_colour_critic_cannot_see_shape():
    images = pictures(4)
    order = torch.randperm(28 * 28, generator=torch.Generator().manual_seed(1))
    shuffled = images.flatten(2)[..., order].view_as(images)
    critic = build("ColorCritic")
    assert torch.allclose(critic(images), critic(shuffled), atol=1e-5)
    assert not torch.allclose(build("LazyCNN")(images), build("LazyCNN")(shuffled), atol=1e-3)


@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_normalisation_is_inside_and_travels_as_a_constant(name):
    model = build(name)
    mean, sd = model.normalize.mean, model.normalize.sd
    assert mean.shape == sd.shape == (1, 3, 1, 1) and (sd > 0).all()
    images = pictures(2)
    expected = [(images[:, channel] - mean[0, channel]) / sd[0, channel] for channel in range(3)]
    assert torch.allclose(model.normalize(images), torch.stack(expected, dim=1))
    assert not [key for key in model.state_dict() if "normalize" in key]
    assert not list(model.normalize.parameters())


def test_resnet18_is_torchvisions():
    model = build("ResNet18")
    reference = resnet18(num_classes=10).eval()
    reference.load_state_dict(model.net.state_dict())
    images = torch.nn.functional.interpolate(pictures(2), size=(64, 64), mode="bilinear", align_corners=False)
    mean, sd = (torch.tensor(values)[:, None, None] for values in (models.IMAGENET_MEAN, models.IMAGENET_SD))
    assert torch.allclose(model(pictures(2)), reference((images - mean) / sd), atol=1e-5)
    assert torch.equal(model.tuned(model.frozen(pictures(2))), model(pictures(2)))
    assert torch.equal(models.TunedHalf(model)(model.frozen(pictures(2))), model(pictures(2)))


@pytest.mark.parametrize(
    ("stride", "padding", "kernel"), [((2, 2), (1, 1), 3), ((2, 2), (0, 0), 1), ((1, 1), (1, 1), 3)]
)
def test_a_convolution_by_columns_has_autograds_gradients(stride, padding, kernel):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 5, 6, dtype=torch.double, generator=generator, requires_grad=True)
    weight = torch.randn(4, 3, kernel, kernel, dtype=torch.double, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *both: models.ColumnConv2d.apply(*both, stride, padding), (x, weight))
    rows = models.columns(x, weight.shape[2:], stride, padding)
    there = torch.randn(rows.shape, dtype=torch.double, generator=generator)
    back = models.from_columns(there, x.shape, weight.shape[2:], stride, padding)
    assert torch.isclose((rows * there).sum(), (x * back).sum()), "one is the other's transpose"


@pytest.mark.parametrize("side", [3, 6])
def test_a_convolution_of_tiny_maps_agrees_in_bfloat16(side):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(2, 8, side, side, generator=generator), torch.randn(16, 8, 3, 3, generator=generator)
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        x, weight = (tensor.bfloat16().to(dtype).requires_grad_() for tensor in drawn)
        here = dtype == torch.bfloat16
        out = models.ColumnConv2d.apply(x, weight, (2, 2), (1, 1)) if here else F.conv2d(x, weight, None, 2, 1)
        results.append([out, *torch.autograd.grad(out.float().square().sum(), (x, weight))])
    for by_columns, usual in zip(*results, strict=True):
        assert by_columns.shape == usual.shape and (by_columns.float() - usual).norm() < 0.01 * usual.norm()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_tuned_half_learns_the_same_as_without_columns(precision):
    model = build("ResNet18").eval()
    half, features = models.TunedHalf(model), model.frozen(pictures(4)).to(precision).detach()
    weights = [parameter for parameter in model.net.layer4.parameters() if parameter.dim() == 4]
    gradients = []
    for network in (half, model.tuned):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            loss = network(features)[:, 0].float().sum()
        gradients.append(torch.autograd.grad(loss, weights))
    for by_columns, usual in zip(*gradients, strict=True):
        assert by_columns.dtype == torch.float32 and (by_columns - usual).norm() < 0.01 * usual.norm()
    assert not any("forward" in vars(module) for module in model.modules())
    assert torch.equal(half(features), half(features.float())), "outside autocast it is computed in float32"


def test_only_the_last_block_and_the_head_are_trained(global_random_state):
    model, origin = models.pretrained_resnet18(32, seed=1, weights="random")
    assert origin == "random"
    trained = {name.split(".")[1] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"layer4", "fc"}
    assert all(p.requires_grad for p in (*model.net.layer4.parameters(), *model.net.fc.parameters()))


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """A torchvision state dict as ImageNet's is: 1,000 classes."""
    path = tmp_path_factory.mktemp("weights") / "resnet18-f37072fd.pth"
    with torch.random.fork_rng():
        torch.manual_seed(7)
        torch.save(resnet18().state_dict(), path)
    return path


def check_backbone(model, path):
    for name, value in torch.load(path).items():
        if not name.startswith("fc."):
            assert torch.equal(model.net.state_dict()[name], value), name
    assert model.net.fc.weight.shape == (10, 512)


def test_weights_are_taken_from_a_file(weights_file):
    model, origin = models.pretrained_resnet18(32, weights=str(weights_file), report=pytest.fail)
    assert len(origin) == 16 and int(origin, 16)
    check_backbone(model, weights_file)


def test_imagenet_weights_are_taken_from_torch_home(weights_file, monkeypatch, tmp_path):
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / weights_file.name).symlink_to(weights_file)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model, origin = models.pretrained_resnet18(32, weights="imagenet", report=pytest.fail)
    assert origin == "IMAGENET1K_V1"
    check_backbone(model, weights_file)


def test_missing_imagenet_weights_are_said_loudly(monkeypatch, tmp_path):
    def unreachable(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    lines = []
    model, origin = models.pretrained_resnet18(32, seed=2, weights="imagenet", report=lines.append)
    assert origin == "random" and len(lines) == 1
    assert "RANDOM" in lines[0] and "no route to host" in lines[0] and "weights=PATH" in lines[0]
    reference = models.build("ResNet18", 2, image_size=32).state_dict()
    assert all(torch.equal(value, reference[name]) for name, value in model.state_dict().items())


def write_garbage(path):
    path.write_bytes(b"no weights at all")


def write_truncated(path):
    torch.save(resnet18().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-5000])


def write_another_network(path):
    torch.save({"conv.weight": torch.zeros(3)}, path)


def write_other_shapes(path):
    torch.save({name: value[:1] if value.dim() else value for name, value in resnet18().state_dict().items()}, path)


def write_a_list(path):
    torch.save([torch.zeros(3)], path)


@pytest.mark.parametrize(
    "write", [write_garbage, write_truncated, write_another_network, write_other_shapes, write_a_list]
)
def test_a_file_that_holds_no_resnet18_is_refused(tmp_path, write):
    with torch.random.fork_rng():
        write(tmp_path / "weights.pth")
    with pytest.raises(DamagedFileError, match=r"weights\.pth holds no torchvision ResNet-18"):
        models.pretrained_resnet18(32, weights=tmp_path / "weights.pth")


def test_a_missing_weights_file_is_named(tmp_path):
    with pytest.raises(ClearError, match=r"no weights file .*nowhere\.pth"):
        models.pretrained_resnet18(32, weights=tmp_path / "nowhere.pth")
