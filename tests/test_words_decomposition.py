"""The sentences of Task 6 follow the numbers, whichever way they come out."""

from types import SimpleNamespace

import pytest
import torch

from lazyutils import words_decomposition as words
from lazyutils.metrics import over_seeds

ORIGINAL = {"easy": 0.95, "hard": 0.1, "colour_share": 0.75}
NAMES = words.row_names(32)


def edit(hard: float, colour_share: float) -> dict:
    return {"easy": over_seeds([0.9]), "hard": over_seeds([hard]), "colour_share": over_seeds([colour_share])}


def edits(best: float) -> dict:
    return {key: edit(0.05, 0.5) for key in NAMES} | {"colour": edit(0.16, 0.41), "linear+head": edit(best, 0.18)}


def against(effect: float, low: float) -> dict:
    return {"effect": effect, "random": low + 0.02, "low": low, "high": low + 0.04, "p": 0.05}


@pytest.mark.parametrize(
    ("digit", "color", "leaning"), [(0.1, 0.6, "colour's"), (0.6, 0.1, "true"), (0.1, 0.1, "neither")]
)
def test_reconstructions_lean_where_the_judge_sees_them_lean(digit, color, leaning):
    after = {"digit_share": digit, "colour_share": color}
    assert f"lean to {leaning}" in words.rebuilt({"image": after, "rebuilt": after}).replace("the ", "")


def test_unused_shape_is_claimed_only_where_it_is_found():
    layers = {"relu3": {"digit": 0.7, "colour": 1.0}}
    assert "more shape is in the state" in words.ceiling(layers, ORIGINAL)
    assert "no shape in the state goes unused" in words.ceiling(layers, {"hard": 0.7})


def test_the_rule_has_a_row_for_each_autoencoder():
    rows = [{"steps": steps, "called_share": 0.5, "accuracy": 0.6, "kappa": 0.1, "auroc": 0.7} for steps in (5, 300)]
    text = words.rule({"hidden states": (rows, torch.ones(4).bool()), "pixels": (rows, torch.zeros(4).bool())})
    assert "| hidden states | 50.0% | 50.0% | 100.0% |" in text and "| pixels | 50.0% | 50.0% | 0.0% |" in text
    assert "called COLOUR, 300 steps" in text and "pixel autoencoder" in text


def test_only_better_and_sparser_autoencoders_count_as_ahead():
    def row(kind: str, explained: float, l0: float) -> dict:
        return {"kind": kind, "explained_variance": explained, "l0": l0, "spliced_hard": explained / 10}

    rows = [row("study", 0.9, 20), row("topk", 0.95, 8), row("topk", 0.8, 4), row("batchtopk", 0.95, 32)]
    text = words.pareto(rows, ORIGINAL)
    assert "90.0% at best, with 20" in text and "1 of the 3" in text and "8.0% to 9.5%" in text


@pytest.mark.parametrize(("seed", "verdict"), [(0.95, "are the same"), (0.5, "related"), (0.1, "no nearer")])
def test_kinship_of_two_seeds(seed, verdict):
    assert verdict in words.kinship({"another seed": seed, "random directions": 0.08})
    assert words.kinship({"random directions": 0.08}) == ""


@pytest.mark.parametrize(
    ("many", "equal", "reached", "verdict"),
    [
        (-0.1, -0.2, True, "no more than random sets"),
        (-0.5, -0.2, False, "aren't told apart"),
        (-0.5, -0.2, True, "and than as much variance"),
        (-0.5, -0.6, True, "size may explain it"),
    ],
)
def test_isolation_needs_both_controls(many, equal, reached, verdict):
    text = words.isolation(against(many, -0.2), against(many, equal), 0.75, reached)
    assert verdict in text and "does not remove" in text and f"{100 * (0.75 + many):.1f}% are left of 75.0%" in text
    assert "no more of them than guessing" in words.isolation(against(-0.7, -0.2), against(-0.7, -0.2), 0.75, True)


@pytest.mark.parametrize("reached", [True, False])
def test_effects_name_the_smallest_p_and_the_sets(reached):
    proof = SimpleNamespace(random=[{}] * 19, moved={"colour": 0.6, "random": 0.1}, original=ORIGINAL)
    matched = SimpleNamespace(reached=reached, size=96.0, share=0.12)
    tests = {key: against(-0.3, -0.1) for key in ("colour_share", "hard", "easy")}
    text = words.effects(tests, tests, [proof], [matched])
    assert "no p is below 0.050" in text and "on average 96 features with 12.0%" in text
    assert ("so it has no p" in text) != reached and text.count("p = 0.050") == (6 if reached else 3)


def test_dose_reads_the_best_of_the_colour_first_curve():
    def curve(*hard: float) -> list[dict]:
        return [{"easy": 0.9, "hard": one, "colour_share": 0.5} for one in hard]

    curves = {"colour": curve(0.1, 0.19, 0.12), "random": curve(0.1, 0.11, 0.1)}
    assert "highest with 32 features off: 19.0%" in words.dose(curves, [0, 32, 64], 0.95)
    assert "no dose gives more" in words.dose({**curves, "colour": curve(0.1, 0.05, 0.1)}, [0, 32, 64], 0.95)


def test_steering_counts_the_colours_that_follow_and_names_those_that_fall():
    shares = {name: torch.full((3, 3), 0.1) for name in ("one", "all", "other")}
    shares["one"][:, 2] = torch.tensor([0.9, 0.05, 0.0])
    shares["all"][:, 2] = torch.tensor([1.0, 1.0, 0.0])
    text = words.steering(shares, [0.0, 1.0, 8.0], ["red", "green", "blue"])
    assert "for 1 of 3 colours with one feature and for 2 with all" in text and "need not push" in text
    assert "for green, blue with one feature, for blue with all" in text
    shares["one"][:, 2] = shares["all"][:, 2] = 1.0
    text = words.steering(shares, [0.0, 1.0, 8.0], ["red", "green", "blue"])
    assert "for none with one feature, for none with all" in text and "need not push" not in text


def test_each_edit_keeps_its_own_numbers():
    text = words.summary(ORIGINAL, edits(0.47), NAMES, {"Task 4's network": 0.95})
    assert "*32 colour features → mean* changes colour answers and right answers by -34 and +6" in text
    assert "*linear erasure, new head* by -57 and +37" in text and "maximum over the 8 edits shown" in text
    best = words.summary(ORIGINAL | {"hard": 0.5}, edits(0.47), NAMES, {})
    assert "no edit shown gives more right answers" in best and "maximum" not in best


def test_row_names_and_not_keys_reach_the_reader():
    found = words.disappointments(ORIGINAL, edits(0.47), NAMES)
    assert "+head" not in found + words.summary(ORIGINAL, edits(0.47), NAMES, {})
    assert all(name in found for key, name in NAMES.items() if key.endswith("+head"))
    assert "32 colour features → mean is 11.0 points ahead of colour means erased (linear)" in found
