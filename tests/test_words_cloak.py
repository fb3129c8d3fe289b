"""The sentences of Task 5 follow the numbers, whichever way they come out."""

from __future__ import annotations

import pytest
import torch

from lazyutils import words_cloak as words
from lazyutils.cloak_beyond import Attempt
from lazyutils.plots_cloak import NAMES

RADII = [0.05, 0.1, 0.5]
ANOTHER = torch.arange(20) < 8


def test_names_are_one_list():
    assert words.listed(["twin"]) == "the honest twin"
    assert words.listed(["lazycnn", "twin", "robust_erm"]) == "LazyCNN, the honest twin and the plain RobustCNN"
    assert set(words.IN_WORDS) == set(NAMES)


def test_a_missing_network_is_named():
    assert "Left out" not in words.chosen(20, torch.tensor([1, 2]), [], 7, 3)
    said = words.chosen(20, torch.tensor([1, 2]), ["twin"], 7, 3)
    assert "both read 2" in said and "**1**" in said and "the honest twin." in said


def test_the_reachable_radius_is_where_success_stays():
    assert words.reach([0.004, 0.46, 1.0], RADII) == 0.5
    assert words.reach([0.9, 0.4, 0.6], RADII) == 0.5
    assert words.reach([0.6, 0.7, 0.8], RADII) == 0.05
    assert words.reach([0.6, 0.7, 0.5], RADII) is None


def curves(**shares):
    return {name: [{"answer": share} for share in points] for name, points in shares.items()}


def test_one_noise_is_judged_at_the_radius_of_the_page_first():
    said = words.one_noise(curves(lazycnn=(0.004, 0.46, 1.0), twin=(0.1, 0.2, 0.3)), RADII, 0.05, 3)
    assert "Within 0.05 it makes 0.4% (LazyCNN), 10.0% (honest twin)" in said
    assert "from 0.5 on for LazyCNN; at no radius up to 0.5 for the honest twin" in said
    assert "A noise of 0.5 is visible: 128 of 255 levels." in said
    assert "visible" not in words.one_noise(curves(lazycnn=(0.6, 0.7, 0.8)), RADII, 0.05, 3)
    assert "visible" not in words.one_noise(curves(lazycnn=(0.0, 0.0, 0.0)), RADII, 0.05, 3)


def radii(**sizes):
    """The same radius for all images of a network."""
    return {name: {"PGD": torch.full((20,), size)} for name, size in sizes.items()}


@pytest.mark.parametrize(
    ("twin", "fixed", "answer", "cause"),
    [
        (0.1, 0.1, "No, the opposite.", "neither protects it"),
        (0.4, 0.4, "Yes.", "the easier victim; a RobustCNN"),
        (0.4, 0.1, "Not clearly.", "the easier victim; a RobustCNN"),
        (0.2, 0.1, "Not clearly.", "need not be laziness"),
        (torch.inf, 0.1, "Not clearly.", "the easier victim; a RobustCNN"),
    ],
)
def test_laziness_is_judged_by_the_twin(twin, fixed, answer, cause):
    said = words.victim(radii(lazycnn=0.2, twin=twin, robust_best=fixed), ANOTHER)
    assert answer in said and cause in said and "That holds for the 8 images" in said
    assert ("more than was searched" in said) == (twin == torch.inf)


def test_without_a_twin_nothing_is_said_of_laziness():
    said = words.victim(radii(lazycnn=0.2, robust_best=0.1), torch.zeros(20, dtype=torch.bool))
    assert "can't be told apart" in said and "another colour" not in said


def test_another_result_on_the_images_in_another_colour_is_said():
    found = radii(lazycnn=0.2, twin=0.1)
    found["twin"]["PGD"] = torch.where(ANOTHER, 0.4, 0.1)
    assert "It needs a smaller one than the honest twin on the 8 images" in words.victim(found, ANOTHER)


class Drawn:
    """What the sentence reads of a drawing."""

    def __init__(self, colors, shapes):
        self.colors, self.shapes = torch.tensor(colors), torch.tensor(shapes)


def test_a_colour_is_singled_out_by_a_lead_only():
    near = [0.65, 0.87, 0.34, 0.87, 0.77, 0.86, 0.68, 0.41, 0.88, 0.77]
    said = words.likeness({"lazycnn": Drawn(near, near)}, 3)
    assert "| LazyCNN | 0.87 | 0.34 to 0.88 | 0.87 | 0.34 to 0.88 |" in said
    assert "no colour and no digit is singled out" in said
    clear = [0.1] * 3 + [0.9] + [0.2] * 5 + [torch.nan]
    assert "yellow and 3 (LazyCNN)" in words.likeness({"lazycnn": Drawn(clear, clear)}, 3)
    unknown = [torch.nan] * 10
    assert "| – | – | – | – |" in words.likeness({"lazycnn": Drawn(unknown, unknown)}, 3)


@pytest.mark.parametrize(
    ("control", "strong", "said"),
    [
        (0.95, 0.92, "the adversary costs 3.0 points"),
        (0.92, 0.95, "the adversary brings 3.0 points"),
        (0.921, 0.92, "-0.1 points, is no more than chance"),
    ],
)
def test_the_price_of_hardening_is_against_the_control(control, strong, said):
    rows = {name: {"hard_accuracy": hard, "pgd": 0.5} for name, hard in (("a", 0.954), ("b", control), ("c", strong))}
    assert said in words.hardening(rows, 2000) and "from 95.4%" in words.hardening(rows, 2000)


def test_small_sentences():
    assert "margin and momentum bring nothing" in words.tools({"PGD": 0.2, "strong": 0.2, "FMN": None})
    assert "get by with less" in words.tools({"PGD": None, "strong": 0.2, "FMN": None})
    kinds = {"lazycnn": {"colour only": [0.0, 0.02, 0.14]}}
    assert "fools 0% (LazyCNN) of the images within 0.05, and within 0.5 14%" in words.tint_alone(kinds, RADII, 0.05)
    shares = {"lazycnn": 0.2, "twin": 0.05, "robust_erm": 0.0, "random": 0.001}
    assert "LazyCNN's share is 4.0 times the honest twin's." in words.reasons(shares, "")
    assert "LazyCNN reads 50%" in words.attempt(Attempt([0.1], 0.0, 0.1, 0.2, 0.3, 0.5), 7)
    assert "12.0% → 50.0% (LazyCNN)" in words.by_color({"lazycnn": torch.tensor([[0.12, torch.nan], [0.5, torch.nan]])})
