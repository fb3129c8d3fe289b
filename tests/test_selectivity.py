"""Eta squared against the textbook's formula and scipy; planted units; the energy of filters."""

import numpy as np
import pytest
import torch
from scipy.stats import f_oneway

from lazyutils import models, selectivity
from lazyutils.errors import ClearError

G = torch.Generator().manual_seed(0)
FACTOR = torch.randint(10, (400,), generator=G)


def test_eta_squared_follows_from_scipys_f():
    x = torch.randn(400, 3, generator=G) + FACTOR[:, None] * torch.tensor([0.0, 0.1, 1.0])
    ours = selectivity.eta_squared(x, FACTOR)
    for unit in range(3):
        f = f_oneway(*[x[level == FACTOR, unit].double().numpy() for level in range(10)]).statistic
        assert ours[unit].item() == pytest.approx(f * 9 / (f * 9 + 390), rel=1e-5)


def test_eta_squared_of_extreme_units():
    x = torch.stack([FACTOR.float() * 3 + 1e3, torch.full((400,), 0.1), (FACTOR == 4).float()], 1)
    eta = selectivity.eta_squared(x, FACTOR)
    assert eta[0] == pytest.approx(1, abs=1e-5) and eta[1] == 0 and eta[2] == pytest.approx(1)


def test_noise_explains_what_chance_explains():
    eta = selectivity.eta_squared(torch.randn(400, 500, generator=G), FACTOR)
    assert eta.mean().item() == pytest.approx(9 / 399, rel=0.1)


def test_levels_answered_counts_meanings():
    x = torch.stack([(FACTOR == 4).float(), ((FACTOR == 4) | (FACTOR == 7)).float(), torch.zeros(400)], 1)
    assert selectivity.levels_answered(x, FACTOR).tolist() == [1, 2, 0]


def test_only_units_with_enough_variance_explained_are_counted():
    answered, eta2 = torch.tensor([1, 4, 9]), torch.tensor([0.9, 0.3, selectivity.FLOOR / 2])
    assert selectivity.mean_answered(answered, eta2) == (2.5, 2)
    assert selectivity.mean_answered(answered[2:], eta2[2:]) == (None, 0)


def test_balanced_colors_make_factors_independent():
    labels = torch.arange(10).repeat_interleave(torch.tensor([50, 43, 31, 60, 20, 25, 77, 10, 99, 85]))
    colors = selectivity.balanced_colors(labels, seed=1)
    for digit in range(10):
        counts = torch.bincount(colors[labels == digit], minlength=10)
        assert counts.max() - counts.min() <= 1
    assert torch.equal(colors, selectivity.balanced_colors(labels, seed=1))
    assert not torch.equal(colors, selectivity.balanced_colors(labels, seed=2))


def test_top_images():
    x = torch.tensor([[0.0, 9.0], [5.0, 1.0], [2.0, 4.0]])
    assert selectivity.top_images(x, 2).tolist() == [[1, 2], [0, 2]]
    with pytest.raises(ClearError, match="choose 1 to 3"):
        selectivity.top_images(x, 4)


def test_filter_energy_of_known_filters():
    flat_red = torch.zeros(1, 3, 5, 5)
    flat_red[:, 0] = 1
    edge = torch.tensor([1.0, -1.0]).repeat(1, 3, 4, 2)
    parts = selectivity.filter_energy(flat_red)
    assert parts["chromatic_flat"].item() == pytest.approx(2 / 3) and parts["gray_flat"].item() == pytest.approx(1 / 3)
    assert selectivity.filter_energy(edge)["gray_pattern"].item() == pytest.approx(1)


def test_filter_energy_adds_up_and_random_filters_score_chance():
    weight = torch.randn(2000, 3, 9, 9, generator=G)
    parts = selectivity.filter_energy(weight)
    np.testing.assert_allclose(sum(parts.values()).numpy(), 1, rtol=1e-5)
    assert (parts["chromatic_flat"] + parts["chromatic_pattern"]).mean().item() == pytest.approx(2 / 3, abs=0.01)
    assert (parts["chromatic_flat"] + parts["gray_flat"]).mean().item() == pytest.approx(1 / 81, rel=0.1)
    assert selectivity.filter_energy(models.build("LazyCNN").conv1.weight)["gray_flat"].shape == (6,)


def test_unfit_input_is_one_clear_error():
    with pytest.raises(ClearError, match="same N images"):
        selectivity.eta_squared(torch.zeros(5, 2), torch.zeros(4, dtype=torch.long))
    with pytest.raises(ClearError, match="at least one of each"):
        selectivity.eta_squared(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))
