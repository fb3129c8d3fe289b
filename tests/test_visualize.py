"""Ascents rise, repeat, stay in range, equal the loop over units, and leave no trace."""

import pytest
import torch
from model_state import state
from torch import nn

from lazyutils import fold, hooks, inversion, models, visualize
from lazyutils.errors import ClearError
from lazyutils.parametrization import Parametrization, color_statistics
from lazyutils.visualize import Unit

IMAGES = torch.rand(4, 3, 28, 28, generator=torch.Generator().manual_seed(0))
STATISTICS = color_statistics(IMAGES)
PARAMETRIZATIONS = {
    "pixels": Parametrization(),
    "fourier": Parametrization(fourier=True),
    "decorrelated": Parametrization(colors=STATISTICS),
    "both": Parametrization(fourier=True, colors=STATISTICS),
}


@pytest.fixture(scope="module")
def model():
    return models.build("LazyCNN", 0)


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_the_objective_rises_and_images_are_images(model, name):
    units = [u for layer in ("conv1", "conv2", "conv3", "fc") for u in visualize.layer_units(model, layer)]
    found = visualize.maximize(model, units, steps=25, parametrization=PARAMETRIZATIONS[name])
    assert found.images.shape == (40, 3, 28, 28) and found.history.shape == (25, 40)
    assert (found.achieved > found.history[0]).all()
    assert found.images.min() >= 0 and found.images.max() <= 1


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_one_optimisation_equals_the_loop_over_units(model, name):
    units = [Unit("conv1", 2), Unit("conv3", 5, "sum"), Unit("conv2", 7, "center"), Unit("conv3", 5, "center")]
    options = {"steps": 12, "jitter": 2, "seed": 3, "parametrization": PARAMETRIZATIONS[name]}
    together = visualize.maximize(model, units, **options)
    for row, unit in enumerate(units):
        alone = visualize.maximize(model, [unit], **options)
        torch.testing.assert_close(alone.achieved[0], together.achieved[row], rtol=1e-2, atol=1e-3)
        if not PARAMETRIZATIONS[name].fourier:  # Adam turns the rounding of a spectrum's idle entries into whole steps
            torch.testing.assert_close(alone.images[0], together.images[row], rtol=0, atol=2e-2)


@pytest.mark.parametrize(
    ("network", "layer", "side"),
    [
        ("LazyCNN", "conv1", 9),
        ("LazyCNN", "conv2", 15),
        ("LazyCNN", "conv3", 18),  # one more than it sees, to keep the stride's phase
        ("LazyCNN", "fc", 28),
        ("RobustCNN", "conv1", 5),
        ("RobustCNN", "conv3", 20),
        ("ResNet18", "net.layer2", 28),  # resizes its input, so that a crop would be another image
    ],
)
def test_a_central_unit_has_the_same_values_on_what_it_sees(network, layer, side):
    net = models.build(network, 1).eval()
    crop, unit = visualize.central_view(net, layer)
    assert crop.stop - crop.start == side and unit.sum() == 1
    whole = visualize.reduce_maps(hooks.collect(net, IMAGES, [layer])[layer], "center")
    with hooks.stopping_at(net, layer) as activation, torch.no_grad():
        part = hooks.as_maps(activation(IMAGES[:, :, crop, crop]))
    torch.testing.assert_close((part * unit).sum(dim=(2, 3)), whole)


def test_achieved_is_the_units_own_activation(model):
    units = [Unit("conv2", 3, reduction) for reduction in visualize.REDUCTIONS]
    found = visualize.maximize(model, units, steps=3)
    maps = hooks.collect(model, found.images, ["conv2"])["conv2"][:, 3]
    expected = torch.stack([maps[0].sum(), maps[1].mean(), maps[2, 7, 7]])
    torch.testing.assert_close(found.achieved, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "layer"),
    [("LazyCNN", "conv3"), ("LazyCNN", "relu2"), ("LazyCNN", "fc"), ("RobustCNN", "conv2"), ("ResNet18", "net.layer1")],
)
def test_an_objective_is_the_reduced_activation(network, layer):
    net = models.build(network, 1).eval()
    units = [Unit(layer, channel, reduction) for reduction in visualize.REDUCTIONS for channel in (3, 0)]
    maps = hooks.collect(net, IMAGES[:1], [layer])[layer]
    expected = torch.cat([visualize.reduce_maps(maps, reduction)[0, [3, 0]] for reduction in visualize.REDUCTIONS])
    with torch.no_grad():
        found = visualize.unit_objective(net, units)(IMAGES[:1].expand(len(units), -1, -1, -1))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_same_seed_same_image_and_no_global_randomness(model):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    runs = [visualize.maximize(model, [Unit("conv3", 1)], steps=5, jitter=2, seed=s).images for s in (7, 7, 8)]
    inversion.invert(model, IMAGES, ["conv1"], steps=2)
    visualize.dream(model, IMAGES, torch.tensor([1, 2, 3, 4]), steps=2, jitter=1)
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    assert torch.equal(before, torch.random.get_rng_state())


def test_nothing_of_the_model_changes_not_even_after_an_error():
    model = models.build("RobustCNN", 0).train()
    model.conv1.weight.requires_grad_(False)
    before, weights = state(model), [w.clone() for w in model.state_dict().values()]
    visualize.maximize(model, [Unit("conv2", 0), Unit("conv2", 1, "center")], steps=2, redirect_steps=1)
    visualize.dream(model, IMAGES, torch.tensor([0, 1, 2, 3]), steps=1)
    inversion.invert(model, IMAGES, ["relu2", "fc"], steps=2, tv_weight=0.1)
    with pytest.raises(ZeroDivisionError), visualize.redirected_relus(model), fold.folded(model):
        raise ZeroDivisionError
    assert state(model) == before
    assert all(torch.equal(a, b) for a, b in zip(weights, model.state_dict().values(), strict=True))


class Dead(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.relu = nn.ReLU()
        nn.init.constant_(self.conv.bias, -2)

    def forward(self, x):
        return self.relu(self.conv(x))


def test_redirected_relus_wake_a_dead_unit():
    model = Dead()
    still = visualize.maximize(model, [Unit("relu", 0)], steps=40, lr=0.3)
    awake = visualize.maximize(model, [Unit("relu", 0)], steps=40, lr=0.3, redirect_steps=20)
    assert still.achieved == 0 and awake.history[0] == 0
    torch.testing.assert_close(still.images, visualize.maximize(model, [Unit("relu", 0)], steps=1).images)
    assert (awake.images - still.images).abs().max() > 0.1


def test_a_living_image_gets_the_plain_gradient():
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = torch.randn(4, 5)
    (redirected,) = torch.autograd.grad((visualize.RedirectedReLU.apply(x) * weight).sum(), x)
    (plain,) = torch.autograd.grad((x.relu() * weight).sum(), x)
    torch.testing.assert_close(redirected, plain)


def test_the_dream_starts_real_and_moves_to_its_targets(model):
    targets = torch.tensor([3, 3, 8, 0])
    frames = visualize.dream(model, IMAGES, targets, steps=15, lr=0.02)
    assert frames.shape == (16, 4, 3, 28, 28) and torch.equal(frames[0], IMAGES)
    assert frames.min() >= 0 and frames.max() <= 1
    logits = [model(frames[i]).gather(1, targets[:, None]) for i in (0, -1)]
    assert (logits[1] > logits[0] + 0.1).all()


def test_inversion_comes_nearer_for_each_layer_and_equals_the_loop(model):
    together = inversion.invert(model, IMAGES, ["conv1", "conv3"], steps=30, lr=0.2, tv_weight=0.1)
    start = inversion.invert(model, IMAGES, ["conv1", "conv3"], steps=1, lr=0.0)
    assert together.images.shape == (2, 4, 3, 28, 28) and (together.error < 0.5 * start.error).all()
    alone = inversion.invert(model, IMAGES[2:3], ["conv3"], steps=30, lr=0.2, tv_weight=0.1)
    torch.testing.assert_close(alone.images[0, 0], together.images[1, 2], rtol=0, atol=2e-3)


def test_total_variation_smooths(model):
    rough, smooth = (inversion.invert(model, IMAGES, ["conv1"], steps=30, tv_weight=w).images[0] for w in (0.0, 10.0))
    assert (inversion.total_variation(smooth) < inversion.total_variation(rough)).all()


def test_measures_of_recovered_images():
    masks = torch.zeros(2, 28, 28, dtype=torch.bool)
    masks[:, 8:20, 12:15] = True
    background = torch.tensor([[1.0, 0, 0], [0, 1, 0]])[:, :, None, None].expand(2, 3, 28, 28)
    images = torch.where(masks[:, None], 0.7, background)
    torch.testing.assert_close(inversion.color_error(images, images, masks), torch.zeros(2))
    torch.testing.assert_close(inversion.color_error(images.flip(0), images, masks), torch.full((2,), 2 / 3))
    torch.testing.assert_close(inversion.shape_correlation(images, masks), torch.ones(2))
    torch.testing.assert_close(inversion.stroke_iou(images, masks), torch.ones(2))
    assert inversion.shape_correlation(background, masks).abs().max() < 1e-6
    noise = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    assert inversion.shape_correlation(noise, masks).max() < 0.15


def test_readings_of_preferred_images():
    palette = torch.tensor([[255, 0, 0], [0, 0, 255]], dtype=torch.uint8)
    images = torch.tensor([[0.1, 0.0, 0.8], [0.9, 0.2, 0.1]])[:, :, None, None].expand(2, 3, 4, 4)
    assert visualize.palette_readout(images, palette).tolist() == [1, 0]
    gray = visualize.gray_out(images)
    torch.testing.assert_close(gray[:, 0], images.mean(1))
    kept = visualize.survival(torch.tensor([2.0, 9, -1]), torch.tensor([5.0, 5, 5]), torch.tensor([1.0, 1, 1]))
    assert kept.tolist() == [0.25, 1, 0]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel", "padding", "side"), [(9, 0, 28), (7, 3, 33), (5, 2, 28), (6, 1, 19)])
@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_folded_convolutions_equal_plain_ones(stride, kernel, padding, side, channels):
    with torch.random.fork_rng():
        model = nn.Sequential(nn.Conv2d(channels, 4, kernel, stride, padding))
    assert fold.worth_folding(model[0])
    x = torch.rand(2, channels, side, side + 1).requires_grad_()
    plain = model(x)
    with fold.folded(model):
        folded = model(x)
    torch.testing.assert_close(folded, plain, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(out.square().sum(), (x, *model.parameters())) for out in (plain, folded)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [(2,), (3, 2, 1), (3, 1), (2, 3)])
@pytest.mark.parametrize("sides", [(28, 28), (15, 20)])
def test_separable_max_pooling_is_exact(options, sides):
    pool = nn.MaxPool2d(*options)
    assert fold.separable(pool)
    x = torch.randn(3, 4, *sides, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fold.separable_max_pool(pool, x), pool(x))


@pytest.mark.parametrize(
    "options", [{"dilation": 2}, {"ceil_mode": True}, {"return_indices": True}, {"stride": (1, 2)}]
)
def test_other_poolings_are_left_alone(options):
    assert not fold.separable(nn.MaxPool2d(2, **options))


def test_before_a_cut_nothing_changes_by_a_bit_and_behind_it_only_rounding():
    model = nn.Sequential(nn.Conv2d(3, 6, 5), nn.MaxPool2d(2), nn.Conv2d(6, 4, 5))
    x = torch.rand(20, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with hooks.frozen(model):
        plain = model(x)
        with fold.quick_around_a_cut(model):
            assert torch.equal(model(x), plain)
            behind = model(x.requires_grad_())
        gradients = [torch.autograd.grad(out.square().sum(), x)[0] for out in (behind, model(x))]
    torch.testing.assert_close(behind, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: visualize.maximize(m, [Unit("conv9", 0)]), "no layer 'conv9': choose one of"),
        (lambda m: visualize.maximize(m, [Unit("conv1", 6)]), "channels 0 to 5"),
        (lambda m: visualize.maximize(m, [Unit("conv1", 0, "max")]), "choose one of sum, mean, center"),
        (lambda m: visualize.maximize(m, [Unit("conv1", 0)], steps=0), "at least 1"),
        (lambda m: visualize.dream(m, IMAGES, torch.tensor([1, 2, 3, 10])), "classes are 0 to 9"),
        (lambda m: visualize.dream(m, IMAGES * torch.nan, torch.tensor([1, 2, 3, 4])), "NaN"),
        (lambda m: inversion.invert(m, IMAGES, ["layer4"]), "no layer 'layer4'"),
        (lambda m: inversion.invert(m, IMAGES, []), "at least 1"),
    ],
)
def test_bad_input_is_one_clear_error(model, call, message):
    with pytest.raises(ClearError, match=message):
        call(model)
    assert state(model) == state(models.build("LazyCNN", 0))
