"""Universal perturbations and adversarial training on problems whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lazyutils import attacks, models, training, universal, universal_optuna
from lazyutils.adversarial_training import adversarial_loss
from lazyutils.errors import ClearError
from lazyutils.training import Batch, cross_entropy


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Planted(nn.Module):
    """Logit 3 grows along one hidden direction, logit 7 is constant."""

    def __init__(self) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.randn(3 * 28 * 28, generator=seeded()).sign())

    def forward(self, x):
        score = (x - 0.5).flatten(1) @ self.direction
        zero = torch.zeros_like(score)
        return torch.stack([zero - 50, zero, zero, score, *[zero] * 3, zero + 20, zero, zero], dim=1)


@pytest.fixture
def images():
    return 0.5 + 0.1 * torch.rand(120, 3, 28, 28, generator=seeded(1))


def test_finds_the_planted_direction(images, global_random_state):
    model = Planted()
    delta = universal.universal_perturbation(model, images[:80], 3, 0.05, epochs=5, batch_size=20)
    assert delta.abs().max() <= 0.05 and not delta.requires_grad
    assert universal.universal_success(model, images[80:], 3, delta).all()
    assert not universal.universal_success(model, images[80:], 3, torch.zeros_like(delta)).any()
    assert (delta.sign().flatten() == model.direction).float().mean() > 0.95
    assert model.direction.grad is None and model.direction.requires_grad


def test_same_seed_same_perturbation(images):
    runs = [universal.universal_perturbation(Planted(), images, 3, 0.02, epochs=1, seed=seed) for seed in (4, 4)]
    assert torch.equal(*runs)


def test_start_of_the_study(images):
    model, labels = Planted(), torch.tensor([3] * 60 + [7] * 60)
    probability = training.predict(model, images).softmax(1)
    start = universal.study_start(model, images, labels, 7, 3)
    difference = images[probability[:60, 3].argmax()] - images[60 + probability[60:, 7].argmin()]
    torch.testing.assert_close(start, difference / difference.abs().max())


@pytest.mark.parametrize("cells", [1, 7, 28])
def test_optuna_starts_where_told_and_never_gets_worse(cells, images, global_random_state):
    model, few = Planted(), images[:20]
    start = torch.rand(3, 28, 28, generator=seeded(2)) * 2 - 1
    search = universal_optuna.optuna_perturbation(model, few, 3, 0.05, start, trials=4, cells=cells)
    assert len(search.history) == 4 and search.history == sorted(search.history)
    assert search.delta.shape == (3, 28, 28) and search.delta.abs().max() <= 0.05 + 1e-7
    patches = nn.functional.avg_pool2d(0.05 * start, 28 // cells)
    first = patches.repeat_interleave(28 // cells, 1).repeat_interleave(28 // cells, 2)
    assert search.history[0] == pytest.approx(
        training.predict(model, few + first).softmax(1)[:, 3].mean().item(), rel=1e-4
    )


def test_optuna_is_repeatable(images):
    start = torch.zeros(3, 28, 28)
    one, two = (universal_optuna.optuna_perturbation(Planted(), images[:5], 3, 0.1, start, trials=6) for _ in range(2))
    assert torch.equal(one.delta, two.delta)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda x: universal.universal_perturbation(Planted(), x[:0], 3, 0.1), "no image"),
        (lambda x: universal.universal_perturbation(Planted(), x * 255, 3, 0.1), "pixels"),
        (lambda x: universal.universal_perturbation(Planted(), x, 3, 0.0), "eps"),
        (lambda x: universal_optuna.optuna_perturbation(Planted(), x, 3, 0.1, x[0], cells=5), "divide"),
        (lambda x: universal_optuna.optuna_perturbation(Planted(), x, 3, 0.1, x[0], trials=0), "trials"),
    ],
)
def test_bad_input_is_one_clear_error(call, words, images):
    with pytest.raises(ClearError, match=words):
        call(images)


def test_adversarial_images_are_worse_and_inside(splits):
    model = models.build("RobustCNN", 0).train()
    images, labels = splits["easy"]["images"][:32].float() / 255, splits["easy"]["labels"][:32]
    seen = []

    def spy(model, batch):
        seen.append((batch.images.detach().clone(), model.training))
        return cross_entropy(model, batch)

    adversarial_loss(0.1, steps=3, loss=spy)(model, Batch(images, labels, torch.arange(32))).backward()
    worst, in_training = seen[-1]
    assert (worst - images).abs().max() <= 0.1 + 1e-6 and worst.min() >= 0 and worst.max() <= 1
    assert in_training and not any(mode for _, mode in seen[:-1])
    assert model.conv1.weight.grad is not None and model.training
    model.eval()
    assert cross_entropy(model, Batch(worst, labels, labels)) > cross_entropy(model, Batch(images, labels, labels))


def test_no_radius_is_the_plain_loss(splits):
    model = models.build("LazyCNN", 0)
    batch = Batch(splits["easy"]["images"][:16].float() / 255, splits["easy"]["labels"][:16], torch.arange(16))
    torch.testing.assert_close(adversarial_loss(0.0)(model, batch), cross_entropy(model, batch))


def test_adversarial_training_makes_the_attack_harder(splits):
    images, labels = splits["easy"]["images"].float() / 255, splits["easy"]["labels"]
    success = {}
    for name, loss in (("plain", cross_entropy), ("adversarial", adversarial_loss(0.1, steps=3))):
        model = models.build("LazyCNN", 0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        training.fit(model, images[:1500], labels[:1500], optimizer=optimizer, epochs=3, batch_size=50, loss=loss)
        chosen = labels[1500:1700] != 3
        attack = attacks.pgd(
            model,
            images[1500:1700][chosen],
            labels[1500:1700][chosen],
            3,
            0.15,
            steps=10,
            confidence=0.0,
            momentum=0.75,
        )
        success[name] = attack.success.double().mean().item()
    assert success["adversarial"] < success["plain"]


@pytest.mark.parametrize("options", [{"eps": -1}, {"eps": 0.1, "steps": 0}, {"eps": 0.1, "alpha": 0}])
def test_impossible_adversaries(options):
    with pytest.raises(ClearError, match="eps"):
        adversarial_loss(**options)
