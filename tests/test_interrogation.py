"""The evidence of Task 3 on small networks: what is measured, and that nothing is left behind."""

from __future__ import annotations

import json
import math

import pytest
import torch

from lazyutils import data, evidence, gradcam_peers, interrogation, models, plots_interrogation
from lazyutils.errors import ClearError
from lazyutils.localization import Estimate


@pytest.fixture(scope="module")
def digits() -> data.ColoredDigits:
    """60 hard images whose digit d is a bar at column 2 d + 2."""
    labels = torch.arange(60) % 10
    gray = torch.zeros(60, 28, 28, dtype=torch.uint8)
    for image, label in zip(gray, labels.tolist(), strict=True):
        image[5:23, 2 * label + 2 : 2 * label + 6] = 200
    colors = (labels + 1 + torch.arange(60) // 10) % 10
    return data.ColoredDigits(data.paint(gray, colors).float() / 255, labels, colors, gray > 0)


@pytest.fixture(scope="module")
def case(digits) -> evidence.Case:
    """An untrained LazyCNN before those images."""
    return evidence.open_case(models.build("LazyCNN", seed=1).eval(), "conv3", digits)


def test_a_case_asks_the_network_and_holds_both_counterfactuals(case, digits):
    assert torch.equal(case.targets, case.model(digits.images).argmax(1))
    assert case.recolored.shape == case.reshaped.shape == digits.images.shape
    stroke = digits.masks[:, None].expand(-1, 3, -1, -1)
    assert torch.equal(case.recolored[stroke], digits.images[stroke])
    assert len(case.first(7).digits) == len(case.first(7).recolored) == 7


def test_cue_effects_of_a_blind_network_are_nothing(digits):
    model = models.build("LazyCNN", seed=1).eval()
    model.fc.weight.data.zero_()
    for fall, changed in evidence.cue_effects(evidence.open_case(model, "conv3", digits)).values():
        assert fall.abs().max() < 1e-6 and not changed.any()


def test_a_color_reader_is_moved_by_color_alone(digits):
    critic = models.build("ColorCritic", seed=0)
    case = evidence.Case(
        critic.eval(),
        "conv2",
        (),
        digits,
        critic(digits.images).argmax(1),
        digits.images.flip(1),
        digits.images.flip(3),
    )
    effects = evidence.cue_effects(case)
    assert effects["exchange shape"][0].abs().max() < 1e-4 < effects["exchange colour"][0].abs().max()


def test_judging_gives_every_measure_in_range(case):
    measures = evidence.judge("Grad-CAM", case, steps=3)
    assert measures["deletion_grey"].shape == (60, 4)
    for name in ("background", "pointing", "zero"):
        known = measures[name][~measures[name].isnan()]
        assert known.min() >= 0 and known.max() <= 1
    summary = evidence.summarize(measures)
    assert set(summary) == set(measures) and all(isinstance(value, Estimate) for value in summary.values())
    ends = measures["deletion_grey"][:, [0, -1]], measures["insertion_grey"][:, [-1, 0]]
    assert torch.allclose(*ends, atol=1e-5)


def test_image_size_decides_what_a_map_can_say(digits):
    model = models.build("ResNet18", seed=0, image_size=64).eval()
    rows = evidence.by_image_size(model, "net.layer4", digits[:4], torch.zeros(4, dtype=torch.long), [28, 64])
    assert [row["grid"] for row in rows] == ["1 x 1", "2 x 2"] and rows[0]["zero"] == 1
    assert (
        math.isnan(rows[0]["lowest"]) and rows[1]["lowest"] - 1e-3 <= rows[1]["background"] <= rows[1]["highest"] + 1e-3
    )
    assert rows[1]["likeness"] == pytest.approx(1) and model.image_size == 64


def test_receptive_field_is_that_of_the_kernels(digits):
    model = models.build("LazyCNN", seed=1).eval()
    expected = {"conv1": 9, "conv2": 15, "conv3": 17}
    assert {layer: evidence.receptive_field(model, layer, digits.images[:20]) for layer in expected} == expected


def test_the_libraries_agree_and_their_pitfalls_show(digits, monkeypatch):
    model = models.build("LazyCNN", seed=1).eval()
    monkeypatch.setattr(gradcam_peers, "PART", 4)  # a last part that is smaller
    (row,) = gradcam_peers.compare(model, ["conv3"], digits.images[:6])
    assert row["maps"] == 60 and row["raw"] < 1e-7 and row["displayed"] < 1e-5
    table = {row["situation"]: row for row in gradcam_peers.pitfalls(model, "conv3", digits.images[:6], 3)}
    assert all(row["this book"] in ("0", "nothing") for row in table.values())
    assert table["one target for the whole batch"]["grad-cam"] == "1"
    assert "evaluation mode" in table["left behind in the network"]["grad-cam"]


def test_locations_cover_every_layer_and_the_control(case):
    rows, shares, zero = interrogation.locations({"lazycnn": case}, {"lazycnn": ("conv1", "conv3")})
    assert [(key, layer) for key, layer, _ in rows] == [("lazycnn", "conv1"), ("lazycnn", "conv3"), ("control", "")]
    assert torch.equal(shares["lazycnn"].nan_to_num(-1), rows[1][2].nan_to_num(-1))
    assert zero["lazycnn"] == pytest.approx(shares["lazycnn"].isnan().double().mean().item())


def test_a_network_is_not_told_from_itself(case):
    judged = {"Grad-CAM": evidence.judge("Grad-CAM", case, steps=2)}
    assert interrogation.separations(judged, judged) == ({"Grad-CAM": pytest.approx(0.5)},) * 2


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """A data set of 300 noisy blots as a file."""
    blots = torch.randint(256, (300, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mnist = {"images": blots * (blots > 150), "labels": torch.arange(300) % 10}
    both = {f"{part}_{kind}": value.clone() for part in ("train", "test") for kind, value in mnist.items()}
    path = tmp_path_factory.mktemp("data") / "blots.safetensors"
    data.save(path, data.colored_mnist(both), {"palette": "study"})
    return path


MADE = {"parameters": {"train_size": 200, "validation_size": 50, "seeds": [7, 8]}}
LOOK = {"palette": "study", "noise": 20.0, "seed": 0}


def test_the_twins_digits_are_the_first_of_lazycnns(painted):
    trained, _ = data.easy_subsets(painted, 200, 50, 7)
    assert torch.equal(interrogation.training_digits(painted, MADE, 60).images, trained.images[:60])
    assert len(interrogation.training_digits(painted, MADE, 900)) == 200


def test_the_twin_starts_from_lazycnns_weights(painted, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        interrogation, "fit", lambda model, images, labels, **rest: seen.update(rest, images=images, labels=labels)
    )
    twin = interrogation.honest_twin(painted, MADE, LOOK, torch.device("cpu"), size=60, epochs=3)
    trained = interrogation.training_digits(painted, MADE, 60)
    assert torch.equal(twin.conv1.weight, models.build("LazyCNN", 7).conv1.weight)
    assert torch.equal(seen["labels"], trained.labels) and not torch.equal(seen["images"], trained.images)
    stroke = trained.masks[:, None].expand(-1, 3, -1, -1)
    assert torch.equal(seen["images"][stroke], trained.images[stroke])
    assert (seen["epochs"], seen["batch_size"], seen["seed"]) == (3, interrogation.TWIN_BATCH, 7)


def test_a_stand_in_was_made_with_task_1s_own_parameters():
    made = interrogation.made_with({"standin": True})
    assert (made["train_size"], made["seeds"], made["batch_size"]) == (12000, [0], 700)


def test_zeros_are_one_stroke_on_two_backgrounds(digits):
    found = interrogation.zeros(digits, {"palette": "study", "noise": 20.0, "seed": 0})
    assert found["green 0"].colors.tolist() == [1] and found["red 0"].colors.tolist() == [0]
    assert torch.equal(found["green 0"].masks, found["red 0"].masks)
    with pytest.raises(ClearError, match="no green 0"):
        interrogation.zeros(digits[digits.labels > 0], {})


def test_figures_are_json_without_nan():
    figures = {"a": Estimate(float("nan"), 0.0, 1.0, 3), "b": [1.0, float("nan")], "c": "x"}
    text = json.dumps(evidence.as_json(figures), allow_nan=False)
    assert json.loads(text) == {"a": {"mean": None, "low": 0.0, "high": 1.0, "n": 3}, "b": [1.0, None], "c": "x"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.25, "0.250"), (float("nan"), "–"), (2e-7, "2.0e-07"), (12000, "12,000"), ("x", "x"), (0.0, "0.000"),
        (Estimate(0.5, 0.4, 0.6, 9), "0.500 ± 0.100"), (Estimate(0.5, math.nan, math.nan, 1), "0.500"),
    ],
)  # fmt: skip
def test_cells_of_a_table(value, shown):
    assert plots_interrogation.cell(value) == shown
