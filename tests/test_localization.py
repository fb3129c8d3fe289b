"""Localisation measures against cases whose answer is known, and against scikit-learn and SciPy."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import nn

from lazyutils import localization as measure
from lazyutils.errors import ClearError


def halves(n: int = 4) -> torch.Tensor:
    """Regions that are the left half of 28 x 28."""
    region = torch.zeros(n, 28, 28, dtype=torch.bool)
    region[:, :, :14] = True
    return region


class Brightness(nn.Module):
    """Two logits: 0 and the mean brightness times a gain; counts nothing else."""

    def __init__(self, gain: float = 4.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x):
        bright = self.gain * x.mean((1, 2, 3))
        return torch.stack([torch.zeros_like(bright), bright], dim=1)


def test_heat_share_and_pixel_share():
    maps = torch.ones(4, 28, 28)
    maps[1, :, 14:] = 0
    maps[2, :, 14:] = 3
    maps[3] = 0
    share = measure.heat_share(maps, halves())
    assert share[:3].tolist() == [0.5, 1.0, 0.25] and share[3].isnan()
    assert measure.pixel_share(halves()).tolist() == [0.5] * 4


def test_heat_on_region_and_outside_add_up_to_one():
    maps = torch.rand(8, 28, 28, generator=torch.Generator().manual_seed(0))
    inside, outside = (measure.heat_share(maps, region) for region in (halves(8), ~halves(8)))
    assert torch.allclose(inside + outside, torch.ones(8))


def test_pointing_game_counts_ties_and_skips_empty_maps():
    maps = torch.zeros(4, 28, 28)
    maps[0, 3, 3] = 1
    maps[1, 3, 20] = 1
    maps[2, 3, 3] = maps[2, 3, 20] = 1
    hits = measure.pointing_game(maps, halves())
    assert hits[:3].tolist() == [1, 0, 0.5] and hits[3].isnan()


def test_estimate_is_the_normal_interval_and_skips_nan():
    values = torch.tensor([0.0, 1.0, 1.0, 0.0, float("nan")])
    result = measure.estimate(values)
    half = 1.96 * math.sqrt((4 * 0.25 / 3) / 4)
    assert (result.mean, result.n) == (0.5, 4)
    assert result.high - result.mean == pytest.approx(half) and result.mean - result.low == pytest.approx(half)
    assert math.isnan(measure.estimate(torch.full((3,), float("nan"))).mean)


def test_estimate_covers_the_truth_about_95_times_in_100():
    generator = torch.Generator().manual_seed(0)
    hits = [
        interval.low <= 0.3 <= interval.high
        for interval in (measure.estimate((torch.rand(400, generator=generator) < 0.3).float()) for _ in range(400))
    ]
    assert 0.92 < sum(hits) / len(hits) < 0.98


def test_negative_heat_and_other_sizes_are_refused():
    with pytest.raises(ClearError, match="negative"):
        measure.heat_share(-torch.ones(4, 28, 28), halves())
    with pytest.raises(ClearError, match="N, H, W"):
        measure.pointing_game(torch.ones(4, 7, 7), halves())


def test_attainable_shares_of_coarse_grids():
    lowest, highest = measure.attainable_shares(halves(2), (1, 1))
    assert lowest.isnan().all() and highest.isnan().all()
    lowest, highest = measure.attainable_shares(halves(2), (2, 2))
    assert 0.05 < lowest[0] < 0.25 and lowest[0] + highest[0] == pytest.approx(1, abs=1e-5)
    lowest, highest = measure.attainable_shares(halves(2), (28, 28))
    assert lowest[0] == 0 and highest[0] == 1


def test_no_mixture_of_cells_exceeds_the_attainable_shares():
    generator = torch.Generator().manual_seed(0)
    region = torch.rand(1, 28, 28, generator=generator) < 0.3
    lowest, highest = measure.attainable_shares(region, (4, 4))
    mixtures = torch.rand(300, 4, 4, generator=generator) ** 6
    mixtures[:, 0, 0] = 0
    shares = measure.heat_share(measure.to_display(mixtures, (28, 28)), region.expand(300, -1, -1))
    assert shares.min() >= lowest - 1e-3 and shares.max() <= highest + 1e-3


def test_deletion_goes_from_the_image_to_the_fill_and_insertion_back():
    model, generator = Brightness(), torch.Generator().manual_seed(0)
    images, fill = torch.rand(5, 3, 28, 28, generator=generator), torch.zeros(5, 3, 28, 28)
    maps, targets = torch.rand(5, 28, 28, generator=generator), torch.ones(5, dtype=torch.long)
    deletion = measure.deletion_curve(model, images, fill, maps, targets, steps=7)
    insertion = measure.deletion_curve(model, fill, images, maps, targets, steps=7)
    full, empty = (model(x).softmax(1)[:, 1] for x in (images, fill))
    assert deletion.shape == (5, 8)
    assert torch.allclose(deletion[:, 0], full) and torch.allclose(deletion[:, -1], empty)
    assert torch.allclose(insertion[:, 0], empty) and torch.allclose(insertion[:, -1], full)


def test_area_of_a_constant_scorer_and_of_a_straight_line():
    assert measure.area(torch.full((2, 5), 0.3)).tolist() == pytest.approx([0.3, 0.3])
    assert measure.area(torch.linspace(1, 0, 9)[None]).item() == pytest.approx(0.5)
    images, maps = torch.rand(3, 3, 28, 28), torch.rand(3, 28, 28)
    constant = measure.deletion_curve(
        Brightness(0.0), images, images * 0, maps, torch.zeros(3, dtype=torch.long), steps=4
    )
    assert measure.area(constant).tolist() == pytest.approx([0.5] * 3)


def test_a_good_map_falls_faster_than_a_random_one_and_that_faster_than_a_bad_one():
    model, generator = Brightness(40.0), torch.Generator().manual_seed(0)
    images = torch.rand(8, 1, 28, 28, generator=generator).expand(-1, 3, -1, -1) ** 4
    targets = torch.ones(8, dtype=torch.long)
    good, bad = images[:, 0], 1 - images[:, 0]
    areas = [
        measure.area(measure.deletion_curve(model, images, images * 0, maps, targets)).mean()
        for maps in (good, torch.rand(8, 28, 28, generator=generator), bad)
    ]
    assert areas[0] < areas[1] - 0.05 and areas[1] < areas[2] - 0.05


def test_heat_order_is_a_ranking_with_ties_at_random():
    maps = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(0))
    order = measure.heat_order(maps).flatten(1)
    assert torch.equal((order * 36).round().sort(1).values, torch.arange(36.0).expand(2, -1))
    assert torch.equal(order.argsort(1), maps.flatten(1).argsort(1, descending=True))
    flat = torch.zeros(1, 6, 6)
    assert torch.equal(measure.heat_order(flat, 1), measure.heat_order(flat, 1))
    assert not torch.equal(measure.heat_order(flat, 1), measure.heat_order(flat, 2))


def test_no_steps_are_refused():
    images = torch.rand(1, 3, 28, 28)
    with pytest.raises(ClearError, match="steps = 0"):
        measure.deletion_curve(Brightness(), images, images, images[:, 0], torch.zeros(1, dtype=torch.long), steps=0)


def test_rank_correlation_equals_scipy_with_ties():
    generator = torch.Generator().manual_seed(0)
    first = (torch.rand(3, 28, 28, generator=generator) - 0.5).relu()
    second = first + torch.rand(3, 28, 28, generator=generator)
    theirs = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(first, second, strict=True)]
    assert measure.rank_correlation(first, second).tolist() == pytest.approx(theirs, abs=1e-6)
    assert measure.rank_correlation(first, first * 0).isnan().all()
    values = torch.tensor([1.0, 3.0, float("nan"), 2.0])
    assert measure.spearman(values, -values) == pytest.approx(-1)


def test_separation_is_the_area_under_the_roc_curve():
    generator = torch.Generator().manual_seed(0)
    higher, lower = torch.rand(50, generator=generator) + 0.3, torch.rand(80, generator=generator).round(decimals=1)
    theirs = roc_auc_score([1] * 50 + [0] * 80, torch.cat([higher, lower]).numpy())
    with_nan = torch.cat([higher, torch.tensor([float("nan")])])
    assert measure.separation(with_nan, lower) == pytest.approx(theirs)
    assert measure.separation(lower, lower) == pytest.approx(0.5)
