"""Which images Task 5 attacks, and which radii it picks."""

from __future__ import annotations

import torch

from lazyutils import attacks, cloak, cloak_beyond, data, models
from lazyutils.attacks import AttackResult
from lazyutils.data import ColoredDigits, stratified_split
from lazyutils.goals import LOSS_FUNCTIONS

INFINITE = torch.inf


def test_easy_images_are_the_ones_never_trained_on(tmp_path, splits):
    path, own, others = tmp_path / "easy.safetensors", (200, 100, 0), (2500, 100, 1)
    data.save(path, splits, {})
    labels = splits["easy"]["labels"]
    train, validation = stratified_split(labels, *own)
    sevens = cloak.unseen_easy(path, [own], 1000, 7)
    assert (sevens.labels == 7).all() and len(sevens) == (labels[validation] == 7).sum() > 0
    assert torch.equal(cloak.unseen_easy(path, [own], 30).labels, labels[validation][:30])
    assert torch.equal(cloak.trained_on(path, own, 50), train[:50])
    free = validation[~torch.isin(validation, stratified_split(labels, *others)[0])]
    assert torch.equal(cloak.unseen_easy(path, [own, others], 1000).images, data.load(path, "easy", free).images)


def test_a_checkpoint_tells_its_split():
    assert cloak.split_of({"point": {"train_size": 20, "validation_size": 5, "seed": 3}}) == (20, 5, 3)
    assert cloak.split_of({"parameters": {"train_size": 20, "validation_size": 5, "seeds": [4, 1]}}) == (20, 5, 4)
    assert cloak.split_of({"standin": True}) == (12000, 3000, 0)


def test_strongest_is_the_least_median_within_reach():
    radii = {"a": {"x": torch.tensor([0.1, 0.2, 0.4]), "y": torch.tensor([0.3, 0.1, 0.1])}}
    radii["b"] = {"x": torch.full((3,), INFINITE)}
    found = cloak.strongest(radii, 0.6)
    assert abs(found["a"] - 0.1) < 1e-6 and found["b"] == 0.6


def test_telling_radius_is_nearest_to_half():
    curves = {"a": [{"answer": 0.0}, {"answer": 0.4}, {"answer": 0.9}], "b": [{"answer": 0.0}] * 2 + [{"answer": 0.1}]}
    assert cloak_beyond.telling(curves, [0.1, 0.2, 0.3]) == {"a": 0.2, "b": 0.3}


class Says(torch.nn.Module):
    """Answers each image with the number that its first pixel holds, times ten."""

    def forward(self, x):
        return torch.nn.functional.one_hot((10 * x[:, 0, 0, 0]).round().long(), 10).float()


class Blind(torch.nn.Module):
    """Answers everything with 0."""

    def forward(self, x):
        return torch.eye(10)[:1].expand(len(x), 10)


def sevens(colors):
    """A 7 that ``Says`` reads, on each of the colours."""
    n = len(colors)
    images = torch.full((n, 3, 4, 4), 0.7)
    return ColoredDigits(images, torch.full((n,), 7), torch.tensor(colors), torch.zeros(n, 4, 4, dtype=torch.bool))


def test_a_network_that_reads_nothing_is_left_out():
    networks = {"lazycnn": Says(), "twin": Blind(), "robust_erm": Says(), "robust_best": Says()}
    digits = sevens([7, 1])
    assert list(cloak.comparable(networks, digits, ["lazycnn", "robust_best"])) == [
        "lazycnn",
        "robust_erm",
        "robust_best",
    ]
    networks["twin"] = Says()
    assert list(cloak.comparable(networks, digits, ["lazycnn", "robust_best"])) == list(networks)


def test_success_is_split_by_colour():
    def attacked(colors, success):
        nothing = torch.zeros(len(colors))
        result = AttackResult(nothing, torch.tensor(success), *[nothing] * 4)
        return cloak.Attacked(sevens(colors), {"pgd": result}, 0)

    both = attacked([7, 1, 2], [False, True, False])
    found = cloak.shares_by_color({"both": both, "own": attacked([7], [True])})
    assert found["both"] == {"other_colour": {"n": 2, "pgd": 0.5}, "own_colour": {"n": 1, "pgd": 0.0}}
    assert found["own"] == {"other_colour": {"n": 0, "pgd": None}, "own_colour": {"n": 1, "pgd": 1.0}}


def test_radii_are_compared_image_by_image():
    low, high = torch.full((20,), 0.1), torch.full((20,), INFINITE)
    assert (cloak.relation(high, low), cloak.relation(low, high)) == ("more", "less")
    assert cloak.relation(low, low) == cloak.relation(high, high) == cloak.relation(low[:0], low[:0]) == "alike"
    half = torch.where(torch.arange(20) < 10, low, high)
    assert cloak.relation(half, 2 * low) == "alike"
    assert cloak.least({"a": half, "b": low.flip(0)}).tolist() == low.tolist()


def test_medians_of_both_halves():
    values = torch.tensor([0.1, 0.2, INFINITE])
    found = cloak.halves(values, torch.tensor([True, False, False]))
    assert abs(found["all"] - 0.2) < 1e-6 and abs(found["other_colour"] - 0.1) < 1e-6
    assert cloak.halves(values, torch.zeros(3, dtype=torch.bool))["other_colour"] is None


def test_the_control_of_hardening_trains_a_copy_without_an_adversary(splits):
    images, *known = (splits["easy"][key][:64] for key in ("images", "labels", "colors", "masks"))
    train = ColoredDigits(images.float() / 255, *known)
    model, critic = models.build("LazyCNN", 0), (train.labels + (torch.arange(64) < 5)) % 10
    before = model.fc.weight.clone()
    plain, strong = (cloak_beyond.hardened(model, train, critic, eps=eps, epochs=1, seed=0) for eps in (0.0, 0.3))
    assert torch.equal(model.fc.weight, before)
    assert not torch.equal(plain.fc.weight, before) and not torch.equal(plain.fc.weight, strong.fc.weight)


def test_search_gives_hopeless_images_up():
    class Stubborn(torch.nn.Module):
        """The same answer to everything."""

        def forward(self, x):
            return 5 * torch.eye(10)[:1] + 0 * x.flatten(1)[:, :10]

    images, labels = torch.full((2, 3, 4, 4), 0.5), torch.zeros(2, dtype=torch.int64)
    batch = attacks.prepared(Stubborn(), images, labels, 3, 0.05)

    def wander(batch, _value, _gradient):
        return batch._replace(delta=batch.delta + 0.001)

    settings = {"confidence": 0.9, "steps": 30}
    objective = LOSS_FUNCTIONS["margin"](0.9)
    _, taken, missed = attacks.search(Stubborn(), batch, objective, wander, patience=5, **settings)
    assert missed.all() and (taken == 6).all()
    _, taken, _ = attacks.search(Stubborn(), batch, objective, wander, **settings)
    assert (taken == 30).all()
