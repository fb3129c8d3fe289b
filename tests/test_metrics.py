"""Metrics against scikit-learn, SciPy and hand-counted cases."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import spatial, stats
from sklearn.metrics import confusion_matrix, mutual_info_score, recall_score

from lazyutils import data, metrics

PAIRS = st.integers(1, 300).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 9), min_size=n, max_size=n).map(torch.tensor)] * 2)
)


@given(PAIRS)
def test_contingency_is_sklearns_confusion_matrix(pair):
    counts = metrics.contingency(*pair)
    assert counts.dtype == torch.int64
    assert counts.tolist() == confusion_matrix(*pair, labels=range(10)).tolist()


@given(PAIRS)
def test_worst_digit_is_sklearns_lowest_recall(pair):
    labels, predictions = pair
    present = labels.unique().tolist()
    expected = recall_score(labels, predictions, labels=present, average=None).min()
    assert metrics.worst_digit(labels, predictions) == pytest.approx(expected, abs=1e-6)


@given(PAIRS)
def test_mutual_information_is_sklearns_in_bits(pair):
    expected = mutual_info_score(*(values.numpy() for values in pair)) / math.log(2)
    assert metrics.mutual_information_bits(metrics.contingency(*pair)) == pytest.approx(expected, abs=1e-9)


def test_mutual_information_of_the_extremes():
    assert metrics.mutual_information_bits(torch.eye(10)) == pytest.approx(math.log2(10))
    assert metrics.mutual_information_bits(torch.ones(10, 10)) == pytest.approx(0)
    assert metrics.mutual_information_bits(1 - torch.eye(10)) == pytest.approx(math.log2(10 / 9))


@given(n=st.integers(1, 10_000), share=st.floats(0, 1))
def test_wilson_interval_is_scipys(n, share):
    hits = round(share * n)
    low, high = metrics.wilson_interval(hits / n, n, z=stats.norm.ppf(0.975))
    expected = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_who_is_followed():
    labels, colors = torch.tensor([1, 1, 1, 1, 1]), torch.tensor([2, 2, 2, 2, 2])
    shares = metrics.followed(torch.tensor([1, 2, 2, 2, 7]), labels, colors)
    assert shares == pytest.approx({"digit_share": 0.2, "colour_share": 0.6, "neither_share": 0.2, "shape_bias": 0.25})
    assert math.isnan(metrics.followed(torch.full((5,), 7), labels, colors)["shape_bias"])


def test_cheating_puts_both_sets_together():
    def digits(labels, colors):
        n = len(labels)
        return data.ColoredDigits(torch.zeros(n, 3, 28, 28), labels, colors, torch.zeros(n, 28, 28, dtype=torch.bool))

    easy = digits(torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 2, 9]))
    hard = digits(torch.tensor([0, 1]), torch.tensor([5, 6]))
    figures = metrics.cheating(easy.colors, easy, hard.colors, hard)
    assert figures == {
        "easy_accuracy": 0.75,
        "hard_accuracy": 0.0,
        "digit_share": 0.0,
        "colour_share": 1.0,
        "neither_share": 0.0,
        "shape_bias": 0.0,
    }


def test_figures_over_seeds():
    assert metrics.over_seeds([0.5]) == {"mean": 0.5, "sd": None, "n": 1, "values": [0.5]}
    figure = metrics.over_seeds([1, 2, 4])
    assert figure["sd"] == pytest.approx(stats.tstd([1, 2, 4])) and figure["mean"] == pytest.approx(7 / 3)
    collected = metrics.collect_seeds([{"a": 1, "b": 5}, {"a": 3, "b": 5}])
    assert collected["a"]["mean"] == 2 and collected["b"]["values"] == [5, 5]


def test_most_confident_first_and_only_among_the_asked():
    probabilities = torch.tensor([[0.6, 0.4], [0.1, 0.9], [0.3, 0.7], [0.99, 0.01]])
    among = torch.tensor([True, True, True, False])
    assert metrics.most_confident(probabilities, among).tolist() == [1, 2, 0]
    assert metrics.most_confident(probabilities, torch.zeros(4, dtype=torch.bool)).tolist() == []


@pytest.mark.parametrize(("noise", "pixel"), [(0.0, 1.0), (20.0, 0.997), (80.0, 0.67)])
def test_colors_told_by_a_pixel_and_by_the_average(few, noise, pixel):
    easy = data.colored_mnist(few, noise=noise)["easy"]
    told = metrics.colors_told(easy["images"], easy["masks"], easy["colors"], data.palette_tensor("study"))
    assert told["average"] == 1
    assert told["pixel"] == pytest.approx(pixel, abs=4 * math.sqrt(pixel * (1 - pixel) / len(easy["colors"])))


def test_the_average_leaves_the_stroke_out():
    palette = torch.tensor([[0, 0, 0], [255, 255, 255]], dtype=torch.uint8)
    image, mask = torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.tensor([[[True, True], [True, False]]])
    image[:, :, mask[0]] = 255
    assert metrics.colors_told(image, mask, torch.tensor([0]), palette) == {"pixel": 1, "average": 1}


def test_closest_pairs_are_scipys():
    palette = data.palette_tensor("study")
    distances = spatial.distance_matrix(palette, palette)
    for one, other, distance in metrics.closest_pairs(palette, 6):
        assert distance == pytest.approx(distances[one, other])
    (one, other, first), *_, (_, _, last) = metrics.closest_pairs(palette, 6)
    assert (data.COLOR_NAMES[one], data.COLOR_NAMES[other], round(first)) == ("yellow", "orange", 90)
    assert (distances[torch.triu_indices(10, 10, 1).unbind()] <= last).sum() == 6
