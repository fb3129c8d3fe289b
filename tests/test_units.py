"""The study of units: planted units are described as what they are."""

import pytest
import torch
from torch import nn

from lazyutils import data, models, prober, units, visualize
from lazyutils.data import ColoredDigits
from lazyutils.selectivity import FLOOR, balanced_colors

G = torch.Generator().manual_seed(0)
PALETTE = data.palette_tensor("study")


class TwoUnits(nn.Module):
    """Channel 0 sees how red an image is, channel 1 how bright; ten constant logits follow."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        self.fc = nn.Linear(2, 10)
        self.conv.weight.data = torch.tensor([[1.0, -1, -1], [1, 1, 1]])[:, :, None, None]

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


@pytest.fixture(scope="module")
def natural():
    labels = torch.arange(10).repeat(30)
    gray = torch.zeros(300, 28, 28, dtype=torch.uint8)
    gray[:, 10:14, 10:14] = 200
    colors = balanced_colors(labels, 0)
    return ColoredDigits(data.paint(gray, colors).float() / 255, labels, colors, gray > 0)


def test_planted_units(natural):
    study = units.study_units(
        TwoUnits(), [visualize.Unit("conv", 0), visualize.Unit("conv", 1)], natural, [0, 1], PALETTE, steps=60, lr=0.3
    )
    assert study.images.shape == (2, 2, 3, 28, 28) and study.top.shape == (2, 9)
    assert (study.color_eta2 > 0.95).all() and (study.digit_eta2 < 0.1).all()
    assert (natural.colors[study.top[0]] == 0).all(), "only red backgrounds are red"
    assert (study.excess > 1).all(), "no natural image is purer than the preferred one"
    assert (study.survival[:, 0] < 0.1).all() and (study.survival[:, 1] > 0.95).all()
    assert study.worn.shape == (2, 2) and study.worn[:, 0].tolist() == [0, 0], "both seeds' images are red"
    assert study.liked.tolist() == [0, PALETTE.sum(1).argmax().item()]
    summary = study.summary()["conv"]
    assert summary["palette_agreement"] == (study.worn == study.liked).double().mean().item() >= 0.5
    assert summary["colour_eta2"] == pytest.approx(study.color_eta2.mean().item())
    assert summary["colours_counted"] == 2 and summary["colours_answered"] >= 1
    digits_counted = (study.digit_eta2 > FLOOR).sum().item()
    assert summary["digits_counted"] == digits_counted and (summary["digits_answered"] is None) == (not digits_counted)


def test_unit_values_are_the_layers_own(natural):
    model = models.build("LazyCNN", 0)
    chosen = [visualize.Unit("conv2", 3), visualize.Unit("conv1", 1, "sum"), visualize.Unit("conv2", 0, "center")]
    values = units.unit_values(model, natural.images[:4], chosen)
    conv1 = model.conv1(model.normalize(natural.images[:4]))
    conv2 = model.conv2(conv1.relu())
    expected = torch.stack([conv2[:, 3].mean((1, 2)), conv1[:, 1].sum((1, 2)), conv2[:, 0, 7, 7]], 1)
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-4)


class ColorReader(nn.Module):
    """Answers with the palette colour nearest to the image's mean."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 10)
        colors = PALETTE.float() / 255
        self.fc.weight.data, self.fc.bias.data = 2 * colors, -colors.square().sum(1)

    def forward(self, x):
        return self.fc(x.mean((2, 3)))


def test_a_colour_readers_classes_do_not_survive_grey():
    found = units.class_images(ColorReader(), "fc", PALETTE, seeds=[0], steps=2, lr=0.01)
    assert found["images"].shape == (1, 10, 3, 28, 28)
    assert found["survives"].sum() <= 1, "a grey image has one answer for all ten classes"


def test_dreams_of_a_colour_reader_wear_the_targets_colour(natural):
    shares = prober.dream_readouts({"reader": ColorReader()}, natural[:20], PALETTE, steps=1)
    more = prober.dream_readouts({"reader": ColorReader()}, natural[:20], PALETTE, steps=60)
    assert more["reader"] > shares["reader"]


def test_results_have_plain_names():
    table = {"LazyCNN": {"net.layer2": {"a": torch.tensor([1.0, 2.0])}}, "honest twin": {"colour only": 0.5}}
    table["honest twin"]["images"] = torch.rand(2, 3, 4, 4)
    assert prober.plain(table) == {"lazycnn": {"layer2": {"a": 1.5}}, "twin": {"colour_only": 0.5}}
