"""The sentences of Tasks 0 and 1 follow the numbers, whichever way they come out."""

import math

import pytest
import torch

from lazyutils import metrics, plots_canvas, words_cheater
from lazyutils.data import ColoredDigits


def hard_set(labels, colors):
    n = len(labels)
    return ColoredDigits(torch.zeros(n, 3, 28, 28), labels, colors, torch.zeros(n, 28, 28, dtype=torch.bool))


HARD = hard_set(torch.arange(100) // 10 + 1 - 10 * (torch.arange(100) >= 90), torch.arange(100) // 10)


def test_a_pure_cheaters_backgrounds_and_diagonal():
    assert "**10 of 10 backgrounds**" in words_cheater.backgrounds(HARD.colors, HARD)
    assert "more often" not in words_cheater.backgrounds(HARD.colors, HARD)
    assert "0% in each row" in words_cheater.right_answers(HARD.colors, HARD)
    assert "100% in each row" in words_cheater.background_table(HARD.colors, HARD)


def test_the_weakest_background_names_its_rival():
    answers = HARD.colors.clone()
    answers[:6] = 4
    text = words_cheater.backgrounds(answers, HARD)
    assert "**9 of 10" in text and "red: its digit is the answer to 40.0% of its images, and 4 comes more often" in text
    assert "40% (red)" in words_cheater.background_table(answers, HARD)


def test_a_row_without_images_has_no_share():
    text = words_cheater.confusion({"hard": torch.ones(5).long()}, {"hard": HARD[:5]})
    assert "hard 0% (digit 0) to 100% (digit 1)" in text


def test_a_headline_speaks_of_seeds_only_where_there_are_some():
    def figures(count):
        hard = [metrics.followed(torch.tensor([1, 2, 2, 7][k:]), *torch.tensor([[1], [2]])) for k in range(count)]
        return metrics.collect_seeds(
            [{"easy_accuracy": 0.9, "hard_accuracy": one["digit_share"], **one} for one in hard]
        )

    assert "one seed can't tell" in words_cheater.headline(figures(1), 4)
    assert "(2 seed(s))" in words_cheater.headline(figures(2), 4)
    assert "the seeds lie between 0.0% and 25.0%" in words_cheater.headline(figures(2), 4)


def sure(confidence, answer):
    return torch.full((1, 10), (1 - confidence) / 9).index_fill(1, torch.tensor([answer]), confidence)


@pytest.mark.parametrize(("errors", "says"), [(0.6, "Low confidence is a hint"), (0.9, "Confidence hardly")])
def test_confidence_is_judged_against_right_answers(errors, says):
    text = words_cheater.confidence(sure(errors, 3), torch.tensor([5]), sure(0.9, 2), torch.tensor([2]))
    assert f"{100 * errors:.1f}% in the wrong" in text and "90.0% in the right" in text and says in text


def test_nothing_to_compare_is_said():
    assert "can't be compared" in words_cheater.confidence(
        sure(0.9, 3), torch.tensor([3]), sure(0.9, 2), torch.tensor([2])
    )


def test_titles_of_errors_name_truth_and_answer():
    digits = hard_set(torch.tensor([1]), torch.tensor([0]))
    assert words_cheater.titles(digits, sure(0.484, 0)) == ["red 1\n→ 0, 48.4%"]
    assert "red 1 → 0, 48.4%" in words_cheater.strip(digits, sure(0.484, 0))


def test_training_on_is_told_from_one_networks_curve():
    curves = {"easy": [0.9, 0.95, 0.96], "hard": [0.1, 0.2, 0.4]}
    assert "From epoch 2 to epoch 3" in words_cheater.trained_on(curves, 2)
    assert "from 20.0% to 40.0% on the hard images" in words_cheater.trained_on(curves, 2)
    assert "not trained on" in words_cheater.trained_on(curves, 3)


@pytest.mark.parametrize(
    ("digit", "hard", "holds", "lacks"),
    [
        (0.08, [0.0, 0.01, 0.02, 0.08], "the last 3 passes from 0.0% to 8.0%", "Shape won"),
        (0.08, [0.08, 0.08], "805 times LazyCNN's parameters did not protect here", "still rises"),
        (0.08, [0.08], "after 1 pass(es)", "over the last"),
        (0.80, [0.2, 0.8], "Shape won here", "still rises"),
    ],
)
def test_capacity_is_judged_by_what_this_run_saw(digit, hard, holds, lacks):
    run = {"easy_accuracy": 0.95, "hard_accuracy": digit, "digit_share": digit, "colour_share": 0.9 - digit}
    text = words_cheater.capacity(metrics.collect_seeds([run]), [hard], 805.1, "random")
    assert holds in text and lacks not in text and text.startswith("From random weights")
    assert ("still rises" in text) == (len(hard) == 4)


def test_alt_texts_hold_the_numbers_of_their_figures():
    seeds = [{"easy": [0.2, 0.9], "hard": [0.1, 0.0]}, {"easy": [0.4, 1.0], "hard": [0.1, 0.2]}]
    text = words_cheater.curves(seeds, 0.95)
    assert "30.0% after the first epoch, 95.0% after the last" in text and "10.0% and 10.0%" in text
    shares = {"digit_share": 0.1, "colour_share": 0.7, "neither_share": 0.2, "shape_bias": math.nan}
    assert "A 10.0% the digit, 70.0% the" in words_cheater.cues({"A": metrics.collect_seeds([shares])})


@pytest.mark.parametrize(("pixel", "says"), [(0.997, "adds little"), (0.67, "worth 33 points more")])
def test_the_background_reading_says_whether_averaging_pays(pixel, says):
    assert says in plots_canvas.background_reading({"pixel": pixel, "average": 1.0}, 5000)


def test_the_closest_colours_are_named():
    text = plots_canvas.closest_colors("study", 20.0)
    assert "yellow and orange, 90 levels apart" in text and "purple and brown (129), red and brown (136)" in text
    assert "#" in plots_canvas.closest_colors("tab10", 20.0)
