"""Probes find what is planted, agree with scikit-learn, and the counterfactual questions ask what they say."""

import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import nn

from lazyutils import probes
from lazyutils.data import ColoredDigits, paint
from lazyutils.errors import ClearError

G = torch.Generator().manual_seed(0)


class Reader(nn.Module):
    """Answers with the nearest palette colour of a corner pixel (``colour``), or always 3."""

    def __init__(self, constant: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 1)
        self.constant = constant
        palette = paint(torch.zeros(10, 1, 1, dtype=torch.uint8), torch.arange(10), noise=0)[:, :, 0, 0].float() / 255
        with torch.no_grad():
            self.conv.weight.copy_(2 * palette[:, :, None, None])
            self.conv.bias.copy_(-palette.square().sum(1))

    def forward(self, x):
        scores = self.conv(x)[:, :, :2, :2].mean((2, 3))
        return torch.eye(10)[3].expand_as(scores) if self.constant else scores


@pytest.fixture(scope="module")
def digits():
    n = 200
    gray = torch.zeros(n, 28, 28, dtype=torch.uint8)
    labels, colors = torch.randint(10, (n,), generator=G), torch.randint(10, (n,), generator=G)
    gray[:, 10:18, 10:18] = 200
    return ColoredDigits(paint(gray, colors, noise=5).float() / 255, labels, colors, gray > 0)


@pytest.mark.parametrize(("n", "d", "shrinkage"), [(150, 20, 0.01), (60, 90, 0.3)])
def test_the_discriminant_equals_scikit_learns(n, d, shrinkage):
    x, targets = torch.randn(n, d, generator=G), torch.randint(4, (n,), generator=G)
    x[:, 0] += targets
    (ours,) = probes.discriminants(x, targets, 4, [shrinkage])
    peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x.double().numpy(), targets.numpy())
    torch.testing.assert_close(ours.weight.T.double(), torch.from_numpy(peer.coef_), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours.bias.double(), torch.from_numpy(peer.intercept_), rtol=1e-3, atol=1e-4)
    assert (ours.predict(x).numpy() == peer.predict(x.double().numpy())).all()


def test_a_planted_factor_is_read_and_noise_is_not():
    targets, other = torch.randint(10, (1500,), generator=G), torch.randint(10, (1500,), generator=G)
    features = torch.randn(10, 40, generator=G)[targets] + 0.5 * torch.randn(1500, 40, generator=G)
    train, test = slice(1000), slice(1000, None)
    found = probes.fit_probe(features[train], targets[train]).predict(features[test])
    assert (found == targets[test]).double().mean() > 0.95
    guess = probes.fit_probe(features[train], other[train]).predict(features[test])
    assert (guess == other[test]).double().mean() < 0.2


def test_layers_are_probed_for_both_factors(digits):
    scores = probes.probe_layers(Reader(), ["conv"], digits[:150], digits[150:], limit=300)
    assert set(scores) == {"pixels", "conv"} and set(scores["conv"]) == {"colour", "digit"}
    assert scores["conv"]["colour"] > 0.9 and scores["conv"]["digit"] < 0.4


def test_pooling_keeps_the_limit():
    assert probes.pooled(torch.zeros(2, 64, 16, 16), 800).shape == (2, 64 * 9)
    assert probes.pooled(torch.zeros(2, 16, 7, 7), 800).shape == (2, 784)
    assert probes.pooled(torch.zeros(2, 512), 800).shape == (2, 512)


def test_the_hue_sweep_of_a_colour_reader_and_of_a_constant(digits):
    sweep = probes.hue_sweep(Reader(), digits[:20], noise=0)
    assert (sweep.answers == torch.arange(10)).all() and (sweep.distinct == 10).all()
    assert sweep.summary()["changed_share"] == 1 and sweep.summary()["colour_share"] == 1
    constant = probes.hue_sweep(Reader(constant=True), digits[:20])
    assert constant.summary()["changed_share"] == 0 and constant.summary()["distinct_answers"] == 1


def test_the_four_corners(digits):
    corners = probes.four_corners(digits)
    assert torch.equal(corners["colour and digit"], digits.images)
    off = ~digits.masks
    for name in ("digit only", "neither"):
        background = corners[name].permute(0, 2, 3, 1)[off]
        torch.testing.assert_close(background[:, 0], background[:, 1])
    stroke = digits.masks[:, None].expand(-1, 3, -1, -1)
    assert torch.equal(corners["digit only"][stroke], digits.images[stroke])
    assert (corners["colour only"].std((2, 3)) < 0.1).all()
    answers = probes.corner_answers(Reader(), digits)
    assert answers["colour only"]["colour_share"] == 1 and answers["neither"]["colour_share"] < 0.3


def test_unfit_shapes_are_one_clear_error():
    with pytest.raises(ClearError, match=r"give \[N, D\] and \[N\]"):
        probes.fit_probe(torch.zeros(5, 2), torch.zeros(4, dtype=torch.long))
