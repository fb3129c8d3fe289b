"""The sentences of Task 2 follow the numbers, whichever way they come out."""

import pytest
import torch

from lazyutils import plots_prober, words_prober
from lazyutils.parametrization import ColorStatistics

PARTS = ("chromatic_flat", "chromatic_pattern", "gray_flat", "gray_pattern")
ENERGY = {"LazyCNN": {part: torch.full((6,), share) for part, share in zip(PARTS, (0.1, 0.5, 0.1, 0.3), strict=True)}}


class Study:
    """What the sentences read of a study of units."""

    def __init__(self, color, digit=0.1, agreement=0.25):
        self.row = {"colour_eta2": color, "digit_eta2": digit, "palette_agreement": agreement}

    def summary(self):
        return {"conv3": self.row}


def test_a_missing_network_has_a_line_and_no_bar():
    without = words_prober.filters(ENERGY)
    assert "LazyCNN 60.0% chromatic and 20.0% flat" in without and "RobustCNN, Task 4's network, has no bar" in without
    assert "no bar" not in words_prober.filters({**ENERGY, "RobustCNN": ENERGY["LazyCNN"]})


@pytest.mark.parametrize(
    ("untrained", "twin", "origin", "honest"),
    [
        (0.94, 0.5, "colour neuron is what one gets for nothing", "(less than"),
        (0.5, 0.6, "so most of LazyCNN's share", "(no less than"),
        (0.3, 0.2, "so less than half of LazyCNN's share", "(less than"),
    ],
)
def test_neurons_are_judged_by_their_controls(untrained, twin, origin, honest):
    controls = {"untrained": Study(untrained), "honest twin": Study(twin)}
    text = words_prober.neurons(Study(0.96), controls)
    assert "**96.0%**" in text and origin in text and honest in text


@pytest.mark.parametrize(
    ("inside", "out", "way", "readout"),
    [
        (0.7, 0.3, "*not* thrown", "most of the loss is in the *readout*"),
        (0.4, 0.3, "partly lost", "the *readout* loses the rest"),
        (0.3, 0.28, "partly lost", "it stays"),
        (0.7, 0.69, "*not*", "it stays"),
    ],
)
def test_the_digit_is_followed_to_where_it_gets_lost(inside, out, way, readout):
    probed = {"pixels": {"digit": 0.6}, "relu3": {"digit": inside}, "fc": {"digit": out}}
    text = words_prober.digit(probed, probed)
    assert way in text and readout in text


class Sweep:
    """What the sentences read of answers to repainted digits."""

    def __init__(self, follows):
        self.follows = follows

    def summary(self):
        return {"colour_share": self.follows}


@pytest.mark.parametrize(("follows", "hidden"), [(0.77, True), (0.2, False)])
def test_climbs_fail_only_where_the_answers_follow_the_colour_more(follows, hidden):
    classes = {"LazyCNN": {"own_colour": torch.tensor([True, False, False, False, False])}}
    text = words_prober.climbs({"LazyCNN": 0.12, "untrained": 0.11}, classes, Sweep(follows))
    assert "preferred images in 20%" in text and ("A climb leaves the data" in text) == hidden


def test_a_table_shows_a_dash_where_no_unit_counts():
    assert plots_prober.answered(4.44, 16) == "4.4 (16)" and plots_prober.answered(None, 0) == "–"


def test_readings_by_eye_name_the_control():
    text = words_prober.eye(Study(0.9, agreement=0.31), Study(0.9, agreement=0.12))
    assert "conv3 31% (untrained 12%)" in text


def test_correlation_of_colours_is_that_of_their_covariance():
    covariance = torch.tensor([[4.0, -1.5, 0], [-1.5, 1, 0], [0, 0, 1]])
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors @ torch.diag(values.sqrt()) @ vectors.T
    assert "at most 0.75" in words_prober.decorrelation(ColorStatistics(torch.zeros(3), root))
