"""The sentences of Task 3 follow the numbers, whichever way they come out."""

import math

import pytest
import torch

from lazyutils import words_interrogation as words
from lazyutils.localization import Estimate
from lazyutils.saliency import METHODS

MADE = {"parameters": {"train_size": 2000, "batch_size": 20, "epochs": 6, "seeds": [0]}}


def test_the_twins_training_stands_beside_lazycnns():
    text = words.twin(MADE, 500, 2)
    assert "500 of the 2,000 digits" in text and "16 steps of Adam" in text and "600 steps of plain" in text
    assert "saw all 2,000 digits" in words.twin(MADE, 9000, 1)
    assert "all 12,000 digits" in words.twin({"standin": True}, 12000, 10)


def test_empty_maps_are_listed_by_network():
    assert "LazyCNN 0.3%, honest twin 25.5%" in words.empty({"lazycnn": 0.0029, "twin": 0.2547})


def test_a_location_names_its_images_and_its_scope():
    found = {"lazycnn": Estimate(0.8, 0.79, 0.81, 9971), "twin": Estimate(math.nan, math.nan, math.nan, 0)}
    text = words.located(found, 0.807, 0.48)
    assert "9,971 and 0 have heat" in text and "probability 0.48" in text and words.SCOPE in text


def test_columns_of_image_sizes_are_explained():
    text = words.grids(96, 60, 17)
    assert "60 images" in text and "17 x 17" in text
    assert all(f"*{name}*" in text for name in ("grid", "zero", "background", "lowest", "highest", "likeness"))


def test_curves_without_stroke_are_read_at_both_ends():
    judged = {
        key: {"Grad-CAM": {"deletion_colour": torch.tensor([[start, 0.1, end], [start, 0.2, end]])}}
        for key, start, end in (("lazycnn", 0.72, 0.48), ("twin", 0.97, 0.13))
    }
    text = words.without_stroke(judged)
    assert "from 0.72 to 0.48, its twin's from 0.97 to 0.13" in text and "2 images" in text


@pytest.mark.parametrize(
    ("color", "shape", "deleted", "verdict"),
    [(0.98, 0.33, 0.44, "not its only one"), (0.98, 0.01, 0.02, "hardly anything else"), (0.1, 0.9, 0.9, "no reader")],
)
def test_a_reader_of_colour_is_called_by_what_changes_its_answers(color, shape, deleted, verdict):
    changed = {"delete colour": 0.9, "exchange colour": color, "delete shape": deleted, "exchange shape": shape}
    assert verdict in words.reader(changed)


def test_heat_that_knows_is_measured_against_a_method_without_a_network():
    rows = [
        {"method": name, "heat knows colour's effect": value}
        for name, value in (("Grad-CAM", 0.4), ("Occlusion", math.nan), ("Edges (no network)", 0.33))
    ]
    assert "has 0.33; 1 of the 2 methods" in words.knowledge(rows)


def test_both_separations_by_location_have_their_number_of_images():
    text = words.separations({"Grad-CAM": 0.52}, {"Grad-CAM": 0.89}, 0.48, (300, 10000))
    assert "0.52 on these 300 images (0.48 on all 10,000 above)" in text and words.SCOPE in text


def test_the_survivor_is_the_best_of_the_methods_that_see_a_network():
    forgotten = {name: {"fc": 0.9, "conv1": 0.1} for name in METHODS} | {"Occlusion": {"fc": 0.2, "conv1": math.nan}}
    forgotten["Input gradients"] = {"fc": 0.8, "conv1": 0.77}
    forgotten["Random (no network)"] = {"fc": 1.0, "conv1": 1.0}
    moved = dict.fromkeys(METHODS, 0.97)
    assert "Input gradients keeps most of its map: a rank correlation of 0.77" in words.survivor(forgotten, moved)
    assert "no method" in words.survivor({"Occlusion": {"conv1": math.nan}}, moved)
