"""The attacks against torchattacks, foolbox and a closed form, and what all of them promise."""

from __future__ import annotations

import functools

import foolbox
import pytest
import torch
import torchattacks
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lazyutils import attacks, blackbox, goals, models, training
from lazyutils.errors import ClearError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


ATTACKS = {
    "fgsm": attacks.fgsm,
    "pgd": functools.partial(attacks.pgd, steps=12),
    "pgd margin momentum": functools.partial(attacks.pgd, steps=12, loss="margin", momentum=0.75),
    "pgd restarts": lambda *a, **k: attacks.pgd(*a, steps=6, random_start=True, restarts=1, generator=seeded(), **k),
    "deepfool": functools.partial(attacks.deepfool, steps=12),
    "deepfool linf": functools.partial(attacks.deepfool, steps=12, norm="linf"),
    "square": lambda *a, **k: blackbox.square(*a, queries=30, generator=seeded(), **k),
}
every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())


@pytest.fixture(scope="module")
def victim(splits):
    """LazyCNN after a short training, in double precision, so that signs of gradients are certain."""
    model = models.build("LazyCNN", 0)
    images = splits["easy"]["images"].float() / 255
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    training.fit(model, images, splits["easy"]["labels"], optimizer=optimizer, epochs=4, batch_size=50)
    return model.double()


@pytest.fixture(scope="module")
def prey(splits, victim):
    """Images ``[60, ...]`` that the victim gets right, their labels, and its second choice as the target."""
    easy = {name: tensor[:200] for name, tensor in splits["easy"].items()}
    images = easy["images"].double() / 255
    best = training.predict(victim, images).topk(2).indices
    right = (best[:, 0] == easy["labels"]).nonzero()[:60, 0]
    return images[right], easy["labels"][right], best[right, 1]


class LinearSoftmax(nn.Module):
    """Logits linear in the pixels, with a gradient known in closed form."""

    def __init__(self, scale: float = 0.3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(10, 48, generator=seeded(), dtype=torch.float64) * scale)

    def forward(self, x):
        return x.flatten(1) @ self.weight.T


@every_attack
@pytest.mark.parametrize("eps", [0.0, 0.03, 0.3])
def test_inside_the_ball_and_consistent(attack, eps, victim, prey, global_random_state):
    images, labels, target = prey
    result = attack(victim, images, labels, target, eps, confidence=0.6)
    assert (result.images - images).abs().max() <= eps + 1e-6
    assert result.images.min() >= 0 and result.images.max() <= 1
    probability = victim(result.images).softmax(1)
    wanted = probability.gather(1, target[:, None])[:, 0]
    torch.testing.assert_close(result.confidence, wanted.detach())
    assert torch.equal(result.success, (probability.argmax(1) == target) & (wanted > 0.6))
    change = (result.images - images).flatten(1)
    torch.testing.assert_close(result.linf, change.abs().amax(1))
    torch.testing.assert_close(result.l2, change.norm(dim=1))


@every_attack
def test_no_radius_no_change(attack, victim, prey):
    images, labels, target = prey
    assert torch.equal(attack(victim, images, labels, target, 0.0).images, images)


@every_attack
def test_model_stays_as_it_was(attack, prey):
    model = models.build("RobustCNN", 1).double().train()
    model.bn2.eval()
    model.conv1.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attack(model, prey[0][:4], prey[1][:4], prey[2][:4], 0.1)
    assert model.training and model.bn1.training and not model.bn2.training
    assert not model.conv1.weight.requires_grad and model.fc.weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@every_attack
def test_one_radius_an_image(attack, victim, prey):
    images, labels, target = prey
    eps = torch.linspace(0, 0.2, len(images), dtype=torch.float64)
    assert (attack(victim, images, labels, target, eps).linf <= eps + 1e-6).all()


@pytest.mark.parametrize("name", ["fgsm", "pgd", "pgd margin momentum", "deepfool", "deepfool linf"])
def test_batch_equals_singles(name, victim, prey):
    images, labels, target = (tensor[:12] for tensor in prey)
    together = ATTACKS[name](victim, images, labels, target, 0.1)
    for i in range(12):
        alone = ATTACKS[name](victim, images[i : i + 1], labels[i : i + 1], target[i : i + 1], 0.1)
        torch.testing.assert_close(alone.images[0], together.images[i])
        assert alone.steps[0] == together.steps[i]


def test_one_full_pgd_step_is_fgsm(victim, prey):
    pgd = attacks.pgd(victim, *prey, 0.05, alpha=1.0, steps=1, confidence=1.0)
    torch.testing.assert_close(pgd.images, attacks.fgsm(victim, *prey, 0.05).images)


@pytest.mark.parametrize("norm, dual", [("l2", 2), ("linf", 1)])
def test_deepfool_finds_the_closed_form(norm, dual):
    model = LinearSoftmax()
    images = 0.5 + 0.02 * torch.rand(40, 3, 4, 4, generator=seeded(1), dtype=torch.float64)
    best = model(images).topk(2)
    labels, target = best.indices[:, 0], best.indices[:, 1]
    result = attacks.deepfool(model, images, labels, target, 1.0, norm=norm, confidence=0.0)
    difference = model.weight[labels] - model.weight[target]
    exact = (best.values[:, 0] - best.values[:, 1]) / difference.norm(p=dual, dim=1)
    found = result.l2 if norm == "l2" else result.linf
    only_rival = (
        model(images + (result.images - images) * 0.999).topk(2).indices.sort(1).values == best.indices.sort(1).values
    )
    ratio = (found / exact)[only_rival.all(1)]
    assert result.success.all() and len(ratio) > 10
    assert ratio.min() >= 1 and ratio.max() <= 1.021


def test_pgd_equals_torchattacks(victim, prey):
    images, labels, target = prey
    theirs = torchattacks.PGD(victim, eps=0.05, alpha=0.005, steps=15, random_start=False)
    theirs.set_mode_targeted_by_label(quiet=True)
    ours = attacks.pgd(victim, images, labels, target, 0.05, steps=15, confidence=1.0)
    torch.testing.assert_close(ours.images, theirs(images, target))


def test_pgd_equals_foolbox(victim, prey):
    images, labels, target = prey
    attack = foolbox.attacks.LinfPGD(abs_stepsize=0.005, steps=15, random_start=False)
    goal = foolbox.criteria.TargetedMisclassification(target)
    theirs = attack.run(foolbox.PyTorchModel(victim, bounds=(0, 1)), images, goal, epsilon=0.05)
    ours = attacks.pgd(victim, images, labels, target, 0.05, steps=15, confidence=1.0)
    torch.testing.assert_close(ours.images, theirs)


def test_fgsm_equals_torchattacks(victim, prey):
    images, labels, target = prey
    theirs = torchattacks.FGSM(victim, eps=0.05)
    theirs.set_mode_targeted_by_label(quiet=True)
    torch.testing.assert_close(attacks.fgsm(victim, images, labels, target, 0.05).images, theirs(images, target))


def test_leaving_early_costs_no_success(victim, prey):
    images, labels, target = prey
    theirs = torchattacks.PGD(victim, eps=0.06, alpha=0.006, steps=60, random_start=False)
    theirs.set_mode_targeted_by_label(quiet=True)
    probability = victim(theirs(images, target)).softmax(1).gather(1, target[:, None])[:, 0]
    ours = attacks.pgd(victim, images, labels, target, 0.06, steps=60, confidence=0.7)
    share = (probability > 0.7).double().mean()
    assert 0.1 < share < 0.95, "the test needs images of both kinds"
    assert ours.success.double().mean() >= share
    assert ours.steps.max() <= 60 and ours.steps.double().mean() < 40


def test_deepfool_keeps_up_with_pgd_and_moves_less(victim, prey):
    prey = [tensor[:30] for tensor in prey]
    pgd = attacks.pgd(victim, *prey, 0.08, steps=80, confidence=0.7)
    deepfool = attacks.deepfool(victim, *prey, 0.08, confidence=0.7, steps=80)
    both = pgd.success & deepfool.success
    assert deepfool.success.sum() >= 0.95 * pgd.success.sum() > 0
    assert deepfool.l2[both].median() <= pgd.l2[both].median()


def test_restarts_only_add(victim, prey):
    plain = attacks.pgd(victim, *prey, 0.05, steps=8, confidence=0.7)
    more = attacks.pgd(victim, *prey, 0.05, steps=8, confidence=0.7, restarts=3, generator=seeded())
    assert (more.success | ~plain.success).all()
    assert (more.steps >= plain.steps).all() and torch.equal(more.images[plain.success], plain.images[plain.success])


def test_images_already_there_take_no_step(victim, prey):
    images, _, _ = prey
    answer = training.predict(victim, images).argmax(1)
    result = attacks.pgd(victim, images, (answer + 1) % 10, answer, 0.1, confidence=0.0)
    assert result.success.all() and (result.steps == 0).all() and (result.linf == 0).all()


@given(confidence=st.floats(0.01, 0.99), seed=st.integers(0, 999))
def test_shortfall_is_negative_exactly_at_the_goal(confidence, seed):
    logits = 3 * torch.randn(50, 10, generator=seeded(seed), dtype=torch.float64)
    target = torch.randint(0, 10, (50,), generator=seeded(seed + 1))
    assert torch.equal(goals.shortfall(logits, target, confidence) < 0, goals.reached(logits, target, confidence))


@given(eps=st.floats(0, 1), seed=st.integers(0, 999))
def test_never_outside_whatever_the_radius(eps, seed):
    images = torch.rand(6, 3, 4, 4, generator=seeded(seed), dtype=torch.float64).mul(2).sub(0.5).clamp(0, 1)
    model, labels = LinearSoftmax(2.0), torch.zeros(6, dtype=torch.int64)
    for attack in (attacks.fgsm, functools.partial(attacks.pgd, steps=4), functools.partial(attacks.deepfool, steps=4)):
        result = attack(model, images, labels, 3, eps)
        assert (result.images - images).abs().max() <= eps + 1e-6
        assert result.images.min() >= 0 and result.images.max() <= 1


def with_nan() -> nn.Module:
    model = LinearSoftmax()
    model.weight.data[0, 0] = torch.nan
    return model


IMAGES = torch.full((2, 3, 4, 4), 0.5, dtype=torch.float64)
SEVENS = torch.tensor([7, 7])


@pytest.mark.parametrize("attack", [attacks.fgsm, attacks.pgd, attacks.deepfool])
@pytest.mark.parametrize(
    "change, words",
    [
        ({"eps": -0.1}, "eps runs from"),
        ({"eps": 1.5}, "eps runs from"),
        ({"eps": float("nan")}, "eps runs from"),
        ({"target": 7}, "target as their label"),
        ({"target": 12}, "classes are 0 to 9"),
        ({"images": IMAGES * 255}, r"give pixels in \[0, 1\]"),
        ({"images": IMAGES * torch.nan}, "NaN"),
        ({"images": IMAGES[:0], "labels": SEVENS[:0]}, "none is eligible"),
        ({"labels": SEVENS[:1]}, "one class an image"),
        ({"model": with_nan()}, "NaN or infinite logits"),
        ({"confidence": 1.2}, "not a probability"),
    ],
)
def test_bad_input_is_one_clear_error(attack, change, words):
    arguments = {"model": LinearSoftmax(), "images": IMAGES, "labels": SEVENS, "target": 3, "eps": 0.1, **change}
    with pytest.raises(ClearError, match=words):
        attack(**arguments)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"steps": 0}, "steps"),
        ({"alpha": 0.0}, "alpha"),
        ({"momentum": 1.0}, "momentum"),
        ({"loss": "hinge"}, "unknown loss"),
        ({"restarts": 2}, "need a generator"),
    ],
)
def test_bad_settings_of_pgd(options, words):
    with pytest.raises(ClearError, match=words):
        attacks.pgd(LinearSoftmax(), IMAGES, SEVENS, 3, 0.1, **options)


@pytest.mark.parametrize("options", [{"norm": "l1"}, {"steps": 0}, {"overshoot": -0.1}])
def test_bad_settings_of_deepfool(options):
    with pytest.raises(ClearError, match=r"norm|steps"):
        attacks.deepfool(LinearSoftmax(), IMAGES, SEVENS, 3, 0.1, **options)


def test_square_needs_queries_and_uses_no_gradient(victim, prey):
    with pytest.raises(ClearError, match="queries"):
        blackbox.square(victim, *prey, 0.1, queries=0, generator=seeded())
    blind = type("Blind", (nn.Module,), {"forward": lambda self, x: victim(x).detach()})()
    result = blackbox.square(blind, *prey, 0.3, queries=60, confidence=0.0, generator=seeded())
    assert result.success.double().mean() > 0.3 and result.steps.max() <= 60


def test_square_schedule_and_squares():
    sides = [blackbox.side(query, 1000, 28) for query in range(1, 1000)]
    assert sides[0] == 25 and sides[-1] == 1 and sides == sorted(sides, reverse=True)
    where = blackbox.random_squares(50, 5, 28, 28, generator=seeded())
    assert (where.sum((1, 2, 3)) == 25).all() and len({tuple(w.flatten().tolist()) for w in where}) > 30
